"""The files of a rotated log: which of them exist, and which have the bytes that were read before.

A log of a source with `rotated` consists of the bytes of its earlier parts, the oldest first, and then those of the
file with its plain name. Rotation renames files, or copies one and truncates it. So a part that was read is looked for
by device and inode first, then by its bytes: the fingerprints of its head and of the bytes before its cursor.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sidecar.config.rotation import numbered_on
from sidecar.config.settings import Settings
from sidecar.errors import SourceError
from sidecar.fs import FileStat, as_utf8, resolve_found, to_os, to_text

from .scanner import PartFile
from .tail import CHUNK_BYTES, NEW, Cursor, is_same, open_regular

MAX_LOOKS = 20
"""The most looks at a folder in which files are being renamed, until two of them agree."""


class Part(NamedTuple):
    """A file with a part of a log, and how far it was read."""

    path: str
    """Relative to the root, as in the index."""
    cursor: Cursor
    """It has the identity of the file as soon as that is known, and the offset 0 while nothing was read."""


class Alignment(NamedTuple):
    """The parts of a log as its files are now. The last one is the file with the plain name."""

    parts: tuple[Part, ...]
    there: frozenset[str]
    """The paths of those parts whose files exist."""
    renamed: dict[str, str]
    """The new paths of parts that were read and then renamed, by old path. All change at once, because the new path of
    one may be the old path of another."""
    is_anew: bool = False
    """Whether the log is to be derived anew from these parts, because what was read of it is gone or comes after
    something new."""
    is_lost: bool = False
    """Whether the bytes that were read last are in none of the files."""


def realign(settings: Settings, log: str, known: Sequence[Part]) -> Alignment | None:
    """Where the parts of a log are now, given those that were read and how far; None if there is no file with its plain
    name. Files may be renamed meanwhile. Raises OSError, SourceError."""
    files = survey(settings, log)
    for _ in range(MAX_LOOKS):
        if files is None:
            return None
        found = _align(settings, known, files)
        again = survey(settings, log)
        if again is not None and list(map(_seen, again)) == list(map(_seen, files)):
            break
        files = again
    return found


def _seen(file: PartFile) -> tuple[str, int, int]:
    return file.path, file.status.st_dev, file.status.st_ino


def survey(settings: Settings, log: str) -> list[PartFile] | None:
    """The files of a log, the oldest part first and the plain name last; None if there is no file with the plain name.
    A copy whose original is not truncated yet does not count. Raises OSError, SourceError."""
    before = None
    for _ in range(MAX_LOOKS):
        found = _listed(settings, to_os(log))
        seen = None if found is None else list(map(_seen, found))
        if seen == before and found is not None:
            break
        before = seen
    if found is None or len(found) < 2:
        return found
    return without_copy(settings.root, found)


def earlier_parts(settings: Settings, log: str) -> list[str]:
    """The paths of the files with earlier parts of a log, copies included, as in the index. Raises OSError."""
    return [file.path for file in _listed(settings, to_os(log)) or []][:-1]


def _listed(settings: Settings, log: str) -> list[PartFile] | None:
    folder = log.rpartition("/")[0]
    before = f"{folder}/" if folder else ""
    with os.scandir(settings.root / folder) as entries:
        search = settings.may_be_part.search
        plain = log.rpartition("/")[2]
        there = {
            before + entry.name: entry
            for entry in entries
            if (entry.name == plain or search(entry.name)) and entry.is_file(follow_symlinks=False)
        }
    if log not in there:
        return None
    # `there` has no plain names of other logs, of which a file may be a part instead.
    names = set(there)
    for path in there:
        names.update(one for one in settings.logs_of_part(path) if os.path.lexists(settings.root / one))
    parts = [path for path in settings.in_order_of_age(log, there) if settings.log_of_part(path, names) == log]
    found = []
    for path in (*parts, log):
        with suppress(FileNotFoundError):
            found.append(PartFile(to_text(path), os.lstat(settings.root / path)))
    return found if found and found[-1].path == to_text(log) else None


def without_copy(root: Path, files: list[PartFile]) -> list[PartFile]:
    """The files of a log, without its newest part if the file with the plain name begins with all its bytes: then it is
    a copy, and the original is about to be truncated."""
    *_, newest, plain = files
    size = newest.status.st_size
    if not 0 < size <= plain.status.st_size or not _begins_with(root, plain.path, newest.path, size):
        return files
    return [*files[:-2], plain]


def _begins_with(root: Path, path: str, other: str, size: int) -> bool:
    """Whether a file begins with the first `size` bytes of another one. False if one of them is gone."""
    with suppress(OSError, SourceError):
        one, two = (resolve_found(os.fspath(root), name) for name in (path, other))
        with open_regular(one) as (first, _), open_regular(two) as (second, _):
            at = 0
            while at < size:
                count = min(CHUNK_BYTES, size - at)
                data = os.pread(first, count, at)
                if len(data) != count or data != os.pread(second, count, at):
                    return False
                at += count
            return True
    return False


def _align(settings: Settings, known: Sequence[Part], files: Sequence[PartFile]) -> Alignment:
    """Where the parts that were read are now, given the files that exist.

    A part that was read and whose file is gone stays, as a missing file does. If another file has its name now, it gets
    the name that it would have after the rotation.
    """
    read = [part for part in known if part.cursor.offset]
    places = _places(settings.root, read, files)
    found = [place for place in places if place is not None]
    if read and places[-1] is None:
        return _anew(files, is_lost=True)
    last = found[-1] if found else -1
    if found != sorted(found) or any(number not in found for number in range(last) if files[number].status.st_size):
        return _anew(files)
    log = files[-1].path
    taken = {file.path for file in files}
    parts: list[Part] = []
    renamed: dict[str, str] = {}
    for (path, cursor), place in zip(read, places, strict=True):
        new: str | None = path
        if place is not None:
            new, cursor = files[place].path, _marked(cursor, files[place])
        elif path in taken:
            new = _next_name(settings, log, path, taken)
        if new is None:
            return _anew(files, is_lost=True)
        taken.add(new)
        if new != path:
            renamed[path] = new
        parts.append(Part(new, cursor))
    parts += [Part(file.path, _marked(NEW, file)) for file in files[last + 1 :]]
    return Alignment(tuple(parts), frozenset(file.path for file in files), renamed)


def _anew(files: Sequence[PartFile], *, is_lost: bool = False) -> Alignment:
    parts = tuple(Part(file.path, _marked(NEW, file)) for file in files)
    return Alignment(parts, frozenset(file.path for file in files), {}, is_anew=True, is_lost=is_lost)


def _marked(cursor: Cursor, file: PartFile) -> Cursor:
    """The cursor with the identity, size and modification time of a file."""
    return Cursor(*FileStat.of(file.status), *cursor[4:])


def _places(root: Path, read: Sequence[Part], files: Sequence[PartFile]) -> list[int | None]:
    """For each part, the number of the file that has its bytes; None if no file has them."""
    places: list[int | None] = []
    free = dict(enumerate(files))
    for part in read:
        same = [number for number, file in free.items() if FileStat.of(file.status).identity == part.cursor[:2]]
        others = [number for number in free if number not in same]
        place = next((number for number in (*same, *others) if _fits(root, files[number], part.cursor)), None)
        places.append(place)
        if place is not None:
            del free[place]
    return places


def has_bytes(settings: Settings, path: str, cursor: Cursor) -> bool:
    """Whether the file at a path has the bytes that were read up to a cursor. Raises OSError, SourceError."""
    with open_regular(resolve_found(os.fspath(settings.root), path)) as (fd, status):
        return status.st_size >= cursor.offset and is_same(fd, cursor)


def _fits(root: Path, file: PartFile, cursor: Cursor) -> bool:
    """Whether a file still is the one that was listed, and has the bytes that were read up to a cursor."""
    if file.status.st_size < cursor.offset:
        return False
    with suppress(FileNotFoundError), open_regular(resolve_found(os.fspath(root), file.path)) as (fd, status):
        return FileStat.of(status).identity == FileStat.of(file.status).identity and is_same(fd, cursor)
    return False


def _next_name(settings: Settings, log: str, path: str, taken: set[str]) -> str | None:
    source = settings.source_for(to_os(log))
    if source is None:
        return None
    folder, slash, name = (as_utf8(piece) for piece in to_os(path).rpartition("/"))
    names = [as_utf8(to_os(one).rpartition("/")[2]) for one in taken]
    new = numbered_on(source.rotated, as_utf8(to_os(log).rpartition("/")[2]), name, names)
    return None if new is None else to_text(to_os(folder + slash + new))
