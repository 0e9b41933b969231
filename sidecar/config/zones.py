"""Time zones by name or offset, for logs whose times name none."""

from __future__ import annotations

import re
from datetime import UTC, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_OFFSET = re.compile(r"([+-])([01][0-9]|2[0-3]):([0-5][0-9])")


def parse_zone(name: str) -> tzinfo:
    """The zone with a name of the IANA's (`Europe/Berlin`, `UTC`), or at an offset from UTC (`+02:00`).

    Raises ValueError for any other text, and for a name that this machine has no rules of.
    """
    if name == "UTC":
        return UTC
    if offset := _OFFSET.fullmatch(name):
        away = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-away if offset[1] == "-" else away)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder, or one that is too long
        raise ValueError(f"no time zone: {name}") from None
