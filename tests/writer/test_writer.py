"""The synchronous writer: real files, real processes, real kills."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.support import HANG
from sidecar.config.formats import load_formats
from sidecar.errors import InvalidName, InvalidRecord, SessionLocked, WriterClosed, WriterError
from sidecar.ingest.derive import DerivationState, derive
from sidecar.records import Line
from sidecar.writer import (
    Place,
    SessionWriter,
    complete_session,
    create_session,
    detect_communication_pattern,
    transfer_session,
    write_event,
)


def record(number: int = 0, **more: Any) -> dict[str, Any]:
    return {"event": "completion:request", "data": {"number": number}, "timestamp": 1735500000.5, **more}


def log_of(root: Path, session_id: str = "s") -> Path:
    return root / "responses" / "sessions" / f"{session_id}.jsonl"


def at(root: Path, place: Place) -> Any:
    """The record that stands at a place: by its offset, and by its line number."""
    whole = (root / place.path).read_bytes()
    by_offset = whole[place.byte_offset :].split(b"\n")[0]
    assert whole.split(b"\n")[place.line_number - 1] == by_offset
    return json.loads(by_offset)


@contextmanager
def child(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another Python that runs `code`; it is killed at the end of the block, if it still lives."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run(code: str, *arguments: object) -> str:
    """What another Python that runs `code` prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=HANG).stdout


HOLD = """
import sys
from sidecar.writer import SessionWriter
with SessionWriter(sys.argv[1], "s", "agent_first") as writer:
    writer.append({"event": "a:b"})
    print("ready", flush=True)
    sys.stdin.read()
"""


# What may be written


def test_a_record_is_read_back_from_the_place_that_append_gave(tmp_path: Path) -> None:
    texts = ["plain", "zwei\nZeilen", "\u2028 \u00e4 \U0001f600", ""]
    with SessionWriter(tmp_path, "s", "agent") as writer:
        places = [writer.append(record(text=text)) for text in texts]
    assert [at(tmp_path, place)["text"] for place in places] == texts
    assert [place.line_number for place in places] == [1, 2, 3, 4]
    assert places[0] == ("responses/sessions/s.jsonl", 1, 0)


def test_a_second_writer_goes_on_where_the_first_one_ended(tmp_path: Path) -> None:
    with SessionWriter(tmp_path, "s", "agent") as writer:
        writer.append(record(1))
    with SessionWriter(tmp_path, "s", "agent") as writer:
        place = writer.append(record(2))
    assert place.line_number == 2
    assert at(tmp_path, place) == record(2)


@pytest.mark.parametrize("missing", [{}, {"timestamp": None}])
def test_a_missing_timestamp_is_stamped_and_the_callers_record_stays_as_it_is(
    tmp_path: Path, missing: dict[str, Any]
) -> None:
    mine = {"event": "a:b", **missing}
    with SessionWriter(tmp_path, "s", "agent") as writer:
        place = writer.append(mine)
    assert at(tmp_path, place)["timestamp"] == pytest.approx(log_of(tmp_path).stat().st_mtime, abs=60)
    assert mine == {"event": "a:b", **missing}


class Odd(Enum):
    NAN = math.nan


@dataclass
class Holder:
    value: float = math.nan


def deep(levels: int) -> Any:
    return {"a": deep(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    "refused",
    [
        None,
        [],
        "text",
        b"{}",
        {},
        {"event": ""},
        {"event": 7},
        {"event": None},
        record(bad=math.nan),
        record(bad=[1, (2.5, {"deep": -math.inf})]),
        record(bad=Odd.NAN),
        record(bad=Holder()),
        record(bad=2**64),
        record(bad=-(2**63) - 1),
        record(bad="\ud800"),
        record(bad={1: 2}),
        record(bad=b"bytes"),
        record(bad={1, 2}),
        record(bad=object()),
        record(bad=deep(300)),
        record(bad=orjson.Fragment(b"1,\n2")),
        {"event": "a:b", "timestamp": math.nan},
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_is_no_record_is_refused_before_a_byte_is_written(tmp_path: Path, refused: Any) -> None:
    with SessionWriter(tmp_path, "s", "agent") as writer:
        with pytest.raises(InvalidRecord):
            writer.append(refused)
        assert log_of(tmp_path).stat().st_size == 0
        assert writer.append(record()).line_number == 1
    with pytest.raises(InvalidRecord):
        write_event(tmp_path, refused)
    assert not (tmp_path / "events").exists()


def test_null_is_no_nan_and_the_largest_integers_are_kept(tmp_path: Path) -> None:
    values = [None, True, 2**64 - 1, -(2**63), 1e308, "null"]
    with SessionWriter(tmp_path, "s", "agent") as writer:
        place = writer.append(record(values=values))
    assert at(tmp_path, place)["values"] == values


BAD_NAMES = ["", ".", "..", "...", "a/b", "/a", "../a", "a\0b", "x" * 245, "\u00e4" * 123, "\udc80", None, 7, b"s"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda value: repr(value)[:20])
def test_a_session_id_that_is_no_plain_file_name_is_refused(tmp_path: Path, name: Any) -> None:
    with pytest.raises(InvalidName):
        SessionWriter(tmp_path, name, "agent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 244, "\u00e4" * 122, "..a", "a b", "a.jsonl", "a.jsonl.lock", ".hidden", "s:1"])
def test_any_other_session_id_is_a_file(tmp_path: Path, name: str) -> None:
    with SessionWriter(tmp_path, name, "agent") as writer:
        assert at(tmp_path, writer.append(record())) == record()
    assert log_of(tmp_path, name).exists()


@pytest.mark.parametrize("owner", ["", None, 7, "\ud800"])
def test_an_owner_without_a_name_is_refused(tmp_path: Path, owner: Any) -> None:
    with pytest.raises(InvalidName):
        SessionWriter(tmp_path, "s", owner)
    SessionWriter(tmp_path, "s", "agent").close()  # and the session is not held


def test_a_link_in_the_place_of_a_log_is_refused(tmp_path: Path) -> None:
    log_of(tmp_path).parent.mkdir(parents=True)
    log_of(tmp_path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WriterError):
        SessionWriter(tmp_path, "s", "agent")
    assert not (tmp_path / "elsewhere").exists()


def test_a_closed_writer_writes_nothing_and_closes_twice(tmp_path: Path) -> None:
    writer = SessionWriter(tmp_path, "s", "agent")
    writer.close()
    writer.close()
    with pytest.raises(WriterClosed):
        writer.append(record())
    with pytest.raises(WriterClosed):
        transfer_session(writer, "other")
    assert log_of(tmp_path).stat().st_size == 0


# Who may write


def test_the_lock_file_names_owner_pid_and_host(tmp_path: Path) -> None:
    with SessionWriter(tmp_path, "s", "agent_7"):
        said = json.loads(log_of(tmp_path).with_suffix(".jsonl.lock").read_bytes())
    assert said == {"owner": "agent_7", "pid": os.getpid(), "host": os.uname().nodename}


def test_a_second_owner_is_told_at_once_who_holds_the_session(tmp_path: Path) -> None:
    with child(HOLD, tmp_path) as holder:
        assert holder.stdout and holder.stdout.readline() == "ready\n"
        with pytest.raises(SessionLocked, match=f"agent_first.*{holder.pid}"):
            SessionWriter(tmp_path, "s", "agent_second")


def test_a_second_owner_in_the_same_process_is_refused_as_well(tmp_path: Path) -> None:
    with SessionWriter(tmp_path, "s", "agent_first"):
        with pytest.raises(SessionLocked, match="agent_first"):
            SessionWriter(tmp_path, "s", "agent_first")
        SessionWriter(tmp_path, "other", "agent_second").close()
    SessionWriter(tmp_path, "s", "agent_second").close()


def test_death_releases_the_session(tmp_path: Path) -> None:
    with child(HOLD, tmp_path) as holder:
        assert holder.stdout and holder.stdout.readline() == "ready\n"
        holder.kill()
        holder.wait()
        with SessionWriter(tmp_path, "s", "agent_second") as writer:
            assert writer.append(record()).line_number == 2


def test_a_contender_neither_cuts_nor_replaces_the_lock_file(tmp_path: Path) -> None:
    lock = log_of(tmp_path).with_suffix(".jsonl.lock")
    with SessionWriter(tmp_path, "s", "agent_first"):
        before = (lock.stat().st_ino, lock.read_bytes())
        with pytest.raises(SessionLocked):
            SessionWriter(tmp_path, "s", "a_much_longer_name_than_the_first_ones")
        assert (lock.stat().st_ino, lock.read_bytes()) == before
    assert lock.stat().st_ino == before[0]


def test_a_shorter_name_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    for owner in ("a_rather_long_name", "short"):
        with SessionWriter(tmp_path, "s", owner):
            assert json.loads(log_of(tmp_path).with_suffix(".jsonl.lock").read_bytes())["owner"] == owner


def test_a_forked_child_finds_the_writer_closed_and_does_not_keep_the_lock_alive(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from sidecar.errors import WriterClosed
from sidecar.writer import SessionWriter
writer = SessionWriter(sys.argv[1], "s", "parent")
writer.append({"event": "a:b"})
if os.fork():
    signal.pause()
try:
    writer.append({"event": "a:b"})
    print("open", flush=True)
except WriterClosed:
    print("closed", flush=True)
sys.stdin.read()
"""
    with child(code, tmp_path) as parent:
        assert parent.stdout and parent.stdout.readline() == "closed\n"
        with pytest.raises(SessionLocked, match="parent"):
            SessionWriter(tmp_path, "s", "agent")
        parent.kill()
        parent.wait()  # the grandchild lives on until its stdin ends
        SessionWriter(tmp_path, "s", "agent").close()


def test_a_lock_file_that_its_holder_removed_locks_nobody_in(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from sidecar.errors import SessionLocked
from sidecar.writer.lock import SessionLock
lock, marker = Path(sys.argv[1], "s.lock"), Path(sys.argv[1], "marker")
won = 0
while won < 2000:
    try:
        held = SessionLock(lock, "agent")
    except SessionLocked:
        continue
    marker.touch(exist_ok=False)  # two at a time would meet here
    marker.unlink()
    lock.unlink()
    held.release()
    won += 1
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    contenders = [subprocess.Popen(command) for _ in range(3)]
    assert [contender.wait(HANG) for contender in contenders] == [0, 0, 0]


def test_processes_that_contend_for_a_session_lose_and_mix_nothing(tmp_path: Path) -> None:
    code = """
import sys
from sidecar.errors import SessionLocked
from sidecar.writer import SessionWriter
won = 0
while won < 30:
    try:
        with SessionWriter(sys.argv[1], "s", sys.argv[2]) as writer:
            for number in range(5):
                place = writer.append({"event": "a:b", "who": sys.argv[2], "number": won * 5 + number})
                print(place.line_number, place.byte_offset, won * 5 + number)
            won += 1
    except SessionLocked:
        pass
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    writers = {who: subprocess.Popen([*command, who], stdout=subprocess.PIPE, text=True) for who in ("one", "two")}
    for who, writer in writers.items():
        output, _ = writer.communicate(timeout=HANG)
        assert writer.returncode == 0
        for said in output.splitlines():
            line_number, byte_offset, number = map(int, said.split())
            found = at(tmp_path, Place("responses/sessions/s.jsonl", line_number, byte_offset))
            assert (found["who"], found["number"]) == (who, number)
    assert log_of(tmp_path).read_bytes().count(b"\n") == 300


# What a crash or a full disk leaves


@pytest.mark.parametrize("torn", [b'{"event": "half', b"\xff\x00", b"x" * (3 << 20)], ids=["short", "binary", "long"])
def test_a_torn_line_costs_itself_only(tmp_path: Path, torn: bytes) -> None:
    whole = orjson.dumps(record(1)) + b"\n"
    log_of(tmp_path).parent.mkdir(parents=True)
    log_of(tmp_path).write_bytes(whole + torn)
    with SessionWriter(tmp_path, "s", "agent") as writer:
        places = [writer.append(record(2)), writer.append(record(3))]
    assert log_of(tmp_path).read_bytes().startswith(whole + torn + b"\n")
    assert [at(tmp_path, place)["data"]["number"] for place in places] == [2, 3]
    assert [place.line_number for place in places] == [3, 4]


def test_opening_and_closing_alone_leaves_a_torn_log_as_it_is(tmp_path: Path) -> None:
    log_of(tmp_path).parent.mkdir(parents=True)
    log_of(tmp_path).write_bytes(b"torn")
    SessionWriter(tmp_path, "s", "agent").close()
    assert log_of(tmp_path).read_bytes() == b"torn"


def test_a_kill_loses_no_acknowledged_record(tmp_path: Path) -> None:
    code = """
import sys
from sidecar.writer import SessionWriter
writer = SessionWriter(sys.argv[1], "s", "doomed")
for number in range(10**9):
    place = writer.append({"event": "a:b", "number": number, "text": "x" * 5000})
    print(place.line_number, place.byte_offset, flush=True)
"""
    for _ in range(3):
        with child(code, tmp_path) as doomed:
            assert doomed.stdout
            acknowledged = [doomed.stdout.readline() for _ in range(200)]
            doomed.send_signal(signal.SIGKILL)
            acknowledged += doomed.stdout.readlines()
        whole = [line.split() for line in acknowledged if line.endswith("\n")]
        for number, (line_number, byte_offset) in enumerate(whole):
            place = Place("responses/sessions/s.jsonl", int(line_number), int(byte_offset))
            assert at(tmp_path, place)["number"] == number
    with SessionWriter(tmp_path, "s", "next") as writer:
        assert at(tmp_path, writer.append(record())) == record()


FULL = """
import json, resource, sys
from sidecar.errors import WriterError
from sidecar.writer import SessionWriter, write_event
from sidecar.writer.record import encode
root, limit = sys.argv[1], int(sys.argv[2])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
def tell(outcome):
    print(json.dumps(str(outcome) if isinstance(outcome, Exception) else list(outcome)))
"""


def test_a_disk_that_fills_in_mid_record_costs_that_record_only(tmp_path: Path) -> None:
    code = (
        FULL
        + """
with SessionWriter(root, "s", "agent") as writer:
    for number in range(6):
        room(limit if number < 5 else hard)
        try:
            tell(writer.append({"event": "a:b", "number": number, "timestamp": 1.5, "text": "x" * 100}))
        except WriterError as error:
            tell(error)
"""
    )
    outcomes = [json.loads(line) for line in run(code, tmp_path, 400).splitlines()]
    assert [isinstance(outcome, list) for outcome in outcomes] == [True, True, False, False, False, True]
    assert "too large" in outcomes[3]  # the system's own words, where it took not a byte
    for number in (0, 1, 5):
        assert at(tmp_path, Place(*outcomes[number]))["number"] == number
    lines = log_of(tmp_path).read_bytes().split(b"\n")
    assert len(lines) == 5 and lines[-1] == b""  # three records, the torn one, and the end
    with pytest.raises(json.JSONDecodeError):
        json.loads(lines[2])


def test_of_a_group_that_does_not_fit_the_first_records_are_acknowledged(tmp_path: Path) -> None:
    code = (
        FULL
        + """
with SessionWriter(root, "s", "agent") as writer:
    lines = [encode({"event": "a:b", "number": number, "timestamp": 1.5, "text": "x" * 100}) for number in range(4)]
    room(limit)
    for outcome in writer.append_lines(lines):
        tell(outcome)
"""
    )
    outcomes = [json.loads(line) for line in run(code, tmp_path, 400).splitlines()]
    assert [isinstance(outcome, list) for outcome in outcomes] == [True, True, False, False]
    with SessionWriter(tmp_path, "s", "next") as writer:
        place = writer.append(record(9))
    assert [at(tmp_path, Place(*outcome))["number"] for outcome in outcomes[:2]] == [0, 1]
    assert (at(tmp_path, place), place.line_number) == (record(9), 4)


def test_who_writes_without_the_lock_is_noticed_and_the_next_place_is_right_again(tmp_path: Path) -> None:
    with SessionWriter(tmp_path, "s", "agent") as writer:
        writer.append(record(1))
        with log_of(tmp_path).open("ab") as stranger:
            stranger.write(b"a line of somebody else\n")
        with pytest.raises(WriterError, match="somebody else"):
            writer.append(record(2))
        place = writer.append(record(3))
        assert (at(tmp_path, place), place.line_number) == (record(3), 4)
        log_of(tmp_path).write_bytes(b"")
        with pytest.raises(WriterError, match="somebody else"):
            writer.append(record(4))
        assert writer.append(record(5)).line_number == 2


@pytest.mark.parametrize(("fsync", "while_open", "at_close"), [("never", 0, 0), ("close", 0, 1), ("always", 3, 0)])
def test_fsync_is_the_callers_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: Any, while_open: int, at_close: int
) -> None:
    synced: list[str] = []
    real = os.fsync

    def counting(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        real(fd)

    monkeypatch.setattr(os, "fsync", counting)
    log = str(log_of(tmp_path))
    with SessionWriter(tmp_path, "s", "agent", fsync) as writer:
        assert (str(log_of(tmp_path).parent) in synced) == (fsync != "never")  # the file's name
        for number in range(3):
            writer.append(record(number))
        assert synced.count(log) == while_open
    assert synced.count(log) == while_open + at_close


# Sessions


def test_a_session_tells_its_life_in_its_own_log(tmp_path: Path) -> None:
    with create_session(tmp_path, "agent_a", "team") as session:
        session.append(record())
        complete_session(session)
    assert session.session_id.startswith("sess_")
    states = [extract(json.loads(line)) for line in log_of(tmp_path, session.session_id).read_bytes().splitlines()]
    assert [state.event_type for state in states] == ["session:created", "completion:request", "session:completed"]
    assert (states[0].author, states[0].pattern) == ("agent_a", "team")
    assert [state.is_completed for state in states] == [False, False, True]
    assert not any(state.kind.is_answer or state.kind.is_request for state in (states[0], states[2]))


def test_a_session_is_not_created_twice(tmp_path: Path) -> None:
    with create_session(tmp_path, "agent_a", session_id="s") as session, pytest.raises(SessionLocked):
        create_session(tmp_path, "agent_b", session_id="s")
    with pytest.raises(WriterError, match="exists already"):
        create_session(tmp_path, "agent_b", session_id="s")
    assert session.session_id == "s"
    SessionWriter(tmp_path, "s", "agent_b").close()  # and the refusal does not hold it


def test_a_hand_over_is_a_record_and_another_name_on_the_lock(tmp_path: Path) -> None:
    with create_session(tmp_path, "agent_a", session_id="s") as session:
        place = transfer_session(session, "agent_b")
        assert session.owner == "agent_b"
        with pytest.raises(SessionLocked, match="agent_b"):
            SessionWriter(tmp_path, "s", "agent_a")
        with pytest.raises(InvalidName):
            transfer_session(session, "")
    said = at(tmp_path, place)
    assert (said["event"], said["data"]) == (
        "session:transfer",
        {"session_id": "s", "agent_id": "agent_a", "to_agent": "agent_b"},
    )
    assert log_of(tmp_path).read_bytes().count(b"\n") == 2


# Event files


def test_an_event_is_a_file_of_its_day(tmp_path: Path) -> None:
    event = {"event": "agent:spawn", "data": {"agent_id": "a"}, "timestamp": 1705312800.123}
    place = write_event(tmp_path, event, fsync=True)
    assert place == ("events/2024-01-15/evt_1705312800.123000_agent_spawn.json", 1, 0)
    assert at(tmp_path, place) == event
    assert len(list((tmp_path / "events" / "2024-01-15").iterdir())) == 1


@pytest.mark.parametrize("timestamp", [None, "2024-01-15T10:00:00Z", 1705312800123, -1, True, 1e300])
def test_an_event_without_plain_seconds_is_named_after_the_clock(tmp_path: Path, timestamp: Any) -> None:
    place = write_event(tmp_path, {"event": "a:b", "timestamp": timestamp})
    seconds = float(place.path.split("_")[1])
    assert seconds == pytest.approx((tmp_path / place.path).stat().st_mtime, abs=60)


@pytest.mark.parametrize(
    ("event_type", "name"),
    [("a:b", "a_b"), ("../../etc", ".._.._etc"), ("a\0b\nc d", "a_b_c_d"), ("\u00e4" * 300, "_" * 150)],
)
def test_an_event_type_becomes_a_safe_name(tmp_path: Path, event_type: str, name: str) -> None:
    place = write_event(tmp_path, {"event": event_type, "timestamp": 5})
    assert place.path == f"events/1970-01-01/evt_5.000000_{name}.json"
    assert at(tmp_path, place)["event"] == event_type


def test_no_two_events_share_a_name_whatever_processes_write(tmp_path: Path) -> None:
    code = """
import sys
from sidecar.writer import write_event
for number in range(100):
    print(write_event(sys.argv[1], {"event": "a:b", "timestamp": 5.5, "who": sys.argv[2], "number": number}).path)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(who)], stdout=subprocess.PIPE, text=True) for who in range(8)]
    places = [path for writer in writers for path in writer.communicate(timeout=HANG)[0].splitlines()]
    assert len(set(places)) == 800
    events = [json.loads(path.read_bytes()) for path in (tmp_path / "events" / "1970-01-01").iterdir()]
    assert {(event["who"], event["number"]) for event in events} == {(str(w), n) for w in range(8) for n in range(100)}
    assert len(events) == 800


def test_no_reader_sees_half_an_event(tmp_path: Path) -> None:
    code = """
import sys
from sidecar.writer import write_event
for number in range(150):
    write_event(sys.argv[1], {"event": "a:b", "timestamp": 5.5 + number, "text": "x" * 300_000})
print("done", flush=True)
"""
    seen: set[Path] = set()
    with child(code, tmp_path) as writer:
        assert writer.stdout
        done = threading.Thread(target=writer.stdout.read)
        done.start()
        while done.is_alive():
            for path in tmp_path.glob("events/*/evt_*.json"):
                if path not in seen:
                    assert json.loads(path.read_bytes())["event"] == "a:b"
                    seen.add(path)
        done.join()
    assert len(list(tmp_path.glob("events/*/*"))) == 150


def test_an_event_that_does_not_fit_on_the_disk_leaves_no_file(tmp_path: Path) -> None:
    code = (
        FULL
        + """
room(limit)
try:
    write_event(root, {"event": "a:b", "text": "x" * 1000})
except WriterError as error:
    tell(error)
"""
    )
    assert "too large" in run(code, tmp_path, 400)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# The law


extract: Any = load_formats()["reference"].extract
IDS = st.one_of(
    st.sampled_from(["a", "b", "5", "", "true"]), st.integers(-3, 10), st.booleans(), st.none(), st.floats()
)
JSON = st.recursive(
    IDS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
SOME = JSON | st.lists(IDS, max_size=4)
DATA = st.fixed_dictionaries(
    {},
    optional={
        "pattern": SOME,
        "broadcast": SOME,
        "team_id": SOME,
        "to_agent": SOME,
        "to_agents": SOME,
        "participants": SOME,
        "conversation_id": SOME,
        "routing": SOME | st.fixed_dictionaries({}, optional={"to_agent": SOME, "to_agents": SOME}),
    },
)


@given(data=DATA | JSON, metadata=DATA | JSON)
def test_the_detected_pattern_is_that_of_the_law(data: Any, metadata: Any) -> None:
    line = orjson.dumps({"event": "completion:request", "data": data, "metadata": metadata})
    row, _ = derive(DerivationState("session", "s", 0.0), Line(0, 1, line), extract(orjson.loads(line)))
    assert detect_communication_pattern(data, metadata) == row.pattern_type


def test_the_writer_loads_nothing_of_the_indexer() -> None:
    code = "import sidecar.writer, sys; print(*(name for name in sys.modules))"
    loaded = run(code).split()
    ours = {name for name in loaded if name.startswith("sidecar.")}
    assert all(name == "sidecar.errors" or name.startswith("sidecar.writer") for name in ours)
    assert not {"watchdog", "peewee", "sqlite3", "yaml", "msgspec"} & set(loaded)
