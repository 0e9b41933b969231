"""The archive folder of a root, read. `archive_format.py` has the format of the files.

    archive.json                          the root that this archive belongs to
    sessions/<day>/<stem>.jsonl.zst       one log
    events/events_<day>.tar.zst           a day's folder of event files

An index may name the archive folder, but is not trusted to: it may come from anybody. A reader uses the folder it was
given, else the one beside the root. A folder named by the index counts only if its `archive.json`, which only
`sidecar archive` writes, says that it is the archive of this very root.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

import orjson

from sidecar.errors import ArchiveDamaged, ArchiveMissing, ForeignFile, SourceError, UnsafePath
from sidecar.fs import FileStat, Fingerprint, OpenFiles, to_os
from sidecar.guarded import GuardedFolder, closing_fd
from sidecar.records import Extent

from .archive_format import ArchivedLog, check_table, read_note
from .tail import CHUNK_BYTES, open_regular

if TYPE_CHECKING:
    from pyzstd import SeekableZstdFile

ARCHIVE_FOLDER = "archive"
"""Name of the default archive folder, beside the root."""
OWNER_FILE = "archive.json"
KINDS = ("sessions", "events")
SUFFIX = ".zst"
MAX_OPEN_ARCHIVES = 8
"""Archive files kept open, with their seek tables."""
MAX_FOLDERS = 4
"""Most folders on the way to an archive file: two are made, `sessions/<day>`."""
MAX_OWNER_BYTES = 64 << 10
"""Most bytes of `archive.json`."""
_CHUNK = 1 << 20


class _OpenArchive(NamedTuple):
    identity: tuple[int, int]
    packed: SeekableZstdFile
    raw: BinaryIO

    def close(self) -> None:
        self.packed.close()
        self.raw.close()


class Archive:
    """The archive files below a folder. For one thread at a time; close it, or use it in a `with`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: OpenFiles[str, _OpenArchive] = OpenFiles(MAX_OPEN_ARCHIVES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all open files. The archive can be used again afterwards."""
        self._open.close()

    def read(self, file: str, at: int, length: int) -> bytes:
        """`length` bytes of an archive file's content from `at` on; fewer where it ends before.

        Raises ArchiveMissing, ArchiveDamaged, UnsafePath, SourceError.
        """
        packed = self._opened(file)
        with _damage_named(self.folder / file):
            packed.seek(at)
            pieces = []
            while length and (piece := packed.read(length)):
                pieces.append(piece)
                length -= len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def sign(self, file: str, at: int, length: int) -> int | None:
        """Digest of `length` bytes of the content; None where there are fewer. Raises the errors of `read`."""
        hashed = Fingerprint()
        while length:
            data = self.read(file, at, min(_CHUNK, length))
            if not data:
                return None
            hashed.update(data)
            at, length = at + len(data), length - len(data)
        return hashed.value()

    def members(self, file: str) -> list[ArchivedLog]:
        """The logs that an archive file's note lists. Raises the errors of `read`."""
        with self._descriptor(file) as fd, open(fd, "rb", closefd=False) as content:
            return read_note(content, str(self.folder / file))

    def size(self, file: str) -> int:
        """Size of an archive file on disk, in bytes. Raises ArchiveMissing."""
        with self._descriptor(file) as fd:
            return os.fstat(fd).st_size

    def has(self, file: str) -> bool:
        """Whether anything has the name of an archive file. Raises ForeignFile, UnsafePath, OSError."""
        with suppress(FileNotFoundError), self._place(file) as (folder, name):
            return folder.status(name) is not None
        return False

    def files(self, suffix: str = SUFFIX) -> list[str]:
        """All archive files, sorted by name. Raises ArchiveMissing where a folder cannot be read."""
        found: list[str] = []
        try:
            with GuardedFolder.open_to_read(self.folder) as top:
                for kind in KINDS:
                    with suppress(FileNotFoundError), top.folder(kind) as folder:
                        found += [f"{kind}/{name}" for name in _names_below(folder, suffix, MAX_FOLDERS - 1)]
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ArchiveMissing(f"{self.folder}: {error.strerror}") from error
        except ForeignFile as error:
            raise ArchiveMissing(str(error), hint=error.hint) from error
        return sorted(found)

    def _opened(self, file: str) -> SeekableZstdFile:
        known = self._open.current(file, lambda one: self._is_current(file, one))
        if known is not None:
            return known.packed
        with self._descriptor(file) as fd:
            status = os.fstat(fd)
            raw = os.fdopen(os.dup(fd), "rb")
        try:
            from pyzstd import SeekableZstdFile

            with _damage_named(self.folder / file):
                check_table(raw)
                packed = SeekableZstdFile(raw, "rb")
        except BaseException:
            raw.close()
            raise
        self._open.add(file, _OpenArchive(FileStat.of(status).identity, packed, raw))
        return packed

    def _is_current(self, file: str, known: _OpenArchive) -> bool:
        """Whether the file that is open still has its name."""
        with suppress(OSError, ForeignFile), self._place(file) as (folder, name):
            return FileStat.of(folder.status_of(name)).identity == known.identity
        return False

    @contextmanager
    def _descriptor(self, file: str) -> Iterator[int]:
        path = self.folder / file
        try:
            with self._place(file) as (folder, name), closing_fd(folder.open_file(name)) as fd:
                yield fd
        except (FileNotFoundError, NotADirectoryError):
            raise ArchiveMissing(f"the archive {path} is gone") from None
        except ForeignFile as error:
            raise ArchiveDamaged(str(error), hint=error.hint) from error
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}", hint="check the permissions of the archive") from error

    @contextmanager
    def _place(self, file: str) -> Iterator[tuple[GuardedFolder, str]]:
        *folders, name = place_of(file)
        with GuardedFolder.open_to_read(self.folder) as top, top.below(folders) as folder:
            yield folder, name


def place_of(file: str) -> list[str]:
    """The names on the way from the archive folder to an archive file. Raises UnsafePath where it cannot lie there.

    An index that names it may come from anybody.
    """
    names = to_os(file).split("/")
    if len(names) > 1 + MAX_FOLDERS or any(name in ("", ".", "..") or "\0" in name for name in names):
        raise UnsafePath(f"{file!r} leaves the archive folder")
    return names


def _names_below(folder: GuardedFolder, suffix: str, depth: int) -> Iterator[str]:
    for name, is_folder in folder.entries():
        if is_folder and depth:
            with suppress(FileNotFoundError), folder.folder(name) as below:
                yield from (f"{name}/{one}" for one in _names_below(below, suffix, depth - 1))
        elif name.endswith(suffix):
            yield name


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    from pyzstd import SeekableFormatError, ZstdError

    try:
        yield
    except (SeekableFormatError, ZstdError, EOFError, ValueError) as error:
        raise ArchiveDamaged(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}", hint="check the disk") from error


# ---- the root that an archive folder belongs to


def beside(root: Path) -> Path:
    """The default archive folder of a root."""
    return root.parent / ARCHIVE_FOLDER


def owner_of(folder: Path) -> Path | None:
    """The root that a folder says it is the archive of; None where it does not say."""
    try:
        with GuardedFolder.open_to_read(folder) as opened:
            root = str(orjson.loads(opened.read(OWNER_FILE, MAX_OWNER_BYTES))["root"])
    except (OSError, ForeignFile, ValueError, KeyError, TypeError):
        return None
    return None if "\0" in root else Path(root)


def is_of(folder: Path, root: Path) -> bool:
    """Whether a folder says that it is the archive of this root."""
    named = owner_of(folder)
    if named is None:
        return False
    with suppress(OSError):
        return named.samefile(root)
    return False


def folder_of(root: Path, named: str | None) -> Path:
    """The archive folder of a root; `named` is the one that its index names."""
    if named is not None and Path(named).is_absolute() and is_of(Path(named), root):
        return Path(named)
    return beside(root)


# ---- a log file beside its archived extents


def begins_with(file: Path, extent: Extent) -> bool:
    """Whether a file begins with the bytes of an archived extent. Raises OSError, NotAFile."""
    with open_regular(file) as (fd, status):
        if status.st_size < extent.size:
            return False
        hashed = Fingerprint()
        position = 0
        while position < extent.size:
            data = os.pread(fd, min(CHUNK_BYTES, extent.size - position), position)
            if not data:
                return False
            hashed.update(data)
            position += len(data)
        return hashed.value() == extent.sign


def still_archived(file: Path, extents: tuple[Extent, ...]) -> tuple[Extent, ...]:
    """The extents that count beside a log file: all but the last where the file begins with that one."""
    return extents[:-1] if extents and begins_with(file, extents[-1]) else extents
