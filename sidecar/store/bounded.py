"""Databases on which every statement ends, even if the file leads SQLite in a circle.

If pages of a database refer to each other more than once, a query may have more rows than fit on any disk, and a value
may claim to be as long as the memory. SQLite notices neither while it reads, heeds no signal meanwhile, and may fill
the memory. So a statement may take only as many steps (of SQLite's virtual machine) as the file has room for rows, and
a value may have only `MAX_VALUE_BYTES`. The steps are counted in Python, so that ctrl-C ends a long statement too.
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
"""The most bytes of a value that is read."""

STEPS_PER_CALL = 1_000_000
"""Steps between two calls of the counter."""
STEPS_PER_BYTE = 50
"""The most steps of a statement for each byte of the file. A walk through the view `ksi_index` takes two or three."""
LEAST_STEPS = 5_000_000
"""Steps that a statement may take however small the file is."""
_DENSITY = 16
"""The most bytes of a file for each byte that it occupies on the disk. With more, it is sparse rather than compressed,
and the rest does not count as room for rows."""

ENDLESS = "its pages lead in a circle"
"""What the error says about a file whose statement was ended."""
INTERRUPTED = "interrupted"
"""SQLite's message for a statement that was ended."""


class StepCounter:
    """Ends a statement that takes too many steps. There is one for each connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = 0
        self.is_endless = False
        """Whether the last statement was ended for that reason."""

    def bind(self, connection: sqlite3.Connection) -> None:
        """Set the limits of a new connection. To be called before its first statement."""
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        connection.set_progress_handler(self._count, STEPS_PER_CALL)

    def begin(self) -> None:
        """Note that a statement begins."""
        self._taken = 0

    def _count(self) -> bool:
        self._taken += STEPS_PER_CALL
        self.is_endless = self._taken > LEAST_STEPS and self._taken > STEPS_PER_BYTE * self._room()
        return self.is_endless

    def _room(self) -> int:
        """The bytes of the database and of its write-ahead log that may hold rows."""
        room = 0
        for path in (self._path, f"{self._path}{WAL}"):
            with suppress(OSError):
                status = os.stat(path)
                room += min(status.st_size, _DENSITY * 512 * status.st_blocks)
        return room


class BoundedDatabase(SqliteDatabase):
    """A database on which every statement ends."""

    def __init__(self, path: Path, database: str, **options: Any) -> None:
        """`path` is that of the file; `database` and `options` are what peewee opens."""
        super().__init__(database, **options)
        self.counter = StepCounter(path)

    def _add_conn_hooks(self, conn: sqlite3.Connection) -> None:
        # Before the pragmas, which make SQLite read the schema.
        self.counter.bind(conn)
        super()._add_conn_hooks(conn)  # type: ignore[misc]

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Execute a statement."""
        self.counter.begin()
        return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]

    def ask(self, sql: str, values: tuple[Any, ...]) -> sqlite3.Cursor:
        """Execute a query without peewee, which alone takes as long as SQLite does for a short query."""
        self.counter.begin()
        connection: sqlite3.Connection = self.connection()  # type: ignore[no-untyped-call]
        return connection.execute(sql, values)
