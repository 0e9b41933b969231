"""Exports are read back by other programs and equal the entries; they are whole, and written again only if needed."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.corpora import BASE, write_tree
from helpers.support import reference, write_lines
from sidecar import ConfigError, Index, UnknownColumn
from sidecar.export import days as days_module
from sidecar.export.days import ExportedDay, export
from sidecar.export.entry_files import CSV, JSONL, PARQUET, FileKind
from sidecar.export.otlp import CONVENTIONS, OTLP
from sidecar.query.columns import COLUMNS
from sidecar.service.supervisor import run_once

SESSION = "responses/sessions/s.jsonl"
DAY = 86_400


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "logs"
    write_tree(root, 5, sessions=4, lines=40, events=6)
    run_once(reference(root), lambda _: None)
    return root


def rows_of(root: Path, **window: Any) -> list[dict[str, Any]]:
    with Index(root) as index:
        return [{name: getattr(one, name) for name in COLUMNS} for one in index.timeline(**window)]


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row with lists for tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


def exported(root: Path, folder: Path, kind: FileKind, **window: float) -> list[ExportedDay]:
    with Index(root) as index:
        return list(export(index, folder, kind, **window))


def files(folder: Path, kind: FileKind) -> list[Path]:
    return sorted(folder.glob(f"day=*/{kind.name}"))


# ---- what is in the files


def test_json_lines_have_every_column_of_every_entry_a_file_a_day(tree: Path, tmp_path: Path) -> None:
    written = exported(tree, tmp_path / "out", JSONL)
    with Index(tree) as index:
        assert [one.day for one in written] == index.days()
    assert [one.path for one in written] == files(tmp_path / "out", JSONL)
    lines = [json.loads(line) for path in files(tmp_path / "out", JSONL) for line in path.read_bytes().splitlines()]
    assert lines == list(map(plain, rows_of(tree)))


def test_csv_reads_back_as_the_entries(tree: Path, tmp_path: Path) -> None:
    exported(tree, tmp_path / "out", CSV)
    found = []
    for path in files(tmp_path / "out", CSV):
        assert path.read_bytes().count(b"\r\n") >= 2
        with path.open(newline="") as file:
            found += list(csv.DictReader(file))

    def cell(value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        return "" if value is None else str(value)

    for row, expected in zip(found, rows_of(tree), strict=True):
        for name, value in plain(expected).items():
            assert (json.loads(row[name]) == value) if isinstance(value, list | dict) else (row[name] == cell(value))


def test_parquet_reads_back_equal_with_pyarrow_and_duckdb(tree: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    exported(tree, tmp_path / "out", PARQUET)
    expected = list(map(plain, rows_of(tree)))
    tables = [parquet.ParquetFile(path).read() for path in files(tmp_path / "out", PARQUET)]
    found = [row for table in tables for row in table.to_pylist(maps_as_pydicts="strict")]
    assert found == expected
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    with duckdb.connect() as db:
        query = "SELECT * FROM read_parquet(?, hive_partitioning = false) ORDER BY timestamp, file_path, byte_offset"
        result = db.execute(query, [str(tmp_path / "out" / "day=*" / PARQUET.name)])
        names = [column[0] for column in result.description]
        assert [dict(zip(names, row, strict=True)) for row in result.fetchall()] == expected


def test_to_arrow_has_the_entries_of_a_window_in_the_columns_that_are_asked_for(tree: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    window = {"since": BASE, "until": BASE + DAY}
    with Index(tree) as index:
        assert index.to_arrow(**window).to_pylist(maps_as_pydicts="strict") == list(map(plain, rows_of(tree, **window)))
        table = index.to_arrow(columns=["author", "timestamp"])
        assert table.column_names == ["author", "timestamp"]
        assert table.num_rows == len(rows_of(tree))
        assert index.to_arrow(BASE, BASE).num_rows == 0
        with pytest.raises(UnknownColumn):
            index.to_arrow(columns=["nonsense"])


def test_a_window_is_exported_as_the_parts_of_its_days(tree: Path, tmp_path: Path) -> None:
    window = {"since": BASE + 10.0, "until": BASE + DAY + 5.0}
    exported(tree, tmp_path / "out", JSONL, **window)
    lines = [json.loads(line) for path in files(tmp_path / "out", JSONL) for line in path.read_bytes().splitlines()]
    assert lines == list(map(plain, rows_of(tree, **window))) and len(lines) < len(rows_of(tree))


def test_spans_are_the_answered_requests_without_what_was_said(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    ask = {"event": "completion:request", "correlation_id": "c", "timestamp": BASE}
    ask["data"] = {"agent_id": "a", "to_agent": "b", "prompt": "secret", "conversation_id": "talk"}
    answer = {"event": "completion:result", "correlation_id": "c", "timestamp": BASE + 2.5, "data": {"agent_id": "b"}}
    later = {**ask, "correlation_id": "open", "timestamp": BASE + 3}
    write_lines(root / SESSION, ask, answer, later)
    run_once(reference(root), lambda _: None)
    ((_, path, _, _),) = exported(root, tmp_path / "out", OTLP)
    assert CONVENTIONS in path.name and "secret" not in path.read_text()
    (scope,) = json.loads(path.read_text())["resourceSpans"][0]["scopeSpans"]
    (span,) = scope["spans"]
    assert (span["name"], span["kind"]) == ("invoke_agent b", 3)
    assert int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) == 2_500_000_000
    assert (len(span["traceId"]), len(span["spanId"])) == (32, 16)
    attributes = {one["key"]: one["value"]["stringValue"] for one in span["attributes"]}
    assert attributes["gen_ai.agent.name"] == "b" and attributes["gen_ai.conversation.id"] == "talk"


def test_nothing_is_exported_into_the_logs_or_the_index(tree: Path) -> None:
    for folder in (tree / "out", tree / "index", tree / "responses" / "x"):
        with pytest.raises(ConfigError, match="lies among the logs"):
            exported(tree, folder, JSONL)
        assert not (folder / "day=2024-12-29").exists()


# ---- again


def test_a_day_that_did_not_change_is_not_written_again_and_one_that_did_is(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert all(one.is_written for one in exported(tree, out, JSONL))
    before = {path: path.stat().st_mtime_ns for path in files(out, JSONL)}
    assert not any(one.is_written for one in exported(tree, out, JSONL))
    write_lines(tree / SESSION, {"event": "note", "timestamp": BASE + 1, "data": {"agent_id": "late"}})
    run_once(reference(tree), lambda _: None)
    assert [one.day for one in exported(tree, out, JSONL) if one.is_written] == ["2024-12-29"]
    changed = [path for path, time_ns in before.items() if path.stat().st_mtime_ns != time_ns]
    assert [path.parent.name for path in changed] == ["day=2024-12-29"]
    assert b'"late"' in changed[0].read_bytes()


def test_a_day_whose_index_files_look_as_they_did_is_not_even_read(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(days_module, "SETTLED", 0.0)
    exported(tree, tmp_path / "out", JSONL)
    assert {one.entries for one in exported(tree, tmp_path / "out", JSONL)} == {None}


def test_a_file_that_was_changed_or_lost_is_written_again(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(tree, out, JSONL)
    first, second, *_ = files(out, JSONL)
    whole = first.read_bytes(), second.read_bytes()
    first.write_bytes(b"cut")
    second.unlink()
    assert [one.path for one in exported(tree, out, JSONL) if one.is_written] == [first, second]
    assert (first.read_bytes(), second.read_bytes()) == whole


KILLED = """
import os, sys
from pathlib import Path
from sidecar import Index
from sidecar.export.days import export
from sidecar.export.entry_files import JSONL
left = int(sys.argv[3])
with Index(sys.argv[1]) as index:
    index.days()
    def hook(event, arguments):
        global left
        if event in ("os.rename", "os.remove") or event == "open" and "out" in str(arguments[0]):
            left -= 1
            if left < 0:
                os._exit(9)
    sys.addaudithook(hook)
    list(export(index, Path(sys.argv[2]), JSONL))
"""


def test_a_file_is_whole_or_not_there_wherever_an_export_is_killed(tmp_path: Path) -> None:
    root, out = tmp_path / "logs", tmp_path / "out"
    texts: set[bytes] = set()
    killed = 0
    for step in range(9):
        write_lines(root / SESSION, {"event": "note", "timestamp": BASE + step, "data": {"agent_id": f"a{step}"}})
        run_once(reference(root), lambda _: None)
        done = subprocess.run([sys.executable, "-c", KILLED, root, out, str(step)], check=False)
        killed += done.returncode == 9
        with Index(root) as index:
            whole = [plain(row) for row in rows_of(root)]
        for path in files(out, JSONL):
            lines = path.read_bytes().splitlines(keepends=True)
            assert all(line.endswith(b"\n") for line in lines)
            assert [json.loads(line)["id"] for line in lines] == [row["id"] for row in whole][: len(lines)]
            texts.add(path.read_bytes())
        with Index(root) as index:
            list(export(index, out, JSONL))
        assert [json.loads(line) for line in (out / "day=2024-12-29" / JSONL.name).read_bytes().splitlines()] == whole
    assert killed >= 5


def test_what_a_killed_export_left_is_deleted_later(tree: Path, tmp_path: Path) -> None:
    import os

    left = tmp_path / "out" / "day=2024-12-29" / f".{JSONL.name}.1-00.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    exported(tree, tmp_path / "out", JSONL)
    assert left.exists()  # perhaps another process is writing it
    os.utime(left, (time.time() - 7200,) * 2)
    exported(tree, tmp_path / "out", JSONL)
    assert not left.exists()
