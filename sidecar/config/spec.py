"""A format as it is written: the places of the attributes, what overrides them, and which values are kept.

Only values. `formats.py` reads them from YAML, and `compiler.py` compiles them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sidecar.places import Place, WrittenPlace

Constant: TypeAlias = str | int | bool
Keep: TypeAlias = tuple[tuple[str, tuple[Place, ...]], ...]
"""Names, each with the places of the value that is kept under that name."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """The places of each attribute, and the constants that are used if a record has no value."""

    places: Mapping[str, tuple[Place, ...]]
    constants: Mapping[str, Any]
    """By attribute: a string; for a list of ids, a tuple of strings; for a flag, a boolean. None removes the constant
    that would be inherited."""

    def overridden_by(self, own: Attributes) -> Attributes:
        """These places and constants, overridden by those in `own`. If `own` has a constant event type but no places
        for it, the inherited places are removed too."""
        places = {**self.places, **own.places}
        if own.constants.get("event_type") is not None and "event_type" not in own.places:
            places["event_type"] = ()
        constants = {**self.constants, **own.constants}
        return Attributes(places, {key: value for key, value in constants.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of the value at a place: that it is one of `values`, or a text that begins with one of `begins`. If both
    are None, any value but null will do."""

    place: Place
    values: tuple[Constant | None, ...] | None = None
    """None among them stands for no value, or null."""
    begins: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What overrides the format for records that meet all conditions."""

    conditions: tuple[Condition, ...]
    attributes: Attributes
    keep: Keep = ()
    """The latest value of the file is kept."""


@dataclass(frozen=True, slots=True)
class FormatSpec:
    """A format as it is written, merged with the formats that it extends."""

    attributes: Attributes
    shapes: tuple[Shape, ...]
    """The first one whose conditions a record meets overrides `attributes`."""
    completions: tuple[str, ...]
    requests: tuple[str, ...]
    answers: tuple[str, ...]
    skip: tuple[str, ...]
    keep: Keep = ()
    """The first value of the file is kept."""
    text: tuple[WrittenPlace, ...] | None = None
    """The places of what was said in a record, for readers only: no row depends on them. None: the usual places."""
    time_zone: str | None = None
    """The zone of times that name none, as `zones.parse_zone` takes it. None: UTC."""

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
