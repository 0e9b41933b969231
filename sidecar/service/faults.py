"""The current errors of a running sidecar: noted, cleared, and reported to other processes when they change."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sidecar.diagnostics import get_logger
from sidecar.errors import SidecarError
from sidecar.store import layout
from sidecar.store.connection import root_cause
from sidecar.store.holders import blockers_of, named

_log = get_logger(__name__)

MAX_NAMED = 5
"""Locked files that are named."""


class Faults:
    """What is wrong now. Only the indexing thread touches this.

    `report` is called with the messages, oldest first, whenever they are to be published.
    """

    INDEX = "index"
    """The name of an error that concerns the index as a whole. The name of any other is a path, or `root`."""

    def __init__(self, report: Callable[[list[str]], None]) -> None:
        self.current: dict[str, str] = {}
        """The messages by name. Change them only through `note` and `clear`."""
        self._report = report
        self._reported: dict[str, str] = {}

    def note(self, name: str, message: str) -> None:
        """Record an error, in place of an earlier one with the same name."""
        if self.current.get(name) != message:
            _log.warning("error: %s", message)
        self.current[name] = message

    def clear(self, name: str) -> None:
        """Record that the error with this name is over, if there was one."""
        if self.current.pop(name, None) is not None:
            _log.info("cleared: %s", name)

    def report(self) -> None:
        """Publish the current errors."""
        self._reported = dict(self.current)
        self._report(list(self.current.values()))

    def report_changes(self) -> None:
        """Publish the current errors if they have changed since the last report."""
        if self.current != self._reported:
            self.report()


def index_fault(folder: Path, error: BaseException) -> str:
    """What is wrong with the index in `folder`, in words: the error, and where SQLite says only that it is unable to
    open a file, or that a database is locked, the reason or who it is."""
    cause = str(root_cause(error))
    obstacle = _obstacle(folder) if "unable to open" in cause else _holders(folder) if "locked" in cause else ""
    return f"index: {cause}" + (f" ({obstacle})" if obstacle else "")


def _holders(folder: Path) -> str:
    """The processes that keep this one from writing to the files of an index; "" if none are found."""
    held = {}
    with suppress(OSError, SidecarError):
        paths = (layout.catalog_path(folder), *layout.daily_paths(folder))
        held = {path: others for path in paths if (others := sorted(blockers_of(path) - {os.getpid()}))}
    found = [f"{path} is held by {', '.join(map(named, others))}" for path, others in held.items()]
    return "; ".join(found[:MAX_NAMED])


def _obstacle(folder: Path) -> str:
    """The first thing that keeps this process from opening the files of an index; "" if nothing is found."""
    try:
        # Fails for lack of a descriptor too.
        os.close(os.open(folder, os.O_RDONLY))
        disk = os.statvfs(folder)
        if disk.f_files and not disk.f_favail:
            return f"{folder}: its file system has no free inode"
        for path in (folder, folder / layout.DAILY_NAME, layout.catalog_path(folder), *layout.daily_paths(folder)):
            if os.path.lexists(path) and not os.access(path, os.R_OK | os.W_OK):
                return f"{path}: {os.strerror(errno.EACCES)}"
    except OSError as error:
        return f"{folder}: {error.strerror}"
    except SidecarError as error:
        return str(error)
    return ""
