"""Globs over paths below the root, as regular expressions over whole paths.

`*`, `?` and `[...]` mean what they mean to fnmatch, within one component; `**` as a component stands for any
number of folders, none included. Case counts, and a leading dot is a character like any other.
"""

from __future__ import annotations

import re

EXPECTED = "a path below the root, with `/`, without `..` and `.`"
_MAGIC = re.compile(r"[*?[]")


def split_glob(glob: str) -> list[str]:
    """The components of a glob. Raises ValueError, with what is expected, where it may leave the root."""
    parts = glob.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in glob:
        raise ValueError(EXPECTED)
    return parts


def glob_regex(glob: str) -> str:
    """A regular expression for the paths that `glob` matches, to be used with `fullmatch`; without groups.

    What stands between two stars is taken where it comes first, for good (`(?>`): a later place can match nothing
    that this one does not. Without that, a glob of twenty stars would try more ways than there is time for.
    """
    runs: list[list[str]] = [[]]  # components, with a `**` between each two
    for part in split_glob(glob):
        if part != "**":
            runs[-1].append(_component(part))
        elif runs[-1] or len(runs) == 1:  # several in a row say no more than one
            runs.append([])
    first, *middle, last = [[], *runs] if len(runs) == 1 else runs
    written = "".join(f"{part}/" for part in first)
    written += "".join(f"(?>(?:[^/]+/)*?{'/'.join(run)}/)" for run in middle)
    if len(runs) > 1:
        written += "(?:[^/]+/)*" if last else ".+"
    return f"(?s:{written}{'/'.join(last)})"


def glob_prefix(glob: str) -> str:
    """The folder below which all that `glob` matches lies; "" for the root."""
    folders = split_glob(glob)[:-1]
    magic = [i for i, part in enumerate(folders) if _MAGIC.search(part)]
    return "/".join(folders[: magic[0]] if magic else folders)


def _component(part: str) -> str:
    between: list[str] = [""]  # what stands between the stars
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
    return first + "".join(f"(?>[^/]*?{some})" for some in middle if some) + "[^/]*" + last


def _end_of_choice(part: str, start: int) -> int:
    """Where the `]` stands, -1 where there is none. One that comes first in the brackets is a character."""
    return part.find("]", start + 1 + part.startswith("!", start))


def _choice(inside: str) -> str:
    """`[abc]`, `[a-z]` or `[!a]`. A range that runs backwards is empty, as in fnmatch."""
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
