"""Whoever holds a write-ahead log is named, and nobody else is."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from helpers.corpora import BASE
from helpers.support import Stepped, reference, write_lines
from sidecar.health import readers, status

READ = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN")
print(database.execute("SELECT count(*) FROM entry").fetchone(), flush=True)
sys.stdin.read()
"""


def test_a_reader_that_holds_the_write_ahead_log_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LARGE_LOG", 100_000)
    log = tmp_path / "responses/sessions/s.jsonl"
    settings = reference(tmp_path)
    with Stepped(settings) as stepped:
        write_lines(log, {"event": "x", "timestamp": BASE, "data": {"agent_id": "a"}})
        stepped.turn()
        (day,) = (tmp_path / "index" / "daily").glob("*.db")
        with subprocess.Popen(
            [sys.executable, "-c", READ, day], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as reader:
            assert reader.stdout is not None and reader.stdin is not None
            assert reader.stdout.readline()
            number = 0
            wal = day.with_name(day.name + "-wal")
            while wal.stat().st_size <= readers.LARGE_LOG:
                number += 1
                write_lines(log, {"event": f"e{number}", "timestamp": BASE, "data": {"agent_id": f"a{number}"}})
                stepped.turn()
            found = status.status_of(settings)
            assert [reason for reason in found.reasons if f"process {reader.pid} (" in reason and "-wal" in reason]
            assert str(os.getpid()) not in " ".join(found.reasons)
            assert not found.healthy
            reader.stdin.close()
        stepped.turn()
    assert not list(readers.held_logs(tmp_path / "index", None))


def test_a_small_log_is_not_worth_a_word(tmp_path: Path) -> None:
    settings = reference(tmp_path)
    with Stepped(settings) as stepped:
        write_lines(tmp_path / "responses/sessions/s.jsonl", {"event": "x", "timestamp": BASE})
        stepped.turn()
        (day,) = (tmp_path / "index" / "daily").glob("*.db")
        with closing(sqlite3.connect(day, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM entry").fetchone()
            assert not list(readers.held_logs(tmp_path / "index", None))
