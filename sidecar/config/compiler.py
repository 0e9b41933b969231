"""Compile a format into one plain function: `extract(document, named_type, names) -> Record | None`.

Half a million records may pass through it, with forty paths each, so paths are not interpreted but compiled to lines
of Python. For `author: [data.agent_id, agent_id]` the lines are

    o1 = document.get('data')
    if o1.__class__ is not dict: o1 = EMPTY      # once for all paths below `data`
    while True:                                  # not a loop: a block that `break` leaves
        if o1:
            author = o1.get('agent_id')
            if author is not None:
                if author.__class__ is not str or len(author) > 1024: author = text(author)
                if author: break
        ...
        author = None
        break

Steps into lists, names, and texts with places in them become calls of helpers, so that only formats that use them pay
for them.

Text from a format enters the generated code only as the `repr()` of a string, a number or a boolean, or as the value of
a numbered name: a format can name any key, but it cannot inject code. What a JSON value counts as is in `values.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from copy import copy
from datetime import UTC, tzinfo
from functools import partial
from itertools import groupby
from typing import Any, Protocol

from sidecar.ids import MAX_ID_CHARACTERS
from sidecar.places import Named, Path, Place, Template, before_lists, paths_in, text_of, values_in
from sidecar.records import Kind, Record

from .spec import Attributes, Condition, FormatSpec
from .timestamps import timestamp_of
from .values import (
    add_ids,
    begins_with,
    classifier,
    first_of,
    flag_of,
    id_text,
    joined,
    joined_with_each,
    type_of,
)

PROBE_FROM = 4
"""From this many keys of one object on, it pays to test first whether the object has any of them."""

_NO_NAMES: dict[str, str] = {}


class Extract(Protocol):
    """A function that returns the Record of a JSON object, or None if it has no event type.

    `named_type` is the event type in the file's name. `names` are the named parts of the file's path and the values
    kept of earlier records; those kept of this record are added to it.
    """

    def __call__(
        self, document: dict[str, Any], named_type: str | None = None, names: dict[str, str] = ..., /
    ) -> Record | None: ...


def compile_spec(name: str, spec: FormatSpec, zone: tzinfo = UTC) -> Extract:
    """The function that extracts a Record from a JSON object as `spec` says. It never raises, whatever the object is.

    `zone` is the time zone of times that name none.
    """
    keeps = bool(spec.kept)
    code = _Code(before_lists(path) for place in spec.all_places for path in paths_in(place))
    # Nothing is kept of an object that turns out not to be a record, so a copy is changed until that is known.
    if keeps:
        code.add("given, names = names, {**names}")
    for kept, places in spec.keep:
        code.add(f"if {kept!r} not in names:")
        _keep(code.branch(), kept, places)
    for shape in spec.shapes:
        branch = code
        for condition in shape.conditions:
            code.hold(condition.place)
        for condition in shape.conditions:
            branch.add(f"if {_holds(branch, condition)}:")
            branch = branch.branch()
        for kept, places in shape.keep:
            _keep(branch, kept, places)
        _record(branch, spec.attributes.overridden_by(shape.attributes), keeps)
    _record(code, spec.attributes, keeps)
    source = "\n".join(["def extract(document, named_type=None, names=NO_NAMES):", *code.lines])
    kinds: dict[str, Kind] = {}
    names: dict[str, Any] = {
        **code.constants,
        "EMPTY": {},
        "NO_NAMES": _NO_NAMES,
        "Record": Record,
        # Takes a third of the time of Record(...), which is a Python function.
        "new": tuple.__new__,
        "text": id_text,
        "gather": add_ids,
        "moment": timestamp_of if zone is UTC else partial(timestamp_of, zone=zone),
        "flag": flag_of,
        "type_text": type_of,
        "plain_text": text_of,
        "values_in": values_in,
        "first_of": first_of,
        "joined": joined,
        "joined_with_each": joined_with_each,
        "begins_with": begins_with,
        "known_kind": kinds.get,
        "kind_of": classifier(spec.completions, spec.requests, spec.answers, spec.skip, kinds),
    }
    exec(compile(source, f"<format {name}>", "exec"), names)
    extract: Extract = names["extract"]
    return extract


class _Code:
    """Generated lines of Python, and the variables that hold the objects looked up so far."""

    def __init__(self, paths: Iterable[tuple[str, ...]]) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        """The values of the names that the lines use."""
        self._indent = "    "
        self._found: dict[Path, str] = {(): "document"}
        self._keys_at: defaultdict[Path, frozenset[str]] = defaultdict(frozenset)
        """By path: the keys that any part of the format looks up in the object there."""
        for path in paths:
            for depth in range(len(path)):
                self._keys_at[path[:depth]] |= {path[depth]}

    def add(self, line: str, *, deeper: int = 0) -> None:
        self.lines.append(self._indent + "    " * deeper + line)

    def branch(self) -> _Code:
        """The same lines, for a block that is indented by one more level. Objects looked up in the block are not known
        after it."""
        branch = copy(self)
        branch._indent, branch._found = self._indent + "    ", dict(self._found)
        return branch

    def holder(self, path: Path) -> str:
        """The variable that holds the object at `path`, or an empty object if the record has none there."""
        if path not in self._found:
            found = self.get(path)
            name = f"o{len(self._found)}"
            self.add(f"{name} = {found}")
            keys = self._keys_at.get(path, frozenset())
            if len(keys) < PROBE_FROM:
                self.add(f"if {name}.__class__ is not dict: {name} = EMPTY")
            else:
                # An object may exist and have none of the keys that are looked up in it.
                known = self.constant(keys)
                self.add(f"if {name}.__class__ is not dict or {known}.isdisjoint({name}): {name} = EMPTY")
            self._found[path] = name
        return self._found[path]

    def constant(self, value: Any) -> str:
        """A name for a value in the generated code."""
        name = f"constant{len(self.constants)}"
        self.constants[name] = value
        return name

    def hold(self, place: Place) -> None:
        """Look up the objects that contain what the paths of a place lead to, or its lists."""
        for path in paths_in(place):
            self.holder(before_lists(path)[:-1])

    def get(self, place: Place) -> str:
        """The value at a place, as an expression; for a path into lists, the first value that is not null."""
        if isinstance(place, Named):
            return f"names.get({place.name!r})"
        if isinstance(place, Template):
            return f"joined({', '.join(map(self._part, place.parts))})"
        if _leads_into_lists(place):
            return f"next(iter({self.get_all(place)}), None)"
        return f"{self.holder(place[:-1])}.get({place[-1]!r})"

    def _part(self, part: str | Path | Named) -> str:
        """A part of a text, as an expression."""
        if isinstance(part, str):
            return repr(part)
        return f"first_of({self.get_all(part)}, plain_text)" if _leads_into_lists(part) else self.get(part)

    def get_all(self, place: Place | str) -> str:
        """All values at a place that leads into lists, as an expression. A text with places in it has a value for each
        one of the first path in it that leads into lists."""
        if isinstance(place, Template):
            at = next(i for i, part in enumerate(place.parts) if isinstance(part, tuple) and _leads_into_lists(part))
            before, after = (
                "".join(f"{self._part(part)}, " for part in parts)
                for parts in (place.parts[:at], place.parts[at + 1 :])
            )
            return f"joined_with_each(({before}), {self.get_all(place.parts[at])}, ({after}))"
        assert isinstance(place, tuple)
        keys = before_lists(place)
        return f"values_in({self.get(keys)}, {self.constant(place[len(keys) :])})"

    def each(
        self, target: str, places: Iterable[Place], then: list[str], into_lists: list[str], *, deeper: int = 0
    ) -> None:
        """Add code that runs the lines `then` for the value at each place, unless it is null; for a path into lists, it
        runs the lines `into_lists` for the list of values. Adjacent paths share the test of their object."""
        for parent, group in groupby(places, key=_parent):
            inner = deeper
            if parent:
                self.add(f"if {self._found[parent]}:", deeper=deeper)
                inner += 1
            for place in group:
                if _leads_into_lists(place):
                    self.add(f"{target} = {self.get_all(place)}", deeper=inner)
                    for line in into_lists:
                        self.add(line, deeper=inner)
                    continue
                self.add(f"{target} = {self.get(place)}", deeper=inner)
                self.add(f"if {target} is not None:", deeper=inner)
                for line in then:
                    self.add(line, deeper=inner + 1)

    def first(
        self,
        target: str,
        places: tuple[Place, ...],
        take: list[str],
        accept: str,
        otherwise: str,
        into_lists: list[str] | None = None,
    ) -> None:
        """Add code that sets `target` to the value of the first of `places` that counts as something, or to
        `otherwise`. The lines `take` test a value and end with `break`; the values of a list are tested by `accept`, or
        by the lines `into_lists`."""
        if places:
            self.add("while True:")
            into_lists = into_lists or [f"{target} = first_of({target}, {accept})", f"if {target} is not None: break"]
            self.each(target, places, take, into_lists, deeper=1)
            self.add(f"{target} = {otherwise}", deeper=1)
            self.add("break", deeper=1)
        else:
            self.add(f"{target} = {otherwise}")


def _leads_into_lists(place: Place | str) -> bool:
    if isinstance(place, Template):
        return any(map(_leads_into_lists, place.parts))
    return isinstance(place, tuple) and len(before_lists(place)) < len(place)


def _parent(place: Place) -> Path | None:
    """The path of the object that a place is looked up in; None if the place is not just a path of keys."""
    return place[:-1] if isinstance(place, tuple) and not _leads_into_lists(place) else None


def _keep(code: _Code, name: str, places: tuple[Place, ...]) -> None:
    """Add the lines that keep the first value at some places under a name."""
    for place in places:
        code.hold(place)
    code.first("kept", places, _take_text("kept"), "text", "None")
    code.add(f"if kept: names[{name!r}] = kept")


def _record(code: _Code, attributes: Attributes, keeps: bool) -> None:
    """Add the lines that make a Record by `attributes` and return it."""

    def places(attribute: str) -> tuple[Place, ...]:
        return attributes.places.get(attribute, ())

    def constant(attribute: str, default: object = None) -> str:
        return repr(attributes.constants.get(attribute, default))

    _event_type(code, places("event_type"), constant("event_type"))
    for place in (place for attribute in attributes.places for place in places(attribute)):
        code.hold(place)
    _timestamp(code, places("timestamp"))
    for attribute in ("session_id", "author", "correlation", "pattern", "conversation", "new_role", "team"):
        code.first(attribute, places(attribute), _take_text(attribute), "text", constant(attribute))
    one = f"value.__class__ is str and value and len(value) <= {MAX_ID_CHARACTERS} and not addressees"
    usual = f"addressees = (value,) if {one} else gather(addressees, value)"
    listed = "if value.__class__ is list: members = gather(members, value)"
    for attribute, take in (("addressees", usual), ("members", listed)):
        code.add(f"{attribute} = ()")
        gathered = f"{attribute} = gather({attribute}, value)"
        for is_plain, group in groupby(places(attribute), key=lambda place: _parent(place) is not None):
            code.each("value", group, [take if is_plain else gathered], [gathered])
        if attribute in attributes.constants:
            code.add(f"if not {attribute}: {attribute} = {constant(attribute)}")
    code.first("broadcast", places("broadcast"), _take_flag("broadcast"), "flag", constant("broadcast", False))
    default = constant("requests_response") if "requests_response" in attributes.constants else "kind.is_request"
    code.first("expects", places("requests_response"), _take_flag("expects"), "flag", default)
    completed = " or ".join(_is_completed(code, place) for place in places("status")) or "False"
    if "status" in attributes.constants:
        code.first("status", places("status"), _take_text("status"), "text", constant("status"))
        completed += " or status == 'completed'"
    if keeps:
        code.add("if given is not NO_NAMES: given.update(names)")
    code.add(
        "return new(Record, (event_type, kind, timestamp, session_id, author, addressees, members, "
        f"correlation, pattern, conversation, new_role, team is not None, broadcast, expects, {completed}, unreadable))"
    )


def _timestamp(code: _Code, places: tuple[Place, ...]) -> None:
    """Add the lines for the time. They set `unreadable` if there is a value that is not a time, and no time."""
    t = "timestamp"
    code.add("unreadable = False")
    take = [
        # Saves a call for most records.
        f"if {t}.__class__ is float and 0.0 <= {t} < 1e11: break",
        f"value = {t}",
        f"{t} = moment(value)",
        f"if {t} is not None: break",
        "if value != '': unreadable = True",
    ]
    something = "any(one is not None and one != '' for one in value)"
    into_lists = [f"value = {t}", f"{t} = first_of(value, moment)", f"if {t} is not None: break"]
    code.first(t, places, take, "moment", "None", [*into_lists, f"if {something}: unreadable = True"])
    if len(places) > 1:
        code.add(f"unreadable = unreadable and {t} is None")


def _event_type(code: _Code, places: tuple[Place, ...], constant: str) -> None:
    """Add the lines for the event type. It comes first, because without it there is no record."""
    for place in places:
        code.hold(place)
    otherwise = f"named_type or {constant}" if places or constant == "None" else constant
    take = ["if event_type.__class__ is str and event_type: break"]
    code.first("event_type", places, take, "type_text", otherwise)
    code.add("if not event_type: return None")
    code.add(f"if len(event_type) > {MAX_ID_CHARACTERS}: event_type = text(event_type)")
    code.add("kind = known_kind(event_type) or kind_of(event_type)")


def _take_text(target: str) -> list[str]:
    long = f"{target}.__class__ is not str or len({target}) > {MAX_ID_CHARACTERS}"
    return [f"if {long}: {target} = text({target})", f"if {target}: break"]


def _take_flag(target: str) -> list[str]:
    return [f"if {target}.__class__ is bool: break"]


def _is_completed(code: _Code, place: Place) -> str:
    if _leads_into_lists(place):
        return f"'completed' in {code.get_all(place)}"
    return f"{code.get(place)} == 'completed'"


def _holds(code: _Code, condition: Condition) -> str:
    """The condition as a Python expression. 1 equals True in Python but not in JSON, so classes are compared too."""
    value = code.get(condition.place)
    if condition.begins is not None:
        return f"begins_with({value}, {code.constant(condition.begins)})"
    if condition.values is None:
        return f"{value} is not None"
    code.add(f"value = {value}")
    each = (
        "value is None" if v is None else f"(value == {v!r} and value.__class__ is {type(v).__name__})"
        for v in condition.values
    )
    return " or ".join(each) or "False"
