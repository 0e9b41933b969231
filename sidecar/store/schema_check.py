"""Whether what has our names in a database file is what we made: tables that are tables, and nothing that runs.

An index may come from anybody, and SQLite runs what stands in it. A view under the name of a table, a trigger, or an
index over an expression can keep a reader busy for ever, fill the disk, or take all memory, and no signal ends that:
SQLite does not return. Tables and views under other names are never asked, and may stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, Self

from peewee import Model

from .catalog_schema import CATALOG_TABLES, CATALOG_VIEWS
from .daily_schema import DAILY_TABLES, ENTRY_INDEXES, KSI_INDEX

OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 1001"
"""The question whose answer is checked."""

_MAX_OBJECTS = 1000
_RUNS = re.compile(r"\b(AS|CHECK|DEFAULT|GENERATED|VIRTUAL)\b", re.IGNORECASE)
"""In the statement of a table: something is computed. None of ours has a column of such a name."""
_PLAIN_INDEX = re.compile(r'CREATE (UNIQUE )?INDEX "\w+" ON "\w+" \("\w+"(, "\w+")*\)', re.ASCII)
"""An index over columns, as peewee writes it."""
_VIEW_NAME = re.compile(r"CREATE VIEW (\w+)")


class Schema(NamedTuple):
    """What a kind of file has."""

    tables: frozenset[str]
    views: dict[str, str]
    """Statements by name."""
    indexes: frozenset[str]
    """Statements of indexes that are over more than columns."""

    @classmethod
    def of(cls, models: Iterable[type[Model]], statements: Iterable[str]) -> Self:
        """The schema that is made by some models and statements."""
        made = [_normal(sql) for sql in statements]
        views = {found[1]: sql for sql in made if (found := _VIEW_NAME.match(sql))}
        tables = frozenset(model._meta.table_name for model in models)
        return cls(tables, views, frozenset(made) - frozenset(views.values()))

    def stranger(self, objects: Iterable[tuple[object, ...]]) -> str | None:
        """The name of something in a file that is not as we make it; None where all is well."""
        found = list(objects)
        if len(found) > _MAX_OBJECTS:
            return f"more than {_MAX_OBJECTS} tables"
        return next((str(name) for kind, name, table, sql in found if not self._is_ours(kind, name, table, sql)), None)

    def _is_ours(self, kind: object, name: object, table: object, sql: object) -> bool:
        if kind == "trigger":
            return False
        text = _normal(sql) if isinstance(sql, str) else ""
        if name in self.tables:
            return kind == "table" and _RUNS.search(text) is None
        if name in self.views:
            return kind == "view" and text == self.views[str(name)]
        if kind == "index" and table in self.tables:
            return sql is None or text in self.indexes or _PLAIN_INDEX.fullmatch(text) is not None
        return True


def are_tables(objects: Iterable[tuple[object, ...]], names: Iterable[str]) -> bool:
    """Whether what has these names in a file, of whatever version, are tables in which nothing is computed."""
    wanted = frozenset(names)
    found = [(kind, sql) for kind, name, _, sql in objects if name in wanted]
    return all(kind == "table" and isinstance(sql, str) and _RUNS.search(sql) is None for kind, sql in found)


def _normal(sql: str) -> str:
    """A statement as SQLite keeps it, with single spaces."""
    return " ".join(sql.replace("IF NOT EXISTS ", "").split())


DAILY_SCHEMA = Schema.of(DAILY_TABLES, (*ENTRY_INDEXES, KSI_INDEX))
CATALOG_SCHEMA = Schema.of(CATALOG_TABLES, CATALOG_VIEWS)
