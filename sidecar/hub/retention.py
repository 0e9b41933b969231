"""What is old goes from the hub a day at a time: exported to Parquet, noted as closed, and dropped as a partition.

Nothing is locked while a day is exported. Before it goes, its rows are counted and summed up again under a lock; if
they are not those that were exported, the day is exported anew. Pushers bring nothing to a closed day, and count what
they leave out, so that the sum of entries holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecar.config.hub import is_node
from sidecar.errors import HubUnavailable
from sidecar.export.whole_file import drafted
from sidecar.fs import sync_folder
from sidecar.query.arrow import loaded
from sidecar.store.codec import agents_of, speakers
from sidecar.times import SECONDS_PER_DAY, day_name

from .link import connect, errors_named

if TYPE_CHECKING:
    import psycopg

_ROWS_AT_ONCE = 20_000
_TRIES = 5
_SELECTED = (
    'id, "timestamp", event_type, session_id, file_path, line_number, byte_offset, initiating_agent,'
    " participating_agents, agent_roles, pattern_type, conversation_id, correlation_id, is_completion, is_request,"
    " has_response, requests_response, has_author, addressees, self_place, answered_after"
)
_FINGERPRINT = "SELECT count(*), sum(byte_offset), sum(response), sum(checksum::bigint * (source % 1000)) FROM hub.{}"


class OldDay(NamedTuple):
    """A day that goes, or has gone."""

    day: str
    """`YYYY-MM-DD`."""
    entries: int
    files: tuple[str, ...] = ()
    """The Parquet files that it was exported to."""


def old_days(url: str, age: float) -> list[OldDay]:
    """The days of a hub that ended longer than `age` seconds ago, the oldest first."""
    last = day_name(int((time.time() - age) // SECONDS_PER_DAY))
    with connect(url, read_only=True) as db, errors_named(url):
        return [OldDay(day, _count(db, day)) for day in _days(db) if day < last]


def _days(db: psycopg.Connection[Any]) -> list[str]:
    sql = (
        "SELECT right(c.relname, 8) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'hub.entry'::regclass ORDER BY 1"
    )
    return [f"{name[:4]}-{name[4:6]}-{name[6:]}" for (name,) in db.execute(sql)]


def _partition(day: str) -> str:
    return f"entry_{day.replace('-', '')}"


def _count(db: psycopg.Connection[Any], day: str) -> int:
    row = db.execute(f"SELECT count(*) FROM hub.{_partition(day)}").fetchone()
    return int(row[0]) if row else 0


def drop(url: str, days: list[OldDay], export: Path | None, report: Callable[[OldDay], None]) -> None:
    """Drop days, each exported before if there is a folder for that. `report` is called for each that is gone. A kill
    leaves a day whole, or gone with its files durable. Raises HubUnavailable, MissingExtra, OSError."""
    if export is not None:
        loaded()
    with connect(url) as db, errors_named(url):
        for one in days:
            report(_drop(db, one.day, export))


def _drop(db: psycopg.Connection[Any], day: str, export: Path | None) -> OldDay:
    partition = _partition(day)
    for _ in range(_TRIES):
        files: list[str] = []
        with db.transaction():
            db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            exported = db.execute(_FINGERPRINT.format(partition)).fetchone()
            if export is not None:
                nodes = [_folder_name(name) for (name,) in db.execute("SELECT name FROM hub.node ORDER BY name")]
                files = [str(path) for node in nodes if (path := _exported(db, export, node, day))]
        with db.transaction():
            db.execute("LOCK TABLE hub.entry IN ACCESS EXCLUSIVE MODE")
            if db.execute(_FINGERPRINT.format(partition)).fetchone() != exported:
                continue
            count = int(exported[0]) if exported else 0
            db.execute(
                "UPDATE hub.source s SET entries = s.entries - x.n, closed = s.closed + x.n FROM"
                f" (SELECT node, source, count(*) AS n FROM hub.{partition} GROUP BY node, source) x"
                " WHERE (s.node, s.id) = (x.node, x.source)"
            )
            sql = "INSERT INTO hub.closed (day, entries, exported) VALUES (%s, %s, %s)"
            db.execute(sql, (day, count, "" if export is None else str(export.absolute())))
            db.execute(f"DROP TABLE hub.{partition}")
        return OldDay(day, count, tuple(files))
    raise HubUnavailable(f"rows keep coming to {day}", hint="wait until the machines have caught up, or drop less")


def _folder_name(node: str) -> str:
    """The name of a node, if it can be a part of a path. Any login that may push can have joined under any name."""
    if not is_node(node):
        hint = "`sidecar hub forget` deletes it; or drop without --export"
        raise HubUnavailable(f"the node {node!r} has a name that no folder can have", hint=hint)
    return node


def _exported(db: psycopg.Connection[Any], folder: Path, node: str, day: str) -> Path | None:
    """Write a node's entries of a day to a file, durably; None if there are none."""
    pyarrow = loaded()
    from pyarrow.parquet import ParquetWriter

    texts, numbers = pyarrow.list_(pyarrow.string()), pyarrow.int64()
    kinds = {"timestamp": pyarrow.float64(), "line_number": numbers, "byte_offset": numbers, "addressees": texts}
    kinds |= {"participating_agents": texts, "answered_after": pyarrow.float64()}
    kinds |= dict.fromkeys(("is_completion", "is_request", "has_response", "requests_response"), pyarrow.bool_())
    named = [name.strip().strip('"') for name in _SELECTED.split(",")]
    names = [*named[:17], "author", "addressees", "answered_after"]
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in names])
    path = folder / f"node={node}" / f"day={day}" / "entries.parquet"
    pages = _rows(db, node, day)
    first = next(pages, None)
    if first is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    with drafted(path) as draft:
        with ParquetWriter(draft.file, schema, compression="zstd") as writer:
            for rows in chain([first], pages):
                columns = [
                    pyarrow.array(values, field.type)
                    for values, field in zip(zip(*rows, strict=True), schema, strict=True)
                ]
                writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
        draft.finish()
    # The rows are dropped after this, so the way to the file must be durable too.
    for made in (path.parent.parent, folder, folder.absolute().parent):
        sync_folder(made)
    return path


def _rows(db: psycopg.Connection[Any], node: str, day: str) -> Iterator[list[tuple[Any, ...]]]:
    sql = (
        f'SELECT {_SELECTED} FROM hub.entries WHERE node = %s AND "timestamp" >= extract(epoch FROM %s::date)'
        ' AND "timestamp" < extract(epoch FROM %s::date) + 86400 ORDER BY "timestamp", file_path, byte_offset'
    )
    with db.cursor("exported") as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        cursor.execute(sql, (node, day, day))
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield [_as_exported(row) for row in rows]


def _as_exported(row: tuple[Any, ...]) -> tuple[Any, ...]:
    agents = tuple(agents_of(row[8]))
    author, addressees = speakers(agents, int(row[17]), row[18], row[19])
    return (*row[:8], agents, *row[9:17], author, addressees, row[20])
