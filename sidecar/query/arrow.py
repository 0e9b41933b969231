"""Entries as an Arrow table (extra `arrow`: pyarrow, which is loaded when a table is made)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from sidecar.errors import MissingExtra

from .columns import COLUMNS

if TYPE_CHECKING:
    import pyarrow

ROWS = 16_384
"""Entries in a batch: what is in memory as Python objects at a time."""

_TEXT, _NUMBER, _FLAG, _SECONDS = "string", "int64", "bool_", "float64"
_KINDS = {
    "timestamp": _SECONDS,
    "line_number": _NUMBER,
    "byte_offset": _NUMBER,
    "is_completion": _FLAG,
    "is_request": _FLAG,
    "has_response": _FLAG,
    "requests_response": _FLAG,
    "answered_after": _SECONDS,
}
_ABSENT = frozenset(("correlation_id", "author", "answered_after"))
"""Columns that may be null."""


def loaded() -> Any:
    """pyarrow. Raises MissingExtra."""
    try:
        import pyarrow
    except ImportError:
        raise MissingExtra("arrow", "pyarrow") from None
    return pyarrow


def schema(names: Sequence[str] = COLUMNS) -> pyarrow.Schema:
    """The schema of a table with these columns of entries: `participating_agents` and `addressees` are lists of
    strings, and `agent_roles` is a map from agent to role; times are seconds since 1970, as in `Entry`."""
    arrow = loaded()

    def kind(name: str) -> Any:
        if name in ("participating_agents", "addressees"):
            return arrow.list_(arrow.string())
        if name == "agent_roles":
            return arrow.map_(arrow.string(), arrow.string())
        return getattr(arrow, _KINDS.get(name, _TEXT))()

    return arrow.schema([arrow.field(name, kind(name), nullable=name in _ABSENT) for name in names])


def batches(rows: Iterable[tuple[Any, ...]], names: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
    """Tuples of these columns of entries, as record batches."""
    arrow = loaded()
    kinds = schema(names)
    rows = iter(rows)
    while chunk := list(islice(rows, ROWS)):
        columns: Any = zip(*chunk, strict=True)
        arrays = [
            arrow.array(
                [list(one.items()) for one in column] if name == "agent_roles" else column, kinds.field(name).type
            )
            for name, column in zip(names, columns, strict=True)
        ]
        yield arrow.RecordBatch.from_arrays(arrays, schema=kinds)


def table(rows: Iterable[tuple[Any, ...]], names: Sequence[str]) -> pyarrow.Table:
    """Tuples of these columns of entries, as a table. Raises MissingExtra without pyarrow."""
    arrow = loaded()
    return arrow.Table.from_batches(batches(rows, names), schema=schema(names))
