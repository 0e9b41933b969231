"""Find whole objects on a line that is not an object itself: glued together, or before or behind a piece that a dead
writer left (`docs/derivation.md`, section 2).

The time is linear in the length of the line, whatever the line holds. Where an object that begins at a place would end,
and where one that ends at a place would begin, follows from the quotes and brackets between the two. So one object is
tried at each place, and no search begins inside another.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from sidecar.lenient import read_leniently

GAP = b" \t\r\n\x0b\x0c\0"
"""Bytes that may stand between glued records: white space and NULs."""
MAX_FROM_END = 1_000
"""The most records of a line that are taken from its end leftwards."""
MAX_DEPTH = 1_024
"""The most levels of nesting, as in orjson."""


def _next_bracket(string: bytes, opening: bytes, closing: bytes) -> re.Pattern[bytes]:
    """A pattern for everything up to and including the next bracket. Brackets in strings do not count, and objects and
    lists without inner brackets are passed over whole. Every repetition is possessive, so that a search is linear."""
    plain = rb'[^"{}\[\]]'
    values = b"".join(
        rb"|\%c(?:%s++|%s)*+\%c" % (begin, plain, string, end) for begin, end in zip(opening, closing, strict=True)
    )
    return re.compile(rb"(?:%s++|%s%s)*+([{}\[\]])" % (plain, string, values), re.DOTALL)


_FORWARDS = _next_bracket(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', b"{[", b"}]")
# Read backwards, an escaped quote is one that a backslash follows: the string does not end there.
_BACKWARDS = _next_bracket(rb'"[^"]*+(?:"\\[^"]*+)*+"', b"}]", b"{[")
_NOT_GAP = re.compile(rb"[^ \t\r\n\x0b\x0c\0]")
_PART_OF_MORE = b":,["
"""Behind one of these, an object is a part of something larger."""


class WholeObject(NamedTuple):
    """Where a whole object is on a line. What it says is not kept: a line may have a million of them, whose documents
    would take many times the memory of the line."""

    start: int
    end: int
    is_repaired: bool
    """Whether it is not strict JSON, and was read leniently."""


class Split(NamedTuple):
    """A line, taken apart."""

    records: list[WholeObject]
    """The records, in their order on the line."""
    torn: tuple[int, int] | None
    """Where the piece that is not a record begins and ends; None if there are only records, or none at all."""


def split(data: bytes, is_record: Callable[[dict[str, Any]], bool]) -> Split:
    """The whole records on a line, and the piece that is left between them. `is_record` tells whether an object is a
    record.

    >>> split(b'{"a": 1}{"a": 2}{"b": {"a": 3}', lambda document: "a" in document).torn
    (16, 30)
    """
    front = _from_front(data, is_record)
    begin = front[-1].end if front else 0
    back = _from_end(data, begin, is_record)
    if not front and not back:
        return Split([], None)
    end = back[0].start if back else len(data)
    begin, end = _behind_gap(data, begin), len(data[:end].rstrip(GAP))
    return Split(front + back, (begin, end) if begin < end else None)


def _from_front(data: bytes, is_record: Callable[[dict[str, Any]], bool]) -> list[WholeObject]:
    """Whole records, one behind the other, from the beginning of the line on."""
    found: list[WholeObject] = []
    start = _behind_gap(data, 0)
    while (end := _end_of_object(data, start)) and (one := _read(data, start, end, is_record)):
        found.append(one)
        start = _behind_gap(data, end)
    return found


def _from_end(data: bytes, begin: int, is_record: Callable[[dict[str, Any]], bool]) -> list[WholeObject]:
    """Whole records, one before the other, from the end of the line leftwards down to `begin`. They are returned in
    their order on the line."""
    backwards = data[begin:].rstrip(GAP)[::-1]
    found: list[WholeObject] = []
    at = 0
    while len(found) < MAX_FROM_END and (length := _length_backwards(backwards, at)):
        end = begin + len(backwards) - at
        before = _NOT_GAP.search(backwards, at + length)
        if before is not None and before[0] in _PART_OF_MORE:
            break
        one = _read(data, end - length, end, is_record)
        if one is None:
            break
        found.append(one)
        at = len(backwards) if before is None else before.start()
    return found[::-1]


def _read(data: bytes, start: int, end: int, is_record: Callable[[dict[str, Any]], bool]) -> WholeObject | None:
    text = data[start:end]
    is_repaired = False
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        is_repaired = True
        try:
            document = read_leniently(text)
        except ValueError:
            return None
    is_whole = document.__class__ is dict and is_record(document)
    return WholeObject(start, end, is_repaired) if is_whole else None


def _behind_gap(data: bytes, start: int) -> int:
    found = _NOT_GAP.search(data, start)
    return len(data) if found is None else found.start()


def _end_of_object(data: bytes, start: int) -> int:
    """Where an object that begins at `start` would end; 0 if none begins there."""
    return _end(data, start, b"{", b"{[", _FORWARDS)


def _length_backwards(backwards: bytes, start: int) -> int:
    """The length of an object that would end where the line read backwards is at `start`; 0 if none does."""
    return max(0, _end(backwards, start, b"}", b"}]", _BACKWARDS) - start)


def _end(data: bytes, start: int, first: bytes, opening: bytes, next_bracket: re.Pattern[bytes]) -> int:
    if data[start : start + 1] != first:
        return 0
    depth = 1
    at = start + 1
    while depth <= MAX_DEPTH and (found := next_bracket.match(data, at)):
        at = found.end()
        depth += 1 if found[1] in opening else -1
        if not depth:
            return at
    return 0
