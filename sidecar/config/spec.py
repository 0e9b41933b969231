"""A format as it was written: the places of the attributes, what overrides them, and what is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sidecar.places import Place, WrittenPlace

Constant: TypeAlias = str | int | bool
Keep: TypeAlias = tuple[tuple[str, tuple[Place, ...]], ...]
"""Names, each with the places of the value that is kept under it."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """The places of each attribute, and the constants used where a record has no value."""

    places: Mapping[str, tuple[Place, ...]]
    constants: Mapping[str, Any]
    """By attribute: a string; for a list of ids a tuple of strings; for a flag a boolean. None takes back the constant
    that is overridden."""

    def overridden_by(self, own: Attributes) -> Attributes:
        """These places and constants, overridden by those in `own`. A constant event type in `own` without places
        beside it also removes the inherited places."""
        places = {**self.places, **own.places}
        if own.constants.get("event_type") is not None and "event_type" not in own.places:
            places["event_type"] = ()
        constants = {**self.constants, **own.constants}
        return Attributes(places, {key: value for key, value in constants.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Condition:
    """True where the place has one of the values, or a text with one of the beginnings; without both, where it has any
    value but null."""

    place: Place
    values: tuple[Constant | None, ...] | None = None
    """None among them: true where there is nothing."""
    begins: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What overrides the format where all conditions are true."""

    conditions: tuple[Condition, ...]
    attributes: Attributes
    keep: Keep = ()
    """The latest value counts."""


@dataclass(frozen=True, slots=True)
class FormatSpec:
    """A format as written, merged with all that it extends."""

    attributes: Attributes
    shapes: tuple[Shape, ...]
    """The first whose conditions are true overrides `attributes`."""
    completions: tuple[str, ...]
    requests: tuple[str, ...]
    answers: tuple[str, ...]
    skip: tuple[str, ...]
    keep: Keep = ()
    """The first value counts, for the whole file."""
    text: tuple[WrittenPlace, ...] | None = None
    """Where the words of a record stand: for reading, no row depends on it. None: the usual places."""
    time_zone: str | None = None
    """Of times that name none: as `zones.parse_zone` reads it; None is UTC."""

    @property
    def kept(self) -> frozenset[str]:
        """The names of all values that are kept."""
        return frozenset(name for keep in (self.keep, *(shape.keep for shape in self.shapes)) for name, _ in keep)

    @property
    def all_places(self) -> Iterator[Place]:
        """Every place that is looked at."""
        for attributes in (self.attributes, *(shape.attributes for shape in self.shapes)):
            for places in attributes.places.values():
                yield from places
        for keep in (self.keep, *(shape.keep for shape in self.shapes)):
            for _, places in keep:
                yield from places
        for shape in self.shapes:
            yield from (condition.place for condition in shape.conditions)
