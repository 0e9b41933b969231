"""A rebuild, the swap behind it and the start that finds it half done, killed at every step: one index, whole.

The steps are those that `steps.py` finds by itself. Readers are asked right after each kill, as they would ask while
nobody runs: they find the old index or the new one, and never again the old one after the new.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from faults.steps import children, died, dies_at, in_a_child, steps_of
from helpers.corpora import BASE, DAY
from helpers.support import (
    HANG,
    Everything,
    Stepped,
    command,
    eventually,
    everything,
    indexed,
    modelled,
    nothing_is_saved_ahead_of_its_rows,
    rebuilt,
    reference,
    write_lines,
)
from helpers.tally import Tally
from sidecar.bulk.rebuild import reindex
from sidecar.config.settings import Settings
from sidecar.errors import IndexMissing
from sidecar.query.index import Index
from sidecar.service import lock
from sidecar.service.lock import root_locked
from sidecar.service.supervisor import run_once
from sidecar.store import layout as swap

Often = Callable[[int, int], int]
Tallied = Callable[[str], Tally]

LOG = "responses/sessions/s.jsonl"


def take_in(settings: Settings) -> None:
    run_once(settings, lambda _: None)


def rebuild(settings: Settings) -> None:
    with root_locked(settings, "reindex"):
        reindex(settings, 1)


# ---- roots to begin with


def exchanges(first: int, last: int) -> list[dict[str, object]]:
    """Requests on one day, each answered on the next."""
    return [
        {
            "event": f"completion:{what}",
            "correlation_id": f"c{number}",
            "timestamp": BASE + DAY * (number % 3 + later),
            "data": {"agent_id": f"{what}_{number % 5}"},
        }
        for number in range(first, last)
        for later, what in enumerate(["request", "result"])
    ]


def without_an_index(root: Path) -> None:
    write_lines(root / LOG, *exchanges(0, 20), b"no record\n", b'{"event": "torn')


def behind_its_logs(root: Path) -> None:
    write_lines(root / LOG, *exchanges(0, 10))
    take_in(reference(root))
    write_lines(root / LOG, *exchanges(10, 20))


def killed_before(root: Path) -> None:
    """With write-ahead logs, and with rows that no checkpoint covers: of a file that is gone since, and a new day."""
    behind_its_logs(root)
    settings = reference(root)

    def dying() -> None:
        with Stepped(settings) as stepped:
            write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE + 9 * DAY})
            stepped.turn()
            stepped.now -= 59.0
            write_lines(root / LOG, *exchanges(30, 33))
            stepped.turn(seconds=0.1)
            os.kill(os.getpid(), signal.SIGKILL)

    assert died(in_a_child(dying))
    assert list((root / "index").rglob("*.db-wal"))
    # Rewritten: the new index lacks days that the old one has.
    (root / LOG).write_bytes(b"")
    write_lines(root / LOG, *exchanges(5, 15))


BEGINNINGS = [without_an_index, behind_its_logs, killed_before]


def copied(root: Path, copy: Path) -> Path:
    """A copy of a root, whose logs are the same files, as the index knows them."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root / "index", copy / "index", copy_function=shutil.copy2) if (root / "index").exists() else None
    (copy / LOG).parent.mkdir(parents=True)
    os.link(root / LOG, copy / LOG)
    return copy


def seen(root: Path) -> list[tuple[object, ...]] | None:
    """What a reader finds, by place; None where there is no index."""
    try:
        with Index(root) as index:
            return sorted((one.file_path, one.byte_offset, one.event_type) for one in index.timeline())
    except IndexMissing:
        return None


def places(root: Path) -> list[tuple[object, ...]]:
    return sorted((row[4], row[6], row[2]) for row in modelled(root))


# ---- killed


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_rebuild_may_be_killed_at_every_step_and_so_may_the_starts_after_it(
    folder: Path, beginning: Callable[[Path], None], tally: Tallied, often: Often
) -> None:
    root = folder / "logs"
    beginning(root)
    old, new = seen(root), places(root)
    assert old != new
    copy = folder / "copy"
    settings = reference(copy)
    chance = random.Random(1)
    steps = steps_of(copied(root, copy) / "index", lambda: rebuild(settings))
    assert seen(copy) == new and len(steps) > 100
    expected = should_be(settings)
    counted = tally("SIGKILL at each step of a rebuild, its swap, and the starts after it")
    every = len(steps) // often(20, len(steps))
    was_new = []
    for step in range(1 + chance.randrange(every), len(steps) + 1, every):
        copied(root, copy)
        assert dies_at(step, copy / "index", lambda: rebuild(settings))
        counted.tried += 1
        found = seen(copy)
        assert found in (old, new), f"killed before step {step}, {steps[step - 1]}: {len(found or ())} entries"
        was_new.append(found == new)
        while chance.random() < 0.6 and dies_at(chance.randint(1, 120), copy / "index", lambda: take_in(settings)):
            counted.tried += 1
            after = seen(copy)
            assert after == new or not was_new[-1], f"killed before step {step} and at the start: not the new index"
            nothing_is_saved_ahead_of_its_rows(copy)
        take_in(settings)
        is_whole(settings, expected, counted)
    assert was_new == sorted(was_new), "a new index became the old one again"
    assert not was_new[0]


def should_be(settings: Settings) -> Everything:
    """What the model says, and a rebuild elsewhere, which agree."""
    expected = rebuilt(settings)
    assert expected.rows == modelled(settings.root)
    return expected


def is_whole(settings: Settings, expected: Everything, tally: Tally) -> None:
    """The index is what it should be, and nothing lies beside it."""
    tally.compare(indexed(settings.root), expected.rows)
    assert everything(settings.index_folder) == expected
    left = {path.name for path in settings.index_folder.iterdir()}
    assert left <= {"catalog.db", "daily", "sidecar.lock"}, left


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_start_that_finds_a_half_done_swap_may_be_killed_at_every_step(
    folder: Path, beginning: Callable[[Path], None], tally: Tallied, often: Often
) -> None:
    root = folder / "logs"
    beginning(root)
    new = places(root)
    counted = tally("SIGKILL at each step of a start that finds a half-done swap")
    copy, half = folder / "copy", folder / "half"
    settings = reference(copy)
    steps = len(steps_of(copied(root, copy) / "index", lambda: rebuild(settings)))
    expected = should_be(settings)
    halves = 0
    chance = random.Random(2)
    # From its end, where the moving is, back to where the manifest is not there yet.
    for step in range(steps, 0, -1):
        copied(root, half)
        assert dies_at(step, half / "index", lambda: rebuild(reference(half)))
        if not (half / "index" / swap.MANIFEST).exists():
            if halves:
                break
            continue
        halves += 1
        assert seen(half) == new
        for number in range(1, 10_000, often(chance.randint(60, 120), 3)):
            copied(half, copy)
            if not dies_at(number, copy / "index", lambda: take_in(settings)):
                break
            counted.tried += 1
            assert seen(copy) == new
            nothing_is_saved_ahead_of_its_rows(copy)
        take_in(settings)
        is_whole(settings, expected, counted)
    assert halves > 8


# ---- several processes


def kill_one_of(arguments: list[str], among: str, after: float) -> list[int]:
    """Run a command, and kill it or a process of its own; gives those that it had. It may end well before that.

    Without a worker it must not go on, and must say why, in a sentence.
    """
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if among == "workers":
        eventually(lambda: children(process.pid) or process.poll() is not None)
    with suppress(subprocess.TimeoutExpired):
        process.wait(after)
    workers = children(process.pid)
    victims = workers if among == "workers" else [process.pid]
    with suppress(ProcessLookupError):
        for victim in victims[-1:]:
            os.kill(victim, signal.SIGKILL)
    if among == "workers":
        _, said = process.communicate(timeout=HANG)
        assert process.returncode in (0, 1), said.decode()
        assert b"Traceback" not in said, said.decode()
        assert process.returncode == 0 or b"process died" in said, said.decode()
    else:
        process.wait()
    process.stdout.close()  # type: ignore[union-attr]
    process.stderr.close()  # type: ignore[union-attr]
    return workers


def test_a_rebuild_by_several_processes_may_lose_any_of_them_at_any_time(
    folder: Path, tally: Tallied, often: Often
) -> None:
    """Without its parent no worker goes on, and none stands in the way of the next rebuild, which begins at once."""
    root = folder / "logs"
    settings = reference(root)
    chance = random.Random(3)
    for number in range(12):
        record = {"event": "agent:say", "data": {"agent_id": f"a{number}", "text": "x" * 2_000}}
        log = root / f"responses/sessions/s{number}.jsonl"
        write_lines(log, b"".join(orjson.dumps({**record, "timestamp": BASE + n * 500}) + b"\n" for n in range(360)))
    rebuild_by_two = command("--root", root, "reindex", "--workers", "2")
    began = time.monotonic()
    subprocess.run(rebuild_by_two, check=True, capture_output=True)
    whole = time.monotonic() - began
    counted = tally("SIGKILL of a process of a rebuild by several, at any time")
    had_workers = 0
    for number in range(often(3, 40) + 30):
        if number >= often(3, 40) and had_workers:  # not before one kill has found them at work
            break
        old = seen(root)
        write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE, "n": number})
        workers = kill_one_of(rebuild_by_two, ["parent", "workers"][number % 2], chance.random() * whole * 0.9)
        had_workers += bool(workers)
        counted.tried += 1
        assert seen(root) in (old, places(root))
        assert lock.lock_holder(settings.index_folder) is None
        subprocess.run(rebuild_by_two, check=True, capture_output=True)
        counted.compare(indexed(root), modelled(root))
        left = {Path(f"/proc/{worker}") for worker in workers}
        eventually(lambda: not any(path.exists() for path in left))  # noqa: B023
    assert had_workers
