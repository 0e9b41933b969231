"""Logs that are rotated: all parts are one log, and a running sidecar reads nothing again."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from helpers.corpora import BASE
from helpers.rotations import WAYS, Rotate, expected, records
from helpers.support import Stepped, everything, indexed, once, rebuilt, reference, write_lines
from sidecar.health.status import status_of
from sidecar.health.verify import compare

SESSIONS = "responses/sessions"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "logs" / SESSIONS).mkdir(parents=True)
    return tmp_path / "logs"


def all_good(root: Path, log: Path) -> None:
    """The index is what the model makes of all parts, what a rebuild makes of them, and adds up."""
    assert indexed(root) == expected(root, log, BASE)
    assert everything(root / "index") == rebuilt(reference(root))
    found = status_of(reference(root))
    assert not [why for why in found.reasons if "no sidecar runs" not in why]
    sums = found.bytes
    assert sums.total == sums.indexed + sums.blank + sums.rejected + sums.skipped + sums.waiting
    assert found.dropped == 0
    verified = compare(reference(root))
    assert verified.differences == () and verified.pointers == len(indexed(root))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 40))])
def test_all_parts_are_one_log_whenever_it_is_rotated_looked_at_or_killed(root: Path, way: str, seed: int) -> None:
    rng = random.Random(f"{way} {seed}")
    rotate: Rotate = WAYS[way]
    log = root / SESSIONS / "s.jsonl"
    number = rotations = 0
    conf = reference(root, checkpoint_interval=30.0)
    sidecar = Stepped(conf).__enter__()
    for _ in range(40):
        match rng.choice(["write", "write", "rotate", "turn", "turn", "stop", "kill"]):
            case "write":
                count = rng.randrange(1, 6)
                write_lines(log, *records(rng, number, count))
                number += count
            case "rotate" if log.exists() and log.stat().st_size:
                rotations += 1
                rotate(log, rotations)
            case "turn":
                sidecar.turn(rng.choice([10.0, 60.0]))
            case "stop":
                sidecar.__exit__(None)
                sidecar = Stepped(conf).__enter__()
            case "kill":
                sidecar.sidecar.abandon()
                sidecar = Stepped(conf).__enter__()
    write_lines(log, *records(rng, number, 1))
    sidecar.turn()
    sidecar.__exit__(None)
    assert rotations > 1
    all_good(root, log)


# ---- names that change


def entries_of(sidecar: Stepped) -> list[tuple[str, str, int]]:
    return [(row[0], row[3], row[15]) for row in sidecar.rows]


def test_a_renamed_log_has_its_rows_under_the_new_name_alone(root: Path) -> None:
    log = root / SESSIONS / "s.jsonl"
    write_lines(log, {"event": "agent:say"}, *records(random.Random(1), 0, 30))
    os.utime(log, (BASE, BASE))
    with Stepped(reference(root)) as sidecar:
        sidecar.turn()
        log.rename(log.with_name("t.jsonl"))
        sidecar.turn()
        assert {row[4] for row in sidecar.rows} == {f"{SESSIONS}/t.jsonl"}
        write_lines(log.with_name("t.jsonl"), *records(random.Random(2), 30, 30))
        write_lines(log, *records(random.Random(3), 0, 5))
        sidecar.turn()
    found = everything(root / "index")
    assert found == rebuilt(reference(root))
    assert {session.session_id for session in found.sessions} == {"t", "s"}
    assert len(found.rows) == 66
    status = status_of(reference(root))
    assert (status.missing, status.dropped) == (0, 0)


def test_logs_that_swap_their_names_keep_their_rows_apart(root: Path) -> None:
    one, two, aside = (root / SESSIONS / f"{name}.jsonl" for name in ("one", "two", "aside"))
    write_lines(one, *records(random.Random(1), 0, 9))
    write_lines(two, *records(random.Random(2), 0, 5))
    once(reference(root))
    one.rename(aside)
    two.rename(one)
    aside.rename(two)
    once(reference(root))
    assert everything(root / "index") == rebuilt(reference(root))


def test_a_second_name_of_a_file_is_a_log_of_its_own(root: Path) -> None:
    log = root / SESSIONS / "s.jsonl"
    write_lines(log, *records(random.Random(1), 0, 9))
    once(reference(root))
    os.link(log, log.with_name("t.jsonl"))
    once(reference(root))
    assert len(indexed(root)) == 18
    assert everything(root / "index") == rebuilt(reference(root))


def test_a_renamed_event_file_is_one_entry(root: Path) -> None:
    event = root / "events/2024-12-29/evt_1735500000.5_agent_spawn.json"
    event.parent.mkdir(parents=True)
    event.write_bytes(b'{"event": "a:b"}')
    with Stepped(reference(root)) as sidecar:
        sidecar.turn()
        event.rename(event.with_name("evt_1735500001.5_agent_spawn.json"))
        sidecar.turn()
        assert [row[1] for row in sidecar.rows] == [1735500001.5]


# ---- what is no rotation, and what is lost


def test_a_part_without_a_log_of_the_plain_name_is_a_log_by_itself(root: Path) -> None:
    log = root / SESSIONS / "s.jsonl"
    dated = log.with_name("s-20241229.jsonl")
    write_lines(dated, *records(random.Random(1), 0, 9))
    write_lines(Path(f"{log}.1"), *records(random.Random(2), 0, 9))
    once(reference(root))
    assert {row[3] for row in indexed(root)} == {"s-20241229"}
    write_lines(log, *records(random.Random(3), 9, 9))
    once(reference(root))
    assert {row[3] for row in indexed(root)} == {"s"} and len(indexed(root)) == 27
    assert everything(root / "index") == rebuilt(reference(root))
    log.rename(root / "elsewhere")
    once(reference(root))
    assert {row[3] for row in indexed(root)} == {"s-20241229"} and len(indexed(root)) == 9


@pytest.mark.parametrize("begin", ["", "the same"])
def test_a_log_by_itself_becomes_a_part_as_soon_as_the_file_with_the_plain_name_comes(root: Path, begin: str) -> None:
    log = root / SESSIONS / "s.jsonl"
    dated = log.with_name("s-20241229.jsonl")
    write_lines(log, *records(random.Random(1), 0, 9))
    with Stepped(reference(root)) as sidecar:
        sidecar.turn()
        log.rename(dated)
        sidecar.turn(60.0)
        assert {row[3] for row in indexed(root)} == {"s-20241229"}
        # A copy counts once.
        write_lines(log, *([dated.read_bytes()] if begin else []), *records(random.Random(2), 9, 9))
        sidecar.turn()
        sidecar.turn()
        assert {row[3] for row in indexed(root)} == {"s"} and len(indexed(root)) == 18
    assert everything(root / "index") == rebuilt(reference(root))


def test_a_part_that_is_deleted_keeps_its_rows_though_its_number_is_taken(root: Path) -> None:
    log = root / SESSIONS / "s.jsonl"
    for number in range(3):
        write_lines(log, *records(random.Random(number), number * 9, 9))
        with Stepped(reference(root)) as sidecar:
            sidecar.turn()
            if number == 2:
                Path(f"{log}.2").unlink(missing_ok=True)
            WAYS["by number"](log, number)
            Path(f"{log}.3").unlink(missing_ok=True)
            sidecar.turn()
    assert len(indexed(root)) == 27
    Path(f"{log}.2").unlink()
    Path(f"{log}.1").rename(f"{log}.2")
    log.rename(f"{log}.1")
    write_lines(log, *records(random.Random(9), 27, 3))
    once(reference(root))
    assert len(indexed(root)) == 30
    assert len({(row[4], row[6]) for row in indexed(root)}) == 30


def test_a_log_whose_old_bytes_are_nowhere_is_replaced_and_its_parts_are_derived_again(root: Path) -> None:
    log = root / SESSIONS / "s.jsonl"
    write_lines(log, *records(random.Random(1), 0, 9))
    WAYS["by number"](log, 1)
    write_lines(log, *records(random.Random(2), 9, 9))
    once(reference(root))
    log.unlink()
    write_lines(log, *records(random.Random(3), 18, 4))
    once(reference(root))
    assert indexed(root) == expected(root, log, BASE) and len(indexed(root)) == 13
    assert status_of(reference(root)).dropped
    assert everything(root / "index") == rebuilt(reference(root))


def test_a_line_that_comes_late_to_an_older_part_is_derived_in_its_place(root: Path) -> None:
    log = root / SESSIONS / "s.jsonl"
    write_lines(log, *records(random.Random(1), 0, 9))
    with Stepped(reference(root)) as sidecar:
        sidecar.turn()
        WAYS["by number"](log, 1)
        write_lines(log, *records(random.Random(2), 12, 9))
        sidecar.turn()
        write_lines(Path(f"{log}.1"), *records(random.Random(3), 9, 3))
        sidecar.turn()
    all_good(root, log)


def test_a_copy_beside_its_original_counts_once(root: Path) -> None:
    log = root / SESSIONS / "s.jsonl"
    write_lines(log, *records(random.Random(1), 0, 9))
    with Stepped(reference(root)) as sidecar:
        sidecar.turn()
        for size in (100, log.stat().st_size):
            Path(f"{log}.1").write_bytes(log.read_bytes()[:size])
            sidecar.turn()
            assert len(sidecar.rows) == 9
            assert everything(root / "index") == rebuilt(reference(root))
        os.truncate(log, 0)
        sidecar.turn()
        assert {row[4] for row in sidecar.rows} == {f"{SESSIONS}/s.jsonl.1"} and len(sidecar.rows) == 9
    all_good(root, log)
