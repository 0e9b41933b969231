"""The metadata for Datasette fits the daily files that it is for."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner

from helpers.corpora import write_tree
from helpers.support import reference
from sidecar.cli import cli
from sidecar.service.supervisor import run_once


def test_tables_columns_and_questions_are_those_of_every_daily_file(tmp_path: Path) -> None:
    write_tree(tmp_path, 5, sessions=2, lines=20, events=2)
    run_once(reference(tmp_path), lambda _: None)
    printed = CliRunner().invoke(cli, ["--root", str(tmp_path), "datasette-metadata"])
    databases = json.loads(printed.stdout)["databases"]
    daily = sorted((tmp_path / "index" / "daily").glob("*.db"))
    assert list(databases) == [path.stem for path in daily]
    for path in daily:
        about = databases[path.stem]
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
            columns = {row[1] for row in db.execute("PRAGMA table_info(ksi_index)")}
            assert set(about["tables"]) <= names
            view = about["tables"]["ksi_index"]
            assert {*view["columns"], "event_type", "pattern_type", "participating_agents"} <= columns
            for query in about["queries"].values():
                db.execute(query["sql"], {"agent": "agent_a", "conversation": "conv_1"}).fetchall()
