"""The index folder and the archive folder, which other users may be able to write to.

So nothing in them is trusted to be what the sidecar left there. Everything is reached by the folder's descriptor, never
through a link, and only regular files of a trusted owner are opened. Reads have a limit and never wait for a pipe.
Writes make a new file, which replaces the old one in one step.

A folder is opened in one of three ways:

- `GuardedFolder.open_own`: the index, to write to it. It must belong to this user or to root, and not be writable for
  everybody: SQLite opens its files by path, and nothing else keeps others from replacing one between the check and the
  opening.
- `GuardedFolder.open`: the archive, which is written by descriptor only. Files of the folder's owner are trusted too.
- `GuardedFolder.open_to_read`: either, to read it. Files of any owner may be read.

The path of the folder may be a link, so that its owner can move it. A link of another user is followed only to a folder
of that user.

`sidecar/permissions.py` says who may read the folders, `sidecar/store/database_files.py` what holds for databases.
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
"""Largest size in bytes of a small file: any file of an index folder that is not a database."""

TEMPORARY = ".tmp"
"""Suffix of a file that is being written."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

Trust = Callable[[int], bool]
"""Whether the files of a user (by number) may be opened."""


class GuardedFolder:
    """A folder, held open by its descriptor. Close it, or use it in a `with` statement.

    All names are names in this folder, without a `/`.
    """

    def __init__(self, path: Path, fd: int, trusts: Trust) -> None:
        self.path = path
        self.fd = fd
        self._trusts = trusts

    # ---- opening

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder by its path. Files in it may belong to its owner, to this user, or to root.

        Raises ForeignFile if the path is a link of another user, OSError if it does not exist or is not a directory.
        """
        folder = cls.open_to_read(path)
        trusted = (0, os.geteuid(), os.fstat(folder.fd).st_uid)
        folder._trusts = trusted.__contains__
        return folder

    @classmethod
    def open_own(cls, path: Path, *, create: bool = False) -> Self:
        """Open a folder of this user or of root. Files in it may belong to these two only.

        If the folder is this user's, other users lose the permission to write to it. Raises the errors of `open`, and
        ConfigError if the folder is another user's, or writable for everybody.
        """
        if create:
            path.mkdir(parents=True, exist_ok=True)
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
        """Open a folder to read it. Files in it may belong to anyone. Raises the errors of `open`."""
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

    def __reduce__(self) -> tuple[Callable[..., GuardedFolder], tuple[Path, int, int]]:
        """In another process it is opened there, as a folder of its own, and refused if it is another one by then."""
        status = os.fstat(self.fd)
        return _open_again, (self.path, status.st_dev, status.st_ino)

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

    def is_replaced(self) -> bool:
        """Whether another folder is at the path of this one now, perhaps through a link."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return stat.S_ISDIR(status.st_mode) and not os.path.samestat(status, os.fstat(self.fd))

    def names(self) -> list[str]:
        """The names in the folder, sorted."""
        with os.scandir(self.fd) as entries:
            return sorted(entry.name for entry in entries)

    def entries(self) -> list[tuple[str, bool]]:
        """The names in the folder, sorted, each with whether it is a folder."""
        return sorted(_entries(self.fd))

    def status(self, name: str) -> os.stat_result | None:
        """The status of a file, of a folder, or of a link itself; None if nothing has this name."""
        try:
            return self.status_of(name)
        except FileNotFoundError:
            return None

    def status_of(self, name: str) -> os.stat_result:
        """The same as `status`. Raises FileNotFoundError."""
        return os.stat(_plain(name), dir_fd=self.fd, follow_symlinks=False)

    def open_file(self, name: str, flags: int = os.O_RDONLY) -> int:
        """A descriptor of a file that is there. The caller closes it.

        Raises ForeignFile where the file is not a regular file of ours (to be written in place it must have no second
        name either), and OSError.
        """
        in_place = bool(flags & (os.O_WRONLY | os.O_RDWR))
        self.check_file(name, self.status_of(name), in_place=in_place)  # a pipe or a device must not even be opened
        fd = os.open(name, flags | _FILE, dir_fd=self.fd)
        try:
            self.check_file(name, os.fstat(fd), in_place=in_place)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def check_file(self, name: str, status: os.stat_result, *, in_place: bool = False) -> None:
        """Raise ForeignFile where what has this name and status is not a regular file of ours; to be written in place
        it must have no second name either."""
        if not stat.S_ISREG(status.st_mode):
            raise ForeignFile(f"{self.path / name} is {kind_of(status)}, not a file of the sidecar")
        if not self._trusts(status.st_uid):
            raise ForeignFile(f"{self.path / name} belongs to user {status.st_uid}")
        if in_place and status.st_nlink > 1:
            raise ForeignFile(f"{self.path / name} has a second name elsewhere")

    def read(self, name: str, limit: int = MAX_SMALL_FILE) -> bytes:
        """The content of a file. Raises the errors of `open_file`, and ForeignFile for more than `limit` bytes."""
        fd = self.open_file(name)
        with open(fd, "rb", buffering=0) as file:
            if os.fstat(fd).st_size > limit:
                raise ForeignFile(f"{self.path / name} has more than {limit} bytes")
            return file.read(limit)

    # ---- changing

    def folder(self, name: str, *, create: bool = False) -> GuardedFolder:
        """A folder in this one. Raises ForeignFile if it is not a folder, or not of a trusted owner, and OSError."""
        if create:
            with suppress(FileExistsError):
                os.mkdir(_plain(name), dir_fd=self.fd)
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
        """A folder further down, by the names on the way to it, open during a `with` statement. Raises the errors of
        `folder`."""
        with ExitStack() as opened:
            folder: GuardedFolder = self
            for name in names:
                folder = opened.enter_context(folder.folder(name, create=create))
            yield folder

    def create(self, name: str, mode: int = 0o666) -> int:
        """A descriptor to write a new file with; `mode` is cut by the umask. Raises FileExistsError, OSError."""
        return os.open(_plain(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, mode, dir_fd=self.fd)

    def write(self, name: str, content: bytes, *, durable: bool = False) -> None:
        """Replace the content of a file, or create it, in one step; with `durable`, it is synced first. Raises OSError.

        A kill leaves the old file, and perhaps one with a temporary name, which the next write deletes.
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
        """Give a file in the folder with the descriptor `source_fd` a second name in this one. Raises OSError."""
        os.link(source, _plain(name), src_dir_fd=source_fd, dst_dir_fd=self.fd, follow_symlinks=False)

    def rename(self, name: str, new: str, into: GuardedFolder | None = None) -> None:
        """Rename a file or folder, perhaps into another folder of ours; a file that has the new name is replaced."""
        os.rename(_plain(name), _plain(new), src_dir_fd=self.fd, dst_dir_fd=(into or self).fd)

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
        """Delete a folder if it is empty."""
        with suppress(OSError):
            os.rmdir(_plain(name), dir_fd=self.fd)

    def _delete_folder(self, name: str) -> None:
        """Delete a folder with its content. The nesting may be deeper than the limits on descriptors and on the stack:
        so folders in its folders are first moved up into it, where a kill leaves them for the next attempt."""
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

    def sync_file(self, name: str) -> None:
        """Make the content of a file durable that was written by somebody else, such as SQLite; this process must not
        have it open. Raises as `open_file`."""
        with closing_fd(self.open_file(name)) as fd:
            os.fsync(fd)


def _open_again(path: Path, device: int, inode: int) -> GuardedFolder:
    folder = GuardedFolder.open_own(path)
    status = os.fstat(folder.fd)
    if (status.st_dev, status.st_ino) != (device, inode):
        folder.close()
        raise ForeignFile(f"{path} was replaced while it was in use")
    return folder


@contextmanager
def folder_inside(root: Path, folder: Path) -> Iterator[int]:
    """The descriptor of a folder below the root of the logs, open during a `with` statement.

    Links are followed if they lead to a folder below the root. One that is swapped in meanwhile leads nowhere else: the
    folder that is checked is the one that is open. Raises UnsafePath, OSError.
    """
    with closing_fd(os.open(folder, _FOLDER)) as fd:
        real = os.path.realpath(folder)
        # If the two differ, a link was changed between opening and checking.
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
    """The kind of a file, in words: `a link`, `a pipe`."""
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


def _plain(name: str) -> str:
    """A name that leads to no other folder."""
    if name in ("", ".", "..") or "/" in name:
        raise UnsafePath(f"{name!r} leaves its folder")
    return name


def _entries(fd: int) -> list[tuple[str, bool]]:
    with os.scandir(fd) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _delete_files(fd: int) -> list[str]:
    """Delete everything but folders in an open folder. Returns the names of the folders."""
    found = _entries(fd)
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=fd)
    return [name for name, is_folder in found if is_folder]
