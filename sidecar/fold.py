"""One source's way from lines to rows: parse and derive every line, and keep the accounts.

Live tailing, rebuild and verify all go through `Progress.take`; there is no second way to make a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .config import Source
from .derive import UNKNOWN, State, derive
from .parse import parse
from .paths import split_path
from .records import Answered, Line, Part, Rejected, Row
from .tail import NEW, Mark
from .values import YEAR_10000

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


@dataclass(slots=True)
class Progress:
    """Everything known of one source: how far it was read, what its next row depends on, and where its bytes went."""

    id: int
    path: str
    source: Source
    first_mtime: float | None = None
    """Modification time when the file was first seen, in seconds; None until it has been."""
    mark: Mark = NEW
    counts: Counts = field(default_factory=Counts)
    state: State = field(init=False)
    named_type: str | None = field(init=False)
    """The event type in an event file's name."""
    rejected: list[Rejected] = field(default_factory=list)
    """Since the last checkpoint, as is what follows."""
    sessions: dict[str, SessionNote] = field(default_factory=dict)
    archived: tuple[Part, ...] = ()
    """What of it lies in the archive. Offsets and lines count from the first of these bytes on."""

    def __post_init__(self) -> None:
        _, stem, _ = split_path(self.path)
        named: float | None = None
        self.named_type = None
        if self.source.layout == "file" and (name := _EVENT_NAME.fullmatch(stem)):
            self.named_type = name["type"]
            seconds = float(name["seconds"])  # and nothing else: a name says its unit
            named = seconds if seconds < YEAR_10000 else None
        self.state = State(self.source.layout, stem, self.first_mtime or 0.0 if named is None else named)

    def first_seen(self, mtime_ns: int) -> None:
        """Note the modification time that the file had when it was first seen, unless that is noted already."""
        if self.first_mtime is None:
            whole, rest = divmod(mtime_ns, 1_000_000_000)
            self.first_mtime = max(0.0, whole + 1e-9 * rest)  # as os.stat gives it
            self.__post_init__()

    def begin_again(self) -> None:
        """Forget all that came of the file: its bytes are others now."""
        self.mark, self.counts = NEW, Counts()
        self.rejected, self.sessions = [], {}
        self.__post_init__()

    def take(self, lines: Iterable[Line], rejected: Iterable[Rejected] = (), line_end: int = 1) -> Batch:
        """Derive the rows of some lines, which follow those taken before; `line_end` bytes end each of them."""
        rows: list[Row] = []
        answered: list[Answered] = []
        counts, format_, state = self.counts, self.source.format, self.state
        has_lines = self.source.layout != "file"
        for line in lines:
            size = len(line.data) + line_end
            if has_lines and (not line.data or line.data.isspace()):
                counts.blank += size
                continue
            record = parse(line, format_, self.named_type)
            if isinstance(record, Rejected):
                counts.rejected += size
                self.rejected.append(record)
                continue
            if record.kind.skip:
                counts.skipped += size
                continue
            row, answer = derive(state, line, record)
            rows.append(row)
            if answer is not None:
                answered.append(answer)
            counts.indexed += size
            if row.session_id:
                self._note(row, record.is_completed)
        for refused in rejected:
            counts.rejected += refused.byte_length + line_end
            self.rejected.append(refused)
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

