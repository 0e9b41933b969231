"""Databases in the index folder that are not as the sidecar makes them: other columns, indexes and rules, or pages that
lead in a circle. Nobody who reads hangs or fills memory, and the next start makes the index good."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from helpers.corpora import write_tree
from helpers.support import HANG, command, indexed, modelled, reference, write_lines
from sidecar.errors import IndexDamaged
from sidecar.query.index import Index
from sidecar.service.supervisor import rebuild, run_once

DAY = "daily/2024-12-29.db"
CATALOG = "catalog.db"


@pytest.fixture(scope="module")
def indexed_logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "logs"
    write_tree(folder, 1, sessions=3, lines=60, events=3)
    index_once(folder)
    return folder


@pytest.fixture
def logs(indexed_logs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(indexed_logs, tmp_path / "logs"))


def index_once(root: Path) -> None:
    run_once(reference(root), lambda _: None)


def in_schema(table: str, old: str, new: str) -> str:
    return (
        "PRAGMA writable_schema = on;"
        f"UPDATE sqlite_schema SET sql = replace(sql, '{old}', '{new}') WHERE name = '{table}'"
    )


SCHEMAS = {
    "an index that allows a time once": (DAY, "DELETE FROM entry; CREATE UNIQUE INDEX u ON entry (timestamp)"),
    "an index that is missing": (DAY, "DROP INDEX entry_pending"),
    "an index of another column": (DAY, "DROP INDEX entry_time; CREATE INDEX entry_time ON entry (id)"),
    "names that ignore case": (DAY, in_schema("name", '"text" TEXT', '"text" TEXT COLLATE NOCASE')),
    "rows that are passed over": (DAY, in_schema("entry", "NOT NULL", "NOT NULL ON CONFLICT IGNORE")),
    "a column more": (DAY, "ALTER TABLE entry ADD COLUMN more"),
    "a column that is computed": (DAY, "ALTER TABLE entry ADD COLUMN more AS (hex(zeroblob(400000000)))"),
    "a rule for a column": (DAY, "ALTER TABLE entry ADD COLUMN more CHECK (more IS NULL)"),
    "a reference to another table": (DAY, in_schema("entry", '"kind" INTEGER', '"kind" INTEGER REFERENCES name (id)')),
    "a view with other columns": (DAY, "DROP VIEW ksi_index; CREATE VIEW ksi_index AS SELECT id FROM entry"),
    "a table of somebody else's that computes": (
        DAY,
        "CREATE TABLE mine (x); INSERT INTO mine VALUES (1);"
        + in_schema("mine", "(x)", "(x CHECK (hex(zeroblob(400000000)) > x))"),
    ),
    "an index over an expression elsewhere": (DAY, "CREATE TABLE mine (x); CREATE INDEX i ON mine (lower(x))"),
    "a catalog that allows a state once": (CATALOG, "DELETE FROM source; CREATE UNIQUE INDEX u ON source (status)"),
    "a catalog with a column more": (CATALOG, "ALTER TABLE session_part ADD COLUMN more CHECK (more IS NULL)"),
}


@pytest.mark.parametrize("change", SCHEMAS)
def test_a_database_with_another_schema_is_named_and_made_again(logs: Path, change: str) -> None:
    name, sql = SCHEMAS[change]
    with closing(sqlite3.connect(logs / "index" / name)) as database:
        database.executescript(sql)
        database.commit()
    with Index(logs) as index, pytest.raises(IndexDamaged, match=Path(name).name):
        list(index.timeline() if name == DAY else index.sessions())
    index_once(logs)
    assert indexed(logs) == modelled(logs)
    with Index(logs) as index:
        assert list(index.sessions())


HEADERS = {
    "a format that is not written": (18, b"\x03"),
    "a format that is not read": (18, b"\x03\x03"),
    "a schema of a later SQLite": (44, struct.pack(">I", 9)),
    "an encoding that there is not": (56, struct.pack(">I", 9)),
    "most of each page reserved": (20, b"\xc8"),
    "a list of free pages without end": (32, struct.pack(">II", 2, 2**31 - 1)),
}


@pytest.mark.parametrize("name", [DAY, CATALOG])
@pytest.mark.parametrize("header", HEADERS)
def test_a_database_whose_header_is_changed_is_made_again(logs: Path, name: str, header: str) -> None:
    at, value = HEADERS[header]
    with (logs / "index" / name).open("r+b") as file:
        file.seek(at)
        file.write(value)
    write_lines(logs / "responses/sessions/new.jsonl", {"event": "x", "timestamp": 1735500000})
    index_once(logs)
    assert indexed(logs) == modelled(logs)


# ---- pages that lead in a circle


def lead_astray(path: Path, name: str, width: int = 60, depth: int = 12) -> None:
    """Make the tree of a table lead to each of its pages over and over, `width` times on each of `depth` levels."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = delete")
        (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    pages = len(content) // size
    where = (root - 1) * size
    leaf = bytearray(content[where : where + size])
    below = pages + depth + 1
    level = [_interior(size, target, width) for target in range(pages + 2, below + 1)]
    content[where : where + size] = _interior(size, pages + 1, width)
    content += b"".join(level) + leaf
    content[28:32] = struct.pack(">I", len(content) // size)
    path.write_bytes(content)


def _interior(size: int, target: int, width: int) -> bytes:
    """A page of a table whose children are all the same page."""
    cells = b"".join(struct.pack(">IB", target, 1 + number) for number in range(width))
    begin = size - len(cells)
    places = b"".join(struct.pack(">H", begin + 5 * number) for number in range(width))
    header = struct.pack(">BHHHBI", 5, 0, width, begin, 0, target)
    return (header + places).ljust(begin, b"\0") + cells


@pytest.mark.parametrize(("name", "table"), [(DAY, "entry"), (CATALOG, "source")])
def test_pages_that_lead_in_a_circle_hold_nobody(logs: Path, name: str, table: str) -> None:
    lead_astray(logs / "index" / name, table)
    for words in (["query", "agents"], ["status"], ["verify"]):
        done = subprocess.run(
            command("--root", logs, *words), capture_output=True, text=True, check=False, timeout=HANG
        )
        assert "Traceback" not in done.stderr
        assert "MemoryError" not in done.stderr
    index_once(logs)
    assert indexed(logs) == modelled(logs)


def test_a_value_longer_than_any_that_is_written_is_damage(logs: Path) -> None:
    day = logs / "index" / DAY
    with closing(sqlite3.connect(day)) as database:
        database.execute("PRAGMA journal_mode = delete")
        database.execute("UPDATE party SET agents = zeroblob(300000000) WHERE id = 1")
        database.commit()
    with Index(logs) as index, pytest.raises(IndexDamaged, match=str(day)):
        list(index.timeline())
    rebuild(reference(logs), 1, lambda _: None)
    assert indexed(logs) == modelled(logs)
    assert os.stat(day).st_size < 1_000_000
