"""The second reading of a line that is not strict JSON (`docs/derivation.md`, section 2): leniently as one object, and
if it is not one, as records that are glued together and a piece that a dead writer left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sidecar.config.formats import Format
from sidecar.lenient import read_document, read_leniently
from sidecar.records import Line, Record, Rejected

from .glued import split
from .parse import NO_EVENT_TYPE, NOT_JSON, TORN, reject


class Piece(NamedTuple):
    """What the second reading found on a line."""

    line: Line
    """The bytes of the piece, with their place."""
    record: Record | Rejected
    is_repaired: bool
    """Whether the record is not strict JSON."""


def read_again(line: Line, format_: Format, named_type: str | None, names: dict[str, str]) -> Piece:
    """The record on a line that is read leniently, or why it is not one. The arguments are those of `parse`."""
    try:
        document = read_leniently(line.data)
    except ValueError:
        document = None
    if document.__class__ is not dict:
        return Piece(line, reject(line, NOT_JSON), False)
    record = format_.extract(document, named_type, names)
    return Piece(line, reject(line, NO_EVENT_TYPE) if record is None else record, record is not None)


def pieces_of(line: Line, format_: Format, named_type: str | None, names: dict[str, str]) -> Iterator[Piece]:
    """Yield the records that are glued together on a line that is not a record itself, and the torn piece between them,
    in their order on the line; nothing if there is no record. The arguments are those of `parse`."""

    def is_record(document: dict[str, Any]) -> bool:
        return format_.extract(document, named_type, dict(names)) is not None

    records, torn = split(line.data, is_record)
    for one in records:
        if torn is not None and torn[0] < one.start:
            yield _torn(line, *torn)
            torn = None
        part = _part(line, one.start, one.end)
        record = format_.extract(read_document(part.data), named_type, names)
        yield Piece(part, reject(part, TORN) if record is None else record, one.is_repaired)
    if torn is not None:
        yield _torn(line, *torn)


def _torn(line: Line, start: int, end: int) -> Piece:
    part = _part(line, start, end)
    return Piece(part, reject(part, TORN), False)


def _part(line: Line, start: int, end: int) -> Line:
    return Line(line.byte_offset + start, line.line_number, line.data[start:end])
