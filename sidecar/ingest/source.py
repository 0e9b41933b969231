"""One source's way from lines to rows: parse and derive every line, and keep the accounts.

Live tailing, rebuild and verify all go through `Progress.ingest`; there is no second way to make a row.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from sidecar.config.settings import Source
from sidecar.fs import split_path
from sidecar.logs.tail import NEW, Cursor
from sidecar.records import Answered, Extent, Line, Rejected, Row
from sidecar.times import YEAR_10000

from .derive import UNKNOWN, DerivationState, derive
from .parse import parse

_EVENT_NAME = re.compile(r"evt_(?P<seconds>[0-9]+(?:\.[0-9]+)?)_(?P<type>.+)", re.DOTALL)


@dataclass(slots=True)
class Counts:
    """Where the bytes of a file went, line ends counted with their lines, and how many entries came of them (P3)."""

    indexed: int = 0
    blank: int = 0
    rejected: int = 0
    skipped: int = 0
    entries: int = 0

    @property
    def total(self) -> int:
        """Bytes accounted for: the file's offset, always."""
        return self.indexed + self.blank + self.rejected + self.skipped


class SessionNote(NamedTuple):
    """What one source says of a session."""

    initiating_agent: str
    created_at: float
    pattern_type: str
    is_completed: bool


class Batch(NamedTuple):
    """What some lines of one source became."""

    path: str
    rows: list[Row]
    answered: list[Answered]

    def by_day(self) -> dict[int, tuple[list[Row], dict[int, Answered]]]:
        """The rows of each day, and the requests of that day which are answered now, by their byte offsets."""
        days: defaultdict[int, tuple[list[Row], dict[int, Answered]]] = defaultdict(lambda: ([], {}))
        named = {row[0] for row in self.rows}
        if len(named) == 1:  # as almost always
            days[named.pop()][0].extend(self.rows)
        else:
            for row in self.rows:
                days[row.day][0].append(row)
        for answer in self.answered:
            days[answer.day][1][answer.byte_offset] = answer
        return days


@dataclass(slots=True)
class SourceState:
    """Everything known of one source: how far it was read, what its next row depends on, and where its bytes went."""

    id: int
    path: str
    source: Source
    first_mtime: float | None = None
    """Modification time when the file was first seen, in seconds; None until it has been."""
    cursor: Cursor = NEW
    counts: Counts = field(default_factory=Counts)
    state: DerivationState = field(init=False)
    named_type: str | None = field(init=False)
    """The event type in an event file's name."""
    _is_dated: bool = field(init=False)
    """By the event file's name."""
    rejected: list[Rejected] = field(default_factory=list)
    """Since the last checkpoint, as is what follows."""
    sessions: dict[str, SessionNote] = field(default_factory=dict)
    waiting: tuple[int, int, float] | None = None
    """Of an event file that does not parse: its size and time of change, and when it was first seen with them."""
    archived: tuple[Extent, ...] = ()
    """What of it lies in the archive. Offsets and lines count from the first of these bytes on."""

    def __post_init__(self) -> None:
        _, stem, _ = split_path(self.path)
        named: float | None = None
        self.named_type = None
        if self.source.layout == "file" and (name := _EVENT_NAME.fullmatch(stem)):
            self.named_type = name["type"]
            seconds = float(name["seconds"])  # and nothing else: a name says its unit
            named = seconds if seconds < YEAR_10000 else None
        self._is_dated = named is not None
        self.state = DerivationState(self.source.layout, stem, self.first_mtime or 0.0 if named is None else named)

    @property
    def cost(self) -> int:
        """How much must be remembered of it: requests and roles, of which a file may have any number."""
        return len(self.state.requests) + len(self.state.roles)

    def note_first_seen(self, mtime_ns: int) -> None:
        """Note the modification time that the file had when it was first seen, unless that is noted already."""
        if self.first_mtime is None:
            whole, rest = divmod(mtime_ns, 1_000_000_000)
            self.first_mtime = max(0.0, whole + 1e-9 * rest)  # as os.stat gives it
            if not self._is_dated:
                self.__post_init__()

    def begin_again(self) -> None:
        """Forget all that came of the file: its bytes are others now."""
        self.cursor, self.counts = NEW, Counts()
        self.rejected, self.sessions = [], {}
        self.__post_init__()

    def ingest(self, lines: Iterable[Line], rejected: Iterable[Rejected] = (), line_end: int = 1) -> Batch:
        """Derive the rows of some lines, which follow those taken before; `line_end` bytes end each of them."""
        rows: list[Row] = []
        answered: list[Answered] = []
        counts, format_, state, named_type = self.counts, self.source.format, self.state, self.named_type
        sessions = self.sessions
        has_lines = self.source.layout != "file"
        for line in lines:
            record = parse(line, format_, named_type)
            if isinstance(record, Rejected):
                if has_lines and not line.data.strip():
                    counts.blank += len(line.data) + line_end
                else:
                    counts.rejected += len(line.data) + line_end
                    self.rejected.append(record)
                continue
            if record.kind.skip:
                counts.skipped += len(line.data) + line_end
                continue
            row, answer = derive(state, line, record)
            rows.append(row)
            if answer is not None:
                answered.append(answer)
            session_id = row.session_id
            if session_id:
                known = sessions.get(session_id)
                if known is None or record.is_completed or known.initiating_agent == UNKNOWN:
                    self._note(row, record.is_completed)
        for refused in rejected:
            counts.rejected += refused.byte_length + line_end
            self.rejected.append(refused)
        counts.indexed += sum([row.byte_length for row in rows]) + line_end * len(rows)
        counts.entries += len(rows)
        return Batch(self.path, rows, answered)

    def _note(self, row: Row, is_completed: bool) -> None:
        known = self.sessions.get(row.session_id)
        if known is None:
            self.sessions[row.session_id] = SessionNote(
                row.initiating_agent, row.timestamp, row.pattern_type, is_completed
            )
        elif is_completed or known.initiating_agent == UNKNOWN != row.initiating_agent:
            agent = row.initiating_agent if known.initiating_agent == UNKNOWN else known.initiating_agent
            self.sessions[row.session_id] = known._replace(
                initiating_agent=agent, is_completed=known.is_completed or is_completed
            )
