"""What the file of each source looked like when it was last read, for comparison with scans and hints."""

from __future__ import annotations

import os
from collections.abc import Collection, Container, Iterable
from pathlib import Path
from typing import NamedTuple

from sidecar.errors import UnsafePath
from sidecar.fs import MTIME_GRANULARITY, FileStat, path_under
from sidecar.logs.tail import Cursor


class KnownFile(NamedTuple):
    """What a file looked like from outside when it was last read."""

    device: int
    inode: int
    size: int
    """In bytes; -1 if something is left to be read, so that the file differs from whatever a scan finds."""
    mtime_ns: int
    is_missing: bool = False
    is_settled: bool = False
    """Whether all of it was read, and no later write can leave it with the same modification time."""
    has_rest: bool = False
    """Whether it ends in something else than a whole line: its end was not read, or NULs stand behind a last line that
    was taken without an LF. A writer that has mapped the file into memory can fill that in without changing the size or
    the time."""

    def differs(self, status: os.stat_result) -> bool:
        """Whether the file may hold something that was not read."""
        return self.is_missing or self.has_rest or self[:4] != FileStat.of(status)


class KnownFiles:
    """All sources that were ever seen, except those that are archived as a whole. Only the indexing thread uses it."""

    def __init__(
        self,
        root: Path,
        files: Iterable[tuple[str, KnownFile]],
        parts: Iterable[tuple[str, str, KnownFile]] = (),
    ) -> None:
        """`parts` are the path of each earlier part of a rotated log, that of the log, and what its file looks like."""
        self._root = root
        self._files = dict(files)
        self._log_of: dict[str, str] = {}
        for path, log, file in parts:
            self._log_of[path] = log
            self._files[path] = file

    def __contains__(self, path: str) -> bool:
        """Whether a source is known."""
        return path in self._files

    def differs(self, path: str, status: os.stat_result) -> bool:
        """Whether a file that a scan has found is unknown, or may hold something that was not read."""
        known = self._files.get(path)
        return known is None or known.differs(status)

    def is_unchanged(self, path: str) -> bool:
        """Whether reading a file now would certainly bring nothing new, whatever a hint says."""
        known = self._files.get(path)
        if known is None or not known.is_settled:
            return False
        try:
            return not known.differs(os.lstat(path_under(self._root, path)))
        except (OSError, UnsafePath):
            return False

    def log_of(self, path: str) -> str:
        """The path of the log that a file is an earlier part of; if it is not one, its own path."""
        return self._log_of.get(path, path)

    def parts_of(self, log: str) -> list[str]:
        """The paths of the earlier parts of a log."""
        return [path for path, its_log in self._log_of.items() if its_log == log]

    def note_parts(self, log: str, paths: Collection[str]) -> None:
        """Note that these, and no others, are the earlier parts of a log."""
        for path in [path for path, its_log in self._log_of.items() if its_log == log and path not in paths]:
            del self._log_of[path]
            self._files.pop(path, None)
        self._log_of.update(dict.fromkeys(paths, log))

    def is_away(self, path: str) -> bool:
        """Whether a source is unknown, or its file missing."""
        known = self._files.get(path)
        return known is None or known.is_missing

    def unseen(self, seen: Container[str]) -> list[str]:
        """The sources whose files are not known to be missing, and are not among those that a scan has seen."""
        return [path for path, known in self._files.items() if not known.is_missing and path not in seen]

    def size(self, path: str) -> int:
        """The size in bytes of a file that was read to its end; 0 if something is left to be read, or it is unknown."""
        known = self._files.get(path)
        return 0 if known is None else max(0, known.size)

    def note_read(
        self, path: str, cursor: Cursor, archived: int, since: int, *, more: bool, ends_in_nuls: bool = False
    ) -> None:
        """Keep what a file looked like in a read that left this cursor of its log.

        `archived` is the number of archived bytes, which precede those of the file. `since` is a moment before the
        read, in nanoseconds since 1970. `more`: something is left to be read, even if the file does not change.
        `ends_in_nuls`: so does a last line that was taken without an LF.
        """
        size = -1 if more else cursor.size
        is_whole = 0 < cursor.offset - archived == size
        has_rest = ends_in_nuls or cursor.offset - archived < size
        # Times come from a clock with ticks: a write within the same tick as the last one may leave size and time as
        # they are. A time in whole milliseconds may come from a file system that keeps no finer ones.
        is_past = cursor.mtime_ns + MTIME_GRANULARITY < since and cursor.mtime_ns % 1_000_000 != 0
        self._files[path] = KnownFile(
            *(cursor.device, cursor.inode, size, cursor.mtime_ns),
            is_settled=is_whole and is_past and not has_rest,
            has_rest=has_rest,
        )

    def note_unread(self, path: str) -> None:
        """Have the next scan find that a file has to be read, whatever it looks like."""
        if path in self._files:
            self._files[path] = self._files[path]._replace(size=-1)

    def note_missing(self, path: str) -> bool:
        """Mark the file of a source as missing. Returns false if it was missing already, or the source is unknown."""
        known = self._files.get(path)
        if known is None or known.is_missing:
            return False
        self._files[path] = known._replace(is_missing=True)
        return True

    def forget(self, path: str) -> None:
        """Treat a source as one that was never seen."""
        self._files.pop(path, None)
