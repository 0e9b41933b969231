"""Archive files: their format, and reading the archive folder of a root.

An archive file is zstd in the seekable format, preceded by a note that says what it contains:

    note      a skippable frame: the logs, and where in the content each of them is
    frames    the content, in frames of about `FRAME_BYTES` bytes that end at the end of a record
    table     the seek table, as the seekable format defines it

`zstd -dc` skips the note and the table and prints the content alone. The note makes an archive self-contained: a lost
index is rebuilt from logs and archives without unpacking them first. The folder:

    archive.json                          the root that this archive belongs to
    sessions/<day>/<stem>.jsonl.zst       one log
    events/events_<day>.tar.zst           a day's folder of event files

An index may name the archive folder, but is not trusted to: it may come from anybody. A reader uses the folder it was
given, else the one beside the root. A folder named by the index counts only if its `archive.json`, which only
`sidecar archive` writes, says that it is the archive of this very root.
"""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

import orjson

from sidecar.errors import ArchiveDamaged, ArchiveMissing, SourceError
from sidecar.fs import FileStat, Fingerprint, resolve_under, sync_file
from sidecar.records import Extent

from .tail import CHUNK_BYTES, NotAFile, open_regular

if TYPE_CHECKING:
    from pyzstd import SeekableZstdFile

FRAME_BYTES = 128 << 10
"""Bytes of content per frame: what is decompressed to read one record. Half costs 6 % in size, twice saves 4 %."""
COMPRESSION_LEVEL = 6
"""The zstd level. The next ones save a few percent for twice the time or more."""
MAX_FRAME_BYTES = 16 << 20
"""Bytes of one line from which on it is split over frames, so that memory is bounded."""
MAX_NOTE_BYTES = 1 << 30
"""Largest size of a note; a larger one counts as damaged."""
_NOTE = 0x184D2A55
_TABLE = 0x184D2A5E
_SEEKABLE = 0x8F92EAB1
_KIND = b"sidecar1"


class ArchivedLog(NamedTuple):
    """A log, or the next extent of one, within the content of an archive file."""

    path: str
    """Relative to the root, as in the index."""
    start: int
    """Bytes of the log in earlier archives: 0, unless it continued after it was archived."""
    at: int
    """Its offset in the content."""
    size: int
    lines: int
    sign: int
    """Digest of its bytes."""
    first_mtime: float | None
    """The file's modification time when it was first seen: the time of records without one."""


def write(path: Path, members: Sequence[ArchivedLog], pieces: Iterable[bytes]) -> None:
    """Write an archive file, each piece as a frame of its own; durable when this returns. Raises OSError."""
    from pyzstd import CParameter, SeekableZstdFile

    note = _note(members)
    with path.open("wb") as file:
        # A file in the seekable format that holds only the note; the library appends to it.
        file.write(note)
        file.write(struct.pack("<IIIIIBI", _TABLE, 8 + 9, len(note), 0, 1, 0, _SEEKABLE))
    options: dict[int, int] = {CParameter.compressionLevel: COMPRESSION_LEVEL, CParameter.checksumFlag: 1}
    with SeekableZstdFile(path, "ab", level_or_option=options) as packed:
        for piece in pieces:
            packed.write(piece)
            packed.flush(packed.FLUSH_FRAME)
    sync_file(path)


def _note(members: Sequence[ArchivedLog]) -> bytes:
    from pyzstd import compress

    content = _KIND + compress(orjson.dumps(list(map(list, members))))
    return struct.pack("<II", _NOTE, len(content)) + content


def read_note(file: BinaryIO, name: str) -> list[ArchivedLog]:
    """The logs that an archive's note lists. Raises ArchiveDamaged where the note cannot be read."""
    from pyzstd import ZstdError, decompress

    try:
        magic, size = struct.unpack("<II", file.read(8))
        if magic != _NOTE or not len(_KIND) < size <= MAX_NOTE_BYTES:
            raise ValueError("no note")
        content = file.read(size)
        if len(content) != size or not content.startswith(_KIND):
            raise ValueError("no note of ours")
        return [_member(*values) for values in orjson.loads(decompress(content[len(_KIND) :]))]
    except (ValueError, TypeError, struct.error, ZstdError, EOFError) as error:
        raise ArchiveDamaged(f"{name}: not an archive of the sidecar, or its note is damaged") from error


def _member(path: str, start: int, at: int, size: int, lines: int, sign: int, first_mtime: float | None) -> ArchivedLog:
    if not isinstance(path, str) or not all(isinstance(one, int) for one in (start, at, size, lines, sign)):
        raise ValueError("no member")
    if min(start, at, size, lines) < 0 or not (first_mtime is None or isinstance(first_mtime, int | float)):
        raise ValueError("no member")
    return ArchivedLog(path, start, at, size, lines, sign, first_mtime)


def frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Regroup chunks of any size into frames that end at a line end; a line longer than a frame is one by itself."""
    data = b""
    for chunk in chunks:
        data += chunk
        begin = 0
        while len(data) - begin > FRAME_BYTES:
            end = data.rfind(b"\n", begin, begin + FRAME_BYTES) + 1 or data.find(b"\n", begin + FRAME_BYTES) + 1
            if not end and len(data) - begin < MAX_FRAME_BYTES:
                break
            end = end or len(data)
            yield data[begin:end]
            begin = end
        data = data[begin:]
    if data:
        yield data


# ---- the archive of a root

ARCHIVE_FOLDER = "archive"
"""Name of the default archive folder, beside the root."""
OWNER_FILE = "archive.json"
KINDS = ("sessions", "events")
SUFFIX = ".zst"
MAX_OPEN_ARCHIVES = 8
"""Archive files kept open, with their seek tables."""
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
        self._open: OrderedDict[str, _OpenArchive] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all open files. The archive can be used again afterwards."""
        while self._open:
            self._open.popitem()[1].close()

    def read(self, file: str, at: int, length: int) -> bytes:
        """`length` bytes of an archive file's content from `at` on; fewer where it ends before.

        Raises ArchiveMissing, ArchiveDamaged, UnsafePath.
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

    def files(self) -> list[str]:
        """All archive files, sorted by name. Raises ArchiveMissing where a folder cannot be read."""
        found = []
        for kind in KINDS:
            folders = [kind]
            while folders:
                folder = folders.pop()
                try:
                    with os.scandir(self.folder / folder) as entries:
                        for entry in entries:
                            name = f"{folder}/{entry.name}"
                            if entry.is_dir(follow_symlinks=False):
                                folders.append(name)
                            elif name.endswith(SUFFIX):
                                found.append(name)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise ArchiveMissing(f"{self.folder / folder}: {error.strerror}") from error
        return sorted(found)

    def _opened(self, file: str) -> SeekableZstdFile:
        known = self._open.pop(file, None)
        if known is not None:
            with suppress(OSError):
                status = os.stat(resolve_under(self.folder, file), follow_symlinks=False)
                if FileStat.of(status).identity == known.identity:
                    self._open[file] = known
                    return known.packed
            known.close()
        with self._descriptor(file) as fd:
            status = os.fstat(fd)
            raw = os.fdopen(os.dup(fd), "rb")
        try:
            from pyzstd import SeekableZstdFile

            with _damage_named(self.folder / file):
                packed = SeekableZstdFile(raw, "rb")
        except BaseException:
            raw.close()
            raise
        while len(self._open) >= MAX_OPEN_ARCHIVES:
            self._open.popitem(last=False)[1].close()
        self._open[file] = _OpenArchive(FileStat.of(status).identity, packed, raw)
        return packed

    @contextmanager
    def _descriptor(self, file: str) -> Iterator[int]:
        path = resolve_under(self.folder, file)
        try:
            with open_regular(path) as (fd, _):
                yield fd
        except (FileNotFoundError, NotADirectoryError):
            raise ArchiveMissing(f"the archive {path} is gone") from None
        except NotAFile as error:
            raise ArchiveDamaged(str(error)) from error
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}", hint="check the permissions of the archive") from error


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
        return Path(str(orjson.loads((folder / OWNER_FILE).read_bytes())["root"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


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


UNFINISHED = ".part"
"""Suffix of an archive file that is being written."""

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
