"""Places: where an attribute is found, in a record or beside it. They are parsed from the texts in a format.

    data.agent_id                        a path: keys, separated by dots
    [data, "kind.of.talk"]               the same as a list of keys, which may contain any characters
    content[type=tool_use].id            a step into a list: to its objects with that key and value
    recipients[].name                    a step to all elements of a list
    <agent>                              a part of the file's path, or a value that the format keeps
    "tool:{payload.name}"                a text with places in it; absent if one of these is

`docs/derivation.md`, section 3, says what each of them leads to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""The name of a part of a path, or of a kept value."""
_NAMED = re.compile(rf"<({NAME.pattern})>")
_KEY = re.compile(r"[^.\[\]{}<>]+")
_LIST_STEP = re.compile(r"\[(?:([^=\[\]]+)=([^\[\]]+))?\]")
_HOLE = re.compile(r"\{([^{}]*)\}")
MAX_STEPS = 50
"""The largest number of keys and steps into lists in a path."""

EXPECTED = (
    "a place: keys separated by dots (`data.agent_id`), where `content[type=text]` and `content[]` lead into a list; a"
    " list of keys; `<name>`; or a text with places in braces (`tool:{data.tool}`)"
)


@dataclass(frozen=True, slots=True)
class ListStep:
    """A step into a list: to the objects in it whose `key` has this `value`, or without a key to all its elements."""

    key: str | None = None
    value: str | None = None
    """A text, a whole number in digits, `true` or `false`."""


Path: TypeAlias = tuple[str | ListStep, ...]
"""Keys of objects, and steps into lists."""


@dataclass(frozen=True, slots=True)
class Named:
    """A named part of the file's path, or a value that was kept of an earlier record."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """A text with places in it. It is absent if one of them is."""

    parts: tuple[str | Path | Named, ...]


Place: TypeAlias = Path | Named | Template

WrittenPlace: TypeAlias = str | tuple[str, ...]
"""A place as it is written in a format: a text, or a list of keys."""


def parse_place(text: str) -> Place | None:
    """The place that a text stands for; None if it is not one."""
    return _template(text) if "{" in text or "}" in text else _path_or_name(text)


def paths_in(place: Place) -> Iterator[Path]:
    """The paths in a place: itself, or those in its text."""
    if isinstance(place, tuple):
        yield place
    elif isinstance(place, Template):
        yield from (part for part in place.parts if isinstance(part, tuple))


def names_in(place: Place) -> Iterator[str]:
    """The names in a place: its own, or those in its text."""
    parts = place.parts if isinstance(place, Template) else (place,)
    yield from (part.name for part in parts if isinstance(part, Named))


def before_lists(path: Path) -> tuple[str, ...]:
    """The keys of a path before its first step into a list."""
    keys: list[str] = []
    for step in path:
        if isinstance(step, ListStep):
            break
        keys.append(step)
    return tuple(keys)


def _template(text: str) -> Template | None:
    parts: list[str | Path | Named] = []
    # texts, with what is in braces between them.
    for i, part in enumerate(_HOLE.split(text)):
        if i % 2:
            inner = _path_or_name(part)
            if inner is None:
                return None
            parts.append(inner)
        elif "{" in part or "}" in part:
            return None
        elif part:
            parts.append(part)
    return Template(tuple(parts))


def _path_or_name(text: str) -> Path | Named | None:
    if named := _NAMED.fullmatch(text):
        return Named(named[1])
    return _path(text)


def _path(text: str) -> Path | None:
    """Keys separated by dots, each followed by any number of steps into lists; None if the text is anything else."""
    steps: list[str | ListStep] = []
    position = 0
    while key := _KEY.match(text, position):
        steps.append(key[0])
        position = key.end()
        while step := _LIST_STEP.match(text, position):
            steps.append(ListStep(step[1], step[2]))
            position = step.end()
        if position == len(text):
            return tuple(steps) if len(steps) <= MAX_STEPS else None
        if text[position] != ".":
            return None
        position += 1
    return None


# ---- what is there


def text_of(value: Any) -> str | None:
    """A non-empty string, or an integer as its decimal digits, of any length; else None."""
    if value.__class__ is not str and value.__class__ is not int:
        return None
    try:
        return str(value) or None
    except ValueError:
        # An integer with more digits than Python converts.
        return None


def values_in(value: Any, steps: tuple[str | ListStep, ...]) -> list[Any]:
    """All values except null that the steps lead to from a value, in the order of the record."""
    found = [value]
    for step in steps:
        if step.__class__ is str:
            found = [each.get(step) for each in found if each.__class__ is dict]
        else:
            found = [one for each in found if each.__class__ is list for one in each if _is_picked(one, step)]
    return [each for each in found if each is not None]


def _is_picked(element: Any, step: Any) -> bool:
    if step.key is None:
        return True
    if element.__class__ is not dict:
        return False
    value = element.get(step.key)
    if value.__class__ is bool:
        return bool(step.value == ("true" if value else "false"))
    return bool(text_of(value) == step.value)
