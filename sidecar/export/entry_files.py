"""Entries as Parquet, JSON Lines and CSV: the 17 columns of the reference, `author`, `addressees`, `answered_after`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from io import TextIOWrapper
from typing import Any, BinaryIO, NamedTuple

import orjson

from sidecar.query.arrow import batches, loaded, schema
from sidecar.query.columns import COLUMNS

Rows = Iterable[tuple[Any, ...]]
"""Tuples of the columns of entries (`COLUMNS`), in the order of time."""


class FileKind(NamedTuple):
    """A kind of file that a day can be written as."""

    name: str
    """Of the file, in the folder of its day."""
    write: Callable[[BinaryIO, Rows], None]
    version: int = 1
    """Raised when the same entries make another file."""


def write_jsonl(file: BinaryIO, rows: Rows) -> None:
    """One object a line, with the columns as keys, in UTF-8."""
    for row in rows:
        file.write(orjson.dumps(dict(zip(COLUMNS, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE))


def write_csv(file: BinaryIO, rows: Rows) -> None:
    """RFC 4180: a header, CRLF, quotes where they are needed, in UTF-8. Lists and roles are JSON; true and false are
    `true` and `false`; what is absent is empty."""
    text = TextIOWrapper(file, "utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(_cells, rows))
        text.flush()
    finally:
        text.detach()


def _cells(row: tuple[Any, ...]) -> Iterator[Any]:
    for value in row:
        if value is True or value is False:
            yield "true" if value else "false"
        elif isinstance(value, tuple | dict):
            yield orjson.dumps(value).decode()
        else:
            yield value


def write_parquet(file: BinaryIO, rows: Rows) -> None:
    """Columns as `Index.to_arrow` has them, compressed with zstd."""
    loaded()
    from pyarrow.parquet import ParquetWriter

    with ParquetWriter(file, schema(), compression="zstd") as writer:
        for batch in batches(rows, COLUMNS):
            writer.write_batch(batch)


PARQUET = FileKind("entries.parquet", write_parquet)
JSONL = FileKind("entries.jsonl", write_jsonl)
CSV = FileKind("entries.csv", write_csv)
