"""Unicode case folding, the full one: `ß` and `ss` are the same, `K` (Kelvin) and `k`, `Σ`, `σ` and `ς`.

Nothing else is made equal: an `é` of one character is not an `e` with a combining accent.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, chain

LAST_FOLDED = 0x1E944
"""No character from here on has another case."""


@lru_cache(1)
def foldings() -> tuple[tuple[str, str], ...]:
    """Every character that folding changes, with what it becomes: one to three characters."""
    characters = map(chr, chain(range(0xD800), range(0xE000, LAST_FOLDED)))
    return tuple((one, becomes) for one in characters if (becomes := one.casefold()) != one)


@lru_cache(1)
def _sources() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for one, becomes in foldings():
        found[becomes] = (*found.get(becomes, ()), one)
    return found


def sources_of(character: str) -> tuple[str, ...]:
    """The characters that fold into this one, and into nothing more; a folded character first of all into itself."""
    return (character, *_sources().get(character, ()))


def overlapping(text: str) -> list[str]:
    """The characters other than ASCII, any part of whose folding may be a part of a folded text, at either end or
    within it."""
    return [one for one, becomes in foldings() if not one.isascii() and _overlap(becomes, text)]


def _overlap(one: str, other: str) -> bool:
    if one in other or other in one:
        return True
    ends = range(1, min(len(one), len(other)))
    return any(one.endswith(other[:n]) or other.endswith(one[:n]) for n in ends)


def find_folded(text: str, wanted: str) -> tuple[int, int] | None:
    """Where in a text a folded text occurs first: the begin and the end of the characters that have it; None if it
    does not occur.

    >>> find_folded("Die Straße", "SS".casefold())
    (8, 9)
    """
    other = text.casefold()
    at = other.find(wanted)
    if at < 0:
        return None
    end = at + len(wanted)
    if len(other) == len(text):
        return at, end
    ends = list(accumulate(len(one.casefold()) for one in text))
    first = next(i for i, position in enumerate(ends) if position > at)
    last = next(i for i, position in enumerate(ends) if position >= end)
    return first, last + 1
