"""`verify` holds where the index is what the logs say, finds every difference, and does not cry wolf."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from helpers.corpora import BASE, DAY, write_tree
from helpers.support import Stepped, eventually, indexed, reference, running, write_lines
from sidecar.config.settings import load_settings
from sidecar.errors import IndexDamaged, IndexMissing
from sidecar.health.verify import MAX_LISTED, MAX_TEXT, Verification, compare
from sidecar.records import Report
from sidecar.service.supervisor import rebuild, run_once

SESSION = "responses/sessions/s.jsonl"


def index_tree(root: Path) -> None:
    """Index a reference tree, as `sidecar run --once` does."""
    run_once(reference(root), lambda _: None)


def verified(root: Path) -> Verification:
    return compare(reference(root))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A request and its answer, a request that waits, and a line more; over two days; indexed."""
    write_lines(
        tmp_path / SESSION,
        {"event": "completion:request", "correlation_id": "c", "timestamp": BASE, "data": {"agent_id": "a"}},
        {"event": "completion:result", "correlation_id": "c", "timestamp": BASE + 1, "data": {"agent_id": "b"}},
        {"event": "completion:request", "correlation_id": "d", "timestamp": BASE + 2},
        {"event": "agent:spawn", "timestamp": BASE + DAY},
    )
    index_tree(tmp_path)
    return tmp_path


def tamper(root: Path, sql: str, *values: object) -> None:
    """Change the first day's file behind everybody's back."""
    path = min((root / "index" / "daily").glob("*.db"))
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute(sql, values).rowcount == 1


# ---- it holds


def test_it_holds_of_an_index_made_in_one_go(tmp_path: Path) -> None:
    write_tree(tmp_path, 6, sessions=8, lines=150, events=40)
    index_tree(tmp_path)
    found = verified(tmp_path)
    assert (found.holds, found.differences, found.missing_sources) == (True, (), 0)
    assert found.entries == found.pointers == len(indexed(tmp_path)) > 800


def test_it_holds_of_an_index_that_grew_and_of_one_made_again(tmp_path: Path) -> None:
    with Stepped(reference(tmp_path)) as sidecar:
        for n in range(30):
            write_tree(tmp_path, n, sessions=1, lines=12, events=1)
            sidecar.turn(3)
    assert verified(tmp_path).holds
    rebuild(reference(tmp_path), 1, lambda _: None)
    assert verified(tmp_path).holds


def test_it_holds_of_records_without_any_time_whose_file_was_touched_since(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, {"event": "agent:spawn"})
    os.utime(tmp_path / SESSION, (BASE, BASE))
    index_tree(tmp_path)
    os.utime(tmp_path / SESSION, (BASE + 9, BASE + 9))
    assert verified(tmp_path).holds


def test_it_holds_of_a_file_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path / "responses/sessions") + b"/caf\xe9.jsonl"))
    write_lines(path, {"event": "agent:spawn", "timestamp": BASE})
    index_tree(tmp_path)
    found = verified(tmp_path)
    assert (found.differences, found.entries, found.pointers) == ((), 1, 1)


def test_it_holds_though_lines_came_that_are_not_indexed_yet(root: Path) -> None:
    write_lines(root / SESSION, {"event": "completion:result", "correlation_id": "d", "timestamp": BASE + 3}, b"torn")
    assert verified(root).holds


def test_it_leaves_the_index_and_the_logs_as_they_are(root: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in root.rglob("*")}
    assert verified(root).holds
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in root.rglob("*")} == before


def test_it_tells_how_far_it_is(root: Path) -> None:
    reports: list[Report] = []
    compare(reference(root), reports.append)
    assert {report.what for report in reports} == {"rebuilding", "comparing"}


# ---- it finds


def test_it_finds_a_row_that_is_gone(root: Path) -> None:
    tamper(root, "DELETE FROM entry WHERE byte_offset = 0")
    found = verified(root)
    assert found.differences == (f"{SESSION}, byte 0: in the log, but not in the index",)
    assert (found.holds, found.entries) == (False, 3)


def test_it_finds_a_day_that_is_gone(root: Path) -> None:
    max((root / "index" / "daily").glob("*.db")).unlink()
    (difference,) = verified(root).differences
    assert "not in the index" in difference


def test_it_finds_a_row_that_was_invented(root: Path) -> None:
    columns = [
        *("source", "line_number", "byte_length", "checksum", "timestamp", "kind", "context", "party"),
        *("roles", "correlation", "requests_response", "has_response", "answered_after"),
    ]
    names = ", ".join(columns)
    tamper(root, f"INSERT INTO entry (byte_offset, {names}) SELECT 5, {names} FROM entry WHERE byte_offset = 0")
    differences = verified(root).differences
    assert f"{SESSION}, byte 5: in the index, but not in the log" in differences
    assert f"{SESSION}, byte 5: the bytes are not those that were indexed" in differences
    assert len(differences) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("has_response = 0", "has_response is 0, should be 1"),
        ("requests_response = 0", "requests_response is 0, should be 1"),
        ("answered_after = answered_after + 1", "answered_after is "),
        ("kind = (SELECT k.id FROM kind k WHERE k.id <> kind)", "event_type is "),
        ("timestamp = timestamp + 1", "timestamp is "),
        ("line_number = 7", "line_number is 7, should be 1"),
        ("correlation = NULL", "correlation_id is None, should be 'c'"),
        ("party = party + 1", "participating_agents is "),
    ],
)
def test_it_finds_a_changed_column_and_tells_what_it_should_be(root: Path, change: str, told: str) -> None:
    tamper(root, f"UPDATE entry SET {change} WHERE byte_offset = 0")
    (difference,) = verified(root).differences
    assert difference.startswith(f"{SESSION}, byte 0: ")
    assert told in difference


def test_it_finds_a_pointer_that_is_wrong(root: Path) -> None:
    tamper(root, "UPDATE entry SET byte_length = byte_length - 1 WHERE byte_offset = 0")
    assert verified(root).differences == (f"{SESSION}, byte 0: the bytes are not those that were indexed",)
    tamper(root, "UPDATE entry SET byte_length = 1152921504606846976 WHERE byte_offset = 0")
    assert verified(root).differences == (f"{SESSION}, byte 0: the bytes are not those that were indexed",)


def test_it_finds_bytes_that_were_changed_in_the_log(root: Path) -> None:
    content = (root / SESSION).read_bytes()
    (root / SESSION).write_bytes(content.replace(b'"a"', b'"z"'))
    differences = verified(root).differences
    assert f"{SESSION}, byte 0: the bytes are not those that were indexed" in differences
    assert any("initiating_agent is 'a', should be 'z'" in one for one in differences)


def test_it_finds_a_log_that_was_cut_short(root: Path) -> None:
    os.truncate(root / SESSION, 5)
    found = verified(root)
    assert sum("in the index, but not in the log" in one for one in found.differences) == 4


def test_it_tells_the_first_hundred_differences(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, *[{"event": "agent:spawn", "timestamp": BASE + n} for n in range(MAX_LISTED + 50)])
    index_tree(tmp_path)
    (tmp_path / SESSION).write_bytes(b"\n" * (tmp_path / SESSION).stat().st_size)
    assert len(verified(tmp_path).differences) == MAX_LISTED


# ---- it does not cry wolf


def test_a_difference_is_told_without_all_that_a_record_may_name(root: Path) -> None:
    tamper(
        root,
        "UPDATE party SET agents = '[\"' || hex(zeroblob(1000000)) || '\"]' WHERE id = (SELECT MAX(id) FROM party)",
    )
    found = verified(root).differences
    assert found and all(SESSION in text and len(text) <= MAX_TEXT + 1 for text in found)


def test_files_that_are_gone_are_counted_and_no_difference(root: Path) -> None:
    write_lines(root / "responses/sessions/gone.jsonl", {"event": "agent:spawn", "timestamp": BASE})
    index_tree(root)
    (root / "responses/sessions/gone.jsonl").unlink()
    for _ in range(2):  # before a sidecar has noticed, and after
        found = verified(root)
        assert (found.differences, found.missing_sources, found.entries) == ((), 1, 4)
        index_tree(root)


def test_it_holds_beside_a_sidecar_whose_logs_grow(tmp_path: Path) -> None:
    stop = threading.Event()

    def append() -> None:
        n = 0
        while not stop.wait(0.002):
            n += 1
            # Every answer changes a row that may have been compared already, or has yet to be.
            request = {"event": "completion:request", "timestamp": BASE + n, "correlation_id": f"c{n}"}
            answer = {"event": "completion:result", "timestamp": BASE + n, "correlation_id": f"c{n - 20}"}
            write_lines(tmp_path / f"responses/sessions/s{n % 3}.jsonl", request)
            write_lines(tmp_path / f"responses/sessions/s{(n - 20) % 3}.jsonl", answer)
            if n % 10 == 0:
                write_lines(tmp_path / f"events/2024-12-29/evt_{n}_spawn.json", {"event": "agent:spawn"})

    with running(tmp_path):
        thread = threading.Thread(target=append)
        thread.start()
        try:
            eventually(lambda: (tmp_path / "index" / "catalog.db").exists() and len(indexed(tmp_path)) > 200)
            counts = [0]
            # As often as it takes to see it grow: it may be past 800 before the first look is over.
            while counts[-1] < 800 or len(set(counts)) < 4:
                found = verified(tmp_path)
                assert found.differences == ()
                counts.append(found.entries)
        finally:
            stop.set()
            thread.join()
    assert verified(tmp_path).holds


# ---- it cannot


def test_without_an_index_there_is_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(IndexMissing):
        verified(tmp_path)


def test_a_damaged_day_is_damage_and_no_difference(root: Path) -> None:
    path = min((root / "index" / "daily").glob("*.db"))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    with pytest.raises(IndexDamaged, match=path.name):
        verified(root)


def test_other_sources_make_other_rows(root: Path) -> None:
    differences = compare(load_settings(root=root, preset="none")).differences
    assert len(differences) == 4
    assert all("in the index, but not in the log" in one for one in differences)
