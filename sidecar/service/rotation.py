"""Rotated and renamed logs of a running sidecar: which logs have to be aligned with their files, and what follows.

Files are renamed while nobody looks, so no hint and no listing tells what happened. A log whose files look different is
aligned with them (`logs.parts.realign`) before it is read further.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import UnsafePath
from sidecar.fs import FileStat, path_under, to_os, to_text
from sidecar.indexer.index_writer import IndexWriter
from sidecar.ingest.reader import reason_for_change, rows_under_new_name
from sidecar.ingest.source import SourceState
from sidecar.logs.parts import earlier_parts, realign
from sidecar.logs.scanner import FoundFile
from sidecar.records import REPLACED, Dropped

from .totals import Totals

ROTATION_GRACE = 2.0
"""The most seconds for which the file with the plain name may be gone between the two steps of a rotation."""

_log = get_logger(__name__)


class Rotation:
    """The logs that have to be aligned with their files. Only the indexing thread uses it."""

    def __init__(self, settings: Settings, totals: Totals) -> None:
        self._settings = settings
        self._totals = totals
        self._due: set[str] = set()
        self._gone_since: dict[str, float] = {}
        """Since when the file with the plain name is gone, for logs of which a file that would be a part exists."""
        self._renamed: dict[str, str] = {}
        """By new path, the log whose file it was when it was last read."""

    def __contains__(self, path: str) -> bool:
        """Whether a log has to be aligned before it is read."""
        return path in self._due

    def is_due(self, path: str) -> bool:
        """Whether a log has to be aligned or renamed before it is read. That makes a checkpoint, so rows that are
        derived have to be written before."""
        return path in self._due or path in self._renamed

    def ask(self, path: str) -> None:
        """Have a log aligned before it is read the next time."""
        self._due.add(path)

    def logs_of_hint(self, writer: IndexWriter, relative: str) -> list[str]:
        """The log that a hint about a file is for, in a list, which is empty if it is for none. `relative` is a path
        below the root as the operating system has it; those returned are as in the index."""
        path = to_text(relative)
        log = writer.known.log_of(path)
        plain = [] if log != path else [to_text(one) for one in self._settings.logs_of_part(relative)]
        rotated = [log] if log != path else [one for one in plain if one in writer.known][:1]
        if rotated:
            self.ask(rotated[0])
            return rotated
        return [path] if self._settings.source_for(relative) is not None else []

    def differs(self, writer: IndexWriter, found: FoundFile) -> bool:
        """Whether a log that a scan has found, or one of its parts, is new or may hold something unread."""
        for part in found.parts:
            # One that has been a log by itself is known, and looks as it did.
            was_log = part.path in writer.known and writer.known.log_of(part.path) != found.path
            if was_log or (part.status.st_size and writer.known.differs(part.path, part.status)):
                self.ask(found.path)
                return True
        # A part that was found as a log: the file with the plain name is gone.
        was_part = writer.known.log_of(found.path) != found.path
        return was_part or writer.known.differs(found.path, found.status)

    def note_unseen(self, writer: IndexWriter, path: str) -> str:
        """Note that a scan has not seen a file. Returns the path of the log that it belongs to."""
        log = writer.known.log_of(path)
        if log != path:
            self.ask(log)
        return log

    def is_log(self, writer: IndexWriter, path: str, now: float, *, is_patient: bool) -> bool:
        """Whether a file of a source is a log by itself although its name is that of a part. With `is_patient`, only
        after the file with the plain name has been gone for a while, because a rotation creates it again at once."""
        for plain in self._settings.logs_of_part(to_os(path)):
            log = to_text(plain)
            if log not in writer.known:
                continue
            if is_patient and now - self._gone_since.setdefault(log, now) < ROTATION_GRACE:
                return False
            if writer.known.log_of(path) == log:
                self._dissolve(writer, log)
        return True

    def _dissolve(self, writer: IndexWriter, log: str) -> None:
        """Make the parts of a log logs by themselves, because the file with its plain name is gone."""
        state = writer.state(log)
        if state is not None:
            is_lost = state.cursor.offset > 0 and writer.known.is_away(log)
            self.begin_again(writer, state, REPLACED if is_lost else "")
            writer.vanished(log)

    def is_ours(self, writer: IndexWriter, path: str) -> bool:
        """Whether a worker must not read a log that is not known: it would read it without its earlier parts, or beside
        its rows under another name."""
        return path in self._due or self.note_new(writer, path)

    def note_new(self, writer: IndexWriter, path: str) -> bool:
        """Whether a file that is not known is that of a known log, which has another name now. If so, that is noted."""
        try:
            status = os.lstat(path_under(self._settings.root, path))
        except (OSError, UnsafePath):
            return False
        identity = FileStat.of(status).identity
        old = writer.source_of_file(*identity) if stat.S_ISREG(status.st_mode) else None
        if old is None or old == path:
            return False
        with suppress(OSError, UnsafePath):
            if FileStat.of(os.lstat(path_under(self._settings.root, old))).identity == identity:
                # A second name of the same file.
                return False
        self._renamed[path] = old
        return True

    def take_name(self, writer: IndexWriter, path: str) -> None:
        """Move the rows of a renamed log to its new name, if the file at `path` has the bytes that were read."""
        old_path = self._renamed.pop(path, None)
        old = None if old_path is None else writer.state(old_path)
        if old is None or old.archived or not old.cursor.offset:
            return
        # Other logs depend on its rows.
        if old.source.answers_across_files:
            writer.forget([old.path])
            return
        new = writer.new_state(path, old.first_mtime)
        if new is None:
            return
        batches = rows_under_new_name(self._settings, new, old)
        if batches is None:
            return
        writer.checkpoint()
        lost = old.counts.entries - new.counts.entries
        dropped = Dropped(old.path, REPLACED, lost) if lost > 0 else None
        writer.rename(old, new, batches, dropped)
        _log.info("%s is %s now", old.path, new.path)

    def align(self, writer: IndexWriter, state: SourceState) -> None:
        """Find the files of a log, and move its rows to their new names. Raises FileNotFoundError if there is no file
        with its plain name, OSError, SourceError."""
        self._due.discard(state.path)
        if not state.source.rotated or state.archived:
            return
        found = realign(self._settings, state.path, state.files)
        if found is None:
            raise FileNotFoundError(state.path)
        self._gone_since.pop(state.path, None)
        parts = earlier_parts(self._settings, state.path)
        others = [path for path in parts if path in writer.known and writer.known.log_of(path) == path]
        # Until now, these were logs by themselves. A kill after this leaves the log without them, and the next scan
        # finds that they are not known.
        if others:
            writer.forget(others)
        if found.is_anew:
            reason = reason_for_change(state, self._settings.root) if found.is_lost else ""
            self.begin_again(writer, state, reason)
            self._due.discard(state.path)
        writer.move(state, found)

    def begin_again(self, writer: IndexWriter, state: SourceState, reason: str) -> None:
        """Drop what was derived from a log. If there is a `reason`, its entries are lost, and are counted with it."""
        dropped = writer.begin_again(state, reason)
        if dropped is not None:
            self._totals.note_dropped(dropped)
            _log.warning("%d entries dropped, %s", dropped.entries, self._totals.dropped_why)
        if state.source.rotated:
            self.ask(state.path)
