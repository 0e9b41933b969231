"""Time zones by name or by offset, for logs whose times name no zone."""

from __future__ import annotations

import re
from datetime import UTC, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_OFFSET = re.compile(r"([+-])([01][0-9]|2[0-3]):([0-5][0-9])")


def parse_zone(name: str) -> tzinfo:
    """The time zone with an IANA name (`Europe/Berlin`, `UTC`), or with an offset from UTC (`+02:00`).

    Raises ValueError for any other text, and for a zone that this machine does not know.
    """
    if name == "UTC":
        return UTC
    if offset := _OFFSET.fullmatch(name):
        away = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-away if offset[1] == "-" else away)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # OSError: the name is that of a folder in the zone database, or too long.
        raise ValueError(f"no time zone: {name}") from None
