"""Make one archive: write it, make it durable, compare it with its logs byte by byte, and only then rename it into
place.

A log that has changed since it was chosen, or that changes while it is read, is left out. A kill leaves a file whose
name ends in `.part`, which the next run deletes, or the complete archive; the logs are still there in both cases. No
file is ever overwritten: an archive gets the next free name, unless an earlier run made it from the same logs and was
killed before it was recorded in the index.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sidecar.config.settings import Settings
from sidecar.errors import ArchiveDamaged, ArchiveMissing, SidecarError, SourceError, UnsafePath
from sidecar.fs import FileStat, Fingerprint, resolve_under, to_os
from sidecar.logs.archive_file import Archive, place_of
from sidecar.logs.archive_format import COMPRESSION_LEVEL, FRAME_BYTES, ArchivedLog, frames, write
from sidecar.logs.tail import CHUNK_BYTES, NotAFile, open_regular
from sidecar.records import Extent, Move, archived_size

from .folder import UNFINISHED, folder_for
from .plan import UNREADABLE, Candidate, SkippedLog, Target, safe_name

CHANGED_MEANWHILE = "it changed while it was archived"
MAX_NUMBER = 10_000
"""How many names are tried for an archive before it fails because all are taken."""
_BLOCK = 512
"""The number of bytes in a block of a tar file, to which headers and contents are padded."""


class PackedArchive(NamedTuple):
    """A complete archive. Its logs may be recorded as archived once its name is durable (`folder.make_durable`)."""

    file: str
    """Relative to the archive folder; "" if all logs were left out, so that no archive was made."""
    size: int
    """In bytes, on disk."""
    moves: list[Move]
    left_out: list[SkippedLog]


class LeftOut(SourceError):
    """A log cannot be archived now."""

    def __init__(self, path: str, why: str = CHANGED_MEANWHILE) -> None:
        super().__init__(f"{path}: {why}")
        self.log = SkippedLog(path, why)


def pack_archive(archive: Archive, root: Path, target: Target, written: Callable[[int], None]) -> PackedArchive:
    """Make the archive of some logs. `written` is called with numbers of bytes of content, as they are written.

    Raises OSError, ForeignFile or ArchiveDamaged if the archive cannot be written or does not contain what was written,
    and SidecarError if no name is free for it. Nothing of it is left then.
    """
    left_out: list[SkippedLog] = []
    logs = list(target.logs)
    damaged: set[str] = set()
    while True:
        members, logs = _members(root, target, logs, left_out)
        if not members:
            return PackedArchive("", 0, [], left_out)
        file, exists = _free_name(archive, target, members, damaged)
        try:
            if not exists:
                with _unfinished(archive, file) as part:
                    write(part, members, _reported(_content(root, target, logs, members), written))
                    _compare(archive, root, file + UNFINISHED, members)
                    _check_unchanged(root, logs)
            else:
                _compare(archive, root, file, members)
                _check_unchanged(root, logs)
        except LeftOut as error:
            left_out.append(error.log)
            logs = [log for log in logs if log.path != error.log.path]
            continue
        except ArchiveDamaged:
            if not exists:
                raise
            damaged.add(file)
            continue
        moves = [
            Move(log.path, log.stat, Extent(file, one.at, one.size, one.lines, one.sign))
            for log, one in zip(logs, members, strict=True)
        ]
        return PackedArchive(file, archive.size(file), moves, left_out)


@contextmanager
def _unfinished(archive: Archive, file: str) -> Iterator[BinaryIO]:
    """A new file for an archive, which gets its final name at the end of the `with` statement; after an error it is
    deleted."""
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


# ---- the content


def _members(
    root: Path, target: Target, logs: list[Candidate], left_out: list[SkippedLog]
) -> tuple[list[ArchivedLog], list[Candidate]]:
    """Read every log once, for its fingerprint. Returns what the archive's note will list, and the logs in that list.
    Logs that cannot be read are added to `left_out`."""
    members: list[ArchivedLog] = []
    readable: list[Candidate] = []
    at = 0
    for log in logs:
        hashed = Fingerprint()
        try:
            for chunk in _chunks(root, log):
                hashed.update(chunk)
        except LeftOut as error:
            left_out.append(error.log)
            continue
        at += len(_header(log)) if target.is_tar else 0
        start = archived_size(log.extents)
        members.append(ArchivedLog(log.path, start, at, log.size, log.lines, hashed.value(), log.first_mtime))
        readable.append(log)
        at += log.size + (-log.size % _BLOCK if target.is_tar else 0)
    return members, readable


def _chunks(root: Path, log: Candidate) -> Iterator[bytes]:
    """The bytes of a log's file. Raises LeftOut if it cannot be read, or is no longer the file that was chosen."""
    with _open_log(root, log.path) as (fd, status):
        if FileStat.of(status) != log.stat:
            raise LeftOut(log.path)
        position = 0
        while data := os.pread(fd, min(CHUNK_BYTES, log.size - position), position):
            position += len(data)
            yield data
        if position != log.size:
            raise LeftOut(log.path)


@contextmanager
def _open_log(root: Path, path: str) -> Iterator[tuple[int, os.stat_result]]:
    """A descriptor and the status of a log's file. Raises LeftOut in place of file system errors."""
    try:
        with open_regular(resolve_under(root, path)) as opened:
            yield opened
    except (OSError, UnsafePath, NotAFile) as error:
        raise LeftOut(path, f"{UNREADABLE}: {getattr(error, 'strerror', None) or error}") from error


def _content(root: Path, target: Target, logs: list[Candidate], members: list[ArchivedLog]) -> Iterator[bytes]:
    """The content of the archive, in pieces that become a frame each. Raises LeftOut."""
    if not target.is_tar:
        yield from frames(_read_again(root, logs[0], members[0]))
        return
    pending: list[bytes] = []
    size = 0
    for log, member in zip(logs, members, strict=True):
        header = _header(log)
        # So that a small file is in one frame.
        if size and size + len(header) + log.size > FRAME_BYTES:
            yield b"".join(pending)
            pending, size = [], 0
        pending.append(header)
        size += len(header)
        if log.size > FRAME_BYTES:
            yield b"".join(pending)
            pending, size = [], 0
            yield from frames(_read_again(root, log, member))
        else:
            pending += _read_again(root, log, member)
            size += log.size
        pending.append(bytes(-log.size % _BLOCK))
        size += -log.size % _BLOCK
    pending.append(bytes(2 * _BLOCK))
    yield b"".join(pending)


def _read_again(root: Path, log: Candidate, member: ArchivedLog) -> Iterator[bytes]:
    """The bytes of a log, read for the second time. Raises LeftOut unless they are the same as the first time."""
    hashed = Fingerprint()
    for chunk in _chunks(root, log):
        hashed.update(chunk)
        yield chunk
    if hashed.value() != member.sign:
        raise LeftOut(log.path)


def _header(log: Candidate) -> bytes:
    """The tar header of a log."""
    info = tarfile.TarInfo(to_os(log.path))
    info.size = log.size
    info.mtime = log.stat.mtime_ns // 1_000_000_000
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _reported(pieces: Iterator[bytes], written: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        written(len(piece))


# ---- checks


def _compare(archive: Archive, root: Path, file: str, members: list[ArchivedLog]) -> None:
    """Unpack an archive and compare it with its logs. Raises ArchiveDamaged, or LeftOut if a log has changed."""
    for member in members:
        position = 0
        with _open_log(root, member.path) as (fd, _):
            while position < member.size:
                packed = archive.read(file, member.at + position, min(CHUNK_BYTES, member.size - position))
                if not packed or packed != os.pread(fd, len(packed), position):
                    if archive.sign(file, member.at, member.size) == member.sign:
                        raise LeftOut(member.path)
                    path = archive.folder / file
                    raise ArchiveDamaged(f"{path} does not contain the bytes of {member.path}", hint="check the disk")
                position += len(packed)
    archive.close()


def _check_unchanged(root: Path, logs: list[Candidate]) -> None:
    """Raise LeftOut unless every log is still the file that was chosen."""
    for log in logs:
        try:
            status = os.stat(resolve_under(root, log.path), follow_symlinks=False)
        except OSError:
            raise LeftOut(log.path) from None
        if FileStat.of(status) != log.stat:
            raise LeftOut(log.path)


def _free_name(archive: Archive, target: Target, members: list[ArchivedLog], damaged: set[str]) -> tuple[str, bool]:
    """The name for an archive, and whether it exists: the first name that is free, or that belongs to an undamaged
    archive of the same members."""
    number = 1 + len(target.logs[0].extents if not target.is_tar else ())
    while number < MAX_NUMBER:
        file = target.file(number)
        if not archive.has(file):
            return file, False
        with suppress(ArchiveDamaged, ArchiveMissing):
            there = archive.members(file)
            if there == members and file not in damaged:
                return file, True
            if not target.is_tar and there[0].path != members[0].path and not target.name.startswith("~"):
                # That is the archive of another session with this name, in another folder.
                target = Target(
                    target.folder, f"{target.name}{safe_name('', members[0].path)}", target.suffix, target.logs
                )
                continue
        number += 1
    raise SidecarError(
        f"{archive.folder / target.file()}: all names up to .{MAX_NUMBER - 1} are taken",
        hint="move everything away that is not an archive of the sidecar",
    )


# ---- estimate

SAMPLE_BYTES = 1 << 20
"""Bytes of log that are compressed to estimate the size of an archive."""


def estimate_size(settings: Settings, target: Target) -> int:
    """Roughly how many bytes an archive will have on disk, judging by the first megabyte of its logs. 0 if none of them
    can be read."""
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
