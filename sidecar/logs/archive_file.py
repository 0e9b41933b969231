"""Read the archive folder of a root. The format of the files in it is in `archive_format.py`.

    archive.json                          the root that this archive belongs to
    sessions/<day>/<stem>.jsonl.zst       one log
    events/events_<day>.tar.zst           a day's folder of event files

A reader uses the archive folder that it is given, and otherwise the one beside the root. An index may name another
folder, but it may come from anybody, so that folder is used only if its `archive.json`, which only `sidecar archive`
writes, says that it is the archive of this very root.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

import orjson

from sidecar.errors import ArchiveDamaged, ArchiveMissing, ForeignFile, SourceError, UnsafePath
from sidecar.fs import FileStat, Fingerprint, OpenFiles, is_relative_path, to_os
from sidecar.guarded import GuardedFolder, closing_fd
from sidecar.records import Extent

from .archive_format import ArchivedLog, check_table, read_note
from .tail import CHUNK_BYTES, open_regular

if TYPE_CHECKING:
    from pyzstd import SeekableZstdFile

ARCHIVE_FOLDER = "archive"
"""The name of the default archive folder, beside the root."""
OWNER_FILE = "archive.json"
KINDS = ("sessions", "events")
SUFFIX = ".zst"
MAX_OPEN_ARCHIVES = 8
"""How many archive files are kept open, with their seek tables."""
MAX_FOLDERS = 4
"""How many folders may lie between the archive folder and a file in it. The sidecar makes two: `sessions/<day>`."""
MAX_OWNER_BYTES = 64 << 10
"""The largest size of `archive.json`, in bytes."""
_CHUNK = 1 << 20


class _OpenArchive(NamedTuple):
    identity: tuple[int, int]
    packed: SeekableZstdFile
    raw: BinaryIO

    def close(self) -> None:
        self.packed.close()
        self.raw.close()


class Archive:
    """The archive files below a folder. For one thread at a time. Close it, or use it in a `with` statement."""

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
        """`length` bytes of an archive file's content from byte `at` on, or fewer if the content ends before that.

        Raises ArchiveMissing, ArchiveDamaged, UnsafePath, and SourceError if the file cannot be read.
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
        """The fingerprint of `length` bytes of the content from byte `at` on; None if there are fewer. Raises the
        errors of `read`."""
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
        """The size of an archive file on disk, in bytes. Raises the errors of `read`."""
        with self._descriptor(file) as fd:
            return os.fstat(fd).st_size

    def has(self, file: str) -> bool:
        """Whether there is anything with the name of an archive file. Raises ForeignFile, UnsafePath and OSError."""
        with suppress(FileNotFoundError), self._place(file) as (folder, name):
            return folder.status(name) is not None
        return False

    def files(self, suffix: str = SUFFIX) -> list[str]:
        """The names of all archive files, relative to the folder and sorted. Raises ArchiveMissing if a folder cannot
        be read."""
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
        """Whether the file at this name is still the one that is open."""
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
    """The names of the folders on the way to an archive file, and its own. Raises UnsafePath if `file` cannot be the
    name of a file in the archive folder: the index that contains it may come from anybody."""
    names = to_os(file).split("/")
    if len(names) > 1 + MAX_FOLDERS or not is_relative_path(file):
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
    """The root whose archive a folder says it is; None if it does not say."""
    try:
        with GuardedFolder.open_to_read(folder) as opened:
            root = str(orjson.loads(opened.read(OWNER_FILE, MAX_OWNER_BYTES))["root"])
    except (OSError, ForeignFile, ValueError, KeyError, TypeError):
        return None
    return None if "\0" in root else Path(root)


def is_of(folder: Path, root: Path) -> bool:
    """Whether a folder says that it is this root's archive."""
    named = owner_of(folder)
    if named is None:
        return False
    with suppress(OSError):
        return named.samefile(root)
    return False


def folder_of(root: Path, named: str | None) -> Path:
    """The archive folder of a root. `named` is the one that its index names, if any."""
    if named is not None and Path(named).is_absolute() and is_of(Path(named), root):
        return Path(named)
    return beside(root)


# ---- a log file beside its archived extents


def begins_with(file: Path, extent: Extent) -> bool:
    """Whether a file begins with the bytes of an archived extent. Raises OSError and NotAFile."""
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
    """The extents that count beside a log file: all of them, or all but the last if the file still begins with that.
    Raises OSError and NotAFile."""
    return extents[:-1] if extents and begins_with(file, extents[-1]) else extents
