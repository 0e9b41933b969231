"""Globs over paths below the root, as regular expressions over whole paths.

`*`, `?` and `[...]` mean what they mean to fnmatch, within one component; `**` as a component stands for any
number of folders, none included. Case counts, and a leading dot is a character like any other.
"""

from __future__ import annotations

import re

EXPECTED = "a path below the root, with `/`, without `..` and `.`"
_MAGIC = re.compile(r"[*?[]")


def components(glob: str) -> list[str]:
    """The components of a glob. Raises ValueError, with what is expected, where it may leave the root."""
    parts = glob.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in glob:
        raise ValueError(EXPECTED)
    return parts


def regex(glob: str) -> str:
    """A regular expression for the paths that `glob` matches, to be used with `fullmatch`; without groups."""
    parts = components(glob)
    written = []
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        if part != "**":
            written.append(_component(part) + ("/" if following else ""))
        elif not following:
            written.append(".+")
        elif following != "**":  # several in a row say no more than one, and would cost far more
            written.append("(?:[^/]+/)*")
    return f"(?s:{''.join(written)})"


def prefix(glob: str) -> str:
    """The folder below which all that `glob` matches lies; "" for the root."""
    folders = components(glob)[:-1]
    magic = [i for i, part in enumerate(folders) if _MAGIC.search(part)]
    return "/".join(folders[: magic[0]] if magic else folders)


def _component(part: str) -> str:
    written: list[str] = []
    position = 0
    while position < len(part):
        character = part[position]
        position += 1
        if character == "*":
            if written[-1:] != ["[^/]*"]:
                written.append("[^/]*")
        elif character == "?":
            written.append("[^/]")
        elif character == "[" and (end := _end_of_choice(part, position)) > 0:
            written.append(_choice(part[position:end]))
            position = end + 1
        else:
            written.append(re.escape(character))
    return "".join(written)


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
