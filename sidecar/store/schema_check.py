"""Check the schema of a database file: that its tables, indexes and views are as the sidecar makes them, and that
nothing else in it runs code.

An index may come from anybody, and SQLite runs the code that a schema contains. A view under the name of a table, a
trigger, or an index over an expression can keep a reader busy forever, fill the disk or use up the memory, and no
signal ends that, because SQLite does not return. A column that ignores case, or an index that allows a value only once,
changes or refuses rows. Tables and views under other names are never queried, so they may stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple, Self

from peewee import Model, SchemaManager, SqliteDatabase

from .catalog_schema import CATALOG_TABLES, CATALOG_VIEWS
from .daily_schema import DAILY_TABLES, ENTRY_INDEXES, KSI_INDEX, STATISTICS

OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 1001"
"""The query whose rows are checked: one more than are allowed, at most."""

_MAX_OBJECTS = 1000
_RUNS = re.compile(r"\b(AS|CHECK|DEFAULT|GENERATED|VIRTUAL)\b", re.IGNORECASE)
"""A word that makes a table compute something. No column of the sidecar's tables has such a name."""
_PLAIN_INDEX = re.compile(r"[^()]*\([^()]*\)")
"""The statement of an index over nothing but columns."""

_Object = tuple[object, ...]
"""A row of `OBJECTS`."""


class Schema(NamedTuple):
    """What a kind of database file contains."""

    objects: frozenset[_Object]
    """Its tables, indexes and views, as rows of `OBJECTS`."""
    tables: frozenset[object]
    """The names of the tables."""

    @classmethod
    def of(cls, models: Iterable[type[Model]], statements: Iterable[str]) -> Self:
        """The schema that these models and SQL statements create, found by creating it in memory."""
        database = SqliteDatabase(":memory:")
        try:
            for model in models:
                SchemaManager(model, database).create_table()
                SchemaManager(model, database).create_indexes()
            for statement in statements:
                database.execute_sql(statement)
            objects = frozenset(database.execute_sql(OBJECTS).fetchall())
        finally:
            database.close()
        return cls(objects, frozenset(name for kind, name, *_ in objects if kind == "table"))

    def stranger(self, objects: Iterable[_Object]) -> str | None:
        """The name of something that is missing in a file, or not as the sidecar makes it; None if there is nothing of
        the kind. `objects` are the rows of `OBJECTS`."""
        found = frozenset(objects)
        if len(found) > _MAX_OBJECTS:
            return f"more than {_MAX_OBJECTS} tables"
        for _, name, *_ in sorted(self.objects - found, key=str):
            return str(name)
        return next((str(one[1]) for one in found - self.objects if self._matters(*one)), None)

    def _matters(self, kind: object, _name: object, table: object, sql: object) -> bool:
        """Whether something that the sidecar did not make can run when the sidecar reads, writes or checks the file."""
        if kind == "view":
            return False
        if kind == "trigger" or table in self.tables:
            return True
        # The index that belongs to a UNIQUE in the statement of its table.
        if sql is None:
            return False
        if not isinstance(sql, str) or kind not in ("table", "index"):
            return True
        return bool(_RUNS.search(sql)) if kind == "table" else _PLAIN_INDEX.fullmatch(sql) is None


def are_tables(objects: Iterable[tuple[object, ...]], names: Iterable[str]) -> bool:
    """Whether everything with one of these names is a table that computes nothing. For files of any version; `objects`
    are the rows of `OBJECTS`."""
    wanted = frozenset(names)
    found = [(kind, sql) for kind, name, _, sql in objects if name in wanted]
    return all(kind == "table" and isinstance(sql, str) and _RUNS.search(sql) is None for kind, sql in found)


@cache
def daily_schema() -> Schema:
    """The schema of a daily file."""
    return Schema.of(DAILY_TABLES, (*ENTRY_INDEXES, KSI_INDEX, *STATISTICS))


@cache
def catalog_schema() -> Schema:
    """The schema of the catalog."""
    return Schema.of(CATALOG_TABLES, CATALOG_VIEWS)
