"""The state of one source: here its lines are parsed, rows are derived from them, and its bytes are counted.

Live indexing, rebuild and verify all go through `SourceState.ingest`; rows are made nowhere else.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sidecar.config.settings import SESSION_PART, Source
from sidecar.fs import split_path, to_os, utf8_to_text
from sidecar.logs.last_line import OpenEnd
from sidecar.logs.parts import Part
from sidecar.logs.tail import NEW, Cursor
from sidecar.records import NOT_UTF8, Answered, Extent, Line, LogName, Record, Rejected, Row
from sidecar.times import YEAR_10000, within_calendar

from .derive import UNKNOWN, DerivationState, derive
from .parse import NOT_JSON, parse, reject
from .second_reading import pieces_of, read_again

_EVENT_NAME = re.compile(r"evt_(?P<seconds>[0-9]+(?:\.[0-9]+)?)_(?P<type>.+)", re.DOTALL)


@dataclass(slots=True)
class Counts:
    """How many bytes of a file became what, with each line end counted as part of its line; the number of entries, and
    where their times came from; and the number of records that were repaired.

    Every byte before the cursor's offset is counted in exactly one of the first four.
    """

    indexed: int = 0
    blank: int = 0
    rejected: int = 0
    skipped: int = 0
    entries: int = 0
    inherited: int = 0
    """The number of entries that name no time and have that of the entry before."""
    undated: int = 0
    """The number of entries, 0 or 1, that name no time and have that of the file: the one in its name, or its
    modification time."""
    unreadable: int = 0
    """How many entries of these two kinds have a time that cannot be read."""

    repaired: int = 0
    """Records that are not strict JSON and were read leniently."""

    @property
    def own(self) -> int:
        """The number of entries that name their time."""
        return self.entries - self.inherited - self.undated

    @property
    def total(self) -> int:
        """All bytes that are counted; always equal to the cursor's offset."""
        return self.indexed + self.blank + self.rejected + self.skipped


class SessionNote(NamedTuple):
    """What one source says about a session."""

    initiating_agent: str
    created_at: float
    pattern_type: str
    is_completed: bool


class Batch(NamedTuple):
    """The rows that come from some lines of one source, and the requests that they answer."""

    log: LogName
    rows: list[Row]
    answered: list[Answered]
    earlier: tuple[Batch, ...] = ()
    """Batches without rows, one for each earlier part of the log with requests that are answered here."""

    def by_file(self) -> tuple[Batch, ...]:
        """This batch, and those of the earlier parts."""
        return (self, *self.earlier)

    def by_day(self) -> dict[int, tuple[list[Row], dict[int, Answered]]]:
        """By day number: the rows of that day, and the requests of that day that this batch answers, by byte offset."""
        days: defaultdict[int, tuple[list[Row], dict[int, Answered]]] = defaultdict(lambda: ([], {}))
        row_days = {row[0] for row in self.rows}
        # The usual case.
        if len(row_days) == 1:
            days[row_days.pop()][0].extend(self.rows)
        else:
            for row in self.rows:
                days[row.day][0].append(row)
        for answer in self.answered:
            days[answer.day][1][answer.byte_offset] = answer
        return days


@dataclass(slots=True)
class SourceState:
    """All that is known about one source: how far it has been read, what its next row depends on, and its counts."""

    id: int
    path: str
    source: Source
    first_mtime: float | None = None
    """The modification time that the file had when it was first seen, in seconds since 1970; None before that."""
    cursor: Cursor = NEW
    counts: Counts = field(default_factory=Counts)
    state: DerivationState = field(init=False)
    named_type: str | None = field(init=False)
    """The event type in an event file's name."""
    _is_dated: bool = field(init=False)
    """Whether the name of the event file contains a time."""
    rejected: list[Rejected] = field(default_factory=list)
    """Lines rejected since the last checkpoint."""
    sessions: dict[str, SessionNote] = field(default_factory=dict)
    """Sessions seen since the last checkpoint."""
    waiting: tuple[int, int, float] | None = None
    """For an event file that does not parse yet: its size, its ctime in nanoseconds, and when it was first seen with
    these two, in seconds since 1970."""
    unfinished: tuple[int, int, int] | None = None
    """For a last line without LF that is no record: the size of the file, its modification time in nanoseconds, and a
    fingerprint of the line."""
    open_end: OpenEnd | None = None
    """What is known of the last line of the file with the plain name, if it was taken without an LF; else None."""
    archived: tuple[Extent, ...] = ()
    """The log's archived extents. Offsets and line numbers count from the first archived byte."""
    is_not_utf8: bool = False
    """The file says that it is in another encoding than UTF-8, so that each of its lines is rejected."""
    parts: tuple[Part, ...] = ()
    """The earlier parts of a rotated log, the oldest first. `cursor` is that of the file with the plain name."""
    at: int = 0
    """The number of the part that is to be read next, from 0; the number of parts if that is the file with the plain
    name."""
    found_at: dict[str, str] = field(default_factory=dict)
    """The present paths of parts that were renamed while the log is read under their old names, by old path."""
    limits: dict[str, int] = field(default_factory=dict)
    """By path, the byte up to which a part is to be read, if that is not its end."""
    _is_named: bool = field(init=False, default=False)
    """Whether the path names the session, so that ids begin with it."""

    def __post_init__(self) -> None:
        _, stem, _ = split_path(self.path)
        named_time: float | None = None
        self.named_type = None
        if self.source.layout == "file" and (name := _EVENT_NAME.fullmatch(stem)):
            self.named_type = name["type"]
            # Always seconds: unlike a number in a record, a name states its unit.
            seconds = float(name["seconds"])
            named_time = seconds if seconds < YEAR_10000 else None
        self._is_dated = named_time is not None
        # What an archive's note says may be any number.
        if self.first_mtime is not None:
            self.first_mtime = within_calendar(self.first_mtime)
        start_time = self.first_mtime or 0.0 if named_time is None else named_time
        names = {name: utf8_to_text(part) for name, part in self.source.parts_of(to_os(self.path)).items()}
        self._is_named = SESSION_PART in names and self.source.layout != "file"
        if self.source.layout == "session":
            names.setdefault(SESSION_PART, stem)
        session = names.get(SESSION_PART)
        # All event files of a session have their record at byte 0, so their ids begin with the file's own name.
        ids_begin = stem if session is None or self.source.layout == "file" else session
        self.state = DerivationState(self.source.layout, ids_begin, start_time, session, names)
        if self.source.answers_across_files:
            self.state.requests.loose = {}

    # ---- the parts of a rotated log

    @property
    def offset(self) -> int:
        """The bytes of the log that were read, earlier parts included."""
        return self.base_of(len(self.parts)) + self.cursor.offset

    @property
    def files(self) -> tuple[Part, ...]:
        """The parts, and the file with the plain name as the last one."""
        return (*self.parts, Part(self.path, self.cursor))

    def base_of(self, number: int) -> int:
        """The position in the log at which a part begins."""
        return sum(part.cursor.offset for part in self.parts[:number])

    def set_files(self, files: Sequence[Part]) -> None:
        """Set the parts. The last one is the file with the plain name."""
        self.parts, self.cursor = tuple(files[:-1]), files[-1].cursor
        self.at = 0
        if not self.cursor.offset:
            self.open_end = None

    def log_name(self, path: str) -> LogName:
        """The name that rows have for the file of a part, or for that with the plain name."""
        begin = self.state.ids_begin
        return LogName(path, begin if path == self.path or self._is_named else split_path(path)[1])

    def placed(self, position: int) -> tuple[int, int]:
        """The number of the part in which a position in the log is, and the byte offset in its file."""
        for number, part in enumerate(self.parts):
            if position < part.cursor.offset:
                return number, position
            position -= part.cursor.offset
        return len(self.parts), position

    def _by_part(self, rows: list[Row], answered: list[Answered]) -> Batch:
        """The batch of the part that is being read, with the answered requests of each part in its own batch."""
        of_part: defaultdict[int, list[Answered]] = defaultdict(list)
        for answer in answered:
            number, offset = (
                self.placed(answer.byte_offset)
                if answer.byte_offset < self.state.base
                else (self.at, answer.byte_offset - self.state.base)
            )
            of_part[number].append(answer._replace(byte_offset=offset))
        files = self.files
        here = of_part.pop(self.at, [])
        earlier = [Batch(self.log_name(files[number].path), [], its) for number, its in of_part.items()]
        return Batch(self.log_name(files[self.at].path), rows, here, tuple(earlier))

    @property
    def cost(self) -> int:
        """The number of requests and roles in memory. A file may have any number of them."""
        return self.state.requests.cost + len(self.state.roles)

    def note_first_seen(self, mtime_ns: int) -> None:
        """Set the modification time that the file had when it was first seen, unless it is set already."""
        if self.first_mtime is None:
            whole, rest = divmod(mtime_ns, 1_000_000_000)
            # The same float that os.stat returns.
            self.first_mtime = within_calendar(whole + 1e-9 * rest)
            if not self._is_dated:
                self.__post_init__()

    def begin_again(self) -> None:
        """Start again from the first byte, because the file was replaced or rewritten."""
        self.cursor, self.counts = NEW, Counts()
        self.rejected, self.sessions = [], {}
        self.is_not_utf8 = False
        self.open_end = None
        self.parts, self.at = (), 0
        self.__post_init__()

    def ingest(
        self, lines: Iterable[Line], rejected: Sequence[Rejected] = (), line_end: int = 1, padding: int = 0
    ) -> Batch:
        """Derive the rows of the next lines, and count the lines and those in `rejected`.

        Each line is followed by `line_end` bytes that are not part of it: 1 for an LF, 0 if there is none.
        `padding` is the number of other bytes that were read with them (`logs/padding.py`).
        """
        if self.is_not_utf8 or (rejected and rejected[0].reason == NOT_UTF8):
            self.is_not_utf8 = True
            lines, rejected = [], [*(reject(line, NOT_UTF8) for line in lines), *rejected]
        rows: list[Row] = []
        answered: list[Answered] = []
        counts, format_, state, named_type = self.counts, self.source.format, self.state, self.named_type
        names = state.names
        sessions = self.sessions
        has_lines = self.source.layout != "file"
        unended = 0
        known_rejected = len(self.rejected)
        for line in lines:
            record = parse(line, format_, named_type, names)
            if isinstance(record, Rejected):
                if has_lines and not line.data.strip():
                    counts.blank += len(line.data) + line_end
                    continue
                if record.reason == NOT_JSON:
                    record = self._read_again(line)
                if has_lines and isinstance(record, Rejected) and record.reason == NOT_JSON:
                    without_end = self._ingest_glued(line, line_end, rows, answered)
                    if without_end is not None:
                        unended += without_end
                        continue
                if isinstance(record, Rejected):
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
                    self._note_session(row, record.is_completed)
        for one in rejected:
            counts.rejected += one.byte_length + line_end
            self.rejected.append(one)
        if state.untimed:
            self._count_untimed(is_first=not counts.entries and state.untimed[0][0] == rows[0].byte_offset)
        counts.indexed += sum([row.byte_length for row in rows]) + line_end * (len(rows) - unended)
        counts.blank += padding
        counts.entries += len(rows)
        if not self.parts:
            return Batch(LogName(self.path, state.ids_begin), rows, answered)
        if state.base:
            moved = [one._replace(byte_offset=one.byte_offset + state.base) for one in self.rejected[known_rejected:]]
            self.rejected[known_rejected:] = moved
        return self._by_part(rows, answered)

    def count_line_end(self, *, is_skipped: bool) -> None:
        """Count the line end of a last line that was taken without one."""
        if is_skipped:
            self.counts.skipped += 1
        else:
            self.counts.indexed += 1

    def _count_untimed(self, *, is_first: bool) -> None:
        """Count the entries of a batch that name no time. `is_first` says whether the first of them is the first entry
        of the log."""
        untimed, self.state.untimed = self.state.untimed, []
        self.counts.undated += is_first
        self.counts.inherited += len(untimed) - is_first
        self.counts.unreadable += sum(is_unreadable for _, is_unreadable in untimed)

    def _read_again(self, line: Line) -> Record | Rejected:
        piece = read_again(line, self.source.format, self.named_type, self.state.names)
        self.counts.repaired += piece.is_repaired
        return piece.record

    def _ingest_glued(self, line: Line, line_end: int, rows: list[Row], answered: list[Answered]) -> int | None:
        """Derive the rows of records that are glued together on one line. The line end belongs to the last piece:
        returns how many of these rows are without it, or None if there is no record."""
        counts = self.counts
        before = len(rows)
        taken = 0
        record: Record | Rejected | None = None
        for part, record, is_repaired in pieces_of(line, self.source.format, self.named_type, self.state.names):
            taken += len(part.data)
            counts.repaired += is_repaired
            self._count_without_row(record, len(part.data))
            if isinstance(record, Rejected):
                self.rejected.append(record)
            elif not record.kind.skip:
                row, answer = derive(self.state, part, record)
                rows.append(row)
                if answer is not None:
                    answered.append(answer)
                if row.session_id:
                    self._note_session(row, record.is_completed)
        if record is None:
            return None
        counts.blank += len(line.data) - taken
        self._count_without_row(record, line_end)
        ends_in_row = not (isinstance(record, Rejected) or record.kind.skip)
        return len(rows) - before - ends_in_row

    def _count_without_row(self, record: Record | Rejected, size: int) -> None:
        """Count bytes of a piece of a line, if it gives no row."""
        if isinstance(record, Rejected):
            self.counts.rejected += size
        elif record.kind.skip:
            self.counts.skipped += size

    def _note_session(self, row: Row, is_completed: bool) -> None:
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
