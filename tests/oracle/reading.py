"""The lines of a file and what stands on them: the first half of the law.

A file becomes pieces, in the order of their places. A piece is a record, or it was rejected; a line has one piece or
none, and more where records are glued together. What is on no piece is `blank` or `waiting`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from oracle import glue
from oracle.lenient import NOT_JSON, parsed
from oracle.rules import Rules

MARK = b"\xef\xbb\xbf"
UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Piece:
    """A record or a rejected piece: the line it is on, its place and length in bytes."""

    number: int
    offset: int
    length: int
    record: dict[str, Any] | None
    reason: str = ""
    """Why it was rejected; empty for a record."""
    repaired: bool = False
    """Only the lenient reading made a record of it."""


@dataclass
class Reading:
    """What stands in a file. `bytes` is the sum of P3, `repaired` how many records the lenient reading gave."""

    pieces: list[Piece] = field(default_factory=list)
    bytes: dict[str, int] = field(
        default_factory=lambda: {"indexed": 0, "blank": 0, "rejected": 0, "skipped": 0, "waiting": 0}
    )
    repaired: int = 0

    def take(self, pieces: list[Piece], size: int, line_end: int) -> None:
        """Count a line of `size` bytes, and its line end, which goes with the last piece of the line."""
        self.pieces += pieces
        counted = "blank"
        for piece in pieces:
            counted = "rejected" if piece.reason else "indexed"
            self.bytes[counted] += piece.length
            self.repaired += piece.repaired
        self.bytes["blank"] += size - sum(piece.length for piece in pieces)
        self.bytes[counted] += line_end


@dataclass(frozen=True)
class Reader:
    """How a file is read; `is_record` says of an object whether it has an event type."""

    rules: Rules
    max_line_bytes: int
    is_record: Callable[[dict[str, Any]], bool]

    def lines(self, content: bytes, *, settled: bool) -> Reading:
        """A file of lines. `settled`: it has been unchanged for a minute, so that a whole last record counts."""
        reading = Reading()
        is_utf16 = self.rules.lenient and content.startswith(UTF16)
        offset, number = 0, 1
        while (end := content.find(b"\n", offset)) != -1:
            body = content[offset:end]
            if is_utf16:
                pieces = [Piece(number, offset, len(body), None, "not-utf8")]
            else:
                pieces = self._line(body, number, offset)
            reading.take(pieces, len(body), 1)
            offset, number = end + 1, number + 1

        rest = content[offset:]
        last = None if is_utf16 else self._whole(rest, number, offset)
        if last and not last.reason and settled and self.rules.settled:
            reading.take([last], len(rest), 0)
        else:
            reading.bytes["waiting"] = len(rest)
        return reading

    def one_record(self, content: bytes) -> Reading:
        """A file that is one record, with or without a last LF."""
        reading = Reading()
        body = content.removesuffix(b"\n")
        if self.rules.lenient and content.startswith(UTF16):
            piece = Piece(1, 0, len(body), None, "not-utf8")
        else:
            piece = self._whole(body, 1, 0)
        reading.take([piece], len(body), len(content) - len(body))
        return reading

    def _line(self, body: bytes, number: int, offset: int) -> list[Piece]:
        """What stands on a line, LF excluded."""
        begin, text = self._trimmed(body, offset)
        if len(text) <= self.max_line_bytes and not text.strip():
            return []
        whole = self._whole(body, number, offset)
        if whole.reason != "not-json" or not self.rules.glued:
            return [whole]
        records, torn = glue.Line(text, self.is_record).split()
        pieces = [Piece(number, begin + r.start, r.end - r.start, r.record, repaired=r.repaired) for r in records]
        if torn:
            pieces.append(Piece(number, begin + torn[0], torn[1] - torn[0], None, "torn"))
        return sorted(pieces, key=lambda piece: piece.offset) or [whole]

    def _whole(self, body: bytes, number: int, offset: int) -> Piece:
        """A line as one piece: a record, or why it is none."""
        begin, text = self._trimmed(body, offset)
        if len(text) > self.max_line_bytes:
            return Piece(number, begin, len(text), None, "too-long")
        value, repaired = parsed(text.removesuffix(b"\r"), lenient=self.rules.lenient)
        if isinstance(value, dict) and self.is_record(value):
            return Piece(number, begin, len(text), value, repaired=repaired)
        if isinstance(value, dict):
            reason = "no-event-type"
        elif value is NOT_JSON or repaired:
            reason = "not-json"
        else:
            reason = "not-object"
        return Piece(number, begin, len(text), None, reason)

    def _trimmed(self, body: bytes, offset: int) -> tuple[int, bytes]:
        """Where a line begins and what it is, without the byte order mark of the file and NULs at both ends."""
        if not self.rules.lenient:
            return offset, body
        text = body.removeprefix(MARK) if offset == 0 else body
        text = text.lstrip(b"\0")
        return offset + len(body) - len(text), text.rstrip(b"\0")
