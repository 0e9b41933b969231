"""The second reading of a line that is not strict JSON: leniently (`docs/derivation.md`, section 2)."""

from __future__ import annotations

from typing import NamedTuple

from sidecar.config.formats import Format
from sidecar.lenient import read_leniently
from sidecar.records import Line, Record, Rejected

from .parse import NO_EVENT_TYPE, NOT_JSON, reject


class Piece(NamedTuple):
    """What the second reading found in a line."""

    line: Line
    """The bytes of the line that it is about, with their place."""
    record: Record | Rejected
    is_repaired: bool
    """The record is not strict JSON."""


def read_again(line: Line, format_: Format, named_type: str | None, names: dict[str, str]) -> Piece:
    """The record or the rejected line that the second reading of a line has. The arguments are those of `parse`."""
    try:
        document = read_leniently(line.data)
    except ValueError:
        document = None
    if document.__class__ is not dict:
        return Piece(line, reject(line, NOT_JSON), False)
    record = format_.extract(document, named_type, names)
    return Piece(line, reject(line, NO_EVENT_TYPE) if record is None else record, record is not None)
