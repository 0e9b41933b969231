"""Parse a line into a record, or into the reason why it is not one.

Not here: the second reading of a line that is not strict JSON (`second_reading.py`), whether a rejected line is blank
and whether a record is skipped (`source.py`), and whether a line is too long (`logs/tail.py`).
"""

from __future__ import annotations

import orjson

from sidecar.config.formats import Format
from sidecar.records import Line, Record, Rejected

NOT_JSON = "not-json"
NOT_OBJECT = "not-object"
NO_EVENT_TYPE = "no-event-type"
TORN = "torn"


def parse(
    line: Line, format_: Format, named_type: str | None = None, names: dict[str, str] | None = None
) -> Record | Rejected:
    """Parse a line by a format; `named_type` is the event type in an event file's name. `names` are the named parts of
    the file's path and what the format keeps of earlier records; what it keeps of this one is added to them.

    This reading is strict: invalid UTF-8, NaN and lone surrogates are `not-json` here.
    """
    try:
        document = orjson.loads(line.data)
    except orjson.JSONDecodeError:
        return reject(line, NOT_JSON)
    if document.__class__ is not dict:
        return reject(line, NOT_OBJECT)
    record = format_.extract(document, named_type, {} if names is None else names)
    return reject(line, NO_EVENT_TYPE) if record is None else record


def reject(line: Line, reason: str) -> Rejected:
    """The line as a rejected line, with the reason."""
    return Rejected(line.line_number, line.byte_offset, len(line.data), reason)
