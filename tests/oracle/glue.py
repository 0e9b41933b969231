"""Records on a line that as a whole is no object: glued together, or before or behind a torn piece."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from oracle.lenient import parsed

GAP = b" \t\r\n\x0b\x0c\0"
"""What may stand between glued records."""
MOST = 1_000
"""Records that are taken from the end of a line leftwards."""

_STRUCTURE = re.compile(rb'["\\{}\[\]]')


@dataclass(frozen=True)
class Found:
    """A whole record on a line: its place there, and whether the lenient reading was needed."""

    start: int
    end: int
    record: dict[str, Any]
    repaired: bool


@dataclass(frozen=True)
class Line:
    """A line as bytes; `is_record` says of an object whether it is one."""

    text: bytes
    is_record: Callable[[dict[str, Any]], bool]

    @cached_property
    def ends(self) -> dict[int, int]:
        """Where each object ends that may begin somewhere on the line."""
        return ends_of_objects(self.text)

    def split(self) -> tuple[list[Found], tuple[int, int] | None]:
        """The records in order, and the place of what is torn between them. Without a record there is neither."""
        front = self._from_the_front()
        begin = front[-1].end if front else 0
        back = self._from_the_end(begin)
        if not front and not back:
            return [], None
        end = back[0].start if back else len(self.text)
        torn = self._behind_gap(begin), self._before_gap(end)
        return front + back, torn if torn[0] < torn[1] else None

    def _from_the_front(self) -> list[Found]:
        """Whole records one behind the other, from the beginning of the line on."""
        found: list[Found] = []
        start = self._behind_gap(0)
        while (end := self.ends.get(start)) and (one := self._record(start, end)):
            found.append(one)
            start = self._behind_gap(end)
        return found

    def _from_the_end(self, begin: int) -> list[Found]:
        """Whole records one before the other, from the end of the line leftwards, down to `begin`."""
        starts: dict[int, list[int]] = {}
        for start, end in self.ends.items():
            if start >= begin:
                starts.setdefault(end, []).append(start)
        found: list[Found] = []
        end = self._before_gap(len(self.text))
        while len(found) < MOST:
            candidates = sorted(starts.get(end, ()), reverse=True)
            one = next((one for start in candidates if (one := self._loose_record(start, end))), None)
            if one is None:
                break
            found.append(one)
            end = self._before_gap(one.start)
        return found[::-1]

    def _loose_record(self, start: int, end: int) -> Found | None:
        """A record that is no part of something larger."""
        before = self._before_gap(start)
        return None if self.text[before - 1 : before] in (b":", b",", b"[") else self._record(start, end)

    def _record(self, start: int, end: int) -> Found | None:
        value, repaired = parsed(self.text[start:end], lenient=True)
        return Found(start, end, value, repaired) if isinstance(value, dict) and self.is_record(value) else None

    def _behind_gap(self, place: int) -> int:
        while place < len(self.text) and self.text[place] in GAP:
            place += 1
        return place

    def _before_gap(self, place: int) -> int:
        while place > 0 and self.text[place - 1] in GAP:
            place -= 1
        return place


def ends_of_objects(text: bytes) -> dict[int, int]:
    """Of every `{`, where an object that begins there ends, by braces and brackets outside of strings.

    What is in a string depends on where the reading begins, so each brace is taken as one that a reading begins at.
    Read from the right, so that each brace finds the ends of those behind it.
    """
    places = [(found.start(), found[0]) for found in _STRUCTURE.finditer(text)]
    # Of the structure at an index: the index of the quote that ends a string which is open there; and, where it opens
    # something, the index of what closes it.
    quote: list[int | None] = [None] * (len(places) + 2)
    closed: list[int | None] = [None] * len(places)
    for index in reversed(range(len(places))):
        place, what = places[index]
        if what == b'"':
            quote[index] = index
        elif what == b"\\" and index + 1 < len(places) and places[index + 1][0] == place + 1:
            quote[index] = quote[index + 2]
        else:
            quote[index] = quote[index + 1]
        if what in (b"{", b"["):
            closed[index] = _closed(places, index, quote, closed)
    return {
        place: places[end][0] + 1
        for (place, what), end in zip(places, closed, strict=True)
        if what == b"{" and end is not None
    }


def _closed(
    places: list[tuple[int, bytes]], opening: int, quote: list[int | None], closed: list[int | None]
) -> int | None:
    index: int | None = opening + 1
    while index is not None and index < len(places):
        what = places[index][1]
        if what in (b"}", b"]"):
            return index
        if what == b"\\":
            index += 1
            continue
        end = quote[index + 1] if what == b'"' else closed[index]
        index = None if end is None else end + 1
    return None
