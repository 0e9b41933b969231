"""From a filter to a condition on `hub.entry`, and from its rows to entries.

What a filter names is looked up in the dictionaries first, so that the hub is asked for rows by numbers alone, which
an index has; and what the numbers of a page stand for is looked up once and kept. Joined in one statement, the order of
the joins would depend on statistics that a hub does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sidecar.query.filters import Filter
from sidecar.records import Entry
from sidecar.store.codec import agents_of, roles_of, speakers
from sidecar.store.daily_schema import CHECKSUM_OFFSET

from . import values
from .schema import WAITS

ROW = (
    '"timestamp", byte_offset, answered_after, node, source, line_number, checksum, context, party, kind, response,'
    " correlation"
)
MAX_KEPT = 50_000
"""What numbers stand for is kept for so many, of each dictionary."""
FEW = 300
"""Up to so many parties of an agent, its rows are found by the index on them; of more, along the clock."""

Ask = Callable[..., list[tuple[Any, ...]]]
Numbers = dict[int, list[int]]
"""Numbers of a dictionary, by node."""


class RowCondition(NamedTuple):
    """What rows have to fulfil."""

    terms: list[str]
    """Joined by AND."""
    arguments: list[Any]
    is_narrow: bool
    """Whether the rows are few, so that they are sorted rather than found along the clock."""


def place_of(entry: Entry) -> tuple[float, str, int, str]:
    """What entries are sorted by."""
    return entry.timestamp, entry.file_path, entry.byte_offset, entry.node or ""


class Pages:
    """The dictionaries of a hub, as far as they were asked for."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._known: dict[str, dict[tuple[int, int], tuple[Any, ...]]] = {table: {} for table in _LOOKUPS}

    # ---- from a filter

    def condition(self, wanted: Filter, node: str | None) -> RowCondition | None:
        """The condition for a filter, on a node or on all; None if nothing can fulfil it."""
        terms: list[str] = []
        arguments: list[Any] = []
        is_narrow = False
        node_id: int | None = None
        if node is not None:
            found = self._ask("SELECT id FROM hub.node WHERE name = %s", node)
            if not found:
                return None
            node_id = int(found[0][0])
            terms.append("node = %s")
            arguments.append(node_id)
        for comparison, moment in ((">=", wanted.since), ("<", wanted.until), (">", wanted.after)):
            if moment is not None:
                terms.append(f'"timestamp" {comparison} %s::float8')
                arguments.append(moment)
        if wanted.correlation is not None:
            terms.append("correlation = %s")
            arguments.append(values.name(wanted.correlation))
            is_narrow = True
        if wanted.pending:
            terms.append(WAITS)
        for column, sql, given in self._dictionaries(wanted):
            numbers = self._numbers(sql, given, node_id)
            if not numbers:
                return None
            few = sum(map(len, numbers.values())) <= FEW
            either = [f"node = %s AND {column} = ANY(%s)" for _ in numbers]
            terms.append(f"({' OR '.join(either)})")
            for one, its in numbers.items():
                arguments += [one, its]
            is_narrow |= column == "context" or (column == "party" and few)
        return RowCondition(terms, arguments, is_narrow)

    def _dictionaries(self, wanted: Filter) -> Iterable[tuple[str, str, list[str]]]:
        """For each dictionary that the filter is about: the column, the statement, and its arguments."""
        of = {"session": wanted.session, "conversation": wanted.conversation}
        kinds = {"event_type": wanted.event_type, "pattern": wanted.pattern}
        for table, given in (("context", of), ("kind", kinds)):
            named = {column: values.name(text) for column, text in given.items() if text is not None}
            if named:
                where = " AND ".join(f"{column} = %s" for column in named)
                yield table, f"SELECT node, id FROM hub.{table} WHERE {where}", [*named.values()]
        if wanted.agent is not None:
            sql = "SELECT node, party FROM hub.party_agent WHERE agent = %s"
            yield "party", sql, [values.name(wanted.agent)]

    def _numbers(self, sql: str, given: Sequence[str], node: int | None) -> Numbers:
        numbers: Numbers = {}
        for one, number in self._ask(sql, *given):
            if node is None or one == node:
                numbers.setdefault(one, []).append(number)
        return numbers

    # ---- from rows

    def entries(self, rows: Sequence[tuple[Any, ...]]) -> list[Entry]:
        """The entries of rows that were selected with `ROW`, in their order."""
        kinds, contexts = self._found("kind", rows, 9), self._found("context", rows, 7)
        parties, files = self._found("party", rows, 8), self._found("source", rows, 4)
        nodes = {
            key[0]: name for key, (name,) in self._found("node", [(None, row[3], row[3]) for row in rows], 2, 1).items()
        }
        return [
            _entry(
                row,
                files[row[3], row[4]],
                kinds[row[3], row[9]],
                contexts[row[3], row[7]],
                parties[row[3], row[8]],
                nodes[row[3]],
            )
            for row in rows
        ]

    def agents_of(self, parties: Sequence[tuple[int, int]]) -> set[str]:
        """The agents of some parties, given by node and number."""
        found = self._found("party", parties, 1, 0)
        return {agent for agents, _ in found.values() for agent in agents}

    def _found(
        self, table: str, rows: Sequence[tuple[Any, ...]], place: int, node: int = 3
    ) -> Mapping[tuple[int, int], tuple[Any, ...]]:
        """What the numbers at a place of some rows stand for."""
        known = self._known[table]
        wanted = {(row[node], row[place]) for row in rows}
        if len(known) + len(wanted) > MAX_KEPT:
            known.clear()
        missing: Numbers = {}
        for one, number in wanted - known.keys():
            missing.setdefault(one, []).append(number)
        sql, decode = _LOOKUPS[table]
        for one, numbers in missing.items():
            for number, *row in self._ask(sql, one, numbers):
                known[one, number] = decode(row)
        return known


def _entry(
    row: tuple[Any, ...],
    file: tuple[Any, ...],
    kind: tuple[Any, ...],
    context: tuple[Any, ...],
    party: tuple[Any, ...],
    node: str,
) -> Entry:
    timestamp, offset, after, _, _, line, checksum, _, _, _, response, correlation = row
    path, stem = file
    agents, roles = party
    author, addressees = speakers(agents, *kind[5:])
    session, owner, conversation = context
    entry = Entry(
        *(f"{stem}:{offset}", timestamp, kind[0], session, path, line, offset, owner, agents, dict(roles), kind[1]),
        *(conversation, correlation, kind[2], kind[3], response in (values.ANSWERED, values.ANSWERED_ELSEWHERE)),
        *(kind[4], author, addressees, after),
    )
    object.__setattr__(entry, "checksum", checksum + CHECKSUM_OFFSET)
    object.__setattr__(entry, "node", node)
    return entry


def _kind(row: list[Any]) -> tuple[Any, ...]:
    return (*row[:5], int(row[5]), row[6], row[7])


def _party(row: list[Any]) -> tuple[Any, ...]:
    return tuple(agents_of(row[0])), roles_of(row[1])


_LOOKUPS: dict[str, tuple[str, Callable[[list[Any]], tuple[Any, ...]]]] = {
    "kind": (
        "SELECT id, event_type, pattern, is_completion, is_request, requests_response, has_author, addressees,"
        " self_place FROM hub.kind WHERE node = %s AND id = ANY(%s)",
        _kind,
    ),
    "context": (
        "SELECT id, session, initiating_agent, conversation FROM hub.context WHERE node = %s AND id = ANY(%s)",
        tuple,
    ),
    "party": ("SELECT id, agents, roles FROM hub.party WHERE node = %s AND id = ANY(%s)", _party),
    "source": ("SELECT id, path, stem FROM hub.source WHERE node = %s AND id = ANY(%s)", tuple),
    "node": ("SELECT id, name FROM hub.node WHERE id = %s AND id = ANY(%s)", tuple),
}
