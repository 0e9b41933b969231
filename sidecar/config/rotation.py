"""How the files of a rotated log are named: the key `rotated` of a source, checked and compiled.

A pattern is a file name with places in it. `{name}` is the name of the log; `{stem}` and `{suffix}` are that name up to
its last dot and from there on; `{number}` is a number, and `{date}` is eight digits and any digits, `-` and `_` that
follow. Older parts have higher numbers, but earlier dates: `s.jsonl.2`, `s.jsonl.1`, `s.jsonl`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from sidecar.fs import split_path

DEFAULT = ("{name}.{number}", "{name}-{date}", "{stem}-{date}{suffix}")
"""The patterns of a source without `rotated`."""

EXPECTED = (
    "a file name with `{name}`, or with `{stem}` and `{suffix}`, and with `{number}` or `{date}`, each once:"
    " such as `{name}.{number}`"
)
_PLACE = re.compile(r"\{([a-z]*)\}")
_DIGITS = {"number": "[0-9]+", "date": "[0-9]{8}[0-9_-]*"}
_GROUPS = re.compile("[0-9]+")
Age = tuple[int, tuple[int, ...], str]
"""Sorts the parts of a log, the oldest first."""


def check_pattern(pattern: str) -> None:
    """Raise ValueError, with what is expected, for a pattern that cannot name the parts of a log."""
    rest = _PLACE.sub("", pattern)
    places = _PLACE.findall(pattern)
    of_log = sorted(place for place in places if place not in _DIGITS)
    numbers = [place for place in places if place in _DIGITS]
    if "/" in pattern or "\0" in pattern or set(rest) & set("{}"):
        raise ValueError(EXPECTED)
    if of_log not in (["name"], ["stem", "suffix"]) or len(numbers) != 1:
        raise ValueError(EXPECTED)


@lru_cache(maxsize=4096)
def _compiled(pattern: str, plain: str) -> re.Pattern[str]:
    """Matches the names of the parts of one log."""
    _, stem, suffix = split_path(plain)
    known = {"name": plain, "stem": stem, "suffix": suffix}
    regex = "".join(
        re.escape(text) + (f"(?P<{place}>{_DIGITS[place]})" if place in _DIGITS else re.escape(known.get(place, "")))
        for text, place in _pieces(pattern)
    )
    return re.compile(regex)


@lru_cache(maxsize=64)
def _guess(pattern: str, *, longest: bool) -> re.Pattern[str]:
    """Matches the parts of any log. With `longest`, the name of the log is as long as possible, otherwise as short."""
    regex = ""
    for text, place in _pieces(pattern):
        regex += re.escape(text)
        if place in _DIGITS:
            regex += f"(?:{_DIGITS[place]})"
        elif place == "suffix":
            regex += r"(?P<suffix>(?:\.[^./]*)?)"
        elif place:
            regex += f"(?P<{place}>[^/]+{'' if longest else '?'})"
    return re.compile(f"(?s:{regex})")


def _pieces(pattern: str) -> Iterator[tuple[str, str]]:
    """The texts of a pattern, each with the place behind it, which is empty for the last one."""
    at = 0
    for found in _PLACE.finditer(pattern):
        yield pattern[at : found.start()], found[1]
        at = found.end()
    yield pattern[at:], ""


def plain_names(patterns: Iterable[str], name: str) -> list[str]:
    """The names of the logs that a file of this name may be a part of, the longest first."""
    found: set[str] = set()
    for pattern in patterns:
        for longest in (True, False):
            if match := _guess(pattern, longest=longest).fullmatch(name):
                groups = match.groupdict()
                plain = groups["name"] if "name" in groups else groups["stem"] + groups["suffix"]
                if _compiled(pattern, plain).fullmatch(name):
                    found.add(plain)
    return sorted(found, key=lambda plain: (-len(plain), plain))


def age(patterns: tuple[str, ...], plain: str, name: str) -> Age | None:
    """The age of the file `name` as a part of the log `plain`; None if it is not one. Parts of one pattern come
    together, those of the first pattern first."""
    for number, pattern in enumerate(patterns):
        if match := _compiled(pattern, plain).fullmatch(name):
            groups = match.groupdict()
            if "number" in groups:
                return number, (-int(groups["number"]),), name
            first, rest = groups["date"][:8], groups["date"][8:]
            return number, (int(first), *map(int, _GROUPS.findall(rest))), name
    return None


def parts_among(patterns: tuple[str, ...], plain: str, names: Iterable[str]) -> list[str]:
    """Those of some file names that are parts of the log `plain`, the oldest first."""
    aged = [(found, name) for name in names if (found := age(patterns, plain, name)) is not None]
    return [name for _, name in sorted(aged)]


def numbered_on(patterns: tuple[str, ...], plain: str, name: str, taken: Iterable[str]) -> str | None:
    """A name for a part whose own name another file has now: with the number after the highest one. None for a part by
    date."""
    for pattern in patterns:
        compiled = _compiled(pattern, plain)
        match = compiled.fullmatch(name)
        if match is not None and "number" in match.groupdict():
            others = (found for one in taken if (found := compiled.fullmatch(one)))
            highest = max([int(match["number"]), *(int(found["number"]) for found in others)])
            start, end = match.span("number")
            return f"{name[:start]}{highest + 1}{name[end:]}"
    return None


def rough(patterns: Iterable[str]) -> str:
    """A regular expression, for use with `search`, that every name of a part matches, and few others: scans try it on
    each name."""
    ends = {
        "[0-9_-]$" if pattern.endswith(("{number}", "{date}")) else "[0-9]{8}" if "{date}" in pattern else "[0-9]"
        for pattern in patterns
    }
    return "|".join(sorted(ends)) or "(?!)"
