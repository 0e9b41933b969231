"""What a JSON value counts as: an id, a list of ids; and the kind of an event type. Times are in `timestamps.py`.

None of these functions raises for any JSON value. The rules are those of `docs/derivation.md`, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sidecar.ids import MAX_ID_CHARACTERS, bounded_id
from sidecar.places import text_of
from sidecar.records import Kind

_Value = TypeVar("_Value")

_MAX_CACHED_KINDS = 4096
_MAX_CACHED_TYPE_CHARACTERS = 200


def id_text(value: Any) -> str | None:
    """An id or name: a non-empty string, or an integer as its decimal digits, shortened if very long; else None."""
    text = text_of(value)
    return None if text is None else bounded_id(text)


def add_ids(ids: tuple[str, ...], value: Any) -> tuple[str, ...]:
    """`ids` followed by the new ids in `value`, which is one id or a list of them."""
    if value.__class__ is str and len(value) <= MAX_ID_CHARACTERS:
        return (*ids, value) if value and value not in ids else ids
    found = value if value.__class__ is list else (value,)
    new = [id for each in found if (id := id_text(each))]
    return tuple(dict.fromkeys((*ids, *new))) if new else ids


def type_of(value: Any) -> str | None:
    """An event type: a non-empty string; else None."""
    return value if value.__class__ is str and value else None


def flag_of(value: Any) -> bool | None:
    """A flag: true or false; else None."""
    return value if value.__class__ is bool else None


# ---- steps into lists, and texts with places in them


def first_of(values: list[Any], accept: Callable[[Any], _Value | None]) -> _Value | None:
    """The first of the values that counts as something."""
    for value in values:
        accepted = accept(value)
        if accepted is not None:
            return accepted
    return None


def joined(*parts: Any) -> str | None:
    """The parts, concatenated; None if one of them is neither a non-empty text nor a whole number."""
    texts = [text for part in parts if (text := text_of(part))]
    return "".join(texts) if len(texts) == len(parts) else None


def joined_with_each(before: tuple[Any, ...], values: list[Any], after: tuple[Any, ...]) -> list[str]:
    """The texts that `joined` returns for the parts, with each of the values between them."""
    return [text for value in values if (text := joined(*before, value, *after))]


def begins_with(value: Any, beginnings: tuple[str, ...]) -> bool:
    """Whether a value is a text that begins with one of these."""
    return value.__class__ is str and value.startswith(beginnings)


# ---- kinds of event types


def classifier(
    completions: tuple[str, ...],
    requests: tuple[str, ...],
    answers: tuple[str, ...],
    skip: tuple[str, ...],
    cache: dict[str, Kind],
) -> Callable[[str], Kind]:
    """A function from event type to kind, by the patterns of a format. `cache` holds its results and is bounded."""
    is_completion, is_request, is_answer, is_skipped = map(_matcher, (completions, requests, answers, skip))

    def kind_of(event_type: str) -> Kind:
        # A type that matches both is a request: otherwise it could never be answered.
        requesting = is_request(event_type)
        answering = not requesting and is_answer(event_type)
        kind = Kind(is_completion(event_type), requesting, answering, is_skipped(event_type))
        if len(event_type) <= _MAX_CACHED_TYPE_CHARACTERS:
            if len(cache) >= _MAX_CACHED_KINDS:
                cache.clear()
            cache[event_type] = kind
        return kind

    return kind_of


def _matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """A test for event types: `a:b` matches that type, `a:` a prefix, `:b` the last segment."""
    beginnings = tuple(p for p in patterns if p.endswith(":"))
    endings = {p[1:] for p in patterns if p.startswith(":")}
    exact = {p for p in patterns if not (p.startswith(":") or p.endswith(":"))}

    def matches(event_type: str) -> bool:
        last = event_type.rpartition(":")[2]
        return event_type in exact or last in endings or event_type.startswith(beginnings)

    return matches
