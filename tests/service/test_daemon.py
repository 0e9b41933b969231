"""One turn of the sidecar after the other, with the time handed in: no thread, no sleep, real files."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peewee import SqliteDatabase

from helpers.corpora import BASE, DAY, random_log
from helpers.support import (
    TESTS,
    Everything,
    Stepped,
    everything,
    indexed,
    modelled,
    once,
    rebuilt,
    reference,
    scratch,
    write_lines,
)
from sidecar.errors import SidecarError
from sidecar.indexer import source_cache
from sidecar.service import daemon

SESSIONS = "responses/sessions"
EVENTS = "events/2024-12-29"


def ask(correlation: str, at: float = BASE, **data: Any) -> dict[str, Any]:
    return {"event": "completion:request", "correlation_id": correlation, "timestamp": at, "data": data}


def answer(correlation: str, at: float = BASE, **data: Any) -> dict[str, Any]:
    return {"event": "completion:result", "correlation_id": correlation, "timestamp": at, "data": data}


def said(at: float = BASE, **data: Any) -> dict[str, Any]:
    return {"event": "agent:say", "timestamp": at, "data": data}


def session(root: Path, name: str = "s") -> Path:
    return root / SESSIONS / f"{name}.jsonl"


def event(root: Path, name: str = "evt_1735500000.5_agent_spawn.json") -> Path:
    path = root / EVENTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def ids(stepped: Stepped) -> list[str]:
    return [row[0] for row in stepped.rows]


def column(stepped: Stepped, number: int) -> dict[str, Any]:
    """A column of the view, by id."""
    return {row[0]: row[number] for row in stepped.rows}


HAS_RESPONSE = 15


def held(stepped: Stepped) -> Everything:
    """After a checkpoint, the index says what one rebuilt from the same logs says."""
    stepped.turn()
    live = everything(stepped.settings.index_folder)
    assert live == rebuilt(stepped.settings)
    return live


def catalog(root: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(root / "index" / "catalog.db")) as connection:
        return connection.execute(sql, values).fetchall()


# ---- files that grow


def test_an_empty_root_gives_an_empty_index(stepped: Stepped) -> None:
    stepped.turn()
    assert stepped.rows == []


def test_new_files_and_what_is_appended_to_them_are_found(stepped: Stepped, root: Path) -> None:
    write_lines(session(root), said())
    stepped.turn()
    assert ids(stepped) == ["s:0"]
    write_lines(session(root), said(), said())
    write_lines(session(root, "t"), said())
    stepped.turn()
    assert stepped.rows == modelled(root)
    assert len(stepped.rows) == 4
    held(stepped)


def test_files_that_no_event_ever_mentions_are_found_by_the_scan(stepped: Stepped, root: Path) -> None:
    for number in range(30):
        write_lines(session(root, f"s{number}"), said())
        event(root, f"evt_17355000{number}.5_x.json").write_bytes(orjson.dumps(said()))
        stepped.turn()
        assert len(stepped.rows) == 2 * (number + 1)
    held(stepped)


def test_between_two_scans_nothing_is_looked_at_without_a_hint(stepped: Stepped, root: Path) -> None:
    stepped.turn()
    write_lines(session(root), said())
    stepped.turn(seconds=1)
    assert stepped.rows == []
    stepped.turn(seconds=stepped.settings.scan_interval)
    assert ids(stepped) == ["s:0"]


def test_days_that_take_turns_in_a_file_go_to_their_own_files(stepped: Stepped, root: Path) -> None:
    for round_ in range(2):
        write_lines(session(root), *(said(BASE + DAY * ((number * 7) % 20)) for number in range(60)))
        stepped.turn()
        assert len(stepped.rows) == 60 * (round_ + 1)
    assert len(list((root / "index/daily").glob("*.db"))) == 20
    assert len(held(stepped).days) == 20


def test_an_answer_reaches_its_request_on_another_day(stepped: Stepped, root: Path) -> None:
    write_lines(session(root), ask("c1"))
    stepped.turn()
    assert column(stepped, HAS_RESPONSE)["s:0"] == 0
    write_lines(session(root), answer("c1", BASE + DAY))
    stepped.turn()
    assert column(stepped, HAS_RESPONSE)["s:0"] == 1
    assert stepped.rows == modelled(root)
    held(stepped)


def test_an_answer_before_a_request_of_an_earlier_day_marks_it_when_it_comes(stepped: Stepped, root: Path) -> None:
    write_lines(session(root), answer("c1", BASE + DAY))
    stepped.turn()
    write_lines(session(root), ask("c1"))
    stepped.turn()
    assert stepped.rows == modelled(root)
    held(stepped)


def test_a_torn_last_line_waits_for_its_end(stepped: Stepped, root: Path) -> None:
    line = orjson.dumps(said())
    write_lines(session(root), said(), line[:10])
    stepped.turn(10.0)
    assert ids(stepped) == ["s:0"]
    write_lines(session(root), line[10:])
    stepped.turn(10.0)
    assert ids(stepped) == ["s:0"]
    write_lines(session(root), b"\n")
    stepped.turn(10.0)
    assert len(ids(stepped)) == 2
    held(stepped)


def test_a_file_larger_than_a_batch_is_indexed_whole(
    stepped: Stepped, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "MAX_BATCH_ROWS", 50)
    for name in "abc":
        session(root, name).parent.mkdir(parents=True, exist_ok=True)
        session(root, name).write_bytes(orjson.dumps(said()) + b"\n" + random_log(1, 1_200))
    stepped.turn()
    assert stepped.rows == modelled(root)
    held(stepped)


def test_what_is_committed_is_seen_before_the_checkpoint(stepped: Stepped, root: Path) -> None:
    stepped.turn()
    write_lines(session(root), said())
    stepped.turn()
    write_lines(session(root), said())
    stepped.sidecar._timers.next_checkpoint = stepped.now + 100
    stepped.turn()
    assert len(ids(stepped)) == 2
    assert catalog(root, "SELECT lines FROM source") == [(1,)]
    held(stepped)
    assert catalog(root, "SELECT lines FROM source") == [(2,)]


# ---- event files


def test_an_event_file_renamed_into_place_is_seen_once(stepped: Stepped, root: Path) -> None:
    temporary = event(root, ".evt.tmp")
    temporary.write_bytes(orjson.dumps(said()))
    stepped.turn()
    temporary.rename(event(root))
    stepped.turn()
    stepped.turn()
    assert len(ids(stepped)) == 1
    held(stepped)


def test_an_event_file_written_in_two_writes_is_seen_once(stepped: Stepped, root: Path) -> None:
    data = orjson.dumps(said())
    event(root).write_bytes(data[:15])
    stepped.turn(1)
    assert (ids(stepped), everything(root / "index").rejected) == ([], [])
    with event(root).open("ab") as file:
        file.write(data[15:])
    stepped.now = time.time()
    stepped.turn(7)
    assert len(ids(stepped)) == 1
    assert held(stepped).rejected == []


def test_an_event_file_that_does_not_parse_is_rejected_once_it_has_settled(stepped: Stepped, root: Path) -> None:
    event(root).write_bytes(b'{"event": ')
    stepped.now = time.time()
    stepped.turn(0)
    stepped.turn(4)
    assert everything(root / "index").rejected == []
    stepped.turn(2)
    stepped.turn(2)
    assert [(one.line_number, one.byte_length, one.reason) for one in held(stepped).rejected] == [(1, 10, "not-json")]


def test_an_event_file_that_waits_is_rejected_after_a_restart_too(root: Path) -> None:
    event(root).write_bytes(b'{"event": ')
    once(reference(root))
    assert everything(root / "index").rejected == []
    with Stepped(reference(root)) as stepped:
        stepped.turn()
        stepped.turn()
        assert len(everything(root / "index").rejected) == 1


def test_an_event_file_dated_in_the_future_is_rejected_once_it_has_settled(stepped: Stepped, root: Path) -> None:
    event(root).write_bytes(b'{"event": ')
    os.utime(event(root), (4e9, 4e9))
    stepped.turn()
    stepped.turn()
    assert len(everything(root / "index").rejected) == 1


def test_a_rejected_event_file_that_is_put_right_becomes_an_entry(stepped: Stepped, root: Path) -> None:
    event(root).write_bytes(b"{")
    stepped.turn()
    stepped.turn()
    assert len(everything(root / "index").rejected) == 1
    event(root).write_bytes(orjson.dumps(said()))
    stepped.turn()
    assert len(ids(stepped)) == 1
    assert held(stepped).rejected == []


def test_an_event_file_with_other_bytes_gives_another_entry(stepped: Stepped, root: Path) -> None:
    event(root).write_bytes(orjson.dumps(said(agent_id="a")))
    stepped.turn()
    event(root).write_bytes(orjson.dumps(said(BASE + DAY, agent_id="b")))
    stepped.turn()
    assert [row[7] for row in stepped.rows] == ["b"]
    held(stepped)


def test_an_event_file_rewritten_within_a_tick_of_the_clock_gives_another_entry(stepped: Stepped, root: Path) -> None:
    """By its size and times it is the file that was looked at just before."""
    event = root / "events/2024-12-29/evt_1735500000.5_note.json"
    event.parent.mkdir(parents=True, exist_ok=True)
    written = int(stepped.now * 1e9) // 1_000_000 * 1_000_000 + 7
    for content in (b'{"event": "one"}', b'{"event": "two"}'):
        event.touch()
        with event.open("r+b") as file:
            file.write(content)
        os.utime(event, ns=(written, written))
        stepped.sidecar._queue[event.relative_to(root).as_posix()] = None  # as an event would
        stepped.turn(0)
        assert stepped.rows == modelled(root)


def test_an_event_file_that_is_too_long_is_rejected(root: Path) -> None:
    with Stepped(reference(root, max_line_bytes=100)) as stepped:
        event(root).write_bytes(orjson.dumps(said(text="x" * 200)))
        stepped.turn()
        assert [one.reason for one in held(stepped).rejected] == ["too-long"]


# ---- files that change, go and come back


def fill(root: Path) -> None:
    """A file of which something is kept in every table: rows on two days, an open request, a rejected line."""
    write_lines(session(root), ask("c1", agent_id="a"), said(BASE + DAY), b"no record\n", ask("c2", agent_id="b"))


def nothing_is_left_of_the_old(root: Path, *agents: str) -> None:
    assert catalog(root, "SELECT COUNT(*) FROM open_request WHERE correlation IN ('c1', 'c2')") == [(0,)]
    assert catalog(root, "SELECT COUNT(*) FROM rejected_line") == [(0,)]
    for path in (root / "index/daily").glob("*.db"):
        with closing(sqlite3.connect(path)) as day:
            named = "SELECT text FROM name WHERE id IN (SELECT agent FROM party_agent)"
            assert not set(agents or ("a", "b")) & {row[0] for row in day.execute(named)}


def test_of_a_file_that_was_replaced_every_old_row_goes(stepped: Stepped, root: Path) -> None:
    fill(root)
    write_lines(session(root, "other"), ask("c9", agent_id="z"))
    stepped.turn()
    other = root / "new"
    write_lines(other, said(BASE + 5 * DAY, agent_id="n"))
    other.replace(session(root))
    stepped.turn()
    assert stepped.rows == modelled(root)
    nothing_is_left_of_the_old(root)
    live = held(stepped)
    assert {one.session_id: one.initiating_agent for one in live.sessions} == {"s": "n", "other": "z"}
    assert [day[0] for day in live.days] == ["2024-12-29", "2025-01-03"]


def test_a_kill_while_a_file_is_replaced_leaves_the_new_one_no_time_of_the_old(root: Path) -> None:
    conf = reference(root, checkpoint_interval=10**9)
    write_lines(session(root), {"event": "agent:say"})
    os.utime(session(root), (BASE, BASE))
    with Stepped(conf) as stepped:
        stepped.turn()
        write_lines(root / "new", {"event": "agent:speak"})
        os.utime(root / "new", (BASE + DAY, BASE + DAY))
        (root / "new").replace(session(root))
        stepped.turn()
        assert stepped.rows == modelled(root)
        stepped.sidecar.abandon()
    with Stepped(conf) as stepped:
        stepped.turn()
        assert stepped.rows == modelled(root)


@pytest.mark.parametrize("size", [0, 7])
def test_of_a_file_that_was_truncated_every_old_row_goes(stepped: Stepped, root: Path, size: int) -> None:
    fill(root)
    stepped.turn()
    os.truncate(session(root), size)
    stepped.turn()
    assert stepped.rows == []
    nothing_is_left_of_the_old(root)
    held(stepped)


def test_a_file_truncated_and_grown_past_its_old_size_is_indexed_anew(stepped: Stepped, root: Path) -> None:
    fill(root)
    stepped.turn()
    os.truncate(session(root), 0)
    write_lines(session(root), *(said(agent_id=f"n{number}") for number in range(50)))
    stepped.turn()
    assert stepped.rows == modelled(root)
    nothing_is_left_of_the_old(root)
    held(stepped)


def test_a_file_that_changed_before_its_first_checkpoint_is_indexed_anew(stepped: Stepped, root: Path) -> None:
    stepped.sidecar._timers.next_checkpoint = stepped.now + 150
    fill(root)
    stepped.turn()
    session(root).unlink()
    write_lines(session(root), said(agent_id="n"))
    stepped.turn()
    assert stepped.rows == modelled(root)
    nothing_is_left_of_the_old(root)
    held(stepped)


def test_a_file_that_vanished_keeps_its_rows_and_is_marked(stepped: Stepped, root: Path) -> None:
    fill(root)
    stepped.turn()
    before = stepped.rows
    session(root).rename(root / "away")
    stepped.turn()
    assert stepped.rows == before
    assert catalog(root, "SELECT status FROM source") == [("missing",)]
    (root / "away").rename(session(root))
    stepped.turn()
    assert stepped.rows == before
    assert catalog(root, "SELECT status FROM source") == [("ok",)]
    held(stepped)


def test_a_file_that_returns_as_another_loses_its_old_rows(stepped: Stepped, root: Path) -> None:
    fill(root)
    stepped.turn()
    session(root).unlink()
    stepped.turn()
    write_lines(session(root), said(agent_id="n"))
    stepped.turn()
    assert stepped.rows == modelled(root)
    nothing_is_left_of_the_old(root)


def test_a_root_that_goes_away_takes_no_row_with_it(stepped: Stepped, root: Path) -> None:
    fill(root)
    write_lines(session(root, "t"), said())
    stepped.turn()
    before = stepped.rows
    (root / "responses").rename(root / "unmounted")
    stepped.turn()
    assert stepped.rows == before
    (root / "unmounted").rename(root / "responses")
    write_lines(session(root, "t"), said())
    stepped.turn()
    assert len(stepped.rows) == len(before) + 1
    held(stepped)


def test_a_file_that_cannot_be_read_for_a_moment_is_read_to_its_end_afterwards(
    stepped: Stepped, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.logs.tail.CHUNK_BYTES", 1_000)
    write_lines(session(root), *[said(n=number) for number in range(50)])
    stepped.now += 60
    stepped.sidecar.step(stepped.now)
    assert 0 < len(stepped.rows) < 50
    session(root).rename(root / "elsewhere")
    session(root).symlink_to(root / "elsewhere")
    stepped.sidecar.step(stepped.now)
    assert list(stepped.sidecar.faults.current) == [f"{SESSIONS}/s.jsonl"]
    (root / "elsewhere").rename(session(root))
    stepped.turn()
    assert len(stepped.rows) == 50 and not stepped.sidecar.faults.current
    held(stepped)


def test_an_error_of_a_file_ends_once_the_file_can_be_read_though_it_has_not_changed(
    stepped: Stepped, root: Path
) -> None:
    write_lines(session(root), said())
    stepped.turn()
    session(root).rename(root / "elsewhere")
    session(root).symlink_to(root / "elsewhere")
    stepped.turn()
    assert list(stepped.sidecar.faults.current) == [f"{SESSIONS}/s.jsonl"]
    (root / "elsewhere").rename(session(root))
    stepped.turn()
    assert not stepped.sidecar.faults.current
    held(stepped)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
def test_a_folder_that_cannot_be_read_is_no_empty_folder() -> None:
    with scratch() as root:  # a folder of pytest's lies where only its owner can enter
        fill(root)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(root), str(TESTS)], capture_output=True, check=False
        )
    assert done.returncode == 0, done.stderr.decode()


AS_NOBODY = """
import os, sys, pathlib
sys.path.insert(0, sys.argv[2])
from helpers.support import Stepped, reference
root = pathlib.Path(sys.argv[1])
with Stepped(reference(root)):
    pass  # whatever is loaded late is loaded now: Python itself may lie where only root can read
for path in (root, *root.rglob("*")):
    os.chown(path, 65534, 65534)
os.setuid(65534)
with Stepped(reference(root)) as stepped:
    stepped.turn()
    before = stepped.rows
    assert len(before) == 3, before
    for folder in (root / "responses/sessions", root / "responses"):
        folder.chmod(0)
        stepped.turn()
        assert stepped.rows == before
        assert "denied" in " ".join(stepped.sidecar.faults.current.values()), stepped.sidecar.faults.current
        assert not stepped.sidecar._writer.known.is_away("responses/sessions/s.jsonl")
        folder.chmod(0o700)
        stepped.turn()
        assert not stepped.sidecar.faults.current, stepped.sidecar.faults.current
    log = root / "responses/sessions/s.jsonl"
    log.chmod(0)
    stepped.turn()
    with log.with_name("t.jsonl").open("wb") as file:
        file.write(b'{"event": "x"}\\n')
    stepped.turn()
    assert len(stepped.rows) == 4
    assert not stepped.sidecar._writer.known.is_away("responses/sessions/s.jsonl")
"""


# ---- names and kinds of files


NAMES = [b"caf\xe9", b"new\nline", b"per%cent", "имя".encode(), b"a b", b".hidden", b"x" * 249, b"\xff\xfe", b"tab\t"]


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:20] for name in NAMES])
def test_any_name_that_a_file_can_have_is_indexed(stepped: Stepped, root: Path, name: bytes) -> None:
    session(root).parent.mkdir(parents=True)
    path = os.fsencode(session(root).parent) + b"/" + name + b".jsonl"
    for _ in range(2):
        with open(path, "ab") as file:
            file.write(orjson.dumps(ask("c1")) + b"\n")
        stepped.turn()
    assert len(ids(stepped)) == 2
    Path(os.fsdecode(path)).unlink()
    stepped.turn()
    assert catalog(root, "SELECT status FROM source") == [("missing",)]


def test_links_and_pipes_under_a_log_name_are_passed_over(stepped: Stepped, root: Path, tmp_path: Path) -> None:
    write_lines(session(root, "real"), said())
    write_lines(tmp_path / "outside.jsonl", said())
    session(root, "inside").symlink_to("real.jsonl")
    session(root, "outside").symlink_to(tmp_path / "outside.jsonl")
    session(root, "nowhere").symlink_to("nothing.jsonl")
    session(root, "loop").symlink_to("loop.jsonl")
    session(root, "folder").mkdir()
    os.mkfifo(session(root, "pipe"))
    event(root).symlink_to(session(root, "real"))
    stepped.turn()
    assert ids(stepped) == ["real:0"]
    held(stepped)


def test_a_log_that_becomes_a_link_is_not_followed(stepped: Stepped, root: Path, tmp_path: Path) -> None:
    write_lines(session(root), said())
    write_lines(tmp_path / "outside.jsonl", said(), said(), said())
    stepped.turn()
    session(root).unlink()
    session(root).symlink_to(tmp_path / "outside.jsonl")
    stepped.turn()
    assert ids(stepped) == ["s:0"]
    assert stepped.sidecar.faults.current.keys() == {f"{SESSIONS}/s.jsonl"}


@pytest.mark.parametrize("link", ["responses", SESSIONS])
def test_a_folder_that_is_a_link_out_of_the_root_is_told_and_not_read(
    stepped: Stepped, root: Path, tmp_path: Path, link: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    write_lines(elsewhere / "sessions/s.jsonl", said())
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(elsewhere / link.removeprefix("responses").removeprefix("/"))
    write_lines(event(root), orjson.dumps(said()))
    stepped.turn()
    assert [row[4] for row in stepped.rows] == [event(root).relative_to(root).as_posix()]
    assert "link" in " ".join(stepped.sidecar.faults.current.values())


def test_a_linked_folder_within_a_source_folder_is_not_followed(stepped: Stepped, root: Path) -> None:
    event(root).write_bytes(orjson.dumps(said()))
    (root / "events/linked").symlink_to(event(root).parent)
    (root / "events/loop").symlink_to(root / "events")
    stepped.turn()
    assert len(ids(stepped)) == 1


def test_a_root_that_is_a_link_is_read(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    write_lines(session(root), said())
    with Stepped(reference(tmp_path / "link")) as stepped:
        stepped.turn()
        assert ids(stepped) == ["s:0"]


# ---- what no checkpoint covers


@pytest.fixture
def unsaved(root: Path) -> Path:
    """A log with a bare request, saved; and its answer and more of later days, written and not saved."""
    log = session(root)
    bare = {"event": "completion:request", "timestamp": BASE, "data": {"agent_id": "a"}}
    write_lines(log, said(agent_id="a"), bare)
    once(reference(root))
    saved = log.stat().st_size
    write_lines(log, answer("c1", BASE + DAY, agent_id="b"), said(BASE + DAY), said(BASE + 2 * DAY, agent_id="gone"))
    stepped = Stepped(reference(root))
    stepped.sidecar.open()
    stepped.sidecar._timers.next_checkpoint = 2 * stepped.now
    stepped.turn()
    assert [row[HAS_RESPONSE] for row in stepped.rows] == [0, 1, 0, 0, 0]
    stepped.sidecar.abandon()
    assert catalog(root, "SELECT offset FROM source") == [(saved,)]
    return log


def test_rows_that_were_not_saved_are_taken_back_where_the_log_lost_their_lines(unsaved: Path, root: Path) -> None:
    (saved,) = catalog(root, "SELECT offset FROM source")[0]
    os.truncate(unsaved, saved)
    with Stepped(reference(root)) as stepped:
        stepped.turn()
        assert stepped.rows == modelled(root)
        assert [(row[12], row[HAS_RESPONSE]) for row in stepped.rows] == [(None, 0), (None, 0)]
        write_lines(unsaved, said(BASE + 2 * DAY, agent_id="n"), answer("c2", BASE + 2 * DAY, agent_id="n"))
        stepped.turn()
        assert stepped.rows == modelled(root)
        assert held(stepped).days[-1][0] == "2024-12-31"
        nothing_is_left_of_the_old(root, "gone", "b")


def test_rows_that_were_not_saved_come_again_where_the_log_has_them(unsaved: Path, root: Path) -> None:
    with Stepped(reference(root)) as stepped:
        stepped.turn()
        assert stepped.rows == modelled(root)
        assert len(stepped.rows) == len(unsaved.read_bytes().splitlines())
        held(stepped)


# ---- trouble with the index


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a lock of SQLite's."""

    def connect(path: str, *, timeout: float, **options: Any) -> SqliteDatabase:
        return SqliteDatabase(path, timeout=timeout / 100, **options)

    monkeypatch.setattr("sidecar.store.connection.SqliteDatabase", connect)


@pytest.mark.usefixtures("impatient")
def test_rows_that_could_not_be_written_come_with_the_next_try(root: Path) -> None:
    with Stepped(reference(root)) as stepped:
        write_past_a_lock(stepped, root)


def write_past_a_lock(stepped: Stepped, root: Path) -> None:
    write_lines(session(root), said())
    stepped.turn()
    write_lines(session(root), said())
    with closing(sqlite3.connect(root / "index/daily/2024-12-29.db", isolation_level=None)) as other:
        other.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        stepped.turn()
        assert "locked" in stepped.sidecar.faults.current["index"]
        other.execute("ROLLBACK")
    stepped.turn()
    assert len(ids(stepped)) == 2
    assert stepped.sidecar.faults.current == {}
    held(stepped)


@pytest.mark.usefixtures("impatient")
def test_an_index_that_cannot_be_written_is_told_by_name(root: Path) -> None:
    conf = reference(root)
    write_lines(session(root), said())
    once(conf)
    write_lines(session(root), said())
    with closing(sqlite3.connect(root / "index/daily/2024-12-29.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SidecarError, match="locked"):
            once(conf)
    once(conf)
    assert len(indexed(root)) == 2


# ---- whatever the order


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_no_boundary_between_batches_shows(seed: int) -> None:
    """Appends of any size to any file, turns, checkpoints and restarts in any order give the rows of a rebuild."""
    chance = random.Random(seed)
    patch = pytest.MonkeyPatch()
    patch.setattr(daemon, "MAX_BATCH_ROWS", chance.choice([1, 7, 10_000]))
    patch.setattr(source_cache, "MIN_CACHED_SOURCES", chance.choice([1, 2, 512]))
    patch.setattr(source_cache, "MAX_COST", chance.choice([0, 50, 100_000]))
    patch.setattr("sidecar.indexer.day_files.MAX_OPEN_DAYS", chance.choice([1, 2, 16]))
    patch.setattr("sidecar.logs.tail.CHUNK_BYTES", chance.choice([2_000, 1 << 20]))
    patch.setattr("sidecar.logs.tail.LONG_LINE", 500)
    first = orjson.dumps(said()) + b"\n"
    with ExitStack() as cleanup:
        cleanup.callback(patch.undo)
        root = cleanup.enter_context(scratch())
        rest = {session(root, str(number)): first + random_log(seed + number, 50) for number in range(4)}
        session(root).parent.mkdir(parents=True)
        conf = reference(root)
        stepped = Stepped(conf)
        stepped.sidecar.open()
        cleanup.callback(lambda: stepped.sidecar.abandon())
        while any(rest.values()):
            log = chance.choice([log for log, content in rest.items() if content])
            size = chance.choice([1, 80, 700, 5_000])
            with log.open("ab") as file:
                file.write(rest[log][:size])
            rest[log] = rest[log][size:]
            what = chance.random()
            if what < 0.5:
                stepped.now += chance.choice([0.1, 1, 6])
                stepped.sidecar.step(stepped.now)
            elif what < 0.6:
                stepped.turn()
            elif what < 0.7:
                stepped.sidecar.close() if what < 0.65 else stepped.sidecar.abandon()
                stepped = Stepped(conf)
                stepped.sidecar.open()
        stepped.turn()
        assert stepped.rows == modelled(root)
        held(stepped)


def test_what_sqlite_says_past_peewee_is_waited_out_like_any_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    log = tmp_path / "responses/sessions/s.jsonl"
    write_lines(log, {"event": "agent:say", "timestamp": BASE})
    with Stepped(reference(tmp_path)) as stepped:
        stepped.turn()
        write_lines(log, {"event": "agent:say", "timestamp": BASE + 1})
        with monkeypatch.context() as patch:
            patch.setattr("sidecar.indexer.dictionary.Dictionary.insert", fails)
            stepped.turn()
            assert "disk I/O error" in stepped.sidecar.faults.current["index"]
        stepped.turn()
        assert not stepped.sidecar.faults.current
        assert stepped.rows == modelled(tmp_path)
