"""Bytes that attack: whatever a log holds ends as rows or as rejected lines, in bounded memory and at bounded cost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.corpora import BASE
from helpers.support import (
    LATER,
    Stepped,
    any_source,
    command,
    everything,
    indexed,
    modelled,
    rebuilt,
    reference,
    rows_of,
    scratch,
    write_lines,
)
from helpers.tally import Tally
from oracle.model import model_file
from sidecar.indexer import source_cache
from sidecar.indexer.saved_source import to_save
from sidecar.ingest.source import SourceState
from sidecar.records import Line
from sidecar.service import daemon
from sidecar.service.supervisor import run_once

LOG = "responses/sessions/s.jsonl"
FIRST = orjson.dumps({"event": "agent:spawn", "timestamp": BASE}) + b"\n"

# ---- any bytes

TOKENS = [
    *(b'{"event":"completion:request"}', b'{"event":"completion:result","data":{"agent_id":"a"}}'),
    *(b"\n", b"\n\n", b"\r\n", b"{", b"}", b"[", b"]", b",", b":", b" ", b"null", b"true", b'"a"', b"1735500000"),
    *(b'"event"', b'"data"', b'"timestamp"', b'"correlation_id"', b'"participants"', b'"agent_id"', b'"role"'),
    *(b"1e999", b"-1e999", b"1e308", b"-0.0", b"9" * 10_000, b"18446744073709551616", b"NaN", b"Infinity"),
    *(b'"\\ud800"', b'"\\u0000"', b"\xff", b"\xed\xa0\x80", b"\x00", b"\xef\xbb\xbf", b"\xc0\x80"),
    *(b"[" * 1_023, b"]" * 1_023, b"[" * 5_000, b'{"data":' * 600, b"}" * 600),
]  # fmt: skip


def soup() -> st.SearchStrategy[bytes]:
    """JSON that was taken apart and thrown together, with bytes between."""
    return st.lists(st.sampled_from(TOKENS) | st.binary(max_size=20), max_size=40).map(b"".join)


@given(soup(), st.sampled_from(["session", "stream", "file"]), st.sampled_from([50, 16 << 20]))
@settings(max_examples=120, deadline=None)
def test_any_bytes_become_the_rows_and_rejected_lines_of_the_law(content: bytes, layout: str, longest: int) -> None:
    path = "events/2024-12-29/evt_1.5_x.json" if layout == "file" else LOG
    found = rows_of(content, path, layout, BASE, longest)
    expected = model_file(content, path=path, layout=layout, mtime=BASE, max_line_bytes=longest, settled=True)
    assert found.rows == expected.rows
    assert sorted(found.rejected) == sorted(expected.rejected)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
@pytest.mark.parametrize("layout", ["session", "file"])
@pytest.mark.parametrize("length", range(48, 54))
def test_a_line_is_too_long_from_the_first_byte_over_its_limit_whatever_ends_it(
    end: bytes, layout: str, length: int
) -> None:
    content = b'{"event":"x"}' + b" " * (length - 13) + end
    path = "events/2024-12-29/evt_1.5_x.json" if layout == "file" else LOG
    found = rows_of(content, path, layout, BASE, 50)
    expected = model_file(content, path=path, layout=layout, mtime=BASE, max_line_bytes=50, settled=True)
    assert (found.rows, found.rejected) == (expected.rows, expected.rejected)
    assert found.bytes == {key: expected.bytes[key] for key in found.bytes}


@given(st.lists(soup(), min_size=1, max_size=4), st.lists(soup(), max_size=3))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_whole_tree_of_any_bytes_is_indexed_live_as_it_is_rebuilt(logs: list[bytes], events: list[bytes]) -> None:
    with scratch() as root:
        sessions = root / "responses/sessions"
        sessions.mkdir(parents=True)
        conf = reference(root)
        with Stepped(conf) as stepped:
            for part in (0, 1):
                for number, content in enumerate(logs):
                    half = len(content) // 2
                    with (sessions / f"s{number}.jsonl").open("ab") as log:
                        log.write((b"" if part else FIRST) + (content[half:] if part else content[:half]))
                stepped.turn()
            for number, content in enumerate(events):
                write_lines(root / f"events/2024-12-29/evt_{number}_x.json", content)
            stepped.turn()
            stepped.turn()
        assert indexed(root) == modelled(root, LATER)
        assert everything(root / "index") == rebuilt(conf)


# ---- lines that are too much, one by one

KEYS = b",".join(b'"k%d":%d' % (number, number) for number in range(300_000))
NAMES = b",".join(b'"agent_%d"' % number for number in range(3_000))
HEAVY = {
    "a million digits": b'{"event":"x","timestamp":' + b"1" * 1_000_000 + b',"correlation_id":' + b"7" * 10_000 + b"}",
    "an exponent": b'{"event":"x","timestamp":1e999}',
    "past 64 bits": b'{"event":"x","timestamp":170000000000000000000,"data":{"agent_id":18446744073709551616}}',
    "many keys": b'{"event":"x",' + KEYS + b"}",
    "the same key again and again": b'{"event":"x",' + b'"data":{"agent_id":"a"},' * 100_000 + b'"event":"y"}',
    "nesting": b'{"event":"x","data":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    "objects in objects": b'{"event":"x","data":' + b'{"data":' * 100_000 + b"1" + b"}" * 100_001,
    "many participants": b'{"event":"x","data":{"participants":[' + NAMES + b"]}}",
    "many addressees": b'{"event":"completion:request","data":{"to_agents":[' + NAMES + b"]}}",
    "a long name": b'{"event":"x","data":{"agent_id":"' + b"a" * 3_000_000 + b'","role":"' + b"r" * 3_000_000 + b'"}}',
    "a long event type": b'{"event":"' + b"a:" * 1_000_000 + b'request","correlation_id":"' + b"c" * 1_000_000 + b'"}',
    "an early answer with a long correlation": b'{"event":"a:result","correlation_id":"' + b"d" * 1_000_000 + b'"}',
    "its request": b'{"event":"a:request","correlation_id":"' + b"d" * 1_000_000 + b'"}',
    "no words": b" " * 5_000_000,
    "zeros": bytes(5_000_000),
}  # fmt: skip


def test_excessive_lines_are_rows_or_rejected_each_by_itself(tally: Callable[[str], Tally]) -> None:
    with scratch() as root:
        log = root / LOG
        write_lines(log, FIRST, *(line + b"\n" + FIRST for line in HEAVY.values()))
        conf = reference(root)
        run_once(conf, lambda _: None)
        live = everything(root / "index")
        counted = tally("lines that are too much")
        counted.tried += len(HEAVY)
        counted.compare(live.rows, modelled(root))
        with Stepped(conf) as stepped:
            write_lines(log, *(line + b"\n" for line in HEAVY.values()))
            stepped.turn()
        counted.tried += len(HEAVY)
        counted.compare(indexed(root), modelled(root))


# ---- memory


def peak(root: Path, *options: str) -> int:
    """The most memory that `run --once` ever held, in MB."""
    process = subprocess.Popen(command("--root", root, *options, "run", "--once"), stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss // 1024


@pytest.fixture
def root() -> Iterator[Path]:
    """A root that has an index, so that what follows is taken in live."""
    with scratch() as folder:
        write_lines(folder / LOG, FIRST)
        run_once(reference(folder), lambda _: None)
        yield folder


@pytest.fixture
def idle(root: Path) -> int:
    """What it holds where there is nothing to do."""
    return peak(root)


def test_a_line_longer_than_any_is_never_held_in_memory(root: Path, idle: int) -> None:
    with (root / "responses/sessions/long.jsonl").open("wb") as log:
        for _ in range(100):
            log.write(b"x" * (1 << 20))
        log.write(b"\n" + FIRST)
    assert peak(root) < idle + 40
    assert [one.reason for one in everything(root / "index").rejected] == ["too-long"]


def test_many_files_of_crowds_do_not_add_up(root: Path, idle: int, often: Callable[[int, int], int]) -> None:
    """Each record names many agents of its own; what one of them takes is freed before the next is read."""
    files, names = often(12, 40), often(40_000, 400_000)
    for number in range(files):
        crowd = [f"agent_{number}_{name:08}" for name in range(names)]
        record = {"event": "x", "timestamp": BASE, "data": {"participants": crowd}}
        write_lines(root / f"responses/sessions/crowd{number}.jsonl", record, record)
    each = names * 22 * 2 / 1e6
    assert peak(root) < idle + 150 + 25 * each
    assert len(indexed(root)) == 1 + 2 * files


def test_open_requests_to_crowds_take_little_and_are_answered_by_those_they_name(
    root: Path, idle: int, often: Callable[[int, int], int]
) -> None:
    """Each request names many agents of its own. Half of them are answered, by one of these, without a correlation."""
    requests, names = often(3, 60), 40_000
    log = root / "responses/sessions/crowds.jsonl"
    for number in range(requests):
        crowd = [f"agent_{number}_{name:08}" for name in range(names)]
        write_lines(log, {"event": "a:request", "timestamp": BASE + number, "data": {"to_agents": crowd}})
    write_lines(
        log,
        *(
            {"event": "a:result", "timestamp": BASE + 1_000, "data": {"agent_id": f"agent_{number}_00000007"}}
            for number in range(0, requests, 2)
        ),
    )
    megabytes = log.stat().st_size / 1e6
    assert peak(root) < idle + 100 + 3 * megabytes
    asked = {row[1] - BASE: row[15] for row in indexed(root) if row[14]}
    assert asked == {number: number % 2 == 0 for number in range(requests)}
    assert (root / "index/catalog.db").stat().st_size < log.stat().st_size / 3


def test_a_turn_reads_a_limited_number_of_bytes_and_leaves_the_rest_to_the_next(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "MAX_BATCH_BYTES", 200_000)
    with Stepped(reference(root)) as stepped:
        stepped.turn()
        for number in range(10):
            record = {"event": "x", "timestamp": BASE, "data": {"participants": [f"{n:09}" for n in range(8_000)]}}
            write_lines(root / f"responses/sessions/crowd{number}.jsonl", record)
        assert stepped.sidecar.step(stepped.now + 60), "more is waiting"
        assert 1 < len(indexed(root)) <= 4
        stepped.turn()
        assert len(indexed(root)) == 11


def progress_of(records: Iterator[dict[str, Any]]) -> SourceState:
    progress = SourceState(1, LOG, any_source("session"), 0.0)
    progress.ingest(Line(number * 1_000, number, orjson.dumps(record)) for number, record in enumerate(records, 1))
    return progress


def asked(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"event": "completion:request", "timestamp": BASE, "correlation_id": f"req_{number:032x}"}


@pytest.mark.slow
def test_a_million_open_requests_fit_into_memory_and_are_all_known_after_a_stop(root: Path, idle: int) -> None:
    log = root / "responses/sessions/open.jsonl"
    write_lines(log, b"".join(orjson.dumps(record) + b"\n" for record in asked(1_000_000)))
    assert peak(root) < idle + 900
    answers = (
        {"event": "completion:result", "correlation_id": f"req_{number:032x}"} for number in range(0, 10**6, 1000)
    )
    write_lines(log, *answers)
    assert peak(root) < idle + 900
    assert sum(row[15] for row in indexed(root) if row[14]) == 1_000


def test_sources_that_have_much_to_remember_do_not_all_stay_in_memory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_cache, "MAX_COST_OF_FEW", 1_000)
    conf = reference(root)
    with Stepped(conf) as stepped:
        for part in range(3):
            for number in range(8):
                log = root / f"responses/sessions/many{number}.jsonl"
                write_lines(log, *asked(400), {"event": "completion:result", "correlation_id": f"req_{part:032x}"})
            stepped.turn()
            assert stepped.sidecar._writer is not None
            cache = stepped.sidecar._writer._cache
            states = [cache.get(f"responses/sessions/many{number}.jsonl") for number in range(8)]
            costs = [state.cost for state in states if state is not None]
            assert len(costs) == 1 or sum(costs) <= 1_000
    assert everything(root / "index") == rebuilt(conf)


# ---- what a checkpoint costs


def told(count: int, *, long: bool = False) -> Iterator[dict[str, Any]]:
    """A file in which so many agents hold a role, ask, and were answered too early."""
    for number in range(count):
        name = Random(number).randbytes(4_000 if long else 8).hex()
        asked = {"event": "completion:request", "timestamp": BASE, "correlation_id": f"own{number}"}
        yield {**asked, "data": {"agent_id": name, "role": "lead"}}
        yield {"event": "a:result", "timestamp": BASE, "correlation_id": f"early{name}", "data": {"agent_id": name}}


def written(count: int) -> tuple[int, int]:
    """Rows changed and bytes written in the catalog by a checkpoint after one more record behind `count` others."""
    with scratch() as root:
        write_lines(root / LOG, FIRST, *told(1_100), *asked(count))
        write_lines(
            root / LOG, *({"event": "x", "data": {"agent_id": f"a{number}", "role": "r"}} for number in range(count))
        )
        conf = reference(root)
        run_once(conf, lambda _: None)
        with Stepped(conf) as stepped:
            stepped.turn()
            write_lines(root / LOG, {"event": "completion:request", "data": {"agent_id": "new", "role": "lead"}})
            opened = stepped.sidecar._writer
            assert opened is not None
            connection = opened._catalog._database.connection()
            wal = root / "index/catalog.db-wal"
            before = connection.total_changes, wal.stat().st_size if wal.exists() else 0
            stepped.turn()
            return connection.total_changes - before[0], wal.stat().st_size - before[1]


def test_a_checkpoint_writes_what_changed_however_much_is_remembered() -> None:
    few, many = written(10), written(8_000)
    assert many[0] <= few[0]
    assert many[1] <= few[1] + 8 * 4_120, "pages of trees that are deeper, and no more"


def test_what_is_packed_of_a_source_is_bounded_however_long_its_names_are() -> None:
    packed = [
        len(to_save(progress_of(told(count, long=long))).source[-1]) for count, long in [(1_100, False), (3_000, True)]
    ]
    assert max(packed) < 120_000


def test_roles_are_saved_when_they_change_and_known_again_after_a_stop(root: Path) -> None:
    conf = reference(root)
    names = [f"agent_{number}" for number in range(500)]
    for role in ("lead", "peer", "lead"):
        write_lines(root / LOG, *({"event": "x", "data": {"agent_id": name, "role": role}} for name in names[:250]))
        write_lines(root / LOG, {"event": "y", "timestamp": BASE, "data": {"participants": names}})
        names.reverse()
        run_once(conf, lambda _: None)
    assert indexed(root) == modelled(root)
    assert everything(root / "index") == rebuilt(conf)
