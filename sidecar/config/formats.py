"""Formats: where in a record the attributes of the law of derivation (`docs/derivation.md`) are, as data.

A format is YAML, in `sidecar/formats/` or under `formats` in config.yaml:

    mine:
      extends: reference                  # inherit what is not set here; without `extends` there is nothing to inherit
      author: [sender.id, from]           # the first place that has a value; for addressees, all of them
      pattern: [[data, "kind.of.talk"]]   # a path as a list of keys, where a key contains a dot
      addressees: ["tool:{tool}", "to[].id"]   # a text with a place in it; a step into a list
      keep: {room: [header.room]}         # keep the first value of the file; in a shape, the latest
      conversation: [<room>, <team>]      # a kept value, or a named part of the path: glob `<team>/*.jsonl`
      text: [body.text, "parts[].text"]   # what was said, for readers: all places that have a text
      time_zone: Europe/Berlin            # the zone of times that name none; by default UTC
      requests: ["ask:", ":request"]      # `a:b` is that type, `a:` a prefix, `:b` the last segment
      set: {team: red}                    # used where the record itself has no value
      shapes:                             # the first one that a record fits overrides the attributes that it lists
        - when: {path: kind, is: reply}   # or `in: [a, b]`, or `begins: ["a:"]`; the path alone: it has a value
          set: {event_type: "chat:response"}
        - when: [{path: kind, is: note}, {path: to, is: null}]   # all conditions must hold; `is: null`: it has no value
          set: {team: null}               # remove the inherited constant

A type that matches both `requests` and `answers` is a request. A constant event type applies to every record of its
shape if the shape has no `event_type` places; if it has some, the constant is tried last, after the name of an event
file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from sidecar.places import EXPECTED, MAX_STEPS, NAME, Place, WrittenPlace, names_in, parse_place

from .compiler import Extract, compile_spec
from .spec import Attributes, Condition, Constant, FormatSpec, Keep, Shape
from .yaml_nodes import YamlValue, parse_yaml
from .zones import parse_zone

_FLAGS = ("broadcast", "requests_response")
_LISTS = ("addressees", "members")
_TEXTS = ("event_type", "session_id", "author", "correlation", "pattern", "conversation", "team", "new_role")
_CONSTANTS = (*_TEXTS, "status", *_LISTS, *_FLAGS)
_ATTRIBUTES = ("timestamp", *_CONSTANTS)
_EVENT_TYPES = ("completions", "requests", "answers", "skip")
_MAX_EXTENDS = 50
"""The largest number of formats in a chain of `extends`."""
_MAX_CONDITIONS = 20
"""Conditions of one shape."""
_PACKAGED = (
    *("reference", "ksi-events", "ksi-responses", "ksi-bus"),
    *("claude-code", "codex", "copilot", "gemini", "openhands"),
)


@dataclass(frozen=True, slots=True)
class Format:
    """A compiled format. It can be pickled; the receiving process compiles it again."""

    name: str
    spec: FormatSpec = field(repr=False, compare=False)
    fingerprint: str = field(init=False)
    """A digest of everything that rows depend on, which the name is not."""
    kept: frozenset[str] = field(init=False, repr=False, compare=False)
    """The names of the values that are kept of a record for later ones, as part of the source's state."""
    extract: Extract = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        content = asdict(self.spec)
        # No row depends on it.
        del content["text"]
        digest = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        object.__setattr__(self, "fingerprint", digest)
        object.__setattr__(self, "kept", self.spec.kept)
        zone = UTC if self.spec.time_zone is None else parse_zone(self.spec.time_zone)
        object.__setattr__(self, "extract", compile_spec(self.name, self.spec, zone))

    @property
    def parts(self) -> frozenset[str]:
        """The names that the format uses but does not keep: parts of the path, which a glob has to name."""
        return frozenset(name for place in self.spec.all_places for name in names_in(place)) - self.kept

    def __reduce__(self) -> tuple[type[Format], tuple[str, FormatSpec]]:
        return Format, (self.name, self.spec)


def load_formats(user: YamlValue | None = None) -> dict[str, Format]:
    """The packaged formats, and those in `user`, which is the value of `formats` in config.yaml; by name.

    Raises ConfigError, with file, line and key, for the first mistake.
    """
    packaged = _packaged_formats()
    own = user.mapping("a mapping from names to formats") if user else {}
    for name, value in own.items():
        if name in packaged:
            raise value.error(f"`{name}` is a format of the package; give another name, and `extends: {name}`")
    known = {name: format.spec for name, format in packaged.items()}
    return {**packaged, **{name: Format(name, _spec(name, own, known, ())) for name in own}}


def read_packaged(name: str) -> YamlValue:
    """The content of a YAML file of the package, by its name without the suffix."""
    file = f"{name}.yaml"
    value = parse_yaml((files("sidecar") / "formats" / file).read_text("utf-8"), f"sidecar/formats/{file}")
    assert value is not None, f"{file} is empty"
    return value


@cache
def _packaged_formats() -> Mapping[str, Format]:
    values = {name: read_packaged(name) for name in _PACKAGED}
    known: dict[str, FormatSpec] = {}
    return {name: Format(name, _spec(name, values, known, ())) for name in _PACKAGED}


def _spec(
    name: str, values: Mapping[str, YamlValue], known: dict[str, FormatSpec], below: tuple[str, ...]
) -> FormatSpec:
    """The spec of the format `name`, merged with the formats that it extends. `below` are the formats that extend it.
    Every spec that is made is added to `known`."""
    if name in known:
        return known[name]
    given = values[name].fields(("extends", *_ATTRIBUTES, *_EVENT_TYPES, "set", "keep", "shapes", "time_zone", "text"))
    parent = FormatSpec(Attributes({}, {}), (), (), (), (), ())
    if "extends" in given:
        base = given["extends"].choice({**known, **values}, "format")
        if len(below) >= _MAX_EXTENDS:
            raise given["extends"].refuse(f"a chain of at most {_MAX_EXTENDS} formats")
        if base in (*below, name):
            raise given["extends"].refuse("a format that does not extend this one in turn")
        parent = _spec(base, values, known, (*below, name))
    types = {key: _event_types(given[key]) if key in given else getattr(parent, key) for key in _EVENT_TYPES}
    if both := set(types["requests"]) & set(types["answers"]):
        place = given.get("answers", given.get("requests", values[name]))
        raise place.error(f"`{min(both)}` is under `requests` and under `answers`, expected under one of them")
    keep = tuple({**dict(parent.keep), **dict(_keep(given))}.items())
    shapes = parent.shapes
    if "shapes" in given:
        shapes = tuple(_shape(value) for value in given["shapes"].items("a list of shapes"))
    attributes = parent.attributes.overridden_by(_attributes(given))
    zone = _time_zone(given["time_zone"]) if "time_zone" in given else parent.time_zone
    text = _written_places(given["text"]) if "text" in given else parent.text
    known[name] = FormatSpec(attributes, shapes, keep=keep, time_zone=zone, text=text, **types)
    if both := {name for shape in shapes for name, _ in shape.keep} & set(dict(keep)):
        what = f"`{min(both)}` is kept by the format and by a shape, expected only one of them to keep it"
        raise given.get("shapes", given.get("keep", values[name])).error(what)
    return known[name]


def _shape(value: YamlValue) -> Shape:
    given = value.fields(("when", *_ATTRIBUTES, "set", "keep"), required=("when",))
    when = given["when"].items() if given["when"].is_list else [given["when"]]
    if not 0 < len(when) <= _MAX_CONDITIONS:
        raise given["when"].error(f"expected 1 to {_MAX_CONDITIONS} conditions, found {len(when)}")
    return Shape(tuple(map(_condition, when)), _attributes(given), _keep(given))


def _condition(value: YamlValue) -> Condition:
    given = value.fields(("path", "is", "in", "begins"), required=("path",))
    place = _place(given["path"])
    if len(given) > 2:
        raise value.refuse("one of `is`, `in` and `begins`")
    if "is" in given:
        return Condition(place, (_constant_or_null(given["is"]),))
    if "in" in given:
        return Condition(place, tuple(map(_constant_or_null, given["in"].items("a list of values"))))
    if "begins" in given:
        return Condition(place, begins=tuple(item.text() for item in given["begins"].items("a list of texts")))
    return Condition(place)


def _constant_or_null(value: YamlValue) -> Constant | None:
    return None if value.is_null else value.constant("a string, a whole number, true, false or null")


def _attributes(given: Mapping[str, YamlValue]) -> Attributes:
    constants = given["set"].fields(_CONSTANTS) if "set" in given else {}
    return Attributes(
        {key: _places(given[key]) for key in _ATTRIBUTES if key in given},
        {key: None if value.is_null else _constant(key, value) for key, value in constants.items()},
    )


def _keep(given: Mapping[str, YamlValue]) -> Keep:
    values = given["keep"].mapping("a mapping from names to lists of places") if "keep" in given else {}
    for name, value in values.items():
        if not NAME.fullmatch(name):
            raise value.error(f"expected a name of lower-case letters, digits and `_`, found `{name}`")
    return tuple((name, _places(value)) for name, value in values.items())


def _places(value: YamlValue) -> tuple[Place, ...]:
    return tuple(_place(item) for item in value.items("a list of places"))


def _place(value: YamlValue) -> Place:
    if value.is_list:
        keys = tuple(key.text() for key in value.items())
        if not 0 < len(keys) <= MAX_STEPS:
            raise value.refuse(f"a list of 1 to {MAX_STEPS} keys")
        return keys
    place = parse_place(value.text(EXPECTED))
    if place is None:
        raise value.refuse(EXPECTED)
    return place


def _constant(attribute: str, value: YamlValue) -> Any:
    if attribute in _FLAGS:
        return value.flag()
    if attribute in _LISTS:
        return tuple(item.text() for item in value.items("a list of strings"))
    return value.text()


def _written_places(value: YamlValue) -> tuple[WrittenPlace, ...]:
    """Places in a record, as they are written, because readers look them up without knowing the rest of the format."""
    for item, place in zip(value.items("a list of places"), _places(value), strict=True):
        if name := next(names_in(place), None):
            raise item.error(f"expected a place in the record itself, found `<{name}>`")
    return tuple(tuple(key.text() for key in item.items()) if item.is_list else item.text() for item in value.items())


def _time_zone(value: YamlValue) -> str:
    expected = "a time zone: a name such as `Europe/Berlin`, or an offset such as `+02:00`"
    name = value.text(expected)
    try:
        parse_zone(name)
    except ValueError:
        raise value.refuse(expected) from None
    return name


def _event_types(value: YamlValue) -> tuple[str, ...]:
    return tuple(sorted({_event_type(item) for item in value.items("a list of event types")}))


def _event_type(value: YamlValue) -> str:
    expected = "an event type (`a:b`), a prefix (`a:`), or a last segment (`:b`)"
    pattern = value.text(expected)
    if pattern.strip(":") == "" or (pattern.startswith(":") and ":" in pattern[1:]):
        raise value.refuse(expected)
    return pattern
