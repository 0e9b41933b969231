"""Permissions of the index: whoever may read the logs may read it, whatever the umask of the process that writes it.

While a process holds a root, `restricted_umask` gives everything that it creates, SQLite's files included, the read
permissions of the logs, and write permission only to the owner. The umask applies to the whole process, so only
commands set it, never the library. `restrict` removes all other permissions from what exists already.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sidecar.errors import ForeignFile
from sidecar.guarded import GuardedFolder, closing_fd

_OWNER_ONLY = 0o700
_READ_BITS = 0o055
"""The permissions that an index folder may give to its group and to others."""


def permissions_of(folders: Iterable[Path]) -> int:
    """The permissions of an index of logs in these folders: all for the owner, and for group and others the read
    permissions that every one of the folders gives. Folders that do not exist are skipped."""
    shared = _READ_BITS
    for folder in folders:
        with suppress(OSError):
            shared &= os.stat(folder).st_mode
    return _OWNER_ONLY | shared


@contextmanager
def restricted_umask(permissions: int) -> Iterator[None]:
    """During a `with` statement, give everything that this process creates at most these permissions."""
    before = os.umask(0o777 & ~permissions)
    try:
        yield
    finally:
        os.umask(before)


def restrict(path: Path, permissions: int, is_own: Callable[[str], bool]) -> None:
    """Remove all other permissions from an index folder, from the files and folders in it that have a name of the
    sidecar's (`is_own`), and from the files in those folders, if they belong to this user.

    An index that was copied, or made by an earlier version, may be readable by more users than its logs.
    """
    with suppress(OSError, ForeignFile), GuardedFolder.open_own(path) as folder:
        _restrict_fd(folder.fd, permissions)
        for name in filter(is_own, folder.names()):
            with suppress(OSError, ForeignFile):
                if stat.S_ISDIR(folder.status_of(name).st_mode):
                    with folder.folder(name) as below:
                        _restrict_folder(below, permissions)
                else:
                    restrict_file(folder, name, permissions)


def _restrict_folder(folder: GuardedFolder, permissions: int) -> None:
    _restrict_fd(folder.fd, permissions)
    for name in folder.names():
        with suppress(OSError, ForeignFile):
            restrict_file(folder, name, permissions)


def restrict_file(folder: GuardedFolder, name: str, permissions: int) -> None:
    """Remove all other permissions from a regular file. Raises OSError, and ForeignFile if its owner is not trusted."""
    status = folder.status_of(name)
    if stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) & ~permissions & 0o777:
        with closing_fd(folder.open_file(name)) as fd:
            _restrict_fd(fd, permissions)


def _restrict_fd(fd: int, permissions: int) -> None:
    status = os.fstat(fd)
    mode = stat.S_IMODE(status.st_mode)
    # A file with a second name may be another file of this user, elsewhere.
    is_ours = status.st_uid == os.geteuid() and (stat.S_ISDIR(status.st_mode) or status.st_nlink == 1)
    if is_ours and mode & ~permissions & 0o777:
        os.fchmod(fd, mode & permissions)
