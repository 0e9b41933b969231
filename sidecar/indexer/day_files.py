"""Rows into the daily files: batches in, each day one transaction, and nothing twice.

How a crash is survived. Rows are committed at once, so that queries see them, and not synced. Every second or so a
checkpoint makes the daily files durable and *then* lets the catalog save how far each log file was read
(`service/daemon.py`). Each source in a daily file carries, as `touched`, the number of the checkpoint that will cover
what was last written of it. Crash windows:

- between two commits of a batch, or between the commits and the checkpoint: the catalog is behind. At the next start
  `roll_back_to_checkpoint` finds the sources touched after the catalog's checkpoint, drops their rows from
  the saved offset on, and reopens the requests that the saved state has open. Then the same bytes make the same rows.
- in the middle of a commit: SQLite rolls that day back, which is the case above.
- while old rows of a changed file are dropped: the catalog said `resetting` first, so that it is done again, and every
  day that had rows of it is summed up again, whether it still has them or not.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

from sidecar.errors import IndexDamaged
from sidecar.fs import FileStat, file_stat
from sidecar.ingest.linking import Request
from sidecar.ingest.source import Batch
from sidecar.records import Answered, Row
from sidecar.store.connection import looks_whole
from sidecar.times import day_name, day_number

from .day_writer import DayWriter
from .tamper import FileState, FileStates, stat_after_write, states_of

MAX_OPEN_DAYS = 16
"""Daily files open for writing at once. Times that jump about may touch any number."""
SavedState = Callable[[str], tuple[int, Iterable[Request]]]
"""From a path to the saved offset and the requests that are open there; (0, ()) for a file that was never saved."""


class DayFiles:
    """All daily files of a folder, for writing. It owns every connection to them."""

    def __init__(self, folder: Path, left: FileStates | None = None) -> None:
        """`left` says how files were left that were closed before, and is kept."""
        self.folder = folder
        self._open: OrderedDict[int, DayWriter] = OrderedDict()
        self.changed: set[int] = set()
        """Days written since the last `make_durable`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._left = {} if left is None else left
        """The state of each file when it was closed. `roll_back_to_checkpoint` opens each at the start."""
        self._doubted: set[Path] = set()
        """Those of them that looked otherwise the last time, and whose log is there."""
        self._made = {*_days_in(folder), *(day_number(path.stem) for path in self._left if path.parent == folder)}
        """Days that have a file. Without one, such a day must not be begun anew."""

    def write(self, batches: Iterable[Batch], checkpoint: int) -> None:
        """Write rows and answers, one transaction a day; `checkpoint` is the number of the one that will cover them.

        After an error some days are written and some are not: `abandon`, and recover as after a crash.
        """
        days: defaultdict[int, list[tuple[str, list[Row], dict[int, Answered]]]] = defaultdict(list)
        for batch in batches:
            for day, (rows, answered) in batch.by_day().items():
                days[day].append((batch.path, rows, answered))
        for day in sorted(days):
            daily = self._file(day)
            self.changed.add(day)
            with daily.transaction():
                for path, its_rows, its_answered in days[day]:
                    daily.write(path, its_rows, its_answered, checkpoint)

    def merge_segments(self, parts: dict[int, list[Path]], checkpoint: int) -> None:
        """The same for rows that stand in parts of days, each part one transaction. The parts are gone then."""
        for day in sorted(parts):
            self.changed.add(day)
            for part in parts[day]:
                self._file(day).copy_segment(part, checkpoint)
                part.unlink()

    def _file(self, day: int) -> DayWriter:
        daily = self._open.get(day)
        if daily is None:
            while len(self._open) >= MAX_OPEN_DAYS:
                self._close(next(iter(self._open)))
            path = self._path(day)
            self._check_folder()
            if day in self._made and not path.exists():
                raise IndexDamaged(f"{path} was deleted")
            if path in self._left:
                self._left.pop(path).check(path)  # taken away, because to open it changes it
                self._doubted.discard(path)
            daily = self._open[day] = DayWriter(path)
            self._made.add(day)
        self._open.move_to_end(day)
        return daily

    def _path(self, day: int) -> Path:
        return self.folder / f"{day_name(day)}.db"

    def days(self) -> list[int]:
        """The days that have a file, in order."""
        return sorted(_days_in(self.folder))

    def delete_rows(self, path: str) -> None:
        """Drop every row of a log file, in whichever day.

        A day that had rows of it counts as changed even where they are gone: a kill may have come between their going
        and the checkpoint that was to sum the day up again.
        """
        for day in self.days():
            daily = self._file(day)
            if daily.knows(path):
                daily.delete_rows(path)
                self.changed.add(day)

    def roll_back_to_checkpoint(self, checkpoint: int, saved: SavedState) -> int:
        """Take back what was written after a checkpoint; gives the number of log files that this touched."""
        count = 0
        for day in self.days():
            daily = self._file(day)
            touched = daily.touched_after(checkpoint)
            if not touched:
                continue
            self.changed.add(day)
            with daily.transaction():
                for path in touched:
                    offset, open_requests = saved(path)
                    daily.delete_rows(path, offset, [one for one in open_requests if one.day == day])
            count += len(touched)
        return count

    def requests(self, path: str, places: Iterable[tuple[int, int]]) -> Iterator[Request]:
        """The answered requests at these days and byte offsets, in this order."""
        for day, group in groupby(places, key=lambda place: place[0]):
            yield from self._file(day).requests(path, [offset for _, offset in group])

    def make_durable(self, checkpoint: int) -> Iterator[tuple[int, tuple[float, float, int]]]:
        """Sync the daily files that changed; gives each day with its first and last timestamp and its entries.

        Each file notes the number of the checkpoint first, and the catalog afterwards: a file that knows of an earlier
        one than the catalog has lost what was written to it, with its write-ahead log or to an older copy.
        """
        for day in sorted(self.changed):
            daily = self._file(day)
            daily.make_durable(checkpoint)
            yield day, daily.summary()
        self.changed = set()

    def delete_rows_of(self, paths: Iterable[str]) -> None:
        """The same for many log files, for the price of one look at each day."""
        wanted = set(paths)
        for day in self.days() if wanted else ():
            daily = self._file(day)
            for path in wanted.intersection(daily.touched_after(-1)):
                daily.delete_rows(path)
                self.changed.add(day)

    def delete(self, day: int) -> None:
        """Delete the file of a day that has no entry, and that the catalog does not name any more."""
        self._close(day)
        self._path(day).unlink(missing_ok=True)
        self.changed.discard(day)
        self._made.discard(day)
        self._left.pop(self._path(day), None)

    def is_as(self, day: int, state: list[int]) -> bool:
        """Whether a day's file is as it was when `compact_copy` noted this, and nothing of it is to be made durable."""
        path = self._path(day)
        if day in self.changed or not path.exists():
            return False
        now = list(stats_of(path))  # before it is opened for writing here, which may change how it looks
        return [*self._file(day).state(), *now] == state

    def replace(self, day: int, copy: Path) -> bool:
        """Put a copy in the place of a day's file, in one rename. False, and nothing done, while somebody reads it:
        then its write-ahead log cannot go, and would be taken for the copy's.

        The copy is durable. Whoever has the old file open goes on reading that one.
        """
        path = self._path(day)
        self._close(day)
        if any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-journal")):
            return False
        copy.replace(path)
        self._left.pop(path, None)
        now = stat_after_write(path)
        if now is not None:
            self._left[path] = FileState(now, log=None)
        return True

    def _close(self, day: int) -> None:
        if day in self._open:
            try:
                if self._open[day].is_dirty:
                    self._open[day].make_durable()
            finally:
                self._settle(day)

    def _settle(self, day: int) -> None:
        left = self._open.pop(day).close()
        if left is not None:
            self._left[self._path(day)] = left

    def check(self) -> None:
        """Raise IndexDamaged where a day's file is gone, replaced, or written by somebody else."""
        self._check_folder()
        for day in self._made:
            path = self._path(day)
            left = self._left.get(path)
            if day in self._open:
                # Not by reading the file: to close it would take from SQLite the locks that it has on it.
                self._open[day].check()
            elif left is None:
                if not looks_whole(path):
                    raise IndexDamaged(f"{path} is gone, cut, or not a database")
            elif left.log is None:
                left.check(path)
            else:
                self._check_with_log(path, left)

    def _check_with_log(self, path: Path, left: FileState) -> None:
        """The same for a day that somebody was reading when it was closed. Who closes it last may be just moving its
        log into the file, so that only what looks otherwise twice was written by somebody else."""
        now = states_of([path]).get(path)
        if now == left:
            self._doubted.discard(path)
        elif now is not None and now.log is None and now.file != left.file and looks_whole(path):  # it was moved
            self._left[path] = now
        elif path in self._doubted:
            raise IndexDamaged(f"{path} or its write-ahead log was deleted, replaced or written by somebody else")
        else:
            self._doubted.add(path)

    def _check_folder(self) -> None:
        """Raise IndexDamaged where the folder is a link now: what lies behind it is not ours to write."""
        if self.folder.is_symlink():
            raise IndexDamaged(f"{self.folder} is a link")

    def signatures(self) -> str:
        """How the files were left, as seen when each was closed: what looks the same later need not be checked."""
        paths = [path for day in sorted(self._made) if (path := self._path(day)) in self._left]
        return "\n".join(_signature(path, self._left[path].file) for path in paths)

    def close(self) -> None:
        """Close every file. Raises IndexDamaged for one that somebody else has written to."""
        with ExitStack() as stack:
            for day in self._open:
                stack.callback(self._settle, day)


def _days_in(folder: Path) -> Iterator[int]:
    for path in folder.glob("*.db"):
        try:
            yield day_number(path.stem)
        except ValueError:
            continue  # not ours: a daily file is named after its day


def signatures(folder: Path) -> str:
    """What the daily files of a folder look like from outside."""
    return "\n".join(signature(path) for path in sorted(folder.glob("*.db")))


def stats_of(path: Path) -> Iterator[int]:
    """Sizes and times of a daily file and of its write-ahead log: another commit, other values."""
    for name in (path, path.with_name(f"{path.name}-wal")):
        stat = file_stat(name)
        yield from (0, 0, 0) if stat is None else stat[1:]


def signature(path: Path) -> str:
    """What a daily file looks like from outside. Raises OSError where it is not there any more."""
    return _signature(path, FileStat.of(path.stat()))


def _signature(path: Path, stat: FileStat) -> str:
    return f"{path.name}:{stat.inode}:{stat.size}:{stat.mtime_ns}"
