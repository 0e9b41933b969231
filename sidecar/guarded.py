"""Folders of ours on hostile ground: the index folder, the archive folder, and what lies in them.

Other users may be able to write there, so nothing in such a folder is taken for what we left. Everything is reached by
the folder's descriptor, never through a link, and only what is a regular file of a trusted owner is opened. What is
read has a limit and never waits for a pipe; what is written is a new file that takes the place of the old one in one
step.

The folder at the top may itself be reached through a link: where the index lies is its owner's choice.

Permissions do not depend on the umask of whoever starts the sidecar: while a process holds a root, `restricted_umask`
gives everything that it makes (SQLite's files too) the read permissions of the logs, and write permission to its owner
alone. The umask belongs to the whole process, which is why only commands do this and the library never does.

SQLite opens files by path and follows a link in the last part of it, so a database is checked by `check_database`
before it is opened. (SQLite never follows a link to a write-ahead log, its index or a journal.)
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from sidecar.errors import ForeignFile, UnsafePath

MAX_SMALL_FILE = 16 << 20
"""Bytes that a small file may have: all files of an index folder that are not databases."""

TEMPORARY = ".tmp"
"""Ends the name of a file that is being written."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OWNER_ONLY = 0o700
_READ_BITS = 0o055
"""Permissions of group and others that a folder of ours may have."""


class GuardedFolder:
    """A folder of ours, held open by its descriptor. Close it, or use it in a `with` statement.

    All names are names in this folder, without a `/`.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    @classmethod
    def open(cls, path: Path) -> Self:
        """The topmost folder, which may be a link. Raises OSError where it is not there or is not a folder."""
        return cls(path, os.open(path, _FOLDER))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    # ---- looking

    def names(self) -> list[str]:
        """The names in the folder, sorted."""
        with os.scandir(self.fd) as entries:
            return sorted(entry.name for entry in entries)

    def status(self, name: str) -> os.stat_result | None:
        """The status of what has this name, which may be a link; None where nothing has it."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_file(self, name: str, flags: int = os.O_RDONLY) -> int:
        """A descriptor of a file that is there. The caller closes it.

        Raises ForeignFile where the file is not a regular file of ours (to be written in place it must have no second
        name either), and OSError.
        """
        self._check(name, self.status_of(name))  # a pipe, a device or a lock must not even be opened
        fd = os.open(name, flags | _FILE, dir_fd=self.fd)
        try:
            status = os.fstat(fd)
            self._check(name, status)
            if flags & (os.O_WRONLY | os.O_RDWR) and status.st_nlink > 1:
                raise ForeignFile(f"{self.path / name} has a second name elsewhere")
        except BaseException:
            os.close(fd)
            raise
        return fd

    def read(self, name: str, limit: int = MAX_SMALL_FILE) -> bytes:
        """The content of a file of at most `limit` bytes. Raises as `open_file`, and ForeignFile where it is larger."""
        fd = self.open_file(name)
        with open(fd, "rb", buffering=0) as file:
            if os.fstat(fd).st_size > limit:
                raise ForeignFile(f"{self.path / name} has more than {limit} bytes")
            return file.read(limit)

    # ---- changing

    def folder(self, name: str, *, create: bool = False) -> GuardedFolder:
        """A folder in this one. Raises ForeignFile where the name is that of something else, and OSError."""
        if create:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=self.fd)
        status = self.status_of(name)
        if not stat.S_ISDIR(status.st_mode):
            raise ForeignFile(f"{self.path / name} is {_kind(status)}, not a folder")
        folder = GuardedFolder(self.path / name, os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=self.fd))
        if not self._is_trusted(os.fstat(folder.fd)):
            folder.close()
            raise ForeignFile(f"{self.path / name} is the folder of another user")
        return folder

    def create(self, name: str) -> int:
        """A descriptor to write a new file with. Raises FileExistsError, OSError."""
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, 0o666, dir_fd=self.fd)

    def write(self, name: str, content: bytes, *, durable: bool = False) -> None:
        """Put the content in the place of the file, in one step; with `durable`, synced before that. Raises OSError.

        A kill leaves the old file, and perhaps one under a temporary name, which the next write deletes.
        """
        temporary = name + TEMPORARY
        self.delete(temporary)
        with open(self.create(temporary), "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def link_here(self, source: str, name: str, source_fd: int) -> None:
        """Give a file in another folder, which is open as `source_fd`, a second name in this one. Raises OSError."""
        os.link(source, name, src_dir_fd=source_fd, dst_dir_fd=self.fd, follow_symlinks=False)

    def rename(self, name: str, new: str, into: GuardedFolder | None = None) -> None:
        """Rename a file or folder, perhaps into another folder of ours; what has the new name there is replaced."""
        os.rename(name, new, src_dir_fd=self.fd, dst_dir_fd=(into or self).fd)

    def delete(self, name: str) -> bool:
        """Delete what has this name, whatever it is, and never what a link points to; false where nothing had it."""
        status = self.status(name)
        if status is None:
            return False
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(name, dir_fd=self.fd)
            return True
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True

    def delete_all(self, name: str) -> None:
        """Delete a folder of ours and what lies in it, as far as that can be done; what has its name and is not a
        folder (a link to one, for instance) is deleted itself."""
        with suppress(OSError):
            self.delete(name)

    def sync(self) -> None:
        """Make the names in this folder durable."""
        os.fsync(self.fd)

    # ---- owners and permissions

    def restrict(self, permissions: int) -> None:
        """Take from the folder and the files in it what they permit beyond this, as far as they are ours."""
        _restrict(self.fd, os.fstat(self.fd), permissions)
        for name in self.names():
            with suppress(OSError, ForeignFile):
                self.restrict_file(name, permissions)

    def restrict_file(self, name: str, permissions: int) -> None:
        """The same for one file."""
        status = self.status_of(name)
        if stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) & ~permissions & 0o777:
            with closing_fd(self.open_file(name)) as fd:
                _restrict(fd, status, permissions)

    def status_of(self, name: str) -> os.stat_result:
        """The same as `status`. Raises FileNotFoundError."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def _check(self, name: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise ForeignFile(f"{self.path / name} is {_kind(status)}, not a file of the sidecar")
        if not self._is_trusted(status):
            raise ForeignFile(f"{self.path / name} belongs to user {status.st_uid}")

    def _is_trusted(self, status: os.stat_result) -> bool:
        return status.st_uid in (0, os.geteuid()) or status.st_uid == os.fstat(self.fd).st_uid


def check_database(path: Path) -> None:
    """Raise ForeignFile where a database that SQLite is to open is a link, a pipe, another user's or has a second name.

    One that is not there yet is fine. Raises OSError.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(status.st_mode):
        raise ForeignFile(f"{path} is {_kind(status)}, not a file of the sidecar")
    if status.st_nlink > 1:
        raise ForeignFile(f"{path} has a second name elsewhere")
    if status.st_uid not in (0, os.geteuid()) and status.st_uid != os.stat(path.parent).st_uid:
        raise ForeignFile(f"{path} belongs to user {status.st_uid}")


@contextmanager
def folder_inside(root: Path, folder: Path) -> Iterator[int]:
    """A descriptor of a folder below the root of the logs, for the length of a `with` statement.

    Links are followed as long as they lead to a folder below the root, and whoever swaps one in meanwhile gains
    nothing: the folder that was opened is the one that was judged. Raises UnsafePath, OSError.
    """
    with closing_fd(os.open(folder, _FOLDER)) as fd:
        real = os.path.realpath(folder)
        # Where the two differ, somebody changed a link between opening and judging.
        if not Path(real).is_relative_to(os.path.realpath(root)) or not os.path.samestat(os.stat(real), os.fstat(fd)):
            raise UnsafePath(f"{folder} leaves {root} through a link")
        yield fd


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """The descriptor, closed at the end of a `with` statement."""
    try:
        yield fd
    finally:
        os.close(fd)


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


def restrict(path: Path, permissions: int) -> None:
    """Take from a folder of ours, and from the files in it and one folder further down, what they permit beyond this.

    An index that an earlier version made, or that was copied, may be open to more readers than its logs are.
    """
    with suppress(OSError), GuardedFolder.open(path) as folder:
        folder.restrict(permissions)
        for name in folder.names():
            with suppress(OSError, ForeignFile):
                if stat.S_ISDIR(folder.status_of(name).st_mode):
                    with folder.folder(name) as below:
                        below.restrict(permissions)


@contextmanager
def opened_folder(path: Path) -> Iterator[GuardedFolder | None]:
    """The folder for the length of a `with` statement; None where it is not there."""
    try:
        folder = GuardedFolder.open(path)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    with folder:
        yield folder


def _restrict(fd: int, status: os.stat_result, permissions: int) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == os.geteuid() and mode & ~permissions & 0o777:
        os.fchmod(fd, mode & permissions)


def _kind(status: os.stat_result) -> str:
    mode = status.st_mode
    for is_kind, name in (
        (stat.S_ISLNK, "a link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if is_kind(mode):
            return name
    return "a device"
