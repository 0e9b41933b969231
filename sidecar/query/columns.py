"""Rows of one day as columns of entries.

A row of the table `entry` consists of numbers. A page of rows has at most a few hundred kinds, contexts and lists of
participants, so each is looked up and decoded once per page, and shared by the entries that have it. Joining them to
every row would take three times as long. A column that nobody asks for costs nothing.

Anybody may have made an index file, so every value is checked. One that the sidecar never writes raises TypeError or
ValueError; a number that leads nowhere raises KeyError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from sidecar.errors import UnknownColumn
from sidecar.records import Entry
from sidecar.store.codec import agents_of, checked_seconds, roles_of, speakers
from sidecar.store.daily_schema import CHECKSUM_OFFSET
from sidecar.times import YEAR_10000

PATH = "f.text || s.stem || s.suffix"
"""SQL for the path of a log, from the tables that `PLACED` joins."""
PLACED = "CROSS JOIN source s ON s.id = e.source CROSS JOIN name f ON f.id = s.folder"
"""SQL that joins the log to `entry e`. CROSS JOIN keeps SQLite from reversing a join."""
ROW = (
    f"e.id, e.timestamp, COALESCE(s.session, s.stem), {PATH}, e.line_number, e.byte_offset, e.has_response,"
    " e.requests_response, e.answered_after, e.checksum, e.kind, e.context, e.party, e.roles, e.correlation"
)
"""SQL for the columns of a row."""
_WIDTH = 15
"""The number of columns of a row."""
_LOOKUPS: dict[str, tuple[str, tuple[type, ...]]] = {
    "kind": (
        "x.id, t.text, a.text, x.is_completion, x.is_request, x.has_author, x.addressees, x.self_place FROM {numbers}"
        " LEFT JOIN name t ON t.id = x.event_type LEFT JOIN name a ON a.id = x.pattern",
        (int, str, str, int, int, int, int, int),
    ),
    "context": (
        "x.id, n.text, i.text, v.text FROM {numbers} LEFT JOIN name n ON n.id = x.session"
        " LEFT JOIN name i ON i.id = x.initiating_agent LEFT JOIN name v ON v.id = x.conversation",
        (int, str, str, str),
    ),
    "party": ("x.id, x.agents FROM {numbers}", (int, str)),
    "role_set": ("x.id, x.roles FROM {numbers}", (int, str)),
    "correlation": ("x.id, x.text FROM {numbers}", (int, str)),
}
"""For each table, what to select from the rows with given numbers, and the types of the columns."""
_SELECT = {
    table: "SELECT " + sql.format(numbers=f"json_each(?) j CROSS JOIN {table} x ON x.id = j.value")
    for table, (sql, _) in _LOOKUPS.items()
}

Ask = Callable[[str, str], Iterable[Any]]
"""Runs a statement with one parameter, and returns its rows, unchecked."""
_Draft: Any = type("_Draft", Entry.__bases__, {"__slots__": Entry.__slots__})
"""An entry whose attributes can still be set. Making one and then setting its class to `Entry`, which Python allows for
classes with the same slots, takes a third of the time of a frozen class's constructor."""


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of columns that a caller has given, as a tuple. Raises UnknownColumn if one is not a column, or if none
    is given."""
    if isinstance(names, str):
        raise UnknownColumn(f"columns: a list of names is expected, not the text {names!r}")
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or not names:
        raise UnknownColumn(f"columns: an entry has no {unknown[0]!r}" if unknown else "columns: the list is empty")
    return tuple(names)


class Columns:
    """Rows of a day, selected with `ROW`, as columns. To be made and used in the transaction in which the rows were
    read."""

    def __init__(self, rows: Sequence[tuple[Any, ...]], ask: Ask, each: Ask) -> None:
        """`ask` returns all rows at once, which is faster; `each` yields them one by one."""
        self._ask = ask
        self._each = each
        columns: list[Any] = list(zip(*rows, strict=True)) or [()] * _WIDTH
        # Taken apart by position. fmt: off
        (
            self.numbers,
            self._timestamp,
            self._log,
            self._file_path,
            self._line_number,
            self._byte_offset,
            self._has_response,
            self._requests_response,
            self._answered_after,
            self._checksum,
            self._kind,
            self._context,
            self._party,
            self._roles,
            self._correlation,
        ) = columns
        # fmt: on
        self._texts: dict[str, dict[int, str]] = {}
        """The lists of participants and the sets of roles that have been looked up, by table and number."""

    def entries(self) -> list[Entry]:
        """The entries."""
        checksums = [checksum + CHECKSUM_OFFSET for checksum in _typed(self._checksum, int)]
        return [_entry(values) for values in zip(*map(self.column, COLUMNS), checksums, strict=True)]

    def tuples(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """A tuple of the values of these columns for each entry."""
        return list(zip(*map(self.column, names), strict=True))

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column: one of `COLUMNS`, or `participants`, which is the stored text of
        `participating_agents`."""
        return _OF[name](self)

    def first_rows(self, characters: int) -> int:
        """The number of rows, at least one, before their lists of participants and sets of roles exceed this many
        characters. Of the texts behind these rows, only the one that exceeds it is read."""
        longest = [self._look_up("party", self._party, characters), self._look_up("role_set", self._roles, characters)]
        if len(self.numbers) * sum(longest) <= characters:
            return len(self.numbers)
        parties, roles = self._texts.pop("party"), self._texts.pop("role_set")
        left = characters
        for count, (party, role) in enumerate(zip(self._party, self._roles, strict=True)):
            left -= len(parties[party]) + len(roles[role]) if party in parties and role in roles else characters + 1
            if left < 0:
                return max(1, count)
        return len(self.numbers)

    def _look_up(self, table: str, numbers: Sequence[int], characters: int) -> int:
        """Look up texts in the order of the rows, until they have too many characters. Returns the length of the
        longest."""
        texts = self._texts[table] = {}
        left, longest = characters, 0
        for number, text in self._each(_SELECT[table], as_json(numbers)):
            texts[number] = text
            longest = max(longest, len(text))
            left -= len(text)
            if left < 0:
                break
        return longest

    # ---- The rows behind the numbers

    def _found(self, table: str, numbers: Iterable[int | None]) -> list[Sequence[Any]]:
        """The rows of a table that have these numbers, as columns."""
        columns = zip(*self._ask(_SELECT[table], as_json(numbers)), strict=True)
        return [_typed(values, kind) for values, kind in zip(columns, _LOOKUPS[table][1], strict=False)]

    def _texts_of(self, table: str, numbers: Sequence[int]) -> dict[int, str]:
        texts = self._texts.get(table)
        if texts is None:
            texts = self._texts[table] = dict(zip(*self._found(table, numbers), strict=True))
        return texts

    @cached_property
    def _kinds(self) -> list[Sequence[Any]]:
        return self._found("kind", self._kind)

    @cached_property
    def _contexts(self) -> list[Sequence[Any]]:
        return self._found("context", self._context)

    @cached_property
    def _speaking(self) -> list[Any]:
        """Two columns: author, addressees."""
        kinds = {kind: says for kind, *says in zip(self._kinds[0], *self._kinds[5:], strict=True)}
        lists = self._lists
        pairs = list(zip(self._kind, self._party, strict=True))
        known = {(kind, party): speakers(lists[party], *kinds[kind]) for kind, party in set(pairs)}
        return list(zip(*map(known.__getitem__, pairs), strict=True)) or [(), ()]

    @cached_property
    def _lists(self) -> dict[int, tuple[str, ...]]:
        return {number: tuple(agents_of(text)) for number, text in self._texts_of("party", self._party).items()}

    def _agent_roles(self) -> list[dict[str, str]]:
        roles = {number: roles_of(text) for number, text in self._texts_of("role_set", self._roles).items()}
        return [roles[number].copy() for number in self._roles]

    def _correlations(self) -> list[str | None]:
        texts: dict[Any, Any] = {None: None}
        texts.update(zip(*self._found("correlation", self._correlation), strict=True))
        return list(map(texts.__getitem__, self._correlation))

    def _ids(self) -> list[str]:
        return [f"{log}:{at}" for log, at in zip(_typed(self._log, str), self.column("byte_offset"), strict=True)]


def _each_of(numbers: Sequence[int], found: list[Sequence[Any]], place: int) -> list[Any]:
    """The value for each number. `found` are the columns of a table, the numbers first, and `place` is that of the
    values among them."""
    return list(map(dict(zip(found[0], found[place], strict=True)).__getitem__, numbers)) if numbers else []


def _typed(values: Sequence[Any], *types: type) -> Sequence[Any]:
    """The values, if all are of these types. Raises TypeError otherwise."""
    if not set(types).issuperset(map(type, values)):
        raise TypeError(f"a column of {', '.join(sorted({type(value).__name__ for value in values}))}")
    return values


def _times(values: Sequence[Any]) -> Sequence[float]:
    """The values, if all are times from 1970 to 9999. Raises TypeError or ValueError otherwise."""
    if values and not 0.0 <= min(_typed(values, float)) <= max(values) <= YEAR_10000:
        raise ValueError(f"a time of {min(values)!r} or {max(values)!r}")
    return values


def _entry(values: tuple[Any, ...]) -> Entry:
    """The entry with these attributes. The last value is its checksum."""
    draft = _Draft()
    # Taken apart by position, which costs a third of a loop. fmt: off
    (
        draft.id,
        draft.timestamp,
        draft.event_type,
        draft.session_id,
        draft.file_path,
        draft.line_number,
        draft.byte_offset,
        draft.initiating_agent,
        draft.participating_agents,
        draft.agent_roles,
        draft.pattern_type,
        draft.conversation_id,
        draft.correlation_id,
        draft.is_completion,
        draft.is_request,
        draft.has_response,
        draft.requests_response,
        draft.author,
        draft.addressees,
        draft.answered_after,
        draft.checksum,
    ) = values
    # fmt: on
    draft.__class__ = Entry
    entry: Entry = draft
    return entry


def as_json(numbers: Iterable[int | None]) -> str:
    """These numbers as a JSON list, each once, in the order of their first occurrence."""
    return f"[{','.join(str(number) for number in dict.fromkeys(numbers) if number is not None)}]"


_OF: dict[str, Callable[[Columns], Sequence[Any]]] = {
    "id": Columns._ids,
    "timestamp": lambda of: _times(of._timestamp),
    "event_type": lambda of: _each_of(of._kind, of._kinds, 1),
    "session_id": lambda of: _each_of(of._context, of._contexts, 1),
    "file_path": lambda of: _typed(of._file_path, str),
    "line_number": lambda of: _typed(of._line_number, int),
    "byte_offset": lambda of: _typed(of._byte_offset, int),
    "initiating_agent": lambda of: _each_of(of._context, of._contexts, 2),
    "participating_agents": lambda of: list(map(of._lists.__getitem__, of._party)),
    "agent_roles": Columns._agent_roles,
    "pattern_type": lambda of: _each_of(of._kind, of._kinds, 2),
    "conversation_id": lambda of: _each_of(of._context, of._contexts, 3),
    "correlation_id": Columns._correlations,
    "is_completion": lambda of: list(map(bool, _each_of(of._kind, of._kinds, 3))),
    "is_request": lambda of: list(map(bool, _each_of(of._kind, of._kinds, 4))),
    "has_response": lambda of: list(map(bool, _typed(of._has_response, int))),
    "requests_response": lambda of: list(map(bool, _typed(of._requests_response, int))),
    "author": lambda of: of._speaking[0],
    "addressees": lambda of: of._speaking[1],
    "answered_after": lambda of: list(map(checked_seconds, of._answered_after)),
}
COLUMNS = tuple(_OF)
"""The columns of an entry, in the order of its attributes."""
_OF["participants"] = lambda of: list(map(of._texts_of("party", of._party).__getitem__, of._party))
