"""The writing side of an index as one thing: catalog, daily files, and what is known of each source in memory.

It is opened from what was saved, and either closed after a last checkpoint or abandoned; nothing else ever needs to be
put right in memory. Only the indexing thread touches it.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from sidecar.config.settings import Settings
from sidecar.errors import IndexUnavailable, SidecarError
from sidecar.fs import resolve_under, sync_folder, to_os
from sidecar.ingest.source import Batch, SourceState
from sidecar.logs.scanner import FoundFile
from sidecar.records import Compacted, Move, archived_size
from sidecar.store.connection import invalid_values_as_damage
from sidecar.store.layout import CATALOG_NAME, DAILY_NAME
from sidecar.times import day_name, day_number

from .catalog_writer import CatalogWriter, KnownFile
from .day_files import DayFiles
from .saved_source import SavedSource, to_save
from .tamper import FileStates

MIN_CACHED_SOURCES = 512
"""Sources kept in memory with their states, least recently changed first out; where they are small,
`MAX_CACHED_STATE` admits more of them. The others are loaded from the catalog when they change."""

MAX_CACHED_STATE = 100_000
"""What the states in memory may hold together to be more: requests, roles, and twenty more for each source."""

MAX_PINNED_STATE = 500_000
"""What those that are always kept may hold, as far as it is not that of one source."""


CLOCK_TICK = 50_000_000
"""Nanoseconds within which two changes of a file may bear the same time, and more: the kernel's clock has ticks."""


def _known(id_: int, mark: Sequence[int], archived: int, since: int) -> KnownFile:
    """A source as it was left by a look after `since`, in nanoseconds; `archived` bytes of its log come before its
    file. It is settled where a file that looks the same is the same: all of it was taken, and the time of its last
    change was over, by a clock that is finer than that."""
    device, inode, size, mtime_ns, offset, *_ = mark
    is_whole = 0 < offset - archived == size
    is_settled = is_whole and mtime_ns + CLOCK_TICK < since and mtime_ns % 1_000_000 != 0
    return KnownFile(id_, device, inode, size, mtime_ns, is_missing=False, is_settled=is_settled)


class IndexWriter:
    """What the index holds, and how to go on from there. Raises IndexUnavailable where it cannot be opened."""

    def __init__(self, settings: Settings, left: FileStates | None = None) -> None:
        """`left` says how the files were left that an earlier writer closed, and is kept for the next: after a failure,
        what somebody else did to them meanwhile must not pass for how they were."""
        folder = settings.index_folder
        self._left = {} if left is None else left
        self._settings = settings
        self._folder = folder
        with ExitStack() as opened, invalid_values_as_damage(folder):
            if folder / CATALOG_NAME in self._left:
                self._left.pop(folder / CATALOG_NAME).check(folder / CATALOG_NAME)
            self._catalog = CatalogWriter(folder / CATALOG_NAME)
            opened.callback(self._close_catalog)
            self._index = DayFiles(folder / DAILY_NAME, self._left)
            opened.callback(self._index.close)
            if self._catalog.fact("config") is None:
                self._catalog.note("config", settings.fingerprint)
            # Take back what no checkpoint covers; finish dropping the rows of files that had changed.
            self._index.roll_back_to_checkpoint(self._catalog.checkpoint, self._catalog.saved)
            self._index.delete_rows_of(self._catalog.resetting())
            self._filtered = set(map(day_number, self._catalog.filtered()))
            """Days whose filter in the catalog has to go before anything is written on them."""
            self.known: dict[str, KnownFile] = dict(self._catalog.known())
            """Every source that was ever seen, as it was last seen."""
            self._open = opened.pop_all()
        self._next_id = 1 + self._catalog.last_id()
        self._has_archived = self._catalog.has_archived()
        self._hot: OrderedDict[str, SourceState] = OrderedDict()
        self._weights: dict[str, int] = {}
        """How many requests each of them remembered at the last checkpoint."""
        self._held = 0
        """All of these together."""
        self._unsaved: dict[str, SourceState] = {}
        self._gone: set[str] = set()

    @property
    def unsaved(self) -> int:
        """Sources that a checkpoint would save."""
        return len(self._unsaved) + len(self._gone)

    def progress(self, path: str) -> SourceState | None:
        """Everything known of a source, from memory, from the catalog, or new; None for what is no source."""
        progress = self._hot.get(path)
        if progress is None:
            source = self._settings.source_for(to_os(path))
            if source is None:
                return None
            if path in self.known or self._has_archived:  # what lies in the archive is not among the known
                with invalid_values_as_damage(self._folder):
                    progress = self._catalog.load(path, source, lambda places: self._index.requests(path, places))
            if progress is None:
                progress = SourceState(self._next_id, path, source)
                self._next_id += 1
            self._hot[path] = progress
        self._hot.move_to_end(path)
        return progress

    def seen(self, progress: SourceState, now: float) -> None:
        """A source was looked at after the moment `now`, and its progress has been moved on."""
        path = progress.path
        self._unsaved[path] = progress
        self._gone.discard(path)
        self.known[path] = _known(progress.id, progress.cursor, archived_size(progress.archived), int(now * 1e9))

    def differs(self, found: FoundFile) -> bool:
        """Whether a file that a scan has found is unknown, or looks other than it did."""
        known = self.known.get(found.path)
        return known is None or known.differs(found.status)

    def size(self, path: str) -> int:
        """The size that a file had at the last look, as far as it was read to its end; else 0."""
        known = self.known.get(path)
        return 0 if known is None else max(0, known.size)

    def is_away(self, path: str) -> bool:
        """Whether a source is unknown, or known to be gone."""
        known = self.known.get(path)
        return known is None or known.is_missing

    def unseen_since_scan(self, seen: set[str]) -> list[str]:
        """Sources that were there, and that a scan has not seen."""
        return [path for path, known in self.known.items() if not known.is_missing and path not in seen]

    def is_as_seen(self, path: str) -> bool:
        """Whether a look at a source would show what the last one has shown; False where that is not certain."""
        known = self.known.get(path)
        if known is None or not known.is_settled:
            return False
        try:
            return not known.differs(os.lstat(self._settings.root / to_os(path)))
        except OSError:
            return False

    def begin_again(self, progress: SourceState, *, keeps_time: bool = False) -> None:
        """A file is another one now: its old rows go, first in the catalog's word, then in fact.

        `keeps_time`: it begins with the bytes that it had, so the note of its first modification time is kept
        (`docs/derivation.md`, section 5).
        """
        if progress.path in self.known or progress.cursor.lines:
            with invalid_values_as_damage(self._folder):
                self._catalog.mark_resetting(progress)
                self._index.delete_rows(progress.path)
        if not (keeps_time or progress.archived):
            progress.first_mtime = None
        progress.begin_again()
        self._unsaved[progress.path] = progress

    def vanished(self, path: str) -> None:
        """A file is gone: its rows stay, and it is marked."""
        known = self.known.get(path)
        if known is not None and not known.is_missing:
            self._gone.add(path)
            self.known[path] = known._replace(is_missing=True)

    def write(self, batches: list[Batch]) -> None:
        """Commit rows, so that queries see them. After an error, abandon."""
        if batches:
            if self._filtered:
                days = {row.day for batch in batches for row in batch.rows}
                self._drop_filters(days | {answer.day for batch in batches for answer in batch.answered})
            with invalid_values_as_damage(self._folder):
                self._index.write(batches, self._catalog.checkpoint + 1)

    def _drop_filters(self, days: set[int]) -> None:
        if days := days & self._filtered:
            self._catalog.drop_filters(map(day_name, days))
            self._filtered -= days

    # ---- what several processes have read (`bulk/backlog.py`)

    def unknown(self, paths: Iterable[str]) -> list[str]:
        """Those that nothing is known of, so that another process may read them from their start."""
        fresh = [path for path in paths if path not in self.known and path not in self._hot]
        return self._catalog.without(fresh) if self._has_archived else fresh

    def new_ids(self, count: int) -> range:
        """Numbers for new sources."""
        first = self._next_id
        self._next_id += count
        return range(first, self._next_id)

    def merge_segments(self, parts: dict[int, list[Path]], saved: list[SavedSource], since: int) -> None:
        """Commit the rows of unknown sources, which were read after `since` (nanoseconds since 1970), and save how far
        at once: until then nobody may look at them again. After an error, abandon."""
        self._drop_filters(set(parts))
        with invalid_values_as_damage(self._folder):
            self._index.merge_segments(parts, self._catalog.checkpoint + 1)
        self._save(saved)
        for one in saved:
            id_, path, _, _, _, *mark = one.source
            self.known[path] = _known(id_, mark, 0, since)  # of unknown sources nothing is archived

    # ---- what `sidecar archive` asks for

    def archive(self, moves: Iterable[Move], folder: str) -> dict[str, str]:
        """Note that logs lie in the archive in `folder`, durably; gives for each that was refused why.

        One that is not any more as it was when it was read for the archive is refused, and goes on as it is.
        """
        if folder != os.fspath(self._settings.archive):
            why = f"the sidecar that runs has its archive in {self._settings.archive}"
            return {move.path: why for move in moves}
        moves = list(moves)
        self.checkpoint()  # from here on the catalog knows all that is known here
        refused = self._catalog.archive(moves, folder)
        for move in moves:
            self._hot.pop(move.path, None)
        return refused

    def drop(self, paths: Iterable[str]) -> dict[str, str]:
        """Forget logs that lie in the archive whole, and their rows; gives for each that was refused why."""
        self.checkpoint()
        refused, going = {}, []
        for path in paths:
            progress = self.progress(path)
            if progress is None or not 0 < progress.cursor.offset <= archived_size(progress.archived):
                refused[path] = "it goes on in a log file"
            else:
                going.append(path)
        if going:
            self._catalog.begin_drop(going)
            self._index.delete_rows_of(going)
            days = list(self._index.make_durable(self._catalog.checkpoint + 1))
            self._catalog.save((), days)
            self._catalog.finish_drop(going)
            for day, (_, _, entries) in days:
                if not entries:
                    self._catalog.drop_filters([day_name(day)])
                    self._filtered.discard(day)
                    self._index.delete(day)
            for path in going:
                self.known.pop(path, None)
                self._hot.pop(path, None)
        return refused

    def compact(self, days: Iterable[Compacted]) -> dict[str, str]:
        """Take smaller files of days, and their filters; gives for each that was refused why."""
        self.checkpoint()
        refused = {}
        for name, copy, state, blocks in days:
            day = day_number(name)
            fresh = resolve_under(self._settings.index_folder, copy)
            if not self._index.is_as(day, state):
                refused[name] = "it has changed"
                continue
            is_compact = self._index.replace(day, fresh)
            # Before anything else is written to the new file: with its name, a power cut would take that back too.
            sync_folder(self._index.folder)
            self._catalog.save_filter(name, [b64decode(block) for block in blocks], is_compact=is_compact)
            self._filtered.add(day)
            if not is_compact:
                refused[name] = "somebody reads it"
        return refused

    def checkpoint(self) -> None:
        """Make the rows durable, then save how far each file was read. After an error, abandon."""
        if self.unsaved:
            self._save(())

    def _save(self, brought: Iterable[SavedSource]) -> None:
        with invalid_values_as_damage(self._folder):
            days = list(self._index.make_durable(self._catalog.checkpoint + 1))
            self._catalog.save(chain(map(to_save, self._unsaved.values()), brought), days, self._gone)
        self._cool_down()
        self._unsaved = {}
        self._gone = set()

    def _cool_down(self) -> None:
        """Forget the states of sources that have not changed for the longest time."""
        for path, progress in self._unsaved.items():
            weight = progress.cost
            self._held += weight - self._weights.get(path, 0)
            self._weights[path] = weight
        while len(self._hot) > 1 and self._held + 20 * len(self._hot) > (
            MAX_CACHED_STATE if len(self._hot) > MIN_CACHED_SOURCES else MAX_PINNED_STATE
        ):
            path, _ = self._hot.popitem(last=False)
            self._held -= self._weights.pop(path, 0)

    def check(self) -> None:
        """Raise IndexUnavailable where somebody else has deleted, replaced or written a file of the index."""
        try:
            self._catalog.check()
            self._index.check()
        except IndexUnavailable:
            raise
        except (SidecarError, OSError):
            pass  # it cannot be told now: whoever needs the file will say what is wrong

    def close(self) -> None:
        """Checkpoint, and leave the index as one that a reader can open anywhere. After an error, abandon."""
        with self._open:
            self.checkpoint()
            self._index.close()
            self._catalog.note("files", self._index.signatures())
            self._catalog.note("closed", str(self._catalog.checkpoint))

    def _close_catalog(self) -> None:
        left = self._catalog.close()
        if left is not None:
            self._left[self._catalog.path] = left

    def abandon(self) -> None:
        """Close without saving: what was done since the last checkpoint is taken back at the next opening.

        Raises IndexDamaged where somebody else has written to a file; all are closed nevertheless."""
        self._open.close()
