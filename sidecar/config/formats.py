"""Formats: where in a record the attributes of the law of derivation (`docs/derivation.md`) are, as data.

A format is YAML, in `sidecar/formats/` or under `formats` in config.yaml:

    mine:
      extends: reference                  # what is not set here is inherited; without `extends`, absent
      author: [sender.id, from]           # the first path that has a value; for addressees, all of them
      pattern: [[data, "kind.of.talk"]]   # a path as a list of keys, where a key contains a dot
      requests: ["ask:", ":request"]      # `a:b` is that type, `a:` a prefix, `:b` the last segment
      set: {team: red}                    # used where the record itself has no value
      shapes:                             # the first whose condition is true overrides what it lists
        - when: {path: kind, is: reply}   # or `in: [a, b]`; or the path alone: present, and not null
          set: {event_type: "chat:response"}

A type that matches both `requests` and `answers` is a request. A constant event type without `event_type` paths beside
it is the type of every record of its shape; with paths, it is tried last, after the name of an event file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from .compiler import AttributePaths, Condition, Extract, FormatSpec, Path, compile_spec
from .yaml_nodes import YamlValue, parse_yaml

_FLAGS = ("broadcast", "requests_response")
_LISTS = ("addressees", "members")
_TEXTS = ("event_type", "session_id", "author", "correlation", "pattern", "conversation", "team", "new_role")
_CONSTANTS = (*_TEXTS, "status", *_LISTS, *_FLAGS)
_ATTRIBUTES = ("timestamp", *_CONSTANTS)
_EVENT_TYPES = ("completions", "requests", "answers", "skip")
_MAX_PATH_KEYS = 50
_MAX_EXTENDS = 50
"""Formats in a chain of `extends`."""
_PACKAGED = ("reference", "ksi-events", "ksi-responses", "ksi-bus")


@dataclass(frozen=True, slots=True)
class Format:
    """A compiled format. It can be pickled; the receiving process compiles it again."""

    name: str
    spec: FormatSpec = field(repr=False, compare=False)
    fingerprint: str = field(init=False)
    """Differs where the format differs; the name is not part of it."""
    extract: Extract = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        content = json.dumps(asdict(self.spec), sort_keys=True)
        object.__setattr__(self, "fingerprint", sha256(content.encode()).hexdigest())
        object.__setattr__(self, "extract", compile_spec(self.name, self.spec))

    def __reduce__(self) -> tuple[type[Format], tuple[str, FormatSpec]]:
        return Format, (self.name, self.spec)


def load_formats(user: YamlValue | None = None) -> dict[str, Format]:
    """The packaged formats and those in `user`, the value of `formats` in config.yaml, by name.

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
    """Parse a YAML file of the package, by its name without the suffix."""
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
    """The spec of the format `name`, with all that it extends. `below` are the formats that extend it; specs are added
    to `known`."""
    if name in known:
        return known[name]
    given = values[name].fields(("extends", *_ATTRIBUTES, *_EVENT_TYPES, "set", "shapes"))
    parent = FormatSpec(AttributePaths({}, {}), (), (), (), (), ())
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
    shapes = parent.shapes
    if "shapes" in given:
        shapes = tuple(_shape(value) for value in given["shapes"].items("a list of shapes"))
    known[name] = FormatSpec(parent.places.overridden_by(_places(given)), shapes, **types)
    return known[name]


def _shape(value: YamlValue) -> tuple[Condition, AttributePaths]:
    given = value.fields(("when", *_ATTRIBUTES, "set"), required=("when",))
    when = given["when"].fields(("path", "is", "in"), required=("path",))
    path = _path(when["path"])
    if "is" in when and "in" in when:
        raise given["when"].refuse("either `is` or `in`")
    if "is" in when:
        return Condition(path, (when["is"].constant(),)), _places(given)
    if "in" in when:
        values = tuple(item.constant() for item in when["in"].items("a list of values"))
        return Condition(path, values), _places(given)
    return Condition(path, None), _places(given)


def _places(given: Mapping[str, YamlValue]) -> AttributePaths:
    constants = given["set"].fields(_CONSTANTS) if "set" in given else {}
    return AttributePaths(
        {key: _paths(given[key]) for key in _ATTRIBUTES if key in given},
        {key: _constant(key, value) for key, value in constants.items()},
    )


def _paths(value: YamlValue) -> tuple[Path, ...]:
    return tuple(_path(item) for item in value.items("a list of paths"))


def _path(value: YamlValue) -> Path:
    """Parse `a.b.c`, or a list of keys, for keys that contain a dot."""
    expected = "a path: keys with dots between (`data.agent_id`), or a list of keys"
    keys = [key.text() for key in value.items()] if value.is_list else value.text(expected).split(".")
    path = tuple(keys)
    if not path or not all(path) or len(path) > _MAX_PATH_KEYS:
        raise value.refuse(expected)
    return path


def _constant(attribute: str, value: YamlValue) -> Any:
    if attribute in _FLAGS:
        return value.flag()
    if attribute in _LISTS:
        return tuple(item.text() for item in value.items("a list of strings"))
    return value.text()


def _event_types(value: YamlValue) -> tuple[str, ...]:
    return tuple(sorted({_event_type(item) for item in value.items("a list of event types")}))


def _event_type(value: YamlValue) -> str:
    expected = "an event type: `a:b` that one, `a:` what begins so, `:b` what has that last segment"
    pattern = value.text(expected)
    if pattern.strip(":") == "" or (pattern.startswith(":") and ":" in pattern[1:]):
        raise value.refuse(expected)
    return pattern
