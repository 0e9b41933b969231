"""The catalog's rows for those who copy an index elsewhere: when each source last changed, when its rows began, and
which logs are gone. All is written in the transaction of what it tells about, under the number of the next checkpoint.

A copier remembers the last checkpoint that it has seen. Sources that were saved after it may have new rows; those of
another generation have none of the old ones; and logs with a later tombstone have none at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from peewee import SqliteDatabase

_NOTE = (
    "INSERT INTO generation (source, number, checkpoint) VALUES (?1, ?2, ?2)"
    " ON CONFLICT (source) DO UPDATE SET checkpoint = excluded.checkpoint"
)
_NOTE_PATH = "UPDATE generation SET checkpoint = ? WHERE source = (SELECT id FROM source WHERE path = ?)"
_BEGIN = "INSERT OR REPLACE INTO generation (source, number, checkpoint) VALUES (?1, ?2, ?2)"


def note_saved(database: SqliteDatabase, sources: Iterable[int], checkpoint: int) -> None:
    """Note that a checkpoint saves some sources. A new source begins with it."""
    database.connection().executemany(_NOTE, [(source, checkpoint) for source in sources])


def note_saved_path(database: SqliteDatabase, path: str, checkpoint: int) -> None:
    """Note that a checkpoint saves the source with a path, if there is one."""
    database.execute_sql(_NOTE_PATH, (checkpoint, path))


def begin(database: SqliteDatabase, sources: Iterable[int], checkpoint: int) -> None:
    """Note that the rows that some sources have had are gone, or get other names."""
    database.connection().executemany(_BEGIN, [(source, checkpoint) for source in sources])


def bury(database: SqliteDatabase, paths: Sequence[str], checkpoint: int) -> None:
    """Note that some logs are gone; their sources are about to be deleted."""
    run = database.connection().executemany
    run("INSERT OR REPLACE INTO tombstone (path, checkpoint) VALUES (?, ?)", [(path, checkpoint) for path in paths])
    run("DELETE FROM generation WHERE source = (SELECT id FROM source WHERE path = ?)", [(path,) for path in paths])
