"""The result of a check of `sidecar doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MAX_LISTED = 5
"""How many names are listed one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check."""

    check: str
    status: Literal["ok", "warning", "error"]
    """`error`: indexing fails or finds nothing useful. `warning`: it works, but with a limitation worth knowing."""
    message: str
    advice: str = ""
    """What to do about it, one piece of advice per line; may be empty."""


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
