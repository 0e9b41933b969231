"""Compile a format into one plain function: `extract(document, named_type) -> Record | None`.

Half a million records pass through it, with forty paths each, so a path is not interpreted but becomes a line of
Python. For `author: [data.agent_id, agent_id]` the lines are

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

Text from a format enters the generated code only through `repr()` of a string, a number or a boolean: a format can name
any key, but cannot inject code.

What a JSON value counts as is in `values.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, TypeAlias

from sidecar.records import Kind, Record

from .values import MAX_ID_CHARACTERS, add_ids, classifier, id_text, timestamp_of

PROBE_FROM = 4
"""Number of keys looked up in one object from which on it pays to test first whether it has any of them."""
Path: TypeAlias = tuple[str, ...]
Constant: TypeAlias = str | int | bool


class Extract(Protocol):
    """The Record of a JSON object; None where it has no event type. `named_type` is the type in a file's name."""

    def __call__(self, document: dict[str, Any], named_type: str | None = None, /) -> Record | None: ...


@dataclass(frozen=True, slots=True)
class AttributePaths:
    """The paths of each attribute, and the constants used where a record has no value."""

    paths: Mapping[str, tuple[Path, ...]]
    constants: Mapping[str, Any]
    """By attribute: a string; for a list of ids a tuple of strings; for a flag a boolean."""

    def overridden_by(self, own: AttributePaths) -> AttributePaths:
        """These paths and constants, overridden by those in `own`. A constant event type in `own` without paths beside
        it also removes the inherited paths."""
        paths = {**self.paths, **own.paths}
        if "event_type" in own.constants and "event_type" not in own.paths:
            paths["event_type"] = ()
        return AttributePaths(paths, {**self.constants, **own.constants})


@dataclass(frozen=True, slots=True)
class Condition:
    """True where the path has one of the values; without `values`, where it has any value but null."""

    path: Path
    values: tuple[Constant, ...] | None


@dataclass(frozen=True, slots=True)
class FormatSpec:
    """A format as written, merged with all that it extends."""

    places: AttributePaths
    shapes: tuple[tuple[Condition, AttributePaths], ...]
    """The first whose condition is true overrides `places`."""
    completions: tuple[str, ...]
    requests: tuple[str, ...]
    answers: tuple[str, ...]
    skip: tuple[str, ...]


def compile_spec(name: str, spec: FormatSpec) -> Extract:
    """The function that extracts a Record from a JSON object as `spec` says. It raises for no JSON value."""
    code = _Code(_all_paths(spec))
    for condition, places in spec.shapes:
        code.add(f"if {_holds(code, condition)}:")
        _record(code.branch(), spec.places.overridden_by(places))
    _record(code, spec.places)
    source = "\n".join(["def extract(document, named_type=None):", *code.lines])
    kinds: dict[str, Kind] = {}
    names: dict[str, Any] = {
        **code.constants,
        "EMPTY": {},
        "Record": Record,
        "new": tuple.__new__,  # a third of the cost of Record(...), which is a Python function
        "text": id_text,
        "gather": add_ids,
        "moment": timestamp_of,
        "known_kind": kinds.get,
        "kind_of": classifier(spec.completions, spec.requests, spec.answers, spec.skip, kinds),
    }
    exec(compile(source, f"<format {name}>", "exec"), names)
    extract: Extract = names["extract"]
    return extract


def _all_paths(spec: FormatSpec) -> Iterator[Path]:
    for places in (spec.places, *(places for _, places in spec.shapes)):
        for paths in places.paths.values():
            yield from paths
    for condition, _ in spec.shapes:
        yield condition.path


class _Code:
    """Generated Python lines, and the variables that hold objects looked up so far."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, frozenset[str]] = {}
        """Values of the names that the lines use."""
        self._indent = "    "
        self._found: dict[Path, str] = {(): "document"}
        self._keys_at: defaultdict[Path, frozenset[str]] = defaultdict(frozenset)
        """By path: the keys looked up in the object there, anywhere in the format."""
        for path in paths:
            for depth in range(len(path)):
                self._keys_at[path[:depth]] |= {path[depth]}

    def add(self, line: str, *, deeper: int = 0) -> None:
        self.lines.append(self._indent + "    " * deeper + line)

    def branch(self) -> _Code:
        """The same lines, indented by one more level. Objects looked up in the branch are not known after it."""
        branch = copy(self)
        branch._indent, branch._found = self._indent + "    ", dict(self._found)
        return branch

    def holder(self, path: Path) -> str:
        """The variable that holds the object at `path`; an empty object where the record has none."""
        if path not in self._found:
            found = self.get(path)
            name = f"o{len(self._found)}"
            self.add(f"{name} = {found}")
            keys = self._keys_at.get(path, frozenset())
            if len(keys) < PROBE_FROM:
                self.add(f"if {name}.__class__ is not dict: {name} = EMPTY")
            else:  # an object may exist and have none of the keys looked up in it
                known = f"keys{len(self.constants)}"
                self.constants[known] = keys
                self.add(f"if {name}.__class__ is not dict or {known}.isdisjoint({name}): {name} = EMPTY")
            self._found[path] = name
        return self._found[path]

    def get(self, path: Path) -> str:
        return f"{self.holder(path[:-1])}.get({path[-1]!r})"

    def each(self, target: str, paths: Iterable[Path], then: list[str], *, deeper: int = 0) -> None:
        """Run `then` for each path's value that is not null. Adjacent paths share the test of their object."""
        for parent, group in groupby(paths, key=lambda path: path[:-1]):
            inner = deeper
            if parent:
                self.add(f"if {self._found[parent]}:", deeper=deeper)
                inner += 1
            for path in group:
                self.add(f"{target} = {self.get(path)}", deeper=inner)
                self.add(f"if {target} is not None:", deeper=inner)
                for line in then:
                    self.add(line, deeper=inner + 1)

    def first(self, target: str, paths: tuple[Path, ...], take: list[str], otherwise: str) -> None:
        """Set `target` to the value of the first of `paths` that the lines `take` accept, which they do by `break`."""
        if paths:
            self.add("while True:")
            self.each(target, paths, take, deeper=1)
            self.add(f"{target} = {otherwise}", deeper=1)
            self.add("break", deeper=1)
        else:
            self.add(f"{target} = {otherwise}")


def _record(code: _Code, places: AttributePaths) -> None:
    """Add the lines that make a Record by `places` and return it."""

    def paths(attribute: str) -> tuple[Path, ...]:
        return places.paths.get(attribute, ())

    def constant(attribute: str, default: object = None) -> str:
        return repr(places.constants.get(attribute, default))

    _event_type(code, paths("event_type"), constant("event_type"))
    for path in (path for attribute in places.paths for path in paths(attribute)):
        code.holder(path[:-1])
    t = "timestamp"
    plain = f"if {t}.__class__ is float and 0.0 <= {t} < 1e11: break"  # saves a call for most records
    code.first(t, paths(t), [plain, f"{t} = moment({t})", f"if {t} is not None: break"], "None")
    for attribute in ("session_id", "author", "correlation", "pattern", "conversation", "new_role", "team"):
        code.first(attribute, paths(attribute), _take_text(attribute), constant(attribute))
    one = f"value.__class__ is str and value and len(value) <= {MAX_ID_CHARACTERS} and not addressees"
    usual = f"addressees = (value,) if {one} else gather(addressees, value)"
    listed = "if value.__class__ is list: members = gather(members, value)"
    for attribute, take in (("addressees", usual), ("members", listed)):
        code.add(f"{attribute} = ()")
        code.each("value", paths(attribute), [take])
        if attribute in places.constants:
            code.add(f"if not {attribute}: {attribute} = {constant(attribute)}")
    code.first("broadcast", paths("broadcast"), _take_flag("broadcast"), constant("broadcast", False))
    default = constant("requests_response") if "requests_response" in places.constants else "kind.is_request"
    code.first("expects", paths("requests_response"), _take_flag("expects"), default)
    completed = " or ".join(f"{code.get(path)} == 'completed'" for path in paths("status")) or "False"
    if "status" in places.constants:
        code.first("status", paths("status"), _take_text("status"), constant("status"))
        completed += " or status == 'completed'"
    code.add(
        "return new(Record, (event_type, kind, timestamp, session_id, author, addressees, members, "
        f"correlation, pattern, conversation, new_role, team is not None, broadcast, expects, {completed}))"
    )


def _event_type(code: _Code, paths: tuple[Path, ...], constant: str) -> None:
    """Add the lines for the event type. It comes first: without it there is no record, and no other path matters."""
    for path in paths:
        code.holder(path[:-1])
    otherwise = f"named_type or {constant}" if paths or constant == "None" else constant
    code.first("event_type", paths, ["if event_type.__class__ is str and event_type: break"], otherwise)
    code.add("if not event_type: return None")
    code.add(f"if len(event_type) > {MAX_ID_CHARACTERS}: event_type = text(event_type)")
    code.add("kind = known_kind(event_type) or kind_of(event_type)")


def _take_text(target: str) -> list[str]:
    long = f"{target}.__class__ is not str or len({target}) > {MAX_ID_CHARACTERS}"
    return [f"if {long}: {target} = text({target})", f"if {target}: break"]


def _take_flag(target: str) -> list[str]:
    return [f"if {target}.__class__ is bool: break"]


def _holds(code: _Code, condition: Condition) -> str:
    """The condition as a Python expression. In Python 1 equals True, in JSON not, so classes are compared too."""
    place = code.get(condition.path)
    if condition.values is None:
        return f"{place} is not None"
    code.add(f"value = {place}")
    each = (f"(value == {v!r} and value.__class__ is {type(v).__name__})" for v in condition.values)
    return " or ".join(each) or "False"
