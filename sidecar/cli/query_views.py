"""The output of `query`, `show` and `follow` for people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sidecar.errors import SidecarError
from sidecar.terminal import (
    Cell,
    Column,
    Piece,
    Screen,
    agent_piece,
    counted,
    duration_text,
    plain_lines,
    print_note,
    speech_pieces,
)

if TYPE_CHECKING:
    from sidecar.query.index import Index
    from sidecar.records import AgentSummary, Entry, RejectedLine, Session
    from sidecar.search.hit import Hit

    from .answers import Participant, RoleHeld

_ID = Column("id", "dim", least=22, cut="middle")
_AGENTS = Column("agents", least=20)
_EVENT = Column("event", least=18, cut="middle")
_PATTERN = Column("pattern", least=12, optional=1)

_INDENT = 10
"""The number of columns by which the text of a record is indented, to stand to the right of the time."""

MAX_LINES = 12
"""How many lines of a record are printed in a conversation, unless --full is given."""

MAX_DATA = 500
"""How many characters of the data are printed of a record in which nothing was said, unless --full is given."""


def _time(screen: Screen) -> Column:
    return Column(f"time ({screen.zone})", "dim")


def timeline(screen: Screen, entries: Iterable[Entry]) -> None:
    """Print entries, one per line."""
    columns = (_time(screen), _EVENT, _AGENTS, _PATTERN, _ID)
    count = 0

    def rows() -> Iterator[Sequence[Cell]]:
        nonlocal count
        day = ""
        for count, entry in enumerate(entries, 1):  # noqa: B007
            time_of_day = screen.moment(entry.timestamp)
            if screen.is_terminal:
                if time_of_day[:10] != day:
                    day = time_of_day[:10]
                    yield [(day, "bold")], "", "", "", ""
                time_of_day = time_of_day[11:]
            yield time_of_day, _event(entry), _speech(entry), entry.pattern_type, entry.id

    screen.table(columns, rows())
    _count(count, "entry", "entries")


def _speech(entry: Entry) -> list[Piece]:
    return speech_pieces(entry.author, entry.addressees, entry.participating_agents)


def _event(entry: Entry) -> Cell:
    """The event type. Requests are highlighted, and marked while they wait for a response."""
    pieces: list[Piece] = [(entry.event_type, "bold" if entry.is_request else "")]
    if entry.requests_response and not entry.has_response:
        pieces.append((" …", "bold yellow"))
    return pieces


class FollowView:
    """Prints entries as they come, one per row, and with `index`, the text of each below it."""

    def __init__(self, screen: Screen, index: Index | None = None) -> None:
        self._screen = screen
        self._index = index
        self._day = ""

    def show(self, entry: Entry) -> None:
        """Print an entry. On a terminal the day is printed once, and the time of day with each entry."""
        moment = self._screen.moment(entry.timestamp)
        if self._screen.is_terminal:
            if moment[:10] != self._day:
                self._day = moment[:10]
                self._screen.line((self._day, "bold"))
            moment = moment[11:]
        # Wide enough for most entries, because it is not known which ones will come.
        columns = {_time(self._screen): len(moment), _EVENT: 24, _AGENTS: 40, _ID: 30}
        cells: list[Cell] = [moment, _event(entry), _speech(entry), entry.id]
        self._screen.row(tuple(columns), tuple(columns.values()), cells)
        if self._index is not None:
            _said(self._screen, self._index, entry, full=False)


class HitView:
    """Prints hits of a search as they come, one per row, with what surrounds the match below it."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._rows = FollowView(screen)

    def show(self, hits: Iterable[Hit]) -> None:
        """Print hits, and their number."""
        count = 0
        for count, hit in enumerate(hits, 1):  # noqa: B007
            self._rows.show(hit)
            before, match, after = (" ".join(plain_lines(part)) for part in (hit.before, hit.match, hit.after))
            place = (f"{hit.place}: " if hit.place else "", "dim")
            self._screen.line(place, before, (match, "bold yellow"), after, indent=_INDENT)
            sys.stdout.flush()
        _count(count, "hit")


def roles(screen: Screen, held: Sequence[RoleHeld]) -> None:
    """Print how the role of an agent changed, one line per role that it held."""

    def rows() -> Iterator[Sequence[Cell]]:
        for one in held:
            yield screen.moment(one.since), ((one.role, "bold"),), duration_text(one.seconds), f"{one.entries:,}"

    columns = (_time(screen), Column("role"), Column("for", right=True), Column("entries", "dim", right=True))
    if not screen.table(columns, rows()):
        print_note("this agent had no role in this session")


def pending(screen: Screen, waiting: Iterable[Entry]) -> None:
    """Print requests without an answer, oldest first."""
    now = time.time()

    def rows() -> Iterator[Sequence[Cell]]:
        for entry in waiting:
            age = now - entry.timestamp
            style = "red" if age >= 3600 else "yellow" if age >= 300 else "green"
            who = _speech(entry) if entry.participating_agents else [agent_piece(entry.initiating_agent)]
            waits = "in future" if age < 0 else duration_text(age)
            yield [(waits, style)], who, entry.event_type, entry.id

    columns = (Column("waits", right=True), _AGENTS, _EVENT, _ID)
    count = screen.table(columns, rows())
    print_note(counted(count, "pending request") if count else "no pending requests")


def participants(screen: Screen, found: Sequence[Participant]) -> None:
    """Print the agents of a session: last role, number of entries, first and last time."""

    def rows() -> Iterator[Sequence[Cell]]:
        for one in found:
            times = screen.moment(one.first_timestamp), screen.moment(one.last_timestamp)
            yield (agent_piece(one.agent),), one.role or "–", f"{one.entries:,}", *times

    columns = (
        *(Column("agent", least=12, cut="middle"), Column("role", least=8), Column("entries", right=True)),
        *(Column(f"first ({screen.zone})", "dim"), Column(f"last ({screen.zone})", "dim")),
    )
    _count(screen.table(columns, rows()), "participant")


def conversation(screen: Screen, index: Index, entries: Iterable[Entry], full: bool) -> None:
    """Print what was said, and by whom, as a transcript. Entries in which nothing was said are left out if their format
    names the places of what is said."""
    count = silent = 0
    day = ""
    for entry in entries:
        if _is_silent(index, entry):
            silent += 1
            continue
        moment = screen.moment(entry.timestamp)
        if moment[:10] != day:
            if count:
                screen.line()
            day = moment[:10]
            screen.line((day, "bold underline"))
        count += 1
        details = " · ".join(dict.fromkeys((entry.event_type, entry.pattern_type)))
        screen.line()
        time_of_day: Piece = (moment[11:], "dim")
        screen.line(*_speakers(entry), (f"  {details}", "dim"), label=time_of_day, indent=_INDENT)
        _said(screen, index, entry, full)
    _count(count, "entry", "entries")
    if silent:
        print_note(f"left out {counted(silent, 'entry', 'entries')} in which nothing was said")


def _is_silent(index: Index, entry: Entry) -> bool:
    """Whether nothing was said in an entry, although its format names the places of what is said."""
    try:
        return index.names_text(entry) and not index.text(entry)
    except SidecarError:
        return False


def _speakers(entry: Entry) -> list[Piece]:
    (name, style), *others = _speech(entry)
    role = None if entry.author is None else entry.agent_roles.get(entry.author)
    return [(name, f"bold {style}"), *([(f" ({role})", "italic")] if role else []), *others]


def _said(screen: Screen, index: Index, entry: Entry, full: bool) -> None:
    try:
        lines = plain_lines(_words(index, entry, full).strip())
    except SidecarError as error:
        screen.line((f"({error})", "dim italic"), indent=_INDENT)
        return
    shown = lines if full else lines[:MAX_LINES]
    for line in shown:
        screen.line(line, indent=_INDENT)
    if len(lines) > len(shown):
        more = counted(len(lines) - len(shown), "more line")
        screen.line((f"… {more}: sidecar show {entry.id}", "dim"), indent=_INDENT)


def _words(index: Index, entry: Entry, full: bool) -> str:
    """What was said. If nothing was, and the format does not name the places of what is said, the record's data,
    shortened unless `full` is true."""
    text = index.text(entry)
    if text or index.names_text(entry):
        return text
    record = index.read(entry)
    data = json.dumps(record.get("data", record), ensure_ascii=False)
    return data if full or len(data) <= MAX_DATA else f"{data[:MAX_DATA]}…"


def sessions(screen: Screen, found: Iterable[Session]) -> None:
    """Print the session registry. If any session is archived, a column tells where each one is."""
    known = list(found)
    some_archived = any(one.lives_in != "log" for one in known)

    def rows() -> Iterator[Sequence[Cell]]:
        for one in known:
            style = "green" if one.status == "active" else "dim"
            owner = (agent_piece(one.initiating_agent),)
            lives_in = (one.lives_in,) if some_archived else ()
            yield (
                screen.moment(one.created_at),
                ((one.status, style),),
                *lives_in,
                owner,
                one.pattern_type,
                one.session_id,
            )

    columns = (
        *(Column(f"created ({screen.zone})", "dim"), Column("status")),
        *((Column("lives in", "dim"),) if some_archived else ()),
        *(Column("owner", least=12, cut="middle"), _PATTERN, Column("session", least=22, cut="middle")),
    )
    _count(screen.table(columns, rows()), "session")


def all_agents(screen: Screen, found: Iterable[AgentSummary]) -> None:
    """Print every agent, with its number of entries."""
    columns = (
        *(Column("agent", least=12, cut="middle"), Column("entries", right=True)),
        *(Column(f"first seen ({screen.zone})", "dim"), Column(f"last seen ({screen.zone})", "dim")),
    )
    rows = (
        (
            (agent_piece(one.agent),),
            f"{one.entries:,}",
            screen.moment(one.first_timestamp),
            screen.moment(one.last_timestamp),
        )
        for one in found
    )
    _count(screen.table(columns, rows), "agent")


def rejected(screen: Screen, lines: Iterable[RejectedLine]) -> None:
    """Print lines that are not records, and why."""
    columns = (
        *(Column("reason", "yellow"), Column("line", right=True), Column("byte", "dim", right=True)),
        *(Column("length", "dim", right=True), Column("file", least=22, cut="middle")),
    )
    rows = (
        (one.reason, f"{one.line_number:,}", str(one.byte_offset), f"{one.byte_length:,}", one.file_path)
        for one in lines
    )
    count = screen.table(columns, rows)
    print_note(counted(count, "line is not a record", "lines are not records") if count else "every line is a record")


def shown(screen: Screen, entry: Entry, record: Mapping[str, Any]) -> None:
    """Print an entry and the record that it points to."""
    flags = ("is_completion", "is_request", "has_response", "requests_response")
    facts: list[tuple[str, Cell]] = [
        ("event", ((entry.event_type, "bold"),)),
        ("time", f"{screen.moment(entry.timestamp)} {screen.zone}"),
        ("agents", _speech(entry)),
        ("roles", ", ".join(f"{who}: {role}" for who, role in entry.agent_roles.items()) or "–"),
        ("session", f"{entry.session_id or '–'}, owned by {entry.initiating_agent}"),
        ("pattern", entry.pattern_type),
        ("conversation", entry.conversation_id or "–"),
        ("correlation", entry.correlation_id or "–"),
        ("flags", ", ".join(flag for flag in flags if getattr(entry, flag)) or "–"),
        ("place", f"{entry.file_path}, line {entry.line_number}, byte {entry.byte_offset}"),
    ]
    for title, cell in facts:
        pieces = [cell] if isinstance(cell, str) else cell
        screen.line(*pieces, label=(f"{title:>12}", "dim"), indent=14)
    screen.line()
    for line in json.dumps(record, indent=2, ensure_ascii=False).split("\n"):
        screen.line(line)


def _count(count: int, one: str, many: str | None = None) -> None:
    print_note(counted(count, one, many) if count else f"no {one} found")
