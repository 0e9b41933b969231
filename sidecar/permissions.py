"""Who may read the index: those who may read the logs, whatever the umask of whoever starts the sidecar.

While a process holds a root, `restricted_umask` gives everything that it makes (SQLite's files too) the read
permissions of the logs, and write permission to its owner alone. The umask belongs to the whole process, which is why
only commands do this and the library never does. `restrict` takes from what is there already what goes beyond.
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
"""Permissions of group and others that a folder of ours may have."""


def permissions_of(folders: Iterable[Path]) -> int:
    """The permissions of an index folder over logs that lie in these folders: all for the owner, and for group and
    others to read what all of the folders let them read. Folders that are not there are skipped."""
    shared = _READ_BITS
    for folder in folders:
        with suppress(OSError):
            shared &= os.stat(folder).st_mode
    return _OWNER_ONLY | shared


@contextmanager
def restricted_umask(permissions: int) -> Iterator[None]:
    """Everything that this process makes has at most these permissions, for the length of a `with` statement."""
    before = os.umask(0o777 & ~permissions)
    try:
        yield
    finally:
        os.umask(before)


def restrict(path: Path, permissions: int, is_own: Callable[[str], bool]) -> None:
    """Take from an index folder, from what bears a name of the sidecar's in it, and from the files one folder further
    down what they permit beyond this, as far as they are this user's.

    An index that an earlier version made, or that was copied, may be open to more readers than its logs are.
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
    """Take from a regular file what it permits beyond this. Raises OSError, ForeignFile where it is another user's."""
    status = folder.status_of(name)
    if stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) & ~permissions & 0o777:
        with closing_fd(folder.open_file(name)) as fd:
            _restrict_fd(fd, permissions)


def _restrict_fd(fd: int, permissions: int) -> None:
    status = os.fstat(fd)
    mode = stat.S_IMODE(status.st_mode)
    # A file with a second name may be somebody's file elsewhere.
    is_ours = status.st_uid == os.geteuid() and (stat.S_ISDIR(status.st_mode) or status.st_nlink == 1)
    if is_ours and mode & ~permissions & 0o777:
        os.fchmod(fd, mode & permissions)
