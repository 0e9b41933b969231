"""Databases on which every statement ends: SQLite itself may be led in a circle.

Pages of a database that refer to each other more than once make an answer that is longer than any disk, and a value may
claim to be as long as memory. SQLite finds neither while it reads, holds no signal in that time, and would fill memory.
So a statement may take so many steps (of SQLite's virtual machine) as the file has room for rows, and a value may have
`MAX_VALUE_BYTES`. The steps are counted in Python, so that ctrl-C ends a long statement too.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from peewee import SqliteDatabase

from .database_files import WAL

MAX_VALUE_BYTES = 1 << 28
"""Bytes of the longest value that is read."""

STEPS_PER_CALL = 1_000_000
STEPS_PER_BYTE = 50
"""Steps of a statement for each byte of the file. A walk through the view `ksi_index` takes two or three."""
LEAST_STEPS = 5_000_000
"""Steps of a statement on the smallest file."""
_DENSITY = 16
"""A file that has room for more than so many times what it takes on the disk is sparse rather than compressed."""

ENDLESS = "its pages lead in a circle"
INTERRUPTED = "interrupted"
"""What SQLite says of a statement that was ended."""


class StepCounter:
    """Ends a statement of a connection that takes too many steps. One for each connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = 0
        self.is_endless = False
        """Whether a statement was ended for that reason."""

    def bind(self, connection: sqlite3.Connection) -> None:
        """Watch over a new connection, before its first statement."""
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        connection.set_progress_handler(self._count, STEPS_PER_CALL)

    def begin(self) -> None:
        """A statement begins."""
        self._taken = 0

    def _count(self) -> bool:
        self._taken += STEPS_PER_CALL
        self.is_endless = self._taken > LEAST_STEPS and self._taken > STEPS_PER_BYTE * self._room()
        return self.is_endless

    def _room(self) -> int:
        """Bytes of the database and of its write-ahead log."""
        room = 0
        for path in (self._path, f"{self._path}{WAL}"):
            with suppress(OSError):
                status = os.stat(path)
                room += min(status.st_size, _DENSITY * 512 * status.st_blocks)
        return room


class BoundedDatabase(SqliteDatabase):
    """A database whose statements end. `path` is that of its file."""

    def __init__(self, path: Path, database: str, **options: Any) -> None:
        super().__init__(database, **options)
        self.counter = StepCounter(path)

    def _add_conn_hooks(self, conn: sqlite3.Connection) -> None:
        self.counter.bind(conn)  # before the pragmas, which make SQLite read the schema
        super()._add_conn_hooks(conn)  # type: ignore[misc]

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Execute a statement."""
        self.counter.begin()
        return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]

    def ask(self, sql: str, values: tuple[Any, ...]) -> sqlite3.Cursor:
        """Execute a statement, but not through peewee, which takes as long as SQLite for a short query."""
        self.counter.begin()
        connection: sqlite3.Connection = self.connection()  # type: ignore[no-untyped-call]
        return connection.execute(sql, values)
