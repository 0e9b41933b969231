"""The entries of one log that may have the text, found by the bytes of the log."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from sidecar.lenient import read_document
from sidecar.logs.record_reader import LogReader

from .hit import matches
from .wanted import Wanted

CHUNK_BYTES = 128 << 10
"""The bytes that are read at once; more for a longer record."""
GAP_BYTES = 16 << 10
"""Bytes between two records that are read too, because that is faster than to skip them."""


class Spot(NamedTuple):
    """Where the record of an entry is in its log, and which entry that is."""

    byte_offset: int
    byte_length: int
    checksum: int
    """CRC-32."""
    timestamp: float
    number: int
    """Of the entry, in its daily file."""

    @property
    def end(self) -> int:
        """The offset behind the record."""
        return self.byte_offset + self.byte_length


class _Claimed:
    """Finds out which records are candidates."""

    def __init__(self, places: Sequence[Spot], start: int) -> None:
        """`places` in the order of offsets; `start` is the offset of the first byte that is looked at."""
        self._places = places
        self._starts = [place.byte_offset for place in places]
        self._start = start
        self.found: dict[int, Spot] = {}
        """By offset."""

    def claim(self, at: int) -> int:
        """Note the record that has the byte at a position. Returns the position of the next record."""
        offset = self._start + at
        index = bisect_right(self._starts, offset)
        if index and offset < self._places[index - 1].end:
            place = self._places[index - 1]
            self.found[place.byte_offset] = place
            return max(at + 1, place.end - self._start)
        return max(at + 1, self._starts[index] - self._start) if index < len(self._starts) else 1 << 62


def candidates_between(
    log: LogReader, wanted: Wanted, start: int, end: int, places_between: Callable[[int, int], Sequence[Spot]]
) -> Iterator[Spot]:
    """The candidates between two offsets of a log whose file is known to have the bytes that were indexed.

    `places_between` returns the entries that have a byte between two offsets. It is called only where there may be a
    candidate, so that nothing else is asked of the index.
    """
    buffer = memoryview(bytearray(CHUNK_BYTES))
    while start < end:
        size = log.read_into(buffer[: min(CHUNK_BYTES, end - start)], start)
        if size <= 0:
            # Gone within the last moment: whoever reads these records will be told.
            yield from places_between(start, end)
            return
        claimed: _Claimed | None = None

        def claim(at: int, start: int = start, size: int = size) -> int:
            nonlocal claimed
            if claimed is None:
                claimed = _Claimed(places_between(start, start + size), start)
            return claimed.claim(at)

        wanted.sweep(bytes(buffer[:size]), claim)
        if claimed is not None:
            yield from claimed.found.values()
        # What begins in this chunk and ends in the next is found in the next.
        start += size if start + size >= end else max(1, size - wanted.longest + 1)


def candidates_among(log: LogReader, wanted: Wanted, places: Sequence[Spot], is_unchanged: bool) -> Iterator[Spot]:
    """The candidates among some entries of a log, given in the order of their offsets.

    Unless the file is known to be unchanged, a record whose bytes are not those that were indexed is a candidate too:
    whoever reads it will be told. Candidates that cannot be ruled out by their bytes are decoded here.
    """
    for run in _runs(places):
        start, length = run[0].byte_offset, run[-1].end - run[0].byte_offset
        data = log.stretch(start, length, in_file=is_unchanged)
        claimed = _Claimed(run, start)
        if wanted.can_rule_out:
            wanted.sweep(data, claimed.claim)
        if not (is_unchanged and len(data) == length and wanted.can_rule_out):
            _check_each(claimed, run, memoryview(data), wanted)
        yield from claimed.found.values()


def _check_each(claimed: _Claimed, run: Sequence[Spot], data: memoryview, wanted: Wanted) -> None:
    start = run[0].byte_offset
    for place in run:
        record = data[place.byte_offset - start : place.end - start]
        is_as_indexed = len(record) == place.byte_length and crc32(record) == place.checksum
        if not is_as_indexed or (not wanted.can_rule_out and _matches(record, wanted)):
            claimed.found[place.byte_offset] = place


def _matches(record: memoryview, wanted: Wanted) -> bool:
    try:
        return matches(read_document(bytes(record)), wanted)
    except ValueError:
        return False


def _runs(places: Sequence[Spot]) -> Iterator[Sequence[Spot]]:
    """The places in groups that are read at once."""
    first = 0
    for i in range(1, len(places)):
        gap = places[i].byte_offset - places[i - 1].end
        if gap > GAP_BYTES or places[i].end - places[first].byte_offset > CHUNK_BYTES:
            yield places[first:i]
            first = i
    if places:
        yield places[first:]
