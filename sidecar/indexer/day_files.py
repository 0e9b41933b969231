"""The daily files of an index, for writing: each batch is one transaction per day, and no row is written twice.

Rows are committed at once, so that queries see them, and not synced. About once a second, a checkpoint makes the daily
files durable and *then* lets the catalog save how far each log was read (`index_writer.py`). Each source in a daily
file carries, as `touched`, the number of the checkpoint that will cover what was last written of it. Crash windows:

- Between two commits of a batch, or between the commits and the end of the checkpoint: the catalog is behind. The next
  start finds the sources that were touched after the catalog's checkpoint, deletes their rows from the saved offset on,
  and reopens the requests that are open in the saved state (`DayFiles.roll_back_to_checkpoint`). Then the same bytes
  make the same rows.
- Within a commit: SQLite rolls that day back, which leaves the case above.
- While the rows of a changed log are deleted, day by day: the catalog has it as `resetting` since before the first of
  them, so the next start deletes the rest. Every day that ever had rows of it is summed up again, because the kill may
  have come after its rows were gone and before the checkpoint that was to save its new sums.
- While the rows of a rotated log get new names, day by day: the catalog has the move as a fact before the first day
  has it, and each day notes the move's token together with the names, so the next start does the other days.
- While a daily file is made: it gets its name when it is complete (`store.connection.create`).
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import chain, groupby
from pathlib import Path

from sidecar.errors import IndexDamaged
from sidecar.fs import FileStat, file_stat
from sidecar.guarded import GuardedFolder
from sidecar.ingest.linking import Request
from sidecar.ingest.source import Batch
from sidecar.records import Answered, LogName, Row
from sidecar.store.database_files import JOURNAL, WAL, looks_whole
from sidecar.times import day_name, day_number

from .across import Mark
from .day_writer import DayWriter
from .tamper import FileState, FileStates, stat_after_write, states_of

MAX_OPEN_DAYS = 16
"""How many daily files may be open for writing. The timestamps of a log may be of any number of days, in any order."""
SavedState = Callable[[str], tuple[int, Iterable[Request]]]
"""From a path to the saved offset and the requests that are open there; (0, ()) for a log that was never saved."""


class DayFiles:
    """All daily files of a folder. It owns every connection that writes to them; only the indexing thread uses it."""

    def __init__(self, folder: GuardedFolder, file_states: FileStates | None = None) -> None:
        """`file_states` says how files were left when they were last closed or checked, and is updated. The folder
        stays open for as long as this is used."""
        self.folder = folder
        self._open: OrderedDict[int, DayWriter] = OrderedDict()
        """Least recently used first."""
        self.changed: set[int] = set()
        """Days written since the last `make_durable`."""
        self._file_states = {} if file_states is None else file_states
        """How each closed file was left."""
        self._suspects: set[Path] = set()
        """Closed files whose last check found an unexpected change that a reader may have been in the middle of."""
        left = (day_number(path.stem) for path in self._file_states if path.parent == folder.path)
        self._days = {*_days_in(folder), *left}
        """Days that have a file. If one of these files is missing, another must not be made in its place."""

    # ---- writing

    def write(self, batches: Iterable[Batch], checkpoint: int) -> None:
        """Write rows and answers, in one transaction per day. `checkpoint` is the number of the one that will cover
        them.

        After an error, some days are written and some are not: close the files without a checkpoint, and roll back.
        """
        days: defaultdict[int, list[tuple[LogName, list[Row], dict[int, Answered]]]] = defaultdict(list)
        for batch in chain.from_iterable(batch.by_file() for batch in batches):
            for day, (rows, answered) in batch.by_day().items():
                days[day].append((batch.log, rows, answered))
        for day in sorted(days):
            writer = self._writer(day)
            self.changed.add(day)
            with writer.transaction():
                for log, its_rows, its_answered in days[day]:
                    writer.write(log, its_rows, its_answered, checkpoint)

    def merge_segments(self, folder: GuardedFolder, segments: dict[int, list[str]], checkpoint: int) -> None:
        """Like `write`, for rows that are in segments in a folder, by day. Each segment is one transaction, and is
        deleted after it."""
        for day in sorted(segments):
            self.changed.add(day)
            for segment in segments[day]:
                self._writer(day).copy_segment(folder, segment, checkpoint)
                folder.delete(segment)

    def unmarked(self, marks: Iterable[Mark]) -> dict[int, list[Mark]]:
        """By day, those of some marks that are not in the rows of their requests yet."""
        days: defaultdict[int, list[Mark]] = defaultdict(list)
        for mark in marks:
            if mark.day in self._days:
                days[mark.day].append(mark)
        return {day: missing for day in sorted(days) if (missing := self._writer(day).unmarked(days[day]))}

    def mark(self, marks: dict[int, list[Mark]], checkpoint: int) -> None:
        """Write, by day, whether open requests have an answer in another log (`across.py`). `checkpoint` and errors are
        as in `write`."""
        for day in marks:
            self.changed.add(day)
            self._writer(day).mark(marks[day], checkpoint)

    def make_durable(self, checkpoint: int) -> Iterator[tuple[int, tuple[float, float, int]]]:
        """Sync the daily files that have changed. Yields each day with its first and last timestamp and its entries.

        Each file notes the number of the checkpoint before the catalog does. So a file that knows only an earlier one
        than the catalog has lost what was written to it: with its write-ahead log, or because it is an older copy.
        """
        for day in sorted(self.changed):
            writer = self._writer(day)
            writer.make_durable(checkpoint)
            yield day, writer.summary()
        self.changed = set()

    # ---- taking back

    def roll_back_to_checkpoint(self, checkpoint: int, saved: SavedState) -> bool:
        """Take back what was written after a checkpoint, and return whether there was anything. Every file is opened
        for that, and so checked."""
        found = False
        for day in self._days_there():
            writer = self._writer(day)
            touched = writer.touched_after(checkpoint)
            if not touched:
                continue
            found = True
            self.changed.add(day)
            with writer.transaction():
                for path in touched:
                    offset, open_requests = saved(path)
                    writer.delete_rows(path, offset, [one for one in open_requests if one.day == day])
        return found

    def delete_rows(self, path: str) -> None:
        """Delete every row of a log. A day that ever had some counts as changed: see the crash windows above."""
        for day in self._days_there():
            writer = self._writer(day)
            if writer.knows(path):
                writer.delete_rows(path)
                self.changed.add(day)

    def delete_rows_of(self, paths: Iterable[str]) -> None:
        """Like `delete_rows`, for many logs, at the cost of one query per day."""
        wanted = set(paths)
        for day in self._days_there() if wanted else ():
            writer = self._writer(day)
            for path in wanted.intersection(writer.touched_after(-1)):
                writer.delete_rows(path)
                self.changed.add(day)

    def replace_rows(self, paths: Sequence[str], batches: Iterable[Batch], checkpoint: int) -> None:
        """Write rows and answers as `write` does, and delete those of some logs, in one transaction per day."""
        new: defaultdict[int, list[tuple[LogName, list[Row], dict[int, Answered]]]] = defaultdict(list)
        for batch in chain.from_iterable(batch.by_file() for batch in batches):
            for day, (rows, answered) in batch.by_day().items():
                new[day].append((batch.log, rows, answered))
        for day in sorted(self.days_with(paths) | new.keys()):
            writer = self._writer(day)
            self.changed.add(day)
            with writer.transaction():
                for path in paths:
                    writer.delete_rows(path)
                for log, its_rows, its_answered in new[day]:
                    writer.write(log, its_rows, its_answered, checkpoint)

    def days_with(self, paths: Iterable[str]) -> set[int]:
        """The days that have, or have had, rows of some logs."""
        wanted = list(paths)
        days = self._days_there()
        return {day for day in days if any(self._writer(day).knows(path) for path in wanted)}

    def move(self, moved: list[tuple[str, LogName]], token: str) -> None:
        """Rename logs, in one transaction per day, which is done at most once for each token. Rows stay as they are, so
        that every query sees each of them once. `moved` has the old paths, each with the new name."""
        for day in self._days_there():
            if self._writer(day).move(moved, token):
                self.changed.add(day)

    def requests(self, path: str, places: Iterable[tuple[int, int]]) -> Iterator[Request]:
        """The answered requests of a log at these days and byte offsets, in this order."""
        for day, group in groupby(places, key=lambda place: place[0]):
            yield from self._writer(day).requests(path, [offset for _, offset in group])

    # ---- replacing and deleting files

    def is_as(self, day: int, state: list[int]) -> bool:
        """Whether a daily file is as `compact_copy` found it, with nothing in it that waits for a checkpoint."""
        path = self._path(day)
        if day in self.changed or self.folder.status(path.name) is None:
            return False
        # Before the file is opened for writing here, which may change them.
        now = list(stats_of(path))
        return [*self._writer(day).state(), *now] == state

    def replace(self, day: int, copies: GuardedFolder, copy: str) -> bool:
        """Put a durable copy in the place of a daily file, by one rename. Readers that have the old file open continue
        to read that one. Raises OSError or ForeignFile if the copy cannot be used; the old file is then still in place.

        Returns False, and does nothing, if the file is being read in WAL mode, because its write-ahead log would stay,
        and be taken for the copy's.
        """
        path = self._path(day)
        self._close(day)
        if any(self.folder.status(path.name + suffix) for suffix in (WAL, JOURNAL)):
            return False
        copies.check_file(copy, copies.status_of(copy), in_place=True)
        copies.rename(copy, path.name, self.folder)
        self._file_states.pop(path, None)
        now = stat_after_write(path)
        if now is not None:
            self._file_states[path] = FileState(now, log=None)
        return True

    def delete(self, day: int) -> None:
        """Delete the file of a day that has no entries, and that the catalog no longer names."""
        self._close(day)
        self.folder.delete(self._path(day).name)
        self.changed.discard(day)
        self._days.discard(day)
        self._file_states.pop(self._path(day), None)

    # ---- opening, checking and closing

    def _writer(self, day: int) -> DayWriter:
        """The writer of a day, opened if it is not; the least recently used one makes room. Raises IndexDamaged."""
        writer = self._open.get(day)
        if writer is None:
            while len(self._open) >= MAX_OPEN_DAYS:
                self._close(next(iter(self._open)))
            path = self._path(day)
            self._check_folder()
            if day in self._days and self.folder.status(path.name) is None:
                raise IndexDamaged(f"{path} was deleted")
            if path in self._file_states:
                # Removed, because opening the file changes its state.
                self._file_states.pop(path).check(path)
                self._suspects.discard(path)
            writer = self._open[day] = DayWriter(self.folder, path.name)
            self._days.add(day)
        self._open.move_to_end(day)
        return writer

    def _path(self, day: int) -> Path:
        return self.folder.path / f"{day_name(day)}.db"

    def _days_there(self) -> list[int]:
        return sorted(_days_in(self.folder))

    def _check_folder(self) -> None:
        """Raise IndexDamaged if another folder, or a link, is in the place of this one: SQLite would write there."""
        if self.folder.is_replaced():
            raise IndexDamaged(f"{self.folder.path} was replaced")

    def check(self) -> None:
        """Raise IndexDamaged where another process has deleted, replaced or written to a daily file."""
        self._check_folder()
        for day in self._days:
            path = self._path(day)
            state = self._file_states.get(path)
            if day in self._open:
                # Not by reading the file: closing it would drop the POSIX locks that SQLite holds on it in this
                # process.
                self._open[day].check()
            elif state is None:
                if not looks_whole(self.folder, path.name):
                    raise IndexDamaged(f"{path} is missing, truncated, or not a database")
            elif state.log is None:
                state.check(path)
            else:
                self._check_with_log(path, state)

    def _check_with_log(self, path: Path, state: FileState) -> None:
        """The same for a file that was closed while it was being read. The last reader to close may be moving the WAL
        into the file right now, so a first unexpected change is ignored, and only a second one is reported."""
        now = states_of([path]).get(path)
        if now == state:
            self._suspects.discard(path)
        elif now is not None and now.log is None and now.file != state.file and looks_whole(self.folder, path.name):
            # The WAL has been moved into the file.
            self._file_states[path] = now
        elif path in self._suspects:
            raise IndexDamaged(f"{path} or its write-ahead log was deleted, replaced or written by another process")
        else:
            self._suspects.add(path)

    def _close(self, day: int) -> None:
        """Close a file, after what was committed to it has been made durable."""
        if day in self._open:
            try:
                if self._open[day].is_dirty:
                    self._open[day].make_durable()
            finally:
                self._close_writer(day)

    def _close_writer(self, day: int) -> None:
        state = self._open.pop(day).close()
        if state is not None:
            self._file_states[self._path(day)] = state

    def signatures(self) -> str:
        """The signatures of all files, as each was left. The next start need not check files that look the same."""
        paths = [path for day in sorted(self._days) if (path := self._path(day)) in self._file_states]
        return "\n".join(_signature(path, self._file_states[path].file) for path in paths)

    def close(self) -> None:
        """Close every file. Raises IndexDamaged if another process has written to one; all are closed nevertheless."""
        with ExitStack() as stack:
            for day in self._open:
                stack.callback(self._close_writer, day)


def _days_in(folder: GuardedFolder) -> Iterator[int]:
    for name in _databases(folder):
        try:
            yield day_number(Path(name).stem)
        except ValueError:
            # Not ours: a daily file is named after its day.
            continue


def mark_answered_across(folder: GuardedFolder, marks: Iterable[Mark]) -> None:
    """Write durably to the daily files of a rebuild which open requests have an answer in another log."""
    days: defaultdict[int, list[Mark]] = defaultdict(list)
    for mark in marks:
        if mark.is_answered:
            days[mark.day].append(mark)
    for day in sorted(days):
        with closing(DayWriter(folder, f"{day_name(day)}.db")) as writer:
            writer.mark(days[day], touched=0)
            writer.make_durable()


# ---- what daily files look like from outside


def signatures(folder: GuardedFolder) -> str:
    """The signatures of the daily files in a folder, one per line."""
    return "\n".join(signature(folder.path / name) for name in _databases(folder))


def _databases(folder: GuardedFolder) -> list[str]:
    return [name for name in folder.names() if name.endswith(".db")]


def signature(path: Path) -> str:
    """The name, inode, size and modification time (ns) of a daily file. Raises OSError if there is no such file."""
    return _signature(path, FileStat.of(path.stat()))


def _signature(path: Path, stat: FileStat) -> str:
    return f"{path.name}:{stat.inode}:{stat.size}:{stat.mtime_ns}"


def stats_of(path: Path) -> Iterator[int]:
    """The inode, size and modification time (ns) of a daily file and of its write-ahead log; zeros if there is none. A
    commit changes them."""
    for name in (path, path.with_name(path.name + WAL)):
        stat = file_stat(name)
        yield from (0, 0, 0) if stat is None else stat[1:]
