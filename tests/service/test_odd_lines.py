"""Lines as writers leave them: what is not strict JSON, and what stands at the ends of a line, costs no record."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.archives import AT_ONCE, aged
from helpers.corpora import BASE
from helpers.support import Stepped, everything, indexed, modelled, once, rebuilt, reference, rows_of, write_lines
from oracle.model import model_file
from oracle.odd import odd_files
from sidecar.archive.job import archive
from sidecar.bulk.rebuild import reindex
from sidecar.health.doctor import run_checks
from sidecar.health.status import status_of
from sidecar.health.verify import compare
from sidecar.query.index import Index

SESSIONS = "responses/sessions"
COMPLETED = b'{"event":"session:completed","data":{"status":"completed"},"timestamp":%d}\n' % (BASE + 60)
ODD = {
    "mark": b'\xef\xbb\xbf{"event":"completion:request","data":{"agent_id":"a"},"request_id":"q"}\n',
    "surrogate": b'{"event":"completion:request","data":{"agent_id":"a","text":"\\ud83d\\u2026"},"request_id":"q"}\n',
    "bytes": b'{"event":"completion:request","data":{"agent_id":"a","text":"\xe2\x82"},"request_id":"q"}\n',
    "control": b'{"event":"completion:request","data":{"agent_id":"a","text":"a\x01\tb"},"request_id":"q"}\n',
    "nan": b'{"event":"completion:request","data":{"agent_id":"a","score":NaN,"n":-1e999},"request_id":"q"}\n',
    "hole": bytes(3_000) + b'{"event":"completion:request","data":{"agent_id":"a"},"request_id":"q"}\0\0\n\0\0\n',
}
"""Logs of one request each, by the name of their file."""
REPAIRED = {"surrogate", "bytes", "control", "nan"}
ANSWER = b'{"event":"completion:result","data":{"agent_id":"b"},"request_id":"q","timestamp":%d}\n' % (BASE + 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "logs"
    for name, content in ODD.items():
        write_lines(root / SESSIONS / f"{name}.jsonl", content, ANSWER, COMPLETED)
        write_lines(root / f"events/2024-12-29/evt_{BASE}.5_{name}.json", content.split(b"\n")[0])
    aged(root)
    return root


def is_summed_up(root: Path) -> bool:
    """P3: every byte is in one of the counts."""
    found = status_of(reference(root), sources=True)
    sums = found.bytes
    assert sums.total == sums.indexed + sums.blank + sums.rejected + sums.skipped + sums.waiting
    return found.healthy


def test_an_odd_character_costs_no_record_and_no_link(root: Path) -> None:
    once(reference(root))
    assert indexed(root) == modelled(root)
    assert is_summed_up(root)
    with Index(root) as index:
        assert not list(index.rejected())
        requests = [entry for entry in index.timeline(event_type="completion:request") if entry.session_id]
        assert [entry.has_response for entry in requests] == [True] * len(ODD)
        assert {session.initiating_agent for session in index.sessions()} == {"a"}


def test_reading_an_entry_gives_the_lenient_reading_and_its_bytes_are_those_of_the_log(root: Path) -> None:
    once(reference(root))
    with Index(root) as index:
        first = {entry.file_path.split("/")[-1]: entry for entry in index.timeline(event_type="completion:request")}
        assert index.read(first["surrogate.jsonl"])["data"]["text"] == "\ufffd…"
        assert index.text(first["control.jsonl"]) == "a\x01\tb"
        assert index.read(first["bytes.jsonl"])["data"]["text"] == "\ufffd"
        assert index.read(first["nan.jsonl"])["data"] == {"agent_id": "a", "score": None, "n": None}
        for name, content in ODD.items():
            entry = first[f"{name}.jsonl"]
            assert entry.byte_offset == content.index(b"{")
            assert index.read_bytes(entry) == content.split(b"\n")[0].removeprefix(b"\xef\xbb\xbf").strip(b"\0")


def test_records_that_were_read_leniently_are_counted_for_each_log(root: Path) -> None:
    once(reference(root))
    found = status_of(reference(root), sources=True)
    assert found.repaired == 2 * len(REPAIRED)
    assert {Path(one.path).stem for one in found.source_list if one.repaired} >= REPAIRED
    assert {one.repaired for one in found.source_list} == {0, 1}


def test_live_rebuilt_by_workers_and_archived_are_the_same(root: Path) -> None:
    sidecar = reference(root, archive=root.parent / "archive")
    contents = {path: path.read_bytes() for path in sorted((root / SESSIONS).iterdir())}
    for path in contents:
        path.unlink()
    with Stepped(sidecar) as stepped:
        for path, content in contents.items():
            for at in range(0, len(content), 700):
                write_lines(path, content[at : at + 700])
                stepped.turn(1.0)
        stepped.turn()
    live = everything(root / "index")
    assert rebuilt(sidecar, workers=2) == live
    with Index(root) as index:
        read = {entry.id: index.read(entry) for entry in index.timeline()}
    aged(root / SESSIONS)
    once(sidecar)
    assert len(archive(sidecar, AT_ONCE).archived) == len(ODD) + 1
    assert not [*(root / SESSIONS).glob("*.jsonl"), *(root / "events").glob("*/*.json")]
    with Index(root) as index:
        assert {entry.id: index.read(entry) for entry in index.timeline()} == read
    assert compare(sidecar).holds
    reindex(sidecar)
    again = everything(root / "index")
    assert (again.rows, again.rejected) == (live.rows, live.rejected)
    assert status_of(sidecar).repaired == 2 * len(REPAIRED)
    assert is_summed_up(root)


def test_a_log_in_another_encoding_is_rejected_as_such_and_doctor_says_what_to_do(root: Path) -> None:
    text = "".join(f'{{"event":"agent:say","data":{{"n":{n}}}}}\n' for n in range(3))
    (root / SESSIONS / "wide.jsonl").write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))
    with Stepped(reference(root)) as stepped:
        stepped.turn()
        write_lines(root / SESSIONS / "wide.jsonl", b'{"event":"agent:say"}\n')
        stepped.turn()
    with Index(root) as index:
        rejected = list(index.rejected())
    assert {one.reason for one in rejected} == {"not-utf8"}
    assert len(rejected) == 4
    assert rebuilt(reference(root)) == everything(root / "index")
    results = [result for result in run_checks(reference(root)) if "not-utf8" in result.message]
    assert len(results) == 1
    assert "UTF-16" in results[0].advice


def test_a_log_behind_one_in_another_encoding_is_read(root: Path) -> None:
    log = root / SESSIONS / "wide.jsonl"
    log.write_bytes(b"\xfe\xff\n")
    with Stepped(reference(root)) as stepped:
        stepped.turn()
        log.unlink()
        write_lines(log, b'{"event":"agent:say"}\n')
        stepped.turn()
        assert len([row for row in stepped.rows if row[3] == "wide"]) == 1


def test_a_line_is_as_long_as_what_stands_between_its_nuls(root: Path) -> None:
    log = root / SESSIONS / "long.jsonl"
    record = b'{"event":"agent:say"}'
    lines = [bytes(100) + record + bytes(100), record + b" ", bytes(1 << 20) + record, bytes(60), b"x" * 60]
    write_lines(log, *(line + b"\n" for line in lines))
    once(reference(root, max_line_bytes=len(record)))
    with Index(root) as index:
        assert [entry.line_number for entry in index.timeline(session="long")] == [1, 3]
        found = [(one.line_number, one.reason) for one in index.rejected() if one.file_path.endswith("long.jsonl")]
    assert found == [(2, "too-long"), (5, "too-long")]
    is_summed_up(root)


def test_a_preallocated_log_that_is_filled_in_later_loses_nothing(root: Path) -> None:
    log = root / SESSIONS / "filled.jsonl"
    log.write_bytes(bytes(200_000))
    at = 0
    with Stepped(reference(root)) as stepped:
        for number in range(20):
            record = b'{"event":"agent:say","data":{"agent_id":"a","n":%d,"x":"%s"}}\n' % (number, b"x" * 3_000)
            with log.open("r+b") as file:
                file.seek(at)
                half = len(record) // 2
                file.write(record[:half])
                file.flush()
                stepped.turn()
                file.write(record[half:])
            at += len(record)
            stepped.turn()
            assert len([row for row in stepped.rows if row[3] == "filled"]) == number + 1
        assert is_summed_up(root)
    assert rebuilt(reference(root)) == everything(root / "index")


def test_an_event_file_in_a_preallocated_file_is_taken_when_it_has_been_filled_in(root: Path) -> None:
    file = root / f"events/2024-12-29/evt_{BASE}.7_late.json"
    file.write_bytes(bytes(4_096))
    with Stepped(reference(root)) as stepped:
        stepped.now = time.time()
        stepped.turn(0.1)
        with file.open("r+b") as half:
            half.write(b'{"event":"agent:late"}')
        stepped.turn()
        assert [row[6] for row in stepped.rows if row[2] == "agent:late"] == [0]


def test_glued_and_torn_records_are_rows_of_their_line_live_rebuilt_and_archived(root: Path) -> None:
    request = b'{"event":"completion:request","data":{"agent_id":"a"},"request_id":"%d","timestamp":%d}'
    answer = b'{"event":"completion:result","data":{"agent_id":"b","x":NaN},"request_id":"%d","timestamp":%d}'
    torn = b'{"event":"completion:request","data":{"agent_id":"a","prompt":"a torn'
    first = request % (1, BASE) + answer % (1, BASE + 1)
    second = torn + request % (2, BASE + 2) + b"\0\0" + request % (3, BASE + 3) + b"\r"
    third = answer % (2, BASE + 4) + torn
    content = b"\n".join([first, second, third, answer % (3, BASE + 5), COMPLETED])
    sidecar = reference(root, archive=root.parent / "archive")
    log = root / SESSIONS / "glued.jsonl"
    with Stepped(sidecar) as stepped:
        for at in range(0, len(content), 90):
            write_lines(log, content[at : at + 90])
            stepped.turn(2.0)
    live = everything(root / "index")
    assert live.rows == modelled(root)
    assert [row[5] for row in live.rows if row[3] == "glued"] == [1, 1, 2, 2, 3, 4, 5]
    assert [(one.line_number, one.reason) for one in live.rejected] == [(2, "torn"), (3, "torn")]
    assert rebuilt(sidecar) == live
    assert is_summed_up(root)
    assert compare(sidecar).holds
    with Index(root) as index:
        entries = list(index.timeline(session="glued"))
        assert not [entry for entry in index.waiting() if entry.session_id == "glued"]
        records = [index.read(entry) for entry in entries]
        assert records[1] == {
            "event": "completion:result",
            "data": {"agent_id": "b", "x": None},
            "request_id": "1",
            "timestamp": BASE + 1,
        }
        assert index.read_bytes(entries[2]) == request % (2, BASE + 2)
    told = [result for result in run_checks(sidecar) if " torn, " in result.message]
    assert "glued" in told[0].advice
    aged(log)
    once(sidecar)
    archive(sidecar, AT_ONCE)
    assert not log.exists()
    with Index(root) as index:
        assert [index.read(entry) for entry in entries] == records
    reindex(sidecar)
    assert everything(root / "index").rows == live.rows


@settings(deadline=None, max_examples=150)
@given(odd_files(), st.sampled_from(["session", "stream"]), st.sampled_from([40, 16 << 20]))
def test_files_with_every_oddity_give_the_rows_of_the_law(content: bytes, layout: str, max_line_bytes: int) -> None:
    path = f"{SESSIONS}/s.jsonl"
    found = rows_of(content, path, layout, float(BASE), max_line_bytes)
    wanted = model_file(
        content, path=path, layout=layout, mtime=float(BASE), max_line_bytes=max_line_bytes, settled=True
    )
    assert found.rows == wanted.rows
    assert sorted(found.rejected) == sorted(wanted.rejected)
    assert found.bytes | {"waiting": 0} == wanted.bytes | {"waiting": 0}
    assert found.repaired == wanted.repaired
