"""Folders of ours on hostile ground: the index folder, the archive folder, and what lies in them.

Other users may be able to write there, so nothing in such a folder is taken for what we left. Everything is reached by
the folder's descriptor, never through a link, and only what is a regular file of a trusted owner is opened. What is
read has a limit and never waits for a pipe; what is written is a new file that takes the place of the old one in one
step.

A folder is opened in one of three ways:

- `GuardedFolder.open_own`: the index, to be written. It belongs to this user or to root, and not everybody can write in
  it: SQLite opens its files by path, and only that keeps others from swapping one between the check and the opening.
- `GuardedFolder.open`: the archive, which is written by descriptor alone; the owner of the folder is trusted as well.
- `GuardedFolder.open_to_read`: either. Who only reads takes no harm from a foreign owner.

The folder at the top may itself be reached through a link: where the index lies is its owner's choice. But a link of
another user leads only to what is that user's too.

`sidecar/permissions.py` says who may read the folders.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from sidecar.errors import ConfigError, ForeignFile, UnsafePath

MAX_SMALL_FILE = 16 << 20
"""Bytes that a small file may have: all files of an index folder that are not databases."""

TEMPORARY = ".tmp"
"""Ends the name of a file that is being written."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

Trust = Callable[[int], bool]
"""Whether the files of a user (by number) may be opened."""


class GuardedFolder:
    """A folder of ours, held open by its descriptor. Close it, or use it in a `with` statement.

    All names are names in this folder, without a `/`.
    """

    def __init__(self, path: Path, fd: int, trusts: Trust) -> None:
        self.path = path
        self.fd = fd
        self._trusts = trusts

    # ---- opening

    @classmethod
    def open(cls, path: Path) -> Self:
        """A topmost folder. Files in it may belong to its owner, to this user, and to root.

        Raises ForeignFile where a link of another user leads there, OSError where it is not there or is not a folder.
        """
        folder = cls.open_to_read(path)
        trusted = (0, os.geteuid(), os.fstat(folder.fd).st_uid)
        folder._trusts = trusted.__contains__
        return folder

    @classmethod
    def open_own(cls, path: Path) -> Self:
        """A topmost folder of this user or of root, with files of theirs alone, in which not everybody can write.

        Where it is this user's, the permissions of others to write there are taken away. Raises as `open`, and
        ConfigError where the folder is another user's or everybody's.
        """
        folder = cls.open_to_read(path)
        folder._trusts = (0, os.geteuid()).__contains__
        try:
            folder._make_own()
        except BaseException:
            folder.close()
            raise
        return folder

    @classmethod
    def open_to_read(cls, path: Path) -> Self:
        """A topmost folder, whoever the files in it belong to. Raises as `open`."""
        fd = os.open(path, _FOLDER)
        try:
            owner = os.fstat(fd).st_uid
            link = os.lstat(path)
            if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid(), owner):
                raise ForeignFile(f"{path} is a link of user {link.st_uid} to a folder of user {owner}")
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd, lambda _: True)

    def _make_own(self) -> None:
        status = os.fstat(self.fd)
        if not self._trusts(status.st_uid):
            raise ConfigError(
                f"the index folder {self.path} belongs to user {status.st_uid}",
                hint=f"run the sidecar as that user, or make it yours: chown -R {os.geteuid()} {self.path}",
            )
        if status.st_mode & stat.S_ISVTX and status.st_mode & stat.S_IWOTH:
            raise ConfigError(f"{self.path} is a folder for everybody", hint="name one that is for the index alone")
        if status.st_uid == os.geteuid():
            if status.st_mode & _OTHERS_WRITE:
                os.fchmod(self.fd, stat.S_IMODE(status.st_mode) & ~_OTHERS_WRITE)
        elif status.st_mode & stat.S_IWOTH:
            raise ConfigError(f"everybody can write in the index folder {self.path}", hint=f"chmod o-w {self.path}")

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

    def entries(self) -> list[tuple[str, bool]]:
        """The names in the folder, sorted, and for each whether it is that of a folder."""
        return sorted(_entries(self.fd))

    def status(self, name: str) -> os.stat_result | None:
        """The status of what has this name, which may be a link; None where nothing has it."""
        try:
            return self.status_of(name)
        except FileNotFoundError:
            return None

    def status_of(self, name: str) -> os.stat_result:
        """The same as `status`. Raises FileNotFoundError."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

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

    def _check(self, name: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise ForeignFile(f"{self.path / name} is {kind_of(status)}, not a file of the sidecar")
        if not self._trusts(status.st_uid):
            raise ForeignFile(f"{self.path / name} belongs to user {status.st_uid}")

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
            raise ForeignFile(f"{self.path / name} is {kind_of(status)}, not a directory")
        folder = GuardedFolder(self.path / name, os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=self.fd), self._trusts)
        owner = os.fstat(folder.fd).st_uid
        if not self._trusts(owner):
            folder.close()
            raise ForeignFile(f"{self.path / name} is the folder of user {owner}")
        return folder

    @contextmanager
    def below(self, names: Iterable[str], *, create: bool = False) -> Iterator[GuardedFolder]:
        """A folder further down, by the names of those on the way, for the length of a `with` statement. Raises as
        `folder`."""
        with ExitStack() as opened:
            folder: GuardedFolder = self
            for name in names:
                folder = opened.enter_context(folder.folder(name, create=create))
            yield folder

    def create(self, name: str, mode: int = 0o666) -> int:
        """A descriptor to write a new file with; `mode` is cut by the umask. Raises FileExistsError, OSError."""
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, mode, dir_fd=self.fd)

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
        self.rename(temporary, name)

    def link_here(self, source: str, name: str, source_fd: int) -> None:
        """Give a file in another folder, which is open as `source_fd`, a second name in this one. Raises OSError."""
        os.link(source, name, src_dir_fd=source_fd, dst_dir_fd=self.fd, follow_symlinks=False)

    def rename(self, name: str, new: str, into: GuardedFolder | None = None) -> None:
        """Rename a file or folder, perhaps into another folder of ours; a file that has the new name is replaced."""
        os.rename(name, new, src_dir_fd=self.fd, dst_dir_fd=(into or self).fd)

    def delete(self, name: str) -> bool:
        """Delete what has this name, whatever it is, and never what a link points to; false where nothing had it."""
        status = self.status(name)
        if status is None:
            return False
        try:
            if stat.S_ISDIR(status.st_mode):
                self._delete_folder(name)
            else:
                os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True

    def delete_empty(self, name: str) -> None:
        """Delete a folder, if nothing lies in it."""
        with suppress(OSError):
            os.rmdir(name, dir_fd=self.fd)

    def _delete_folder(self, name: str) -> None:
        """Delete a folder and what lies in it. It may be nested deeper than there are descriptors or stack: folders in
        its folders are moved up into itself first, where a kill leaves them to the next attempt."""
        fd = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=self.fd)
        with closing_fd(fd):
            while below := _delete_files(fd):
                for one in below:
                    one_fd = os.open(one, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                    with closing_fd(one_fd):
                        for deeper in _delete_files(one_fd):
                            os.rename(deeper, uuid4().hex, src_dir_fd=one_fd, dst_dir_fd=fd)
                    os.rmdir(one, dir_fd=fd)
        os.rmdir(name, dir_fd=self.fd)

    def delete_all(self, name: str) -> None:
        """Delete a folder of ours and what lies in it, as far as that can be done; what has its name and is not a
        folder (a link to one, for instance) is deleted itself."""
        with suppress(OSError):
            self.delete(name)

    def sync(self) -> None:
        """Make the names in this folder durable."""
        os.fsync(self.fd)


def check_database(path: Path) -> None:
    """Raise ForeignFile where a database that SQLite is to open is a link, a pipe, another user's or has a second name.

    One that is not there yet is fine. Raises OSError.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(status.st_mode):
        raise ForeignFile(f"{path} is {kind_of(status)}, not a file of the sidecar")
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


def kind_of(status: os.stat_result) -> str:
    """What a file is, in words: "a link"."""
    mode = status.st_mode
    for is_kind, name in (
        (stat.S_ISREG, "a file"),
        (stat.S_ISLNK, "a link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if is_kind(mode):
            return name
    return "a device"


def _entries(fd: int) -> list[tuple[str, bool]]:
    with os.scandir(fd) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _delete_files(fd: int) -> list[str]:
    """Delete what is no folder in an open folder; gives the names of the folders."""
    found = _entries(fd)
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=fd)
    return [name for name, is_folder in found if is_folder]
