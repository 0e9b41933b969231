"""The archive folder, read: any bytes of what an archive file holds, for the price of one frame.

    archive.json                          whose archive this is
    sessions/<day>/<stem>.jsonl.zst       one log
    events/events_<day>.tar.zst           a folder of a day

Which folder that is, an index may say, but it is not trusted with it: it may come from somebody else's hands. A reader
takes the folder that it was given, else the one beside the root; a folder that the index names counts only where
`archive.json` in it says that it is the archive of this very root, and that file only `sidecar archive` writes.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

import orjson

from sidecar.errors import ArchiveDamaged, ArchiveMissing, SourceError
from sidecar.paths import under

from .archive_format import Member, read_note
from .tail import NotAFile, identity, opened

if TYPE_CHECKING:
    from pyzstd import SeekableZstdFile

NAME = "archive"
"""Of the folder beside the root."""

MARKER = "archive.json"
KINDS = ("sessions", "events")
SUFFIX = ".zst"

OPEN_FILES = 8
"""Archive files that are kept open, with their seek tables."""

_CHUNK = 1 << 20


class _Opened(NamedTuple):
    identity: tuple[int, int]
    packed: SeekableZstdFile
    raw: BinaryIO

    def close(self) -> None:
        self.packed.close()
        self.raw.close()


class Archive:
    """The archive files below a folder. To be used by one thread at a time; close it, or use it in a `with`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: OrderedDict[str, _Opened] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened. The archive can be used again afterwards."""
        while self._open:
            self._open.popitem()[1].close()

    def read(self, file: str, at: int, length: int) -> bytes:
        """Bytes of what an archive file holds, `length` of them unless it ends before.

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
        """Hash of some bytes; None where there are not so many. Errors as with `read`."""
        hashed = blake2b(digest_size=8)
        while length:
            data = self.read(file, at, min(_CHUNK, length))
            if not data:
                return None
            hashed.update(data)
            at, length = at + len(data), length - len(data)
        return int.from_bytes(hashed.digest(), "big", signed=True)

    def members(self, file: str) -> list[Member]:
        """What an archive file says that it holds. Errors as with `read`."""
        with self._descriptor(file) as fd, open(fd, "rb", closefd=False) as content:
            return read_note(content, str(self.folder / file))

    def size(self, file: str) -> int:
        """Bytes that an archive file takes on disk. Raises ArchiveMissing."""
        with self._descriptor(file) as fd:
            return os.fstat(fd).st_size

    def files(self) -> list[str]:
        """All archive files, in order of their names. Raises ArchiveMissing where a folder cannot be read."""
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
                if identity(os.stat(under(self.folder, file), follow_symlinks=False)) == known.identity:
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
        while len(self._open) >= OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        self._open[file] = _Opened(identity(status), packed, raw)
        return packed

    @contextmanager
    def _descriptor(self, file: str) -> Iterator[int]:
        path = under(self.folder, file)
        try:
            with opened(path) as (fd, _):
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


# ---- whose archive a folder is


def beside(root: Path) -> Path:
    """Where the archive of a root lies, unless it was told otherwise."""
    return root.parent / NAME


def owner(folder: Path) -> Path | None:
    """The root that a folder says to be the archive of; None where it says nothing."""
    try:
        return Path(str(orjson.loads((folder / MARKER).read_bytes())["root"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_of(folder: Path, root: Path) -> bool:
    """Whether a folder says that it is the archive of this root."""
    named = owner(folder)
    if named is None:
        return False
    with suppress(OSError):
        return named.samefile(root)
    return False


def folder_of(root: Path, said: str | None) -> Path:
    """The archive folder of a root whose index says that it is `said`."""
    if said is not None and Path(said).is_absolute() and is_of(Path(said), root):
        return Path(said)
    return beside(root)
