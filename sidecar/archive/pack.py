"""One archive file: written, made durable, compared with its logs byte for byte, and only then renamed into place.

A log that no longer looks as it did when it was chosen, or that reads differently a second time, is left out. A kill
leaves a file whose name ends in `.part`, which the next run overwrites, or the complete archive; the logs are there in
both cases. An existing file is never overwritten: the archive gets the next free name, unless an earlier run made it
for these very logs and was killed before the catalog knew.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sidecar.config.settings import Settings
from sidecar.errors import ArchiveDamaged, ArchiveMissing, SidecarError, SourceError
from sidecar.fs import FileStat, Fingerprint, resolve_under, to_os
from sidecar.logs.archive_file import Archive, place_of
from sidecar.logs.archive_format import COMPRESSION_LEVEL, FRAME_BYTES, ArchivedLog, frames, write
from sidecar.logs.tail import CHUNK_BYTES, open_regular
from sidecar.records import Extent, Move, archived_size

from .folder import UNFINISHED, folder_for
from .plan import Candidate, SkippedLog, Target, safe_name

CHANGED_MEANWHILE = "it changed while it was archived"
_BLOCK = 512


class PackedArchive(NamedTuple):
    """An archive file that is whole, and what may move there once the file's name is durable (`make_durable`)."""

    file: str
    size: int
    """On disk."""
    moves: list[Move]
    left_out: list[SkippedLog]


class LogChanged(SourceError):
    """A log changed while it was archived."""


def pack_archive(archive: Archive, root: Path, target: Target, done: Callable[[int], None]) -> PackedArchive:
    """Make an archive file of some logs; `done` is told of bytes. Raises OSError where it cannot be written, and then
    nothing of it stays."""
    left_out: list[SkippedLog] = []
    logs = list(target.logs)
    damaged: set[str] = set()
    while True:
        members, logs = _members(root, target, logs, left_out)
        if not members:
            return PackedArchive("", 0, [], left_out)
        file, is_there = _free_name(archive, target, members, damaged)
        try:
            if not is_there:
                with _unfinished(archive, file) as part:
                    write(part, members, _told(_content(root, target, logs, members), done))
                    _compare(archive, root, file + UNFINISHED, members)
                    _look_again(root, logs)
            else:
                _compare(archive, root, file, members)
                _look_again(root, logs)
        except LogChanged as error:
            path = str(error)
            left_out.append(SkippedLog(path, CHANGED_MEANWHILE))
            logs = [log for log in logs if log.path != path]
            continue
        except ArchiveDamaged:
            if not is_there:
                raise
            damaged.add(file)
            continue
        moves = [
            Move(log.path, log.looks, Extent(file, one.at, one.size, one.lines, one.sign))
            for log, one in zip(logs, members, strict=True)
        ]
        return PackedArchive(file, archive.size(file), moves, left_out)


@contextmanager
def _unfinished(archive: Archive, file: str) -> Iterator[BinaryIO]:
    """A new file to write an archive into, which gets its name at the end of the `with` statement, and is deleted after
    an error."""
    name = place_of(file)[-1]
    with folder_for(archive, file) as folder:
        folder.delete(name + UNFINISHED)
        try:
            with open(folder.create(name + UNFINISHED), "wb") as part:
                yield part
            folder.rename(name + UNFINISHED, name)
        except BaseException:
            with suppress(OSError):
                folder.delete(name + UNFINISHED)
            raise


# ---- what goes in


def _members(
    root: Path, target: Target, logs: list[Candidate], left_out: list[SkippedLog]
) -> tuple[list[ArchivedLog], list[Candidate]]:
    """Read every log once, for its hash; those that are not as they were go out."""
    members: list[ArchivedLog] = []
    good: list[Candidate] = []
    at = 0
    for log in logs:
        hashed = Fingerprint()
        try:
            for chunk in _chunks(root, log):
                hashed.update(chunk)
        except LogChanged:
            left_out.append(SkippedLog(log.path, CHANGED_MEANWHILE))
            continue
        except (OSError, SourceError) as error:
            left_out.append(SkippedLog(log.path, f"cannot be read: {getattr(error, 'strerror', None) or error}"))
            continue
        at += len(_header(log)) if target.is_tar else 0
        sign = hashed.value()
        members.append(ArchivedLog(log.path, archived_size(log.parts), at, log.size, log.lines, sign, log.first_mtime))
        good.append(log)
        at += log.size + (-log.size % _BLOCK if target.is_tar else 0)
    return members, good


def _chunks(root: Path, log: Candidate) -> Iterator[bytes]:
    """The bytes of a log's file, which is and stays the one that was chosen. Raises Changed, named after its path."""
    with open_regular(resolve_under(root, log.path)) as (fd, status):
        if FileStat.of(status) != log.looks:
            raise LogChanged(log.path)
        position = 0
        while data := os.pread(fd, min(CHUNK_BYTES, log.size - position), position):
            position += len(data)
            yield data
        if position != log.size:
            raise LogChanged(log.path)


def _content(root: Path, target: Target, logs: list[Candidate], members: list[ArchivedLog]) -> Iterator[bytes]:
    """The content of the archive, in frames."""
    if not target.is_tar:
        yield from frames(_same(root, logs[0], members[0]))
        return
    held: list[bytes] = []
    size = 0
    for log, member in zip(logs, members, strict=True):
        header = _header(log)
        if size and size + len(header) + log.size > FRAME_BYTES:  # so that a small file lies in one frame
            yield b"".join(held)
            held, size = [], 0
        held.append(header)
        size += len(header)
        if log.size > FRAME_BYTES:
            yield b"".join(held)
            held, size = [], 0
            yield from frames(_same(root, log, member))
        else:
            held += _same(root, log, member)
            size += log.size
        held.append(bytes(-log.size % _BLOCK))
        size += -log.size % _BLOCK
    held.append(bytes(2 * _BLOCK))
    yield b"".join(held)


def _same(root: Path, log: Candidate, member: ArchivedLog) -> Iterator[bytes]:
    """The bytes of a log once more, which have to be those that were hashed."""
    hashed = Fingerprint()
    for chunk in _chunks(root, log):
        hashed.update(chunk)
        yield chunk
    if hashed.value() != member.sign:
        raise LogChanged(log.path)


def _header(log: Candidate) -> bytes:
    """What stands before a log in a tar."""
    info = tarfile.TarInfo(to_os(log.path))
    info.size = log.size
    info.mtime = log.looks[3] // 1_000_000_000
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _told(pieces: Iterator[bytes], done: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        done(len(piece))


# ---- what came of it


def _compare(archive: Archive, root: Path, file: str, members: list[ArchivedLog]) -> None:
    """Unpack what was written and compare it with the logs. Raises ArchiveDamaged, Changed."""
    for member in members:
        at = member.at
        with open_regular(resolve_under(root, member.path)) as (fd, _):
            while at - member.at < member.size:
                position = at - member.at
                data = archive.read(file, at, min(CHUNK_BYTES, member.size - position))
                if not data or data != os.pread(fd, len(data), position):
                    if archive.sign(file, member.at, member.size) == member.sign:
                        raise LogChanged(member.path)
                    path = archive.folder / file
                    raise ArchiveDamaged(f"{path} does not hold the bytes of {member.path}", hint="check the disk")
                at += len(data)
    archive.close()


def _look_again(root: Path, logs: list[Candidate]) -> None:
    for log in logs:
        try:
            status = os.stat(resolve_under(root, log.path), follow_symlinks=False)
        except OSError:
            raise LogChanged(log.path) from None
        if FileStat.of(status) != log.looks:
            raise LogChanged(log.path)


def _free_name(archive: Archive, target: Target, members: list[ArchivedLog], damaged: set[str]) -> tuple[str, bool]:
    """The first name that is free, or that has an archive of these very members already, and no damaged one."""
    number = 1 + len(target.logs[0].parts if not target.is_tar else ())
    while number < 10_000:
        file = target.file(number)
        if not archive.has(file):
            return file, False
        with suppress(ArchiveDamaged, ArchiveMissing):
            there = archive.members(file)
            if there == members and file not in damaged:
                return file, True
            if not target.is_tar and there[0].path != members[0].path and not target.name.startswith("~"):
                # Another log of this name, from another folder.
                target = Target(
                    target.folder, f"{target.name}{safe_name('', members[0].path)}", target.suffix, target.logs
                )
                continue
        number += 1
    raise SidecarError(f"{archive.folder / target.file()}: no name is free", hint="look what has filled this folder")


# ---- estimate

SAMPLE_BYTES = 1 << 20
"""Bytes of an archive that are packed to tell beforehand how large it will be."""


def estimate_size(settings: Settings, target: Target) -> int:
    """About how many bytes an archive will take, by packing the beginning of what goes in."""
    from pyzstd import compress

    taken = packed = 0
    for log in target.logs:
        if taken >= SAMPLE_BYTES:
            break
        with suppress(OSError, SourceError):
            taken_of_it, packed_of_it = _sampled(resolve_under(settings.root, log.path), log, compress)
            taken, packed = taken + taken_of_it, packed + packed_of_it
    return int(target.bytes * packed / taken) if taken else 0


def _sampled(file: Path, log: Candidate, compress: Callable[[bytes, int], bytes]) -> tuple[int, int]:
    with open_regular(file) as (fd, _):
        data = os.pread(fd, min(CHUNK_BYTES, log.size), 0)
    return len(data), len(compress(data, COMPRESSION_LEVEL))
