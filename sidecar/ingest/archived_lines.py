"""Read the lines of a log that are in the archive; and positions in a log that continues in a file.

The archived bytes of a log come first, then those of its file, so a position in the log counts both.
"""

from __future__ import annotations

from sidecar.errors import ArchiveDamaged
from sidecar.logs.archive_file import Archive
from sidecar.logs.padding import Trimmed, is_not_utf8, may_be_padded, trim, trim_range
from sidecar.logs.tail import CHUNK_BYTES, Cursor
from sidecar.records import NOT_UTF8, Extent, Line, Rejected, archived_size

from .source import Batch, SourceState


def read_archived(state: SourceState, archive: Archive, max_line_bytes: int) -> Batch:
    """Read the next lines of a log that are in the archive, and derive their rows."""
    cursor = state.cursor
    extent, start = _extent_at(state.archived, cursor.offset)
    if cursor.offset == start:
        state.is_not_utf8 = False
    if state.source.layout == "file":
        lines, rejected, padding = _read_whole_extent(archive, extent, start, cursor.lines + 1, max_line_bytes)
        length = sum(len(line.data) for line in lines) + sum(one.byte_length for one in rejected)
        batch = state.ingest(lines, rejected, extent.size - length - padding, padding)
        end, count = start + extent.size, 1
    else:
        lines, rejected, padding, end, line_end = _read_archived_lines(
            archive, extent, start, cursor, max_line_bytes, not_utf8=state.is_not_utf8
        )
        batch = state.ingest(lines, rejected, line_end, padding)
        count = len(lines) + len(rejected)
    state.cursor = Cursor(0, 0, 0, 0, end, cursor.lines + count, 0, 0)
    return batch


def _extent_at(extents: tuple[Extent, ...], offset: int) -> tuple[Extent, int]:
    """The extent that holds this offset of the log, and the offset at which the extent starts."""
    start = 0
    for extent in extents:
        if offset < start + extent.size:
            return extent, start
        start += extent.size
    raise AssertionError(f"nothing at {offset} is archived")


def _read_whole_extent(
    archive: Archive, extent: Extent, start: int, number: int, max_line_bytes: int
) -> tuple[list[Line], list[Rejected], int]:
    """The one record of an event file, as a line or a rejected line, and the number of bytes of its padding."""
    if extent.size <= CHUNK_BYTES:
        data = archive.read(extent.file, extent.at, extent.size)
        if len(data) != extent.size:
            raise _ends_early(archive, extent)
        return _split(trim(data.removesuffix(b"\n"), start, number, max_line_bytes, begins_file=True))
    end = start + extent.size
    end -= archive.read(extent.file, extent.at + extent.size - 1, 1) == b"\n"
    return _split(_trim_archived(archive, extent, start, start, end, number, max_line_bytes))


def _read_archived_lines(
    archive: Archive, extent: Extent, start: int, cursor: Cursor, max_line_bytes: int, *, not_utf8: bool
) -> tuple[list[Line], list[Rejected], int, int, int]:
    """About a chunk of whole lines from the cursor on: those that are read, those that are rejected, the number of
    bytes of their padding, the offset at which they end, and the number of bytes of the line end of each.

    That is 0 for the last line of an extent if it was archived without an LF. Such a line comes alone.
    """
    offset, number = cursor.offset, cursor.lines + 1
    data = _read_chunk(archive, extent, offset - start)
    last = data.rfind(b"\n")
    not_utf8 = not_utf8 or (offset == start and is_not_utf8(data))
    if last < 0:
        end = offset + _length_of_line(archive, extent, offset - start)
        line_end = int(end < start + extent.size)
        if not_utf8:
            return [], [Rejected(number, offset, end - offset, NOT_UTF8)], 0, end + line_end, line_end
        trimmed = _trim_archived(archive, extent, start, offset, end, number, max_line_bytes)
        return *_split(trimmed), end + line_end, line_end
    lines: list[Line] = []
    rejected: list[Rejected] = []
    padding = 0
    is_padded = may_be_padded(data, begins_file=offset == start)
    for text in data[:last].split(b"\n"):
        if not_utf8:
            rejected.append(Rejected(number, offset, len(text), NOT_UTF8))
        elif len(text) <= max_line_bytes and not is_padded:
            lines.append(Line(offset, number, text))
        else:
            its_lines, its_rejected, its_padding = _split(
                trim(text, offset, number, max_line_bytes, begins_file=offset == start)
            )
            lines += its_lines
            rejected += its_rejected
            padding += its_padding
        number += 1
        offset += len(text) + 1
    return lines, rejected, padding, offset, 1


def _split(trimmed: Trimmed) -> tuple[list[Line], list[Rejected], int]:
    line, padding = trimmed
    return ([line], [], padding) if isinstance(line, Line) else ([], [line], padding)


def _trim_archived(
    archive: Archive, extent: Extent, start: int, offset: int, end: int, number: int, max_line_bytes: int
) -> Trimmed:
    """The line from `offset` to `end` of the log, without its padding. Its extent begins at `start`."""

    def read(position: int, length: int) -> bytes:
        data = archive.read(extent.file, extent.at + position - start, length)
        if len(data) != length:
            raise _ends_early(archive, extent)
        return data

    return trim_range(read, offset, end, number, max_line_bytes, begins_file=offset == start)


def _length_of_line(archive: Archive, extent: Extent, position: int) -> int:
    """The length of the line that begins at this position of an extent. It ends with an LF, or with the extent."""
    length = 0
    while position + length < extent.size:
        data = _read_chunk(archive, extent, position + length)
        end = data.find(b"\n")
        if end >= 0:
            return length + end
        length += len(data)
    return length


def _read_chunk(archive: Archive, extent: Extent, position: int) -> bytes:
    data = archive.read(extent.file, extent.at + position, min(CHUNK_BYTES, extent.size - position))
    if not data:
        raise _ends_early(archive, extent)
    return data


def _ends_early(archive: Archive, extent: Extent) -> ArchiveDamaged:
    return ArchiveDamaged(f"{archive.folder / extent.file} ends before byte {extent.at + extent.size} of its content")


# ---- positions in the file, and in the log


def in_file(cursor: Cursor, extents: tuple[Extent, ...]) -> Cursor:
    """A cursor of the log, as a cursor of its file, which begins after the archived bytes."""
    return _shifted(cursor, -1, extents) if extents else cursor


def in_log(cursor: Cursor, extents: tuple[Extent, ...]) -> Cursor:
    """A cursor of the file, as a cursor of its log."""
    return _shifted(cursor, 1, extents) if extents else cursor


def _shifted(cursor: Cursor, sign: int, extents: tuple[Extent, ...]) -> Cursor:
    size, count = archived_size(extents), sum(extent.lines for extent in extents)
    return cursor._replace(offset=cursor.offset + sign * size, lines=cursor.lines + sign * count)


def lines_in_log(
    lines: list[Line], rejected: list[Rejected], extents: tuple[Extent, ...]
) -> tuple[list[Line], list[Rejected]]:
    """Lines of the file, with their positions in the log."""
    if not extents:
        return lines, rejected
    size, count = archived_size(extents), sum(extent.lines for extent in extents)
    return (
        [Line(line.byte_offset + size, line.line_number + count, line.data) for line in lines],
        [one._replace(line_number=one.line_number + count, byte_offset=one.byte_offset + size) for one in rejected],
    )
