"""What was said in a record, for people to read. None of it is stored.

A format names the places under `text`. If it does not, the usual places are tried: a record's own words are at its top
or in `data`, and an answer often wraps those of the model once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson

from .globs import glob_regex
from .places import Place, Template, WrittenPlace, parse_place, text_of, values_in

_WRAPPERS = ("data", "response", "result", "message")
_TEXTS = ("prompt", "response", "content", "message", "text", "body", "result", "summary", "error")
_DEEPEST = 4


def said(record: Mapping[str, Any], places: Iterable[Place] | None) -> str:
    """The texts at all of the places, joined by line ends. If `places` is None, the text at the first of the usual
    places. Empty if there is none."""
    if places is None:
        return _usual(record, 0) or ""
    found = (value for place in places for value in _values_at(record, place))
    return "\n".join(dict.fromkeys(text for text in found if text.__class__ is str and text.strip()))


def _values_at(record: Mapping[str, Any], place: Place) -> Iterator[Any]:
    if isinstance(place, tuple):
        yield from values_in(record, place)
    elif isinstance(place, Template):
        parts = [part if isinstance(part, str) else _first_text(record, part) for part in place.parts]
        texts = [part for part in parts if part is not None]
        if len(texts) == len(parts):
            yield "".join(texts)


def _first_text(record: Mapping[str, Any], place: Place) -> str | None:
    return next((text for value in _values_at(record, place) if (text := text_of(value))), None)


def _usual(value: Mapping[str, Any], depth: int) -> str | None:
    inner = [value[key] for key in _WRAPPERS if isinstance(value.get(key), dict)]
    if depth == 0 and isinstance(value.get("data"), dict):
        inner, value = [value["data"]], value["data"]
        inner = [value[key] for key in _WRAPPERS if isinstance(value.get(key), dict)]
    for key in _TEXTS:
        text = value.get(key)
        if isinstance(text, str) and text.strip():
            return text
    if depth < _DEEPEST:
        for one in inner:
            text = _usual(one, depth + 1)
            if text:
                return text
    return None


# ---- as the catalog stores it, so that an index can be read without the settings that it was made with


def note_of(sources: Iterable[tuple[str, tuple[WrittenPlace, ...] | None]]) -> str:
    """What the catalog stores about some sources: for each its glob, and the places that its format names, or None."""
    return orjson.dumps([[glob, places] for glob, places in sources]).decode()


def places_in(note: str, path: str) -> tuple[Place, ...] | None:
    """The places of the first source whose glob matches a path, from what a catalog stores; None if it names none.

    An index may come from anybody, so anything that is not such a note counts as None.
    """
    for regex, places in _parsed(note):
        if regex.fullmatch(path):
            return places
    return None


@lru_cache(maxsize=8)
def _parsed(note: str) -> list[tuple[re.Pattern[str], tuple[Place, ...] | None]]:
    try:
        return [
            (re.compile(glob_regex(glob)), None if written is None else tuple(map(_place, written)))
            for glob, written in orjson.loads(note)
        ]
    except (ValueError, TypeError, AttributeError, re.error, OverflowError, RecursionError):
        return []


def _place(written: str | list[str]) -> Place:
    place = parse_place(written) if isinstance(written, str) else tuple(map(str, written))
    if not place:
        raise ValueError(written)
    return place
