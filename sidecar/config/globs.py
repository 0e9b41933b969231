"""Translate globs over paths below the root into regular expressions over whole paths.

`*`, `?` and `[...]` work as in fnmatch, within one component; `**` as a component matches any number of folders,
including none. Matching is case-sensitive, and a leading dot is a character like any other.
"""

from __future__ import annotations

import re

EXPECTED = "a path below the root, with `/`, without `..` and `.`"
_MAGIC = re.compile(r"[*?[]")


def split_glob(glob: str) -> list[str]:
    """The components of a glob. Raises ValueError, with what is expected, where the glob could leave the root."""
    parts = glob.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in glob:
        raise ValueError(EXPECTED)
    return parts


def glob_regex(glob: str) -> str:
    """A regular expression without capturing groups, for use with `fullmatch`, for the paths that `glob` matches.

    The text between two stars is matched at its first occurrence, in an atomic group (`(?>`): a later occurrence can
    match nothing that the first does not. Without it, a glob of twenty stars would backtrack exponentially.
    """
    runs: list[list[str]] = [[]]  # runs of components, separated by `**`
    for part in split_glob(glob):
        if part != "**":
            runs[-1].append(_component(part))
        elif runs[-1] or len(runs) == 1:  # several in a row mean the same as one
            runs.append([])
    first, *middle, last = [[], *runs] if len(runs) == 1 else runs
    regex = "".join(f"{part}/" for part in first)
    regex += "".join(f"(?>(?:[^/]+/)*?{'/'.join(run)}/)" for run in middle)
    if len(runs) > 1:
        regex += "(?:[^/]+/)*" if last else ".+"
    return f"(?s:{regex}{'/'.join(last)})"


def glob_prefix(glob: str) -> str:
    """The deepest folder that contains every path `glob` can match; "" for the root."""
    folders = split_glob(glob)[:-1]
    magic = [i for i, part in enumerate(folders) if _MAGIC.search(part)]
    return "/".join(folders[: magic[0]] if magic else folders)


def _component(part: str) -> str:
    between: list[str] = [""]  # the text between the stars
    position = 0
    while position < len(part):
        character = part[position]
        position += 1
        if character == "*":
            between.append("")
        elif character == "?":
            between[-1] += "[^/]"
        elif character == "[" and (end := _end_of_choice(part, position)) > 0:
            between[-1] += _choice(part[position:end])
            position = end + 1
        else:
            between[-1] += re.escape(character)
    if len(between) == 1:
        return between[0]
    first, *middle, last = between
    return first + "".join(f"(?>[^/]*?{text})" for text in middle if text) + "[^/]*" + last


def _end_of_choice(part: str, start: int) -> int:
    """Position of the closing `]`, -1 where there is none. A `]` that comes first in the brackets is a character."""
    return part.find("]", start + 1 + part.startswith("!", start))


def _choice(inside: str) -> str:
    """The regular expression for `[abc]`, `[a-z]` or `[!a]`. A descending range is empty, as in fnmatch."""
    negated = inside.startswith("!")
    characters: list[str] = []
    rest = inside[negated:]
    while rest:
        if len(rest) >= 3 and rest[1] == "-":
            if rest[0] <= rest[2]:
                characters.append(f"{re.escape(rest[0])}-{re.escape(rest[2])}")
            rest = rest[3:]
        else:
            characters.append(re.escape(rest[0]))
            rest = rest[1:]
    if negated:
        return f"[^/{''.join(characters)}]"
    return f"(?!/)[{''.join(characters)}]" if characters else "(?!)"
