"""Check the schema of a database file: that tables are tables, and that nothing in it runs code that is not ours.

An index may come from anybody, and SQLite runs the code that a schema contains. A view under the name of a table, a
trigger, or an index over an expression can keep a reader busy forever, fill the disk or use up the memory, and no
signal ends that, because SQLite does not return. Tables and views under other names are never queried, so they may
stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, Self

from peewee import Model

from .catalog_schema import CATALOG_TABLES, CATALOG_VIEWS
from .daily_schema import DAILY_TABLES, ENTRY_INDEXES, KSI_INDEX

OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 1001"
"""The query whose rows are checked: one more than are allowed, at most."""

_MAX_OBJECTS = 1000
_RUNS = re.compile(r"\b(AS|CHECK|DEFAULT|GENERATED|VIRTUAL)\b", re.IGNORECASE)
"""A word that makes a table compute something. No column of the sidecar's tables has such a name."""
_PLAIN_INDEX = re.compile(r'CREATE (UNIQUE )?INDEX "\w+" ON "\w+" \("\w+"(, "\w+")*\)', re.ASCII)
"""The statement of an index over columns, as peewee writes it."""
_VIEW_NAME = re.compile(r"CREATE VIEW (\w+)")


class Schema(NamedTuple):
    """What a kind of database file contains."""

    tables: frozenset[str]
    """Their names."""
    views: dict[str, str]
    """Their statements, by name."""
    indexes: frozenset[str]
    """The statements of indexes that are not simply over columns."""

    @classmethod
    def of(cls, models: Iterable[type[Model]], statements: Iterable[str]) -> Self:
        """The schema of a file that these models and these statements, for views and indexes, have created."""
        made = [_normal(sql) for sql in statements]
        views = {found[1]: sql for sql in made if (found := _VIEW_NAME.match(sql))}
        tables = frozenset(model._meta.table_name for model in models)
        return cls(tables, views, frozenset(made) - frozenset(views.values()))

    def stranger(self, objects: Iterable[tuple[object, ...]]) -> str | None:
        """The name of something that the sidecar does not make that way; None if there is nothing of the kind.

        `objects` are the rows of `OBJECTS`.
        """
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
    """Whether everything with one of these names is a table that computes nothing. For files of any version; `objects`
    are the rows of `OBJECTS`."""
    wanted = frozenset(names)
    found = [(kind, sql) for kind, name, _, sql in objects if name in wanted]
    return all(kind == "table" and isinstance(sql, str) and _RUNS.search(sql) is None for kind, sql in found)


def _normal(sql: str) -> str:
    """A statement as SQLite stores it, with single spaces between words."""
    return " ".join(sql.replace("IF NOT EXISTS ", "").split())


DAILY_SCHEMA = Schema.of(DAILY_TABLES, (*ENTRY_INDEXES, KSI_INDEX))
CATALOG_SCHEMA = Schema.of(CATALOG_TABLES, CATALOG_VIEWS)
