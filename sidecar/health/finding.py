"""What `sidecar doctor` says of each thing that it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    status: Literal["ok", "warning", "error"]
    """`error`: indexing fails, or finds nothing of use. `warning`: it works, and there is something to know."""
    message: str
    advice: str = ""
    """What to do; each advice on a line of its own."""
