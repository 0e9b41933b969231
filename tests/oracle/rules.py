"""Which rules of the law's second edition a reading knows.

`SECOND` is the whole second edition. `MAIN` is what the package does today, and what `model_file` reads by unless it is
told otherwise: whoever teaches the package a rule turns that rule on here, in the same commit.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """A field a rule; False reads as the first edition does."""

    lenient: bool = False
    """NULs at both ends of a line, a byte order mark, `not-utf8`, and the second, lenient reading with its count."""
    glued: bool = False
    """Glued and torn records; only together with `lenient`."""
    settled: bool = False
    """A last line without LF that is a whole record is taken once it has been unchanged for a minute."""
    more_times: bool = False
    """Strings of digits, a comma for the point, a trailing UTC or GMT, RFC 2822; and the count of where times came
    from."""
    across: bool = False
    """Answers in another file."""
    rotated: bool = False
    """The parts of a rotated log are one log."""


FIRST = Rules()
SECOND = Rules(*[True] * 6)
MAIN = SECOND
