"""What is looked for, and where in the bytes of a log it may be.

A record matches if one of its texts does: the string values of the decoded record, at any depth. So its bytes may look
different: `é` may be written as `\\u00e9`, a line end as `\\n`, and a `k` be the Kelvin sign. To decode every record
would take ten times as long as to read the file, so most records are ruled out by their bytes. A part of the text, the
*anchor*, is chosen such that the bytes of every record that has the text have, in ASCII lower case,

- the anchor itself, in one of a few spellings;
- or a character that folds into a part of it together with something else, such as `ß`;
- or a part of it as a `\\u` escape.

A record with one of these is a candidate: it is decoded and compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from math import prod

from sidecar.errors import BadSearch
from sidecar.lenient import LONE_SURROGATE

from .folding import find_folded, overlapping, sources_of

MOST_SPELLINGS = 4
"""An anchor that is not ASCII is so short that it has no more spellings than this, if there is such a part."""
ENOUGH = 3
"""Characters of ASCII that are preferred to an anchor that is not ASCII."""
LONGEST_WANTED = 10_000
"""Characters."""

_PLAIN = re.compile(r'[^"\\/\x00-\x1f\ufffd]+')
"""Characters that are written as themselves or as a `\\u` escape: not those that have an escape sequence of two
characters, and not the one that stands for bytes that are not UTF-8."""
_ASCII = re.compile(r"[\x20-\x7f]+")

Claim = Callable[[int], int]
"""A function that takes the position of something that makes a candidate, and returns where to go on."""


class Words:
    """A text to look for, whatever its case."""

    def __init__(self, text: str) -> None:
        """Raises BadSearch if the text is empty or too long."""
        _check(text)
        self._folded = text.casefold()
        anchor, spellings = _anchor(self._folded)
        used = {*"".join(spellings)}
        hidden = [one for one in overlapping(anchor) if one not in used] if anchor else []
        self.can_rule_out = bool(anchor)
        """Whether records can be ruled out by their bytes. If not, every record is a candidate."""
        self._spellings = list(dict.fromkeys(one.encode().lower() for one in spellings))
        self._hidden = [one.encode() for one in hidden]
        self._escape = _escape({*used, *anchor.upper(), *hidden})
        self.longest = max((6, *map(len, self._spellings)))
        """The number of bytes of the longest sequence that makes a candidate."""

    def find(self, text: str) -> tuple[int, int] | None:
        """The begin and the end of the first match in a text."""
        return find_folded(text, self._folded)

    def sweep(self, data: bytes, claim: Claim) -> None:
        """Call `claim` with every position in some bytes that makes a candidate, until it says to go on elsewhere."""
        data = data.lower()
        for sequence in self._spellings if data.isascii() else (*self._spellings, *self._hidden):
            at = data.find(sequence)
            while at >= 0:
                at = data.find(sequence, claim(at))
        escape = self._escape.search(data)
        while escape:
            escape = self._escape.search(data, claim(escape.start()))


class Expression:
    """A regular expression to look for, in Python's syntax, whatever the case."""

    can_rule_out = False
    longest = 0

    def __init__(self, text: str) -> None:
        """Raises BadSearch if it is not a regular expression."""
        _check(text)
        try:
            self._regex = re.compile(text, re.IGNORECASE)
        except (re.error, OverflowError, RecursionError) as error:
            raise BadSearch(f"text: {text!r} is not a regular expression: {error}") from error

    def find(self, text: str) -> tuple[int, int] | None:
        """The begin and the end of the first match in a text."""
        found = self._regex.search(text)
        return found and found.span()

    def sweep(self, data: bytes, claim: Claim) -> None:
        """Call `claim` for everything: no record is ruled out by its bytes."""
        at = 0
        while at < len(data):
            at = claim(at)


Wanted = Words | Expression


def _check(text: object) -> None:
    if not isinstance(text, str):
        raise BadSearch(f"text: it is no string, but of the type {type(text).__name__}")
    if LONE_SURROGATE.search(text):
        raise BadSearch("text: it has half of a character (a lone surrogate), which no record has")
    if not text or len(text) > LONGEST_WANTED:
        raise BadSearch(f"text: {'it is empty' if not text else f'it has more than {LONGEST_WANTED:,} characters'}")


def _anchor(folded: str) -> tuple[str, list[str]]:
    """The anchor of a folded text, and its spellings; an ASCII one has a single one, as bytes are compared in ASCII
    lower case. Empty if there is none."""
    runs = _PLAIN.findall(folded)
    plain = max((part for run in runs for part in _ASCII.findall(run)), key=len, default="")
    if len(plain) >= ENOUGH or plain == folded:
        return plain, [plain]
    parts = [run[at : at + size] for size in (4, 3, 2, 1) for run in runs for at in range(len(run) - size + 1)]
    parts = [part for part in parts if not part.isascii()]
    few = next((part for part in parts if _count(part) <= MOST_SPELLINGS), None)
    part = few or min(parts, key=_count, default="")
    if part:
        return part, ["".join(one) for one in product(*map(sources_of, part))]
    return plain, [plain] if plain else []


def _count(part: str) -> int:
    return prod(len(sources_of(one)) for one in part)


def _escape(characters: set[str]) -> re.Pattern[bytes]:
    """Matches the backslash of a `\\u` escape of one of these, in ASCII lower case; of a character beyond U+FFFF, that
    of its first half. The lookahead makes the search for the backslash as fast as it can be."""
    codes = sorted({one.encode("utf-16-be")[:2].hex().encode() for one in characters})
    return re.compile(rb"\\(?=u(?:%s))" % b"|".join(codes) if codes else rb"(?!)")
