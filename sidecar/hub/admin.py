"""The care of a hub: making it, how far each node is, dropping what is old, forgetting a node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from sidecar.errors import HubUnavailable

from . import schema, tables
from .link import connect, driver, errors_named


def init(url: str) -> bool:
    """Make the schema, the tables, the roles and their rights. Returns whether there was none. Raises SchemaMismatch if
    there is one of another version."""
    driver()
    from peewee import SchemaManager
    from playhouse.postgres_ext import Psycopg3Database
    from psycopg.conninfo import conninfo_to_dict

    with connect(url, check=False) as db, errors_named(url):
        found = db.execute("SELECT to_regclass('hub.meta')").fetchone()
    if found is not None and found[0] is not None:
        connect(url).close()
        return False
    given: dict[str, Any] = {**conninfo_to_dict(url)}
    database = Psycopg3Database(given.pop("dbname", None) or given.get("user"), **given)
    with errors_named(url), _as_of_driver(), database.connection_context(), database.atomic():
        database.execute_sql(schema.ROLES)
        database.execute_sql("CREATE SCHEMA hub")
        for model in tables.ALL:
            manager = SchemaManager(model, database)
            manager.create_table(safe=False)
            manager.create_indexes(safe=False)
        for sql in (schema.ENTRY, schema.FUNCTIONS, schema.VIEWS):
            database.execute_sql(sql.replace("%", "%%"))
        names = [*(model._meta.table_name for model in tables.OF_NODES), "entry"]
        database.execute_sql(schema.security(names))
        version = str(schema.VERSION)
        database.execute_sql("INSERT INTO hub.meta (key, value) VALUES ('version', %s)", (version,))
    return True


@contextmanager
def _as_of_driver() -> Iterator[None]:
    """Raise the errors of the driver, which peewee wraps in its own."""
    from peewee import PeeweeException

    try:
        yield
    except PeeweeException as error:
        if isinstance(error.__context__, driver().Error):
            raise error.__context__ from None
        raise


class NodeStatus(NamedTuple):
    """How far a node is."""

    node: str
    entries: int
    checkpoint: int
    behind_seconds: float | None
    """Seconds since the last push; None if there was none."""
    pushed_at: float | None
    """In seconds since 1970."""
    retries: int
    last_error: str | None


def status(url: str) -> list[NodeStatus]:
    """Every node of a hub, by name."""
    sql = (
        "SELECT node, entries, checkpoint, behind_seconds, extract(epoch FROM pushed_at)::float8, retries, last_error"
        " FROM hub.lag ORDER BY node"
    )
    with connect(url, read_only=True) as db, errors_named(url):
        return [NodeStatus(*row) for row in db.execute(sql)]


def forget(url: str, node: str) -> int:
    """Delete a node with all its rows. Returns the number of its entries. Raises HubUnavailable for an unknown one."""
    with connect(url) as db, errors_named(url), db.transaction():
        row = db.execute("SELECT id FROM hub.node WHERE name = %s FOR UPDATE", (node,)).fetchone()
        if row is None:
            raise HubUnavailable(f"the hub has no node {node!r}", hint="`sidecar hub status` lists them")
        entries = db.execute("DELETE FROM hub.entry WHERE node = %s", row).rowcount
        for model in tables.OF_NODES:
            db.execute(f"DELETE FROM hub.{model._meta.table_name} WHERE node = %s", row)
        db.execute("DELETE FROM hub.node WHERE id = %s", row)
    return int(entries)
