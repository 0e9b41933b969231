"""What is saved of a source between two runs is all that its next row depends on; only what changed is written."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.corpora import random_log, session_files
from helpers.support import (
    Stepped,
    any_source,
    everything,
    indexed,
    modelled,
    once,
    rebuilt,
    reference,
    scratch,
    write_lines,
)
from oracle import linking as plain_linking
from sidecar.health.status import status_of
from sidecar.health.verify import compare
from sidecar.indexer import source_cache
from sidecar.indexer.saved_source import to_save
from sidecar.ingest import linking
from sidecar.ingest.source import SourceState
from sidecar.records import Line
from sidecar.times import day_name, day_of

SESSION = "responses/sessions/s.jsonl"

# The first record has a time of its own: what a file's modification time is, is not the question here.
FIRST = orjson.dumps({"event": "agent:spawn", "timestamp": 1_735_500_000}) + b"\n"


def saved_and_restored(root: Path, content: bytes, at: list[int]) -> None:
    """Index a file piece by piece, with an end and a new start of the sidecar at each of these bytes."""
    conf = reference(root)
    log = root / SESSION
    log.parent.mkdir(parents=True)
    for start, end in zip([0, *at], [*at, len(content)], strict=True):
        with log.open("ab") as file:
            file.write(content[start:end])
        once(conf)
    assert indexed(root) == modelled(root)
    assert everything(root / "index") == rebuilt(conf)


def boundaries(content: bytes, every: int) -> list[int]:
    """The ends of lines, each so-and-so-manieth."""
    ends = [at + 1 for at, byte in enumerate(content) if byte == 10]
    return ends[every - 1 : -1 : every]


@given(session_files(max_lines=12), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_a_stop_behind_any_line_changes_no_later_row(content: bytes, every: int) -> None:
    content = FIRST + content
    with scratch() as root:
        saved_and_restored(root, content, boundaries(content, every))


@given(session_files(max_lines=12), st.data())
@settings(max_examples=10, deadline=None)
def test_a_stop_in_the_midst_of_a_line_changes_no_later_row(content: bytes, data: st.DataObject) -> None:
    content = FIRST + content
    at = data.draw(st.lists(st.integers(1, len(content)), max_size=5, unique=True).map(sorted))
    with scratch() as root:
        saved_and_restored(root, content, at)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_limits_on_what_is_remembered_hold_across_a_stop(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_linking, "KEPT", 3)
    monkeypatch.setattr(linking, "MAX_REMEMBERED_ANSWERS", 3)
    content = FIRST + random_log(seed, 400)
    saved_and_restored(tmp_path, content, boundaries(content, 23))


def test_a_long_log_with_few_stops_is_as_one_without(tmp_path: Path) -> None:
    content = FIRST + random_log(5, 4_000)
    saved_and_restored(tmp_path, content, boundaries(content, 611))


@pytest.mark.parametrize("held", [0, 60, 200])
def test_sources_that_leave_memory_come_back_as_they_were(
    held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_cache, "MIN_CACHED_SOURCES", 2)
    monkeypatch.setattr(source_cache, "MAX_COST", held)
    conf = reference(tmp_path)
    logs = [tmp_path / f"responses/sessions/s{number}.jsonl" for number in range(5)]
    contents = [FIRST + random_log(number, 60) for number in range(5)]
    logs[0].parent.mkdir(parents=True)
    with Stepped(conf) as stepped:
        for part in range(6):
            for log, content in zip(logs, contents, strict=True):
                size = len(content) // 6 + 1
                with log.open("ab") as file:
                    file.write(content[part * size : (part + 1) * size])
            stepped.turn()
    assert indexed(tmp_path) == modelled(tmp_path)
    assert everything(tmp_path / "index") == rebuilt(conf)


# ---- what a file's modification time may be


@pytest.mark.parametrize("layout", ["session", "file"])
@pytest.mark.parametrize("mtime", [-50_000_000_000, -1, 9_223_372_036, 10_413_792_000, 300_000_000_000])
def test_a_log_may_bear_any_time_that_a_file_system_keeps(mtime: int, layout: str) -> None:
    with scratch() as root:
        conf = reference(root)
        log = root / {"session": SESSION, "file": "events/2024-12-29/evt_note.json"}[layout]
        write_lines(log, {"event": "agent:spawn", "data": {"agent_id": "a"}})
        os.utime(log, (mtime, mtime))
        once(conf)
        if layout == "session":
            write_lines(log, {"event": "agent:spawn", "data": {"agent_id": "b"}})
            os.utime(log, (mtime, mtime))
        once(conf)
        assert len(indexed(root)) == (2 if layout == "session" else 1)
        assert indexed(root) == modelled(root)
        assert compare(conf).holds
        assert status_of(conf).behind_bytes == 0
        assert everything(root / "index") == rebuilt(conf)


@pytest.mark.parametrize(("noted", "day"), [(-1e300, "1970-01-01"), (1e300, "9999-12-31")])
def test_a_time_that_an_archive_notes_of_its_log_is_taken_for_one_of_the_calendar(noted: float, day: str) -> None:
    progress = SourceState(1, SESSION, any_source("session"), noted)
    (row,) = progress.ingest([Line(0, 1, b'{"event": "agent:spawn"}')]).rows
    assert (day_name(row.day), day_of(row.timestamp)) == (day, day)


# ---- what saving costs


def request(number: int) -> Line:
    data = orjson.dumps({"event": "completion:request", "correlation_id": f"c{number}", "timestamp": 1_735_500_000})
    return Line(number * 1_000, number, data)


def answer(number: int, to: int) -> Line:
    data = orjson.dumps({"event": "completion:result", "correlation_id": f"c{to}", "timestamp": 1_735_500_000})
    return Line(number * 1_000, number, data)


def asked(count: int) -> SourceState:
    progress = SourceState(1, SESSION, any_source("session"), 0.0)
    progress.ingest(request(number) for number in range(1, count + 1))
    return progress


def test_a_save_writes_the_requests_that_were_opened_and_closed_since_the_last() -> None:
    progress = asked(5_000)
    assert len(to_save(progress).opened) == 5_000
    progress.ingest([request(5_001), request(5_002), answer(5_003, 5_002), answer(5_004, 17)])
    saved = to_save(progress)
    assert [values[0] for values in saved.opened] == [5_001_000]
    assert saved.closed == [17_000]
    again = to_save(progress)
    assert (again.opened, again.closed, again.rejected, again.sessions) == ([], [], [], [])


def test_what_is_saved_of_a_source_does_not_grow_with_its_open_requests() -> None:
    few, many = asked(10), asked(20_000)
    assert len(to_save(many).source[-1]) < len(to_save(few).source[-1]) + 20


def test_a_request_answered_and_closed_between_two_saves_is_never_written() -> None:
    progress = asked(0)
    progress.ingest([request(1), answer(2, 1)])
    saved = to_save(progress)
    assert (saved.opened, saved.closed) == ([], [])
