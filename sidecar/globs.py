"""Translate globs for paths below the root into regular expressions for whole paths.

`*`, `?` and `[...]` work as in fnmatch, within one component; `**` as a component matches any number of folders,
including none. `<agent>` is a star with a name for the part of the path that it matches. Matching is case-sensitive,
and a leading dot is a character like any other.
"""

from __future__ import annotations

import re

from .places import NAME

EXPECTED = "a path below the root, with `/`, without `..` and `.`"
EXPECTED_NAMES = (
    "named parts of the path such as `<agent>`: lower-case letters, digits and `_`, each name once, with text between"
    " it and the next star or name; `[<]` stands for the character `<`"
)
_MAGIC = re.compile(r"[*?[<]")
_NAMED = re.compile(rf"<({NAME.pattern})>")


def split_glob(glob: str) -> list[str]:
    """The components of a glob. Raises ValueError, which says what is expected, if the glob could leave the root."""
    parts = glob.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in glob:
        raise ValueError(EXPECTED)
    return parts


def glob_names(glob: str) -> tuple[str, ...]:
    """The named parts of the path. Raises ValueError, which says what is expected, if `<` does not begin a name."""
    names: list[str] = []
    for part in split_glob(glob):
        texts, stars = _pieces(part)
        for star, following, text in zip(stars, stars[1:], texts[1:], strict=False):
            if (star or following) and not text:
                raise ValueError(EXPECTED_NAMES)
        names += [name for name in stars if name]
    if len(set(names)) < len(names):
        raise ValueError(EXPECTED_NAMES)
    return tuple(names)


def glob_regex(glob: str, *, named: bool = False) -> str:
    """A regular expression, for use with `fullmatch`, for the paths that `glob` matches. With `named`, each named part
    is a group. There are no other capturing groups.

    The text between two stars is matched at its first occurrence, in an atomic group (`(?>`), because a later
    occurrence can match nothing that the first does not. Otherwise a glob of twenty stars would backtrack
    exponentially.
    """
    # Runs of components, separated by `**`.
    runs: list[list[str]] = [[]]
    for part in split_glob(glob):
        if part != "**":
            runs[-1].append(_component(part, named))
        # Several `**` in a row mean the same as one.
        elif runs[-1] or len(runs) == 1:
            runs.append([])
    first, *middle, last = [[], *runs] if len(runs) == 1 else runs
    regex = "".join(f"{part}/" for part in first)
    regex += "".join(f"(?>(?:[^/]+/)*?{'/'.join(run)}/)" for run in middle)
    if len(runs) > 1:
        regex += "(?:[^/]+/)*" if last else ".+"
    return f"(?s:{regex}{'/'.join(last)})"


def glob_prefix(glob: str) -> str:
    """The deepest folder that contains every path that `glob` can match; "" for the root."""
    folders = split_glob(glob)[:-1]
    magic = [i for i, part in enumerate(folders) if _MAGIC.search(part)]
    return "/".join(folders[: magic[0]] if magic else folders)


def distinguishing_folder(glob: str) -> int:
    """If all paths that a glob matches end with the same name: the last folder with a wildcard, which tells them apart,
    counted from the end of the path. 0 if the names differ, or no single folder tells the paths apart."""
    *folders, name = split_glob(glob)
    if _MAGIC.search(name):
        return 0
    for place, folder in enumerate(reversed(folders), 2):
        if folder == "**":
            return 0
        if _MAGIC.search(folder):
            return place
    return 0


def may_lie_below(glob: str, folder: str) -> bool:
    """Whether any path below a folder can match a glob."""
    return _leads_on(split_glob(glob), folder.split("/") if folder else [])


def _leads_on(parts: list[str], names: list[str]) -> bool:
    """Whether the components of a glob can match these names of folders, followed by another name."""
    if not names or not parts:
        return bool(parts)
    if parts[0] == "**":
        return _leads_on(parts, names[1:]) or _leads_on(parts[1:], names)
    return re.fullmatch(f"(?s:{_component(parts[0], named=False)})", names[0]) is not None and _leads_on(
        parts[1:], names[1:]
    )


def _component(part: str, named: bool) -> str:
    (first, *middle), stars = _pieces(part)
    if not stars:
        return first
    *middle, last = middle
    regex = first
    for name, text in zip(stars, middle, strict=False):
        if text:
            regex += f"(?>{_star(name if named else None, lazy=True)}{text})"
    return regex + _star(stars[-1] if named else None, lazy=False) + last


def _star(name: str | None, *, lazy: bool) -> str:
    star = "[^/]*?" if lazy else "[^/]*"
    return f"(?P<{name}>{star})" if name else star


def _pieces(part: str) -> tuple[list[str], list[str | None]]:
    """The regular expressions before, between and after the stars of a component, and the name of each star, if any."""
    between: list[str] = [""]
    stars: list[str | None] = []
    position = 0
    while position < len(part):
        character = part[position]
        position += 1
        if character == "*":
            stars.append(None)
            between.append("")
        elif character == "<":
            named = _NAMED.match(part, position - 1)
            if named is None:
                raise ValueError(EXPECTED_NAMES)
            stars.append(named[1])
            between.append("")
            position = named.end()
        elif character == "?":
            between[-1] += "[^/]"
        elif character == "[" and (end := _end_of_choice(part, position)) > 0:
            between[-1] += _choice(part[position:end])
            position = end + 1
        else:
            between[-1] += re.escape(character)
    return between, stars


def _end_of_choice(part: str, start: int) -> int:
    """The position of the closing `]`; -1 if there is none. A `]` that comes first in the brackets is a character."""
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
