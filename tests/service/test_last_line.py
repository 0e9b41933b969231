"""A last line without LF is taken as it stands once its file lies still, and read again if the file grows."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from helpers.archives import AT_ONCE, where
from helpers.corpora import BASE
from helpers.rotations import WAYS
from helpers.support import Stepped, everything, indexed, modelled, once, rebuilt, reference, write_lines
from sidecar.archive.job import archive
from sidecar.config.settings import Settings
from sidecar.health.status import status_of
from sidecar.health.verify import compare
from sidecar.query.index import Index
from sidecar.service.supervisor import run_once

LOOK = 20.0
"""Seconds after which no last line is old enough."""
LOG = "responses/sessions/s.jsonl"


def record(kind: str, agent: str, n: int, correlation: str | None = None, **data: object) -> bytes:
    said = {"event": kind, "timestamp": BASE + n, "data": {"agent_id": agent, **data}}
    return orjson.dumps(said | ({"request_id": correlation} if correlation else {}))


ASKED = record("completion:request", "ann", 0, "q")
ANSWER = record("completion:result", "bob", 1, "q", status="completed")


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[Stepped]:
    (tmp_path / "logs").mkdir()
    with Stepped(reference(tmp_path / "logs", checkpoint_interval=20.0)) as it:
        yield it


def put(stepped: Stepped, content: bytes, name: str = LOG) -> Path:
    """Append to a log, at the time of the sidecar."""
    log = stepped.settings.root / name
    write_lines(log, content)
    os.utime(log, (stepped.now, stepped.now))
    return log


def look(stepped: Stepped, seconds: float = LOOK) -> None:
    """Let time pass, and have a scan whatever the last one took."""
    stepped.sidecar._scans.restart()
    stepped.turn(seconds)


def held(stepped: Stepped) -> None:
    """Live, rebuilt, verified and in the model the rows are the same, and every byte is counted."""
    settings = stepped.settings
    assert stepped.rows == modelled(settings.root, stepped.now)
    stepped.sidecar._writer.checkpoint()  # type: ignore[union-attr]
    assert everything(settings.index_folder) == rebuilt(settings, now=stepped.now)
    assert compare(settings).holds
    sums = status_of(settings).bytes
    assert sums.total == sums.indexed + sums.blank + sums.rejected + sums.skipped + sums.waiting


def waiting(settings: Settings) -> list[str]:
    with Index(settings.root) as index:
        return [entry.id for entry in index.waiting()]


def test_it_waits_for_a_minute_and_is_taken_with_all_that_follows_from_it(stepped: Stepped) -> None:
    put(stepped, ASKED + b"\n" + ANSWER)
    look(stepped, 30.0)
    assert len(stepped.rows) == 1
    held(stepped)
    look(stepped, 31.0)
    assert len(stepped.rows) == 2
    held(stepped)
    assert not waiting(stepped.settings)
    assert status_of(stepped.settings).bytes.waiting == 0
    with Index(stepped.settings.root) as index:
        assert [session.status for session in index.sessions()] == ["completed"]


def test_the_line_end_that_comes_later_changes_no_row(stepped: Stepped) -> None:
    log = put(stepped, ASKED + b"\n" + ANSWER)
    look(stepped, 70.0)
    before = stepped.rows
    numbers = stepped.sidecar._writer.state(LOG).counts.entries  # type: ignore[union-attr]
    put(stepped, b"\n")
    look(stepped)
    assert stepped.rows == before
    assert stepped.sidecar._writer.state(LOG).counts.entries == numbers  # type: ignore[union-attr]
    assert status_of(stepped.settings).bytes.indexed == log.stat().st_size
    held(stepped)


@pytest.mark.parametrize("more", [b"\r\n", b" and more\n", b"\0\0", ANSWER + b"\n", b',"x":1}\n', b"x"])
def test_what_was_taken_goes_when_the_line_goes_on(more: bytes, stepped: Stepped) -> None:
    put(stepped, ASKED + b"\n" + ANSWER)
    look(stepped, 70.0)
    assert not waiting(stepped.settings)
    put(stepped, more)
    look(stepped)
    held(stepped)
    if not more.endswith(b"\n"):
        assert waiting(stepped.settings) == ["s:0"]
        with Index(stepped.settings.root) as index:
            assert [session.status for session in index.sessions()] == ["active"]
    assert status_of(stepped.settings).dropped == 0
    look(stepped, 70.0)
    held(stepped)


def test_nothing_that_is_no_record_is_taken(stepped: Stepped) -> None:
    for n, rest in enumerate([b'{"event":', b"{}", b"text", b"  ", b"\0\0", ANSWER + ASKED, b"[1]", ANSWER + b'{"a']):
        put(stepped, ASKED + b"\n" + rest, f"responses/sessions/s{n}.jsonl")
    look(stepped, 70.0)
    assert len(stepped.rows) == 8
    held(stepped)


def test_a_file_that_was_made_before_its_lines_is_filled_in_behind_such_a_line(stepped: Stepped) -> None:
    log = put(stepped, ASKED + b"\n" + ANSWER + bytes(5_000))
    look(stepped, 70.0)
    assert len(stepped.rows) == 2
    held(stepped)
    at = log.stat()
    with log.open("r+b") as file:
        file.seek(len(ASKED + ANSWER) + 1)
        file.write(b"\n" + ASKED + b"\n")
    os.utime(log, ns=(at.st_atime_ns, at.st_mtime_ns))
    look(stepped)
    assert len(stepped.rows) == 3
    held(stepped)
    with log.open("r+b") as file:
        file.truncate(len(ASKED + ANSWER + ASKED) + 3)
    look(stepped)
    held(stepped)


def test_a_file_with_other_bytes_is_another_one(stepped: Stepped) -> None:
    log = put(stepped, ASKED + b"\n" + ANSWER)
    look(stepped, 70.0)
    log.write_bytes(record("agent:say", "eve", 5))
    os.utime(log, (stepped.now, stepped.now))
    look(stepped)
    assert status_of(stepped.settings).dropped
    held(stepped)
    look(stepped, 70.0)
    held(stepped)


ENDS = {"as it is": b"", "in NULs": bytes(5_000), "in a space": b" "}


def ended(tmp_path: Path, content: bytes) -> Settings:
    """A log whose last line was taken without LF long ago."""
    settings = reference(tmp_path / "logs", archive=tmp_path / "archive")
    log = settings.root / LOG
    write_lines(log, content)
    os.utime(log, (BASE, BASE))
    once(settings)
    return settings


def lines_read(settings: Settings) -> list[bytes]:
    """The records of all entries, in their order."""
    with Index(settings.root, settings.archive) as index:
        return [index.read_bytes(one) for one in sorted(index.timeline(), key=lambda one: one.byte_offset)]


@pytest.mark.parametrize("end", ENDS)
def test_a_completed_log_without_a_last_line_end_is_archived_as_it_stands(end: str, tmp_path: Path) -> None:
    # The last line may be longer than a chunk, or the only one.
    long = record("completion:result", "bob", 1, "q", status="completed", text="x" * (1 << 20))
    for number, before in enumerate([ASKED + b"\n" + ANSWER, ANSWER, ASKED + b"\n" + long]):
        settings = ended(tmp_path / str(number), before + ENDS[end])
        was, records = everything(settings.index_folder), lines_read(settings)
        assert records[-1] == before.rpartition(b"\n")[2] + ENDS[end].strip(b"\0")
        done = archive(settings, AT_ONCE)
        assert [one.log_bytes for one in done.archived] == [len(before + ENDS[end])]
        assert not (settings.root / LOG).exists()
        assert lines_read(settings) == records
        assert compare(settings).holds and status_of(settings).healthy
        assert where(everything(settings.index_folder)) == where(was) == where(rebuilt(settings))
        shutil.rmtree(settings.index_folder)
        run_once(settings, lambda _: None)
        assert lines_read(settings) == records
        assert where(everything(settings.index_folder)) == where(was)


@pytest.mark.parametrize("more", [b"\n", b"\n" + ASKED + b"\n", b" and more\n", ASKED])
def test_a_copy_is_given_up_once_its_log_goes_on_behind_such_a_line(more: bytes, tmp_path: Path) -> None:
    settings = ended(tmp_path, ASKED + b"\n" + ANSWER)
    assert archive(settings, AT_ONCE._replace(copy=True)).archived
    write_lines(settings.root / LOG, more)
    os.utime(settings.root / LOG, (BASE, BASE))
    once(settings)
    before = indexed(settings.root)
    assert before == modelled(settings.root)
    assert everything(settings.index_folder) == rebuilt(settings)
    archive(settings, AT_ONCE)
    assert compare(settings).holds
    assert indexed(settings.root) == before


def test_a_session_goes_on_behind_an_archived_line_without_line_end(tmp_path: Path) -> None:
    settings = ended(tmp_path, ASKED + b"\n" + ANSWER)
    assert archive(settings, AT_ONCE).archived
    later = record("completion:request", "cyd", 9)
    write_lines(settings.root / LOG, later + b"\n" + ANSWER)
    os.utime(settings.root / LOG, (BASE, BASE))
    once(settings)
    assert lines_read(settings) == [ASKED, ANSWER, later, ANSWER]
    with Index(settings.root) as index:
        places = [(one.id, one.line_number) for one in sorted(index.timeline(), key=lambda one: one.byte_offset)]
    begin = len(ASKED + ANSWER) + 1
    assert places == [
        ("s:0", 1),
        (f"s:{len(ASKED) + 1}", 2),
        (f"s:{begin}", 3),
        (f"s:{begin + len(later) + 1}", 4),
    ]
    was = everything(settings.index_folder)
    assert where(rebuilt(settings)) == where(was)
    assert archive(settings, AT_ONCE).archived
    assert not (settings.root / LOG).exists()
    assert lines_read(settings) == [ASKED, ANSWER, later, ANSWER]
    assert where(rebuilt(settings)) == where(was) == where(everything(settings.index_folder))
    assert compare(settings).holds


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))])
def test_whatever_is_written_rotated_stopped_or_killed_the_rows_are_those_of_the_law(seed: int, tmp_path: Path) -> None:
    rng = random.Random(f"last lines {seed}")
    settings = reference(tmp_path / "logs", checkpoint_interval=30.0)
    settings.root.mkdir()
    log = settings.root / LOG
    it = Stepped(settings).__enter__()
    written = rotations = 0
    for action in rng.choices(["write", "end", "turn", "wait", "rotate", "stop", "kill"], [6, 3, 4, 4, 1, 1, 2], k=40):
        if action == "write":
            written += 1
            kind = rng.choice(["completion:request", "completion:result", "agent:say"])
            line = record(kind, rng.choice("abc"), written, rng.choice(["q1", "q2", None]), role=rng.choice("xy"))
            put(it, line + rng.choice([b"", b"", b"", b"\n", b"\n", b"\0\0", b"\r\n", b" ", b"{"]))
        elif action == "end":
            put(it, b"\n")
        elif action in ("turn", "wait"):
            look(it, LOOK if action == "turn" else 61.0)
            if log.exists():
                assert it.rows == modelled(settings.root, it.now)
                assert compare(settings).holds
        elif action == "rotate" and log.exists() and log.stat().st_size:
            rotations += 1
            way = rng.choice(list(WAYS))
            WAYS[way](log, rotations)
            put(it, b"")
        else:
            now = it.now
            if action == "stop":
                it.__exit__(None)
            else:
                it.sidecar.abandon()
            it = Stepped(settings).__enter__()
            it.now = now
    put(it, ASKED)
    it.turn(61.0)
    assert it.rows == modelled(settings.root, it.now)
    it.__exit__(None)
    assert everything(settings.index_folder) == rebuilt(settings, now=it.now)
