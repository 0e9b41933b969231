"""A sidecar for which several processes read is killed, or one of these is: no row is lost, doubled or wrong."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from faults.steps import children
from helpers.corpora import BASE, DAY
from helpers.support import (
    HANG,
    command,
    eventually,
    everything,
    modelled,
    nothing_is_saved_ahead_of_its_rows,
    once,
    rebuilt,
    reference,
    scratch,
    with_constants,
    write_lines,
)
from helpers.tally import Tally

FEW = with_constants("sidecar.bulk.backlog", START_WORKERS_AT=40, DISPATCH_AT=20, MAX_IN_FLIGHT=90)
MANY_ARE_FEW = f"""
{FEW}
from sidecar.cli import main
if __name__ == "__main__":
    main()
"""
A_ROOT = 8
"""Rounds on one root, before it becomes large."""


def some_more(root: Path, chance: random.Random, number: int) -> None:
    """New sessions and event files on several days, and lines for old ones; answers to requests of other days."""
    for one in range(150):
        at = BASE + DAY * chance.randrange(4) + one
        asked = {"event": "ask:request", "timestamp": at, "request_id": f"r{one}", "data": {"agent_id": f"a{one % 9}"}}
        answer = {"event": "ask:result", "timestamp": at + DAY, "request_id": f"r{one}", "data": {"agent_id": "b"}}
        write_lines(root / f"responses/sessions/s{number}_{one}.jsonl", asked, *[answer] * (one % 3))
        event = root / f"events/day_{one % 3}/evt_{at}.{number}_note.json"
        write_lines(event, {"event": "note", "timestamp": at, "data": {"agent_id": f"a{one % 9}"}})
    for log in chance.sample(sorted(root.glob("responses/sessions/*.jsonl")), 20):
        write_lines(log, {"event": "ask:result", "timestamp": BASE + number, "data": {"agent_id": "c"}})


def run(root: Path, wait: float | None, chance: random.Random) -> tuple[float, bool]:
    """`sidecar run --once`, of which a process is killed after some seconds; gives how long it took, and whether it had
    readers then."""
    began = time.monotonic()
    arguments = command("--root", root, "run", "--once")[3:]
    start = [sys.executable, "-c", MANY_ARE_FEW, *arguments]
    with subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        had_readers = False
        if wait is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(wait)
            readers = children(process.pid)
            had_readers = len(readers) > 1  # and one that Python has for itself
            victims = [process.pid] if chance.random() < 0.7 else readers[-1:]
            for victim in victims:
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
        _, said = process.communicate(timeout=HANG)
        assert process.returncode in (0, -signal.SIGKILL), said.decode()
        if wait is not None:
            eventually(lambda: not any(Path(f"/proc/{reader}/fd/0").exists() for reader in readers))
    return time.monotonic() - began, had_readers


def test_a_sidecar_may_be_killed_at_any_time_while_workers_read_for_it(
    tally: Callable[[str], Tally], often: Callable[[int, int], int]
) -> None:
    chance = random.Random(5)
    counted = tally("SIGKILL of a sidecar for which several read, or of one of these, at any time")
    caught = 0
    took = 1.0
    with scratch() as folder:
        root = folder / "logs"
        settings = reference(root)
        for number in range(often(6, 400) + 60):
            if number >= often(6, 400) and caught:  # not before one kill has found them at work
                break
            if number % A_ROOT == 0:
                shutil.rmtree(root, ignore_errors=True)
                write_lines(root / "responses/sessions/first.jsonl", {"event": "a:say", "timestamp": BASE})
                once(settings)
                some_more(root, chance, 1_000)
                took, _ = run(root, None, chance)
            some_more(root, chance, number)
            _, had_readers = run(root, chance.random() * took, chance)
            caught += had_readers
            counted.tried += 1
            nothing_is_saved_ahead_of_its_rows(root)
            run(root, None, chance)
            found = everything(settings.index_folder)
            counted.compare(found.rows, modelled(root))
            assert not (settings.index_folder / "incoming").exists()
            if number % A_ROOT in (3, A_ROOT - 1):
                assert found == rebuilt(settings)
    assert caught
