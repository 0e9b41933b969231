"""Which values the records of a log of unknown shape have at which paths, as the basis for a draft of its format."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from sidecar.errors import SidecarError
from sidecar.places import text_of

MAX_RECORDS = 2_000
"""How many records are looked at."""
MAX_BYTES = 32 << 20
"""How many bytes of a log are read."""
MAX_FILES = 500
"""How many files beside the given one are read if each is one record."""
_MAX_DEPTH = 4
_MAX_PATHS = 2_000
_MAX_FEW = 60

Path_ = tuple[str, ...]
"""A path of keys."""


@dataclass(frozen=True)
class Field:
    """The values at one path."""

    path: Path_
    values: Mapping[int, Any]
    """By the number of the record, from 0. There are no objects, lists or nulls among them."""

    @property
    def name(self) -> str:
        """The last key."""
        return self.path[-1]

    @cached_property
    def texts(self) -> Mapping[int, str]:
        """The values that could be ids or names: texts, and whole numbers in digits."""
        return {n: text for n, value in self.values.items() if (text := text_of(value)) is not None}

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each text occurs."""
        return Counter(self.texts.values())

    @property
    def is_choice(self) -> bool:
        """Whether all values are among a few short texts, such as kinds or names."""
        return (
            len(self.texts) == len(self.values)
            and 0 < len(self.counts) <= _MAX_FEW
            and (len(self.counts) < len(self.texts) or len(self.texts) == 1)
            and all(len(text) <= 80 and "\n" not in text for text in self.counts)
        )

    @property
    def words(self) -> float:
        """The share of values, from 0 to 1, that read like something said: words with spaces between them."""
        said = [v for v in self.values.values() if isinstance(v, str) and re.search(r"\w\W*\s\S*\w", v)]
        return len(said) / len(self.values)


@dataclass(frozen=True)
class Survey:
    """The records of a log."""

    file: Path
    records: Sequence[Mapping[str, Any]]
    is_one_a_file: bool

    @cached_property
    def fields(self) -> list[Field]:
        """All fields, in the order in which they are first seen."""
        found: dict[Path_, dict[int, Any]] = {}
        for n, record in enumerate(self.records):
            for path, value in _leaves(record, ()):
                if path in found or len(found) < _MAX_PATHS:
                    found.setdefault(path, {})[n] = value
        return [Field(path, values) for path, values in found.items()]


def survey_of(file: Path) -> Survey:
    """The first records of a log. If the file is one record, those of similar files beside it are included.

    Raises SidecarError if there is no record.
    """
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    whole = _object(content)
    if whole is not None and b"\n{" not in content:
        beside = sorted(path for path in file.parent.iterdir() if path.suffix == file.suffix and path.is_file())
        others = (_object(path.read_bytes()) for path in beside[:MAX_FILES] if path.stat().st_size <= MAX_BYTES)
        if file.suffix == ".json" or not content.endswith(b"\n"):
            return Survey(file, [one for one in others if one is not None] or [whole], is_one_a_file=True)
    records = list(islice((one for line in content.split(b"\n") if (one := _object(line)) is not None), MAX_RECORDS))
    if not records:
        raise SidecarError(
            f"{file} contains no JSON object, neither in a line nor as a whole",
            hint="a log consists of JSON objects, one per line or one per file; convert it first",
        )
    return Survey(file, records, is_one_a_file=False)


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _leaves(value: Mapping[str, Any], path: Path_) -> Iterator[tuple[Path_, Any]]:
    """All values in an object that are not objects, lists or nulls, with their paths."""
    for key, inner in value.items():
        if not key or inner is None or isinstance(inner, list):
            continue
        if not isinstance(inner, dict):
            yield (*path, key), inner
        elif len(path) + 1 < _MAX_DEPTH:
            yield from _leaves(inner, (*path, key))
