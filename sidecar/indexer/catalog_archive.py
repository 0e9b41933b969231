"""What the catalog says of the archive: which bytes of a log lie where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from peewee import SqliteDatabase

from sidecar.records import Part

PARTS = (
    "SELECT f.name, a.at, a.size, a.lines, a.sign FROM archived a JOIN archive_file f ON f.id = a.file"
    " WHERE a.source = {source} ORDER BY a.start"
)


def parts(database: SqliteDatabase, source: int) -> tuple[Part, ...]:
    """What of a source lies in the archive, in order."""
    return tuple(Part(*row) for row in database.execute_sql(PARTS.format(source="?"), (source,)))


def save_parts(database: SqliteDatabase, source: int, of_it: Sequence[tuple[Any, ...]]) -> None:
    """Say where all that is archived of a source lies; within a transaction."""
    start = 0
    for values in of_it:
        part = Part(*values)
        save_part(database, source, start, part)
        start += part.size


def save_part(database: SqliteDatabase, source: int, start: int, part: Part) -> None:
    """Say where the bytes of a source from `start` on lie; within a transaction."""
    database.execute_sql("INSERT OR IGNORE INTO archive_file (name) VALUES (?)", (part.file,))
    database.execute_sql(
        "INSERT OR REPLACE INTO archived (source, start, file, at, size, lines, sign)"
        " SELECT ?, ?, id, ?, ?, ?, ? FROM archive_file WHERE name = ?",
        (source, start, part.at, part.size, part.lines, part.sign, part.file),
    )


def drop_parts(database: SqliteDatabase, source: int, start: int) -> None:
    """Forget what of a source is archived from a byte on; within a transaction."""
    database.execute_sql("DELETE FROM archived WHERE source = ? AND start >= ?", (source, start))


def drop_unused(database: SqliteDatabase) -> None:
    """Forget archive files that hold nothing of any source."""
    database.execute_sql("DELETE FROM archive_file WHERE id NOT IN (SELECT file FROM archived)")


def drop_sources(database: SqliteDatabase, paths: Iterable[str]) -> None:
    """Forget sources whose rows are gone; within a transaction."""
    run = database.connection().executemany
    ids = [(path,) for path in paths]
    for table in ("archived", "open_request", "held_role", "session_part", "rejected_line"):
        run(f"DELETE FROM {table} WHERE source = (SELECT id FROM source WHERE path = ?)", ids)
    run("DELETE FROM source WHERE path = ?", ids)
    drop_unused(database)


# ---- filters of days


def filtered(database: SqliteDatabase) -> set[str]:
    """The days that have a filter."""
    return {str(day) for (day,) in database.execute_sql("SELECT day FROM filtered_day")}


def save_filter(database: SqliteDatabase, day: str, blocks: Sequence[bytes], *, is_compact: bool) -> None:
    """Keep the filter of a day; within a transaction."""
    drop_filters(database, [day])
    rows = [(day, number, bits) for number, bits in enumerate(blocks)]
    database.connection().executemany("INSERT INTO day_filter (day, block, bits) VALUES (?, ?, ?)", rows)
    database.execute_sql("INSERT INTO filtered_day VALUES (?, ?, ?)", (day, len(blocks), is_compact))


def drop_filters(database: SqliteDatabase, days: Iterable[str]) -> None:
    """Forget the filters of days; within a transaction."""
    names = [(day,) for day in days]
    for table in ("filtered_day", "day_filter"):
        database.connection().executemany(f"DELETE FROM {table} WHERE day = ?", names)
