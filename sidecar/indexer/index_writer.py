"""The writing side of an index: the catalog, the daily files, and the states of the sources, behind one class.

Rows are committed at once and not synced; a checkpoint syncs them and then saves offsets and source states. Opening an
index rolls it back to its last checkpoint (`day_files.py` lists the crash windows). So an index writer is opened from
what was saved, and ends in `close` or `abandon`. After an error, abandon it and open another: nothing is ever repaired
in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import chain
from uuid import uuid4

import orjson

from sidecar.config.settings import Settings
from sidecar.errors import IndexUnavailable, SidecarError
from sidecar.fs import to_os
from sidecar.guarded import GuardedFolder
from sidecar.ingest.source import Batch, SourceState
from sidecar.logs.parts import Alignment
from sidecar.records import Compacted, Dropped, LogName, Move, archived_size
from sidecar.store.connection import invalid_values_as_damage
from sidecar.store.layout import CATALOG_NAME, DAILY_NAME
from sidecar.times import day_name, day_number

from .across import Mark
from .catalog_writer import CatalogWriter
from .compact_copies import replace_by_copies
from .day_files import DayFiles
from .known_files import KnownFiles
from .saved_source import SavedSource, to_save
from .source_cache import SourceCache
from .tamper import FileStates


class IndexWriter:
    """An index, open for writing. One per root; only the indexing thread uses it."""

    def __init__(self, settings: Settings, file_states: FileStates | None = None) -> None:
        """Open an index and roll it back to its last checkpoint.

        Raises IndexUnavailable, OSError, or what SQLite raises.

        `file_states` says how the index files were left when they were last closed or checked, and is updated as they
        are closed again. Pass the same to the next writer after a failure: otherwise, what another process writes
        between the two goes unnoticed.
        """
        folder = settings.index_folder
        self._file_states = {} if file_states is None else file_states
        self._settings = settings
        self._folder = folder
        with ExitStack() as opened, invalid_values_as_damage(folder):
            if folder / CATALOG_NAME in self._file_states:
                self._file_states.pop(folder / CATALOG_NAME).check(folder / CATALOG_NAME)
            self._index = opened.enter_context(GuardedFolder.open_own(folder, create=True))
            daily = opened.enter_context(self._index.folder(DAILY_NAME, create=True))
            self._catalog = CatalogWriter(self._index)
            opened.callback(self._close_catalog)
            self._days = DayFiles(daily, self._file_states)
            opened.callback(self._days.close)
            if self._catalog.fact("config") is None:
                self._catalog.note("config", settings.fingerprint)
            # No row depends on it, so it may change at any time.
            if self._catalog.fact("text") != settings.text_note:
                self._catalog.note("text", settings.text_note)
            self._finish_move()
            rolled_back = self._days.roll_back_to_checkpoint(self._catalog.checkpoint, self._catalog.saved)
            # Sources that were being reset or dropped when the last writer died. They stay `resetting` until their file
            # has been read again or is seen to be missing.
            resetting = self._catalog.resetting()
            self._days.delete_rows_of(resetting)
            self._filtered = set(map(day_number, self._catalog.filtered()))
            """Days that have a filter, which has to be deleted before anything is written on them."""
            if rolled_back or resetting:
                self._mark(self._catalog.across.all_marks())
            self.known = KnownFiles(settings.root, self._catalog.known(), self._catalog.known_parts())
            self._open = opened.pop_all()
        self._cache = SourceCache()
        self._next_id = 1 + self._catalog.last_id()
        self._has_archived = self._catalog.has_archived()
        self._unsaved: dict[str, SourceState] = {}
        """Sources read since the last checkpoint. All of them are in the cache, which is trimmed at checkpoints."""
        self._missing: set[str] = set()
        """Sources whose files have gone missing since the last checkpoint."""

    # ---- sources

    @property
    def unsaved(self) -> int:
        """The number of sources that a checkpoint would save."""
        return len(self._unsaved) + len(self._missing)

    def state(self, path: str) -> SourceState | None:
        """The state of a source, from memory or from the catalog, or a new one; None if no source has this path."""
        state = self._cache.get(path)
        if state is not None:
            return state
        source = self._settings.source_for(to_os(path))
        if source is None:
            return None
        # `known` lacks the sources of which everything is archived.
        if path in self.known or self._has_archived:
            with invalid_values_as_damage(self._folder):
                state = self._catalog.load(path, source, self._days.requests)
        state = state or self.new_state(path)
        if state is not None:
            self._cache.add(state)
        return state

    def new_state(self, path: str, first_mtime: float | None = None) -> SourceState | None:
        """A new state for a log of which nothing is known; None if no source has this path."""
        source = self._settings.source_for(to_os(path))
        self._next_id += 1
        return None if source is None else SourceState(self._next_id - 1, path, source, first_mtime)

    def note_read(self, state: SourceState, now: float, *, more: bool) -> None:
        """Have the next checkpoint save a state that a read has advanced. `now` is a moment before that read, in
        seconds since 1970; `more`: something is left to be read, even if the file does not change."""
        self._unsaved[state.path] = state
        self._missing.discard(state.path)
        since = int(now * 1e9)
        ends_in_nuls = state.open_end is not None and state.open_end.nuls > 0
        archived = archived_size(state.archived)
        self.known.note_read(state.path, state.cursor, archived, since, more=more, ends_in_nuls=ends_in_nuls)
        for path, cursor in state.parts:
            if cursor.offset and not self.known.is_away(path):
                self.known.note_read(path, cursor, 0, since, more=False)

    def move(self, state: SourceState, found: Alignment) -> None:
        """Note which files a log has now. Rows of parts that were renamed get the new names.

        The catalog says so first, durably, with a token. After a kill before the last day has followed, the next
        opening does the others. What was read is saved before, so that no rows have to be taken back under old names.
        """
        if found.renamed:
            self._save(())
            with invalid_values_as_damage(self._folder):
                self._drop_filters(self._days.days_with(found.renamed))
        state.set_files(found.parts)
        if found.renamed:
            move = [uuid4().hex, [[old, *state.log_name(new)] for old, new in found.renamed.items()]]
            self._catalog.begin_move(state, orjson.dumps(move).decode())
            self._finish_move()
        self.known.note_parts(state.path, [path for path, cursor in state.parts if cursor.offset])
        for path, cursor in state.parts:
            if cursor.offset:
                self.known.note_read(path, cursor, 0, 0, more=False)
            if path not in found.there:
                self.known.note_missing(path)
        self._unsaved[state.path] = state
        self._missing.discard(state.path)

    def _finish_move(self) -> None:
        """Do the move that the catalog has, if there is one, in the daily files, durably."""
        if (move := self._catalog.fact("move")) is None:
            return
        with invalid_values_as_damage(self._folder):
            token, moved = orjson.loads(move)
            self._days.move([(str(old), LogName(str(path), str(begin))) for old, path, begin in moved], str(token))
            list(self._days.make_durable(self._catalog.checkpoint))
            self._catalog.end_move()

    def begin_again(self, state: SourceState, reason: str = "") -> Dropped | None:
        """Delete the rows of a file that is not the one that was read before, and reset its state. Returns the entries
        that were dropped, which the catalog counts under the `reason`; None if there were none.

        The catalog says so first, durably. Killed in between, or before the next checkpoint, the next opening deletes
        the rows again, and a scan finds the file unread.

        Without a `reason`, the file still begins with the bytes that it had: no entry is lost, and its first
        modification time is kept (`docs/derivation.md`, section 5).
        """
        if reason and not state.archived:
            state.first_mtime = None
        entries = state.counts.entries if reason else 0
        dropped = Dropped(state.path, reason, entries) if entries else None
        if state.path in self.known or state.cursor.lines:
            with invalid_values_as_damage(self._folder):
                marks = self._catalog.mark_resetting(state, dropped)
                self._days.delete_rows_of([part.path for part in state.files])
                self._mark(marks)
        state.begin_again()
        self.known.note_parts(state.path, ())
        self._unsaved[state.path] = state
        self.known.note_unread(state.path)
        return dropped

    def vanished(self, path: str) -> None:
        """Have the next checkpoint mark a source whose file is gone. Its rows stay."""
        if self.known.note_missing(path):
            self._missing.add(path)
        for part in self.known.parts_of(path):
            self.known.note_missing(part)

    # ---- rows

    def write(self, batches: list[Batch]) -> None:
        """Commit rows, which queries then see. Raises OSError or what SQLite raises; then abandon."""
        if not batches:
            return
        if self._filtered:
            days = {row.day for batch in batches for row in batch.rows}
            files = chain.from_iterable(batch.by_file() for batch in batches)
            self._drop_filters(days | {answer.day for batch in files for answer in batch.answered})
        with invalid_values_as_damage(self._folder):
            self._days.write(batches, self._catalog.checkpoint + 1)

    def _mark(self, marks: Iterable[Mark]) -> None:
        """Write whether open requests have an answer in another log (`across.py`)."""
        missing = self._days.unmarked(marks)
        self._drop_filters(set(missing))
        self._days.mark(missing, self._catalog.checkpoint + 1)

    def _drop_filters(self, days: set[int]) -> None:
        if days := days & self._filtered:
            self._catalog.drop_filters(map(day_name, days))
            self._filtered -= days

    def checkpoint(self) -> None:
        """Make the rows durable, then save how far each source was read. Raises as `write`; then abandon."""
        if self.unsaved:
            self._save(())

    def _save(self, merged: Iterable[SavedSource]) -> None:
        # Killed between the two, or in the second: the catalog still names the previous checkpoint, and the next
        # opening takes back the rows of this one.
        with invalid_values_as_damage(self._folder):
            saved = [*map(to_save, self._unsaved.values()), *merged]
            self._mark(self._catalog.across.changes(saved))
            days = list(self._days.make_durable(self._catalog.checkpoint + 1))
            self._catalog.save(saved, days, self._missing)
        self._cache.trim(self._unsaved.values())
        self._unsaved = {}
        self._missing = set()

    # ---- sources that workers have read (`bulk/backlog.py`)

    def unknown(self, paths: Iterable[str]) -> list[str]:
        """Those of some paths that the index knows nothing about, so that a worker may read them from the start."""
        unknown = [path for path in paths if path not in self.known and path not in self._cache]
        return self._catalog.without(unknown) if self._has_archived else unknown

    def new_ids(self, count: int) -> range:
        """Ids for new sources."""
        first = self._next_id
        self._next_id += count
        return range(first, self._next_id)

    def merge_segments(
        self, folder: GuardedFolder, segments: dict[int, list[str]], saved: list[SavedSource], since: int
    ) -> None:
        """Commit the rows of unknown sources, which are in segments in a folder, by day, and save their states at once.
        Raises as `write`; then abandon.

        `since` is a moment before the sources were read, in nanoseconds since 1970. Until this returns, nobody else may
        read them. Killed between the two, the next opening deletes the rows of sources that the catalog does not know.
        """
        self._drop_filters(set(segments))
        with invalid_values_as_damage(self._folder):
            self._days.merge_segments(folder, segments, self._catalog.checkpoint + 1)
        self._save(saved)
        for one in saved:
            cursor = one.cursor
            self.known.note_read(one.path, cursor, 0, since, more=cursor.offset != cursor.size)

    # ---- requests of `sidecar archive` (`service/requests.py`)

    def archive(self, moves: Iterable[Move], folder: str) -> dict[str, str]:
        """Record durably that logs have been archived in `folder`. Returns the reasons for those refused, by path.

        A log that is no longer as it was when it was archived is refused, and stays as it is.
        """
        if folder != os.fspath(self._settings.archive):
            why = f"the running sidecar has another archive folder, {self._settings.archive}"
            return {move.path: why for move in moves}
        moves = list(moves)
        # The catalog compares with what was saved.
        self.checkpoint()
        refused = self._catalog.archive(moves, folder)
        for move in moves:
            # The log has another extent now.
            self._cache.discard(move.path)
        return refused

    def drop(self, paths: Iterable[str]) -> dict[str, str]:
        """Delete logs of which everything is archived, and their rows. Returns the reasons for those refused, by path.

        Killed after `begin_drop`, the next opening deletes the rows, and the log stays as one with nothing in it. Its
        archive is deleted by the next `sidecar archive` with the same options. Killed after `finish_drop`, at most an
        empty daily file and its filter stay.
        """
        self.checkpoint()
        refused, to_drop = {}, []
        for path in paths:
            state = self.state(path)
            if state is None or not 0 < state.cursor.offset <= archived_size(state.archived):
                refused[path] = "it continues in a log file"
            else:
                to_drop.append(path)
        if to_drop:
            self.forget(to_drop)
        return refused

    def forget(self, paths: Sequence[str]) -> None:
        """Delete logs and their rows, because their bytes belong to another log. For kills, see `drop`."""
        self._save(())
        marks = self._catalog.begin_drop(paths)
        self._days.delete_rows_of(paths)
        self._mark(marks)
        days = list(self._days.make_durable(self._catalog.checkpoint + 1))
        self._catalog.save((), days)
        self._catalog.finish_drop(paths)
        for day, (_, _, entries) in days:
            if not entries:
                self._catalog.drop_filters([day_name(day)])
                self._filtered.discard(day)
                self._days.delete(day)
        for path in paths:
            self.known.forget(path)
            self._cache.discard(path)

    def source_of_file(self, device: int, inode: int) -> str | None:
        """The path of the log whose file was this one when it was last read; None if there is none."""
        own = [path for path, state in self._unsaved.items() if state.cursor[:2] == (device, inode)]
        with invalid_values_as_damage(self._folder):
            return own[0] if own else self._catalog.source_of_file(device, inode)

    def rename(self, old: SourceState, new: SourceState, batches: list[Batch], dropped: Dropped | None) -> None:
        """Replace the old rows of a log that has another name now, in one transaction per day, so that no query sees
        both or neither. Everything about the old log must be saved.

        The catalog says first, durably, that the old log is being reset. After a kill before the checkpoint at the end,
        the next opening deletes its rows and those under the new name, and a scan finds the file unread.
        """
        paths = [part.path for part in old.files]
        days = {row.day for batch in batches for row in batch.rows} | self._days.days_with(paths)
        with invalid_values_as_damage(self._folder):
            self._drop_filters(days)
            marks = self._catalog.mark_resetting(old, dropped)
            self._days.replace_rows(paths, batches, self._catalog.checkpoint + 1)
            self._mark(marks)
        self.known.note_parts(old.path, ())
        self._cache.add(new)
        self._unsaved[new.path] = new
        self._save(())
        self._catalog.finish_drop([old.path])
        self.known.forget(old.path)
        self._cache.discard(old.path)

    def compact(self, days: Iterable[Compacted]) -> dict[str, str]:
        """Replace daily files by their compact copies, and save their filters. Returns the reasons for those refused,
        by day."""
        self.checkpoint()
        refused, filtered = replace_by_copies(self._index, self._days, self._catalog, days)
        self._filtered |= filtered
        return refused

    # ---- closing

    def check(self) -> None:
        """Raise IndexUnavailable if another process has deleted, replaced or written to a file of the index."""
        try:
            self._catalog.check()
            self._days.check()
        except IndexUnavailable:
            raise
        except (SidecarError, OSError):
            # Unknown at the moment; whoever uses the file reports what is wrong.
            pass

    def close(self) -> None:
        """Make a checkpoint, and close all files so that they can be read even in a read-only folder. Raises as
        `write`; then abandon.

        How the files were left is saved last. Killed before that, the next start checks every file in full.
        """
        with self._open:
            self.checkpoint()
            self._days.close()
            self._catalog.note("files", self._days.signatures())
            self._catalog.note("closed", str(self._catalog.checkpoint))

    def _close_catalog(self) -> None:
        state = self._catalog.close()
        if state is not None:
            self._file_states[self._catalog.path] = state

    def abandon(self) -> None:
        """Close all files without a checkpoint: the next opening takes back what was written since the last one.

        Raises IndexDamaged if another process has written to a file; all are closed nevertheless.
        """
        self._open.close()
