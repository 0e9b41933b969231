"""Access to the index folder and the archive folder, where other users may be able to create files.

Nothing in these folders is assumed to be what the sidecar left there. Everything is reached through the folder's
descriptor, never through a link, and only regular files of a trusted owner are opened. Reads have a limit and never
block on a pipe. A write creates a new file, which then replaces the old one in one step.

A folder is opened in one of three ways:

- `GuardedFolder.open_own`: the index, for writing. It must belong to this user or to root and must not be writable by
  everybody: SQLite opens its files by path, and nothing else keeps another user from replacing a file between the check
  and the opening.
- `GuardedFolder.open`: the archive, which is written by descriptor only. Files of the folder's owner are trusted too.
- `GuardedFolder.open_to_read`: either folder, for reading. Files may belong to anyone.

The path of the folder may itself be a link, so that its owner can move the folder. A link that belongs to another user
is followed only if the folder belongs to that user as well.

Not here: who may read the folders (`sidecar/permissions.py`), and what protects the databases in them
(`sidecar/store/database_files.py`).
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
"""The largest size, in bytes, of any file in the index folder that is not a database."""

TEMPORARY = ".tmp"
"""Suffix of a file that is being written."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

Trust = Callable[[int], bool]
"""Whether files that belong to the user with this number may be opened."""


class GuardedFolder:
    """A folder, held open by its descriptor. Close it, or use it in a `with` statement.

    Every `name` that a method takes is the name of something directly in this folder. A name that contains `/`, or is
    empty, `.` or `..`, raises UnsafePath.
    """

    def __init__(self, path: Path, fd: int, trusts: Trust) -> None:
        self.path = path
        self.fd = fd
        self._trusts = trusts

    # ---- opening

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder by its path. Files in it may belong to the folder's owner, to this user, or to root.

        Raises ForeignFile if the path is a link that must not be followed, and OSError if there is no directory.
        """
        folder = cls.open_to_read(path)
        trusted = (0, os.geteuid(), os.fstat(folder.fd).st_uid)
        folder._trusts = trusted.__contains__
        return folder

    @classmethod
    def open_own(cls, path: Path, *, create: bool = False) -> Self:
        """Open a folder that belongs to this user or to root. Files in it may belong to these two only.

        If the folder belongs to this user, write permission for group and others is removed. Raises the errors of
        `open`, and ConfigError if the folder belongs to another user or everybody can write to it.
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
            raise ConfigError(f"everybody can write to the index folder {self.path}", hint=f"chmod o-w {self.path}")

    def __reduce__(self) -> tuple[Callable[..., GuardedFolder], tuple[Path, int, int]]:
        """Pickled for another process, which opens the path again and refuses the folder if it has been replaced."""
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

    # ---- reading

    def is_replaced(self) -> bool:
        """Whether the path now leads to another folder, directly or through a link."""
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
        """The names in the folder, sorted, each with whether it is the name of a folder."""
        return sorted(_entries(self.fd))

    def status(self, name: str) -> os.stat_result | None:
        """The status of the file or folder with this name, or of a link itself; None if there is nothing."""
        try:
            return self.status_of(name)
        except FileNotFoundError:
            return None

    def status_of(self, name: str) -> os.stat_result:
        """Like `status`, but raises FileNotFoundError if there is nothing."""
        return os.stat(_plain(name), dir_fd=self.fd, follow_symlinks=False)

    def open_file(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Open an existing file and return its descriptor, which the caller closes.

        Raises the errors of `check_file`, and OSError if the file does not exist or cannot be opened.
        """
        in_place = bool(flags & (os.O_WRONLY | os.O_RDWR))
        # Checked before as well as after it is opened: opening a pipe or a device may have effects of its own.
        self.check_file(name, self.status_of(name), in_place=in_place)
        try:
            fd = os.open(name, flags | _FILE, dir_fd=self.fd)
        except OSError as error:
            # Opened by its name in this folder, so the error knows only that.
            error.filename = os.fspath(self.path / name)
            raise
        try:
            self.check_file(name, os.fstat(fd), in_place=in_place)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def check_file(self, name: str, status: os.stat_result, *, in_place: bool = False) -> None:
        """Raise ForeignFile unless `status` is that of a regular file of a trusted owner. With `in_place` the file must
        have no second name either, because whatever is written to it would appear under that name too."""
        if not stat.S_ISREG(status.st_mode):
            raise ForeignFile(f"{self.path / name} is {kind_of(status)}, not a file of the sidecar")
        if not self._trusts(status.st_uid):
            raise ForeignFile(f"{self.path / name} belongs to user {status.st_uid}")
        if in_place and status.st_nlink > 1:
            raise ForeignFile(f"{self.path / name} has a second name elsewhere")

    def read(self, name: str, limit: int = MAX_SMALL_FILE) -> bytes:
        """The content of a file. Raises the errors of `open_file`, and ForeignFile if it exceeds `limit` bytes."""
        fd = self.open_file(name)
        with open(fd, "rb", buffering=0) as file:
            if os.fstat(fd).st_size > limit:
                raise ForeignFile(f"{self.path / name} has more than {limit} bytes")
            return file.read(limit)

    # ---- changing

    def folder(self, name: str, *, create: bool = False) -> GuardedFolder:
        """Open a folder in this one, which the caller closes; with `create`, it is created if it does not exist.

        Raises ForeignFile if it is not a folder or its owner is not trusted, and OSError.
        """
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
        """A folder some levels below this one, open during a `with` statement. `names` leads to it, outermost first.
        Raises the errors of `folder`."""
        with ExitStack() as opened:
            folder: GuardedFolder = self
            for name in names:
                folder = opened.enter_context(folder.folder(name, create=create))
            yield folder

    def create(self, name: str, mode: int = 0o666) -> int:
        """Create a file and return its descriptor, which the caller closes. The umask applies to `mode`. Raises
        FileExistsError if the name is taken, and OSError."""
        return os.open(_plain(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, mode, dir_fd=self.fd)

    def write(self, name: str, content: bytes, *, durable: bool = False) -> None:
        """Replace the content of a file, or create it, in one step. With `durable`, the content is synced before that;
        the name is not: see `sync`. Raises OSError.

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
        """Create a second name in this folder for the file `source` of the folder with the descriptor `source_fd`.
        Raises OSError."""
        os.link(source, _plain(name), src_dir_fd=source_fd, dst_dir_fd=self.fd, follow_symlinks=False)

    def rename(self, name: str, new: str, into: GuardedFolder | None = None) -> None:
        """Rename a file or folder, or move it to the folder `into`. A file that has the new name is replaced. Raises
        OSError."""
        os.rename(_plain(name), _plain(new), src_dir_fd=self.fd, dst_dir_fd=(into or self).fd)

    def delete(self, name: str) -> bool:
        """Delete a file, a folder with its content, or a link (never its target). Returns whether there was anything
        to delete. Raises OSError."""
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
        """Delete a folder if it is empty. Errors are ignored."""
        with suppress(OSError):
            os.rmdir(_plain(name), dir_fd=self.fd)

    def _delete_folder(self, name: str) -> None:
        """Delete a folder with its content.

        The folders may be nested more deeply than the limits on descriptors and on the stack allow. So those two levels
        down are moved up one level, again and again. After a kill they are still in the folder, for the next attempt.
        """
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
        """Like `delete`, but errors are ignored, so that some of a folder's content may remain."""
        with suppress(OSError):
            self.delete(name)

    def sync(self) -> None:
        """Make the names in this folder durable. Raises OSError."""
        os.fsync(self.fd)

    def sync_file(self, name: str) -> None:
        """Make the content of a file durable that was written through another descriptor, for example by SQLite.

        Not for a database that this process has open: closing the file here would drop SQLite's locks on it. Raises the
        errors of `open_file`.
        """
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

    Links are followed if they lead to a folder below the root. A link that is put in place during the call changes
    nothing: the folder that was checked is the one that is open. Raises UnsafePath if the folder is not below the root,
    and OSError.
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
    """What a file is, in words, for messages: `a link`, `a pipe`."""
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
    """The name, if it leads to no other folder. Raises UnsafePath."""
    if name in ("", ".", "..") or "/" in name:
        raise UnsafePath(f"{name!r} leaves its folder")
    return name


def _entries(fd: int) -> list[tuple[str, bool]]:
    with os.scandir(fd) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _delete_files(fd: int) -> list[str]:
    """Delete everything in an open folder except its folders, and return their names."""
    found = _entries(fd)
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=fd)
    return [name for name, is_folder in found if is_folder]
