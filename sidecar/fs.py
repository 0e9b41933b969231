"""What the package needs from a file system: file names, status, fingerprints, durability, and kernel locks.

File names are kept relative to the root, with `/`, and always as text: their bytes, read as UTF-8, whatever the locale
says. A name that is not UTF-8 cannot be an SQLite text, so it is kept as `bytes://` and the percent-encoded bytes. No
relative path that a scan finds looks like that, because none contains `//`.
"""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

from sidecar.errors import UnsafePath

_ENCODED = "bytes://"
_NO_NAMES = frozenset(("", ".", ".."))


_HAS_UTF8_NAMES = sys.getfilesystemencoding() == "utf-8"
"""Whether Python returns file names as UTF-8 text. In a few locales it does not."""


def as_utf8(path: str) -> str:
    """A path of the operating system, with its bytes read as UTF-8, for comparison with globs and formats. Bytes that
    are not UTF-8 become lone surrogates."""
    return path if _HAS_UTF8_NAMES else os.fsencode(path).decode("utf-8", "surrogateescape")


def to_text(path: str) -> str:
    """A relative path of the operating system, as the text that the index keeps."""
    return utf8_to_text(as_utf8(path))


def utf8_to_text(path: str) -> str:
    """Like `to_text`, for what `as_utf8` returns."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return _ENCODED + quote_from_bytes(path.encode("utf-8", "surrogateescape"))
    return path


def to_os(text: str) -> str:
    """The relative path of the operating system for a text of the index."""
    if text.startswith(_ENCODED):
        return os.fsdecode(unquote_to_bytes(text.removeprefix(_ENCODED)))
    return text if _HAS_UTF8_NAMES else os.fsdecode(text.encode("utf-8", "surrogateescape"))


def is_relative_path(text: str) -> bool:
    """Whether a text of an index or of a request can be a path below a folder, as `to_text` writes it: one that leads
    nowhere else, at least not without a link. Only such a path is ever handed to the operating system."""
    try:
        relative = to_os(text)
        is_plain = _NO_NAMES.isdisjoint(relative.split("/")) and "\0" not in relative
        return is_plain and to_text(relative) == text
    except UnicodeError:
        return False


def path_under(root: Path, text: str) -> Path:
    """The file with this path below the root. Unlike `resolve_under`, it does not look at links on the way there, so
    it is for asking whether there is a file, not for opening it. Raises UnsafePath (`is_relative_path`)."""
    if not is_relative_path(text):
        raise UnsafePath(f"{text!r} leaves {root}")
    return root / to_os(text)


def resolve_under(root: Path, text: str) -> Path:
    """The file that `text`, a path in the index, points to. Raises UnsafePath if it is outside the root.

    Paths in an index are never trusted: anyone may have made it.
    """
    return Path(_under(os.fspath(root), text, _is_inside))


def resolve_found(root: str, text: str) -> str:
    """Like `resolve_under`, but fast, for paths that come from a scan: the answer for a folder is cached while the
    folder is the same one."""
    return _under(root, text, _is_inside_as_before)


def _under(root: str, text: str, is_inside: Callable[[str, str], bool]) -> str:
    if not is_relative_path(text):
        raise UnsafePath(f"{text!r} leaves {root}")
    parts = to_os(text).split("/")
    folder = "/".join((root, *parts[:-1]))
    if not is_inside(root, folder):
        raise UnsafePath(f"{text!r} leaves {root} through a link")
    return f"{folder}/{parts[-1]}"


def _is_inside(root: str, folder: str) -> bool:
    """Whether a folder is below the root after all links are resolved."""
    # Not Path.resolve, which raises for circular links; opening the file will do that.
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(root))


def _is_inside_as_before(root: str, folder: str) -> bool:
    """Like `_is_inside`, cached by the folder's identity, because resolving links takes a quarter of the time of a
    read."""
    try:
        status = os.stat(folder)
    except OSError:
        return _is_inside(root, folder)
    return _remembered(root, folder, FileStat.of(status).identity)


@lru_cache(maxsize=4096)
def _remembered(root: str, folder: str, identity: tuple[int, int]) -> bool:  # noqa: ARG001
    return _is_inside(root, folder)


def split_path(path: str) -> tuple[str, str, str]:
    """Folder (with its last `/`), stem, and suffix (with its dot). Joined, they are the path again."""
    folder, slash, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return (folder + slash, stem, dot + suffix) if stem else (folder + slash, name, "")


# ---- a file's status

_MAX_INTEGER = (1 << 63) - 1


class FileStat(NamedTuple):
    """The part of a file's status that changes when another file takes its place, or when it is written to.

    All four are signed 64-bit integers, which is what SQLite stores. Device and inode may use all 64 bits, so their
    first bit is dropped. A time before 1677 or after 2262 becomes the first or the last nanosecond that fits.
    """

    device: int
    inode: int
    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, in nanoseconds since 1970."""

    @classmethod
    def of(cls, status: os.stat_result) -> FileStat:
        """From what `os.stat` returns."""
        mtime_ns = status.st_mtime_ns
        if not -_MAX_INTEGER <= mtime_ns <= _MAX_INTEGER:
            mtime_ns = _MAX_INTEGER if mtime_ns > 0 else -_MAX_INTEGER
        return cls(status.st_dev & _MAX_INTEGER, status.st_ino & _MAX_INTEGER, status.st_size, mtime_ns)

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode: which file it is, whatever its content."""
        return self[:2]


def file_stat(path: str | Path) -> FileStat | None:
    """The status of a file, or of a link itself; None if it does not exist. Raises OSError if that is not known."""
    try:
        return FileStat.of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def try_file_stat(path: str | Path) -> FileStat | None:
    """Like `file_stat`, but None for every error. For readers that open the file next and report the error then."""
    try:
        return FileStat.of(os.lstat(path))
    except OSError:
        return None


# ---- files kept open


class _Closable(Protocol):
    def close(self) -> object: ...


K = TypeVar("K")
V = TypeVar("V", bound=_Closable)


class OpenFiles(Generic[K, V]):
    """At most `limit` open files by name. The least recently used one is closed to make room."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: OrderedDict[K, V] = OrderedDict()

    def current(self, name: K, is_current: Callable[[V], bool]) -> V | None:
        """The open file with this name; None if there is none. A file that is no longer current is closed first."""
        file = self._open.get(name)
        if file is None:
            return None
        if is_current(file):
            self._open.move_to_end(name)
            return file
        del self._open[name]
        file.close()
        return None

    def add(self, name: K, file: V) -> V:
        """Keep a file open, and return it."""
        while len(self._open) >= self._limit:
            self._open.popitem(last=False)[1].close()
        self._open[name] = file
        return file

    def close(self) -> None:
        """Close all files. More may be added afterwards."""
        while self._open:
            self._open.popitem()[1].close()


# ---- fingerprints


def fingerprint(data: bytes) -> int:
    """A 64-bit BLAKE2b hash, as a signed integer, which is what SQLite stores."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big", signed=True)


class Fingerprint:
    """The fingerprint of bytes that come in pieces."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=8)

    def update(self, data: bytes) -> None:
        """Add the next piece."""
        self._hash.update(data)

    def value(self) -> int:
        """What `fingerprint` returns for all pieces together."""
        return int.from_bytes(self._hash.digest(), "big", signed=True)


# ---- locks


class KernelLock(NamedTuple):
    """A lock that a process holds on a file."""

    kind: str
    """`FLOCK` on the whole file, `POSIX` on a range of bytes."""
    pid: int
    first: int
    last: int
    """The first and the last byte of the range."""


def kernel_locks(path: Path) -> list[KernelLock]:
    """The locks on a file, as Linux lists them in `/proc/locks`. The file is not opened.

    Empty if nobody holds a lock, if there is no such file, and on other systems.
    """
    try:
        status = os.lstat(path)
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    found = []
    for line in lines:
        # 5: POSIX  ADVISORY  READ 2115 fe:00:2205377 124 EOF
        match line.split():
            # The line of a process that waits for a lock does not match, because it has `->` before the kind.
            case [_, kind, _, _, pid, of, first, last] if of == file:
                found.append(KernelLock(kind, int(pid), int(first), int(last) if last != "EOF" else _MAX_INTEGER))
    return found


# ---- durability


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


MTIME_GRANULARITY = 100_000_000
"""In nanoseconds. Two changes to a file or folder that are closer together may leave the same modification time."""


# ---- file systems

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "afs", "virtiofs"}
"""File systems that other machines may write to, which inotify does not report."""

POLLING_CONFIGURED = "set in the configuration"
"""The reason for polling if the configuration says so."""


def why_polling(root: Path) -> str:
    """Why inotify cannot be used below this folder; empty if it can."""
    if sys.platform != "linux":
        return ""
    kind = file_system(root)
    return f"{kind} is a network file system" if kind in _NETWORK else ""


def file_system(path: Path) -> str:
    """The type of the file system that a path is on, as Linux names it (`ext4`, `nfs4`); empty if it is not known."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real = str(path.resolve())
    best, kind = "", ""
    for line in mounts:
        _, point, type_, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
            best, kind = point, type_
    return kind
