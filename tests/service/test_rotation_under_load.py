"""A writer that rotates its log all the time, beside a sidecar that runs, is stopped and is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import orjson
import pytest

from helpers.corpora import BASE
from helpers.rotations import WAYS, expected, parts_of, records
from helpers.support import HANG, command, eventually, indexed, reference
from sidecar.errors import SidecarError
from sidecar.health.status import status_of

LINES_A_TICK = 100


def ends_well(root: Path, count: int) -> bool:
    try:
        # What costs little is asked first: this is asked all the time.
        return not status_of(reference(root)).behind_bytes and len(indexed(root)) == count
    except (SidecarError, OSError):
        return False


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_every_record_is_there_once_in_one_session_linked_across_parts(tmp_path: Path, way: str, seconds: int) -> None:
    rng = random.Random(f"{way} {seconds}")
    root = tmp_path / "logs"
    log = root / "responses/sessions/s.jsonl"
    log.parent.mkdir(parents=True)
    log.touch()
    start = command("--root", root, "run")
    process: subprocess.Popen[bytes] | None = None
    number = rotations = 0
    try:
        for tick in range(seconds * 20):
            if process is None and tick % 10 == 0:
                process = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            lines = b"".join(orjson.dumps(one) + b"\n" for one in records(rng, number, LINES_A_TICK))
            with log.open("ab", buffering=0) as file:
                file.write(lines)
            number += LINES_A_TICK
            if tick % 20 == 19:
                rotations += 1
                WAYS[way](log, rotations)
            if process is not None and tick % 50 in (24, 49):
                process.send_signal(signal.SIGKILL if tick % 50 == 49 else signal.SIGTERM)
                process.wait(HANG)
                process = None
            time.sleep(0.05)
        with log.open("ab", buffering=0) as file:
            file.write(orjson.dumps(records(rng, number, 1)[0]) + b"\n")
        process = process or subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: ends_well(root, number + 1))
    finally:
        if process is not None:
            process.terminate()
            process.wait(HANG)
    assert len(parts_of(log)) == rotations + 1
    rows = indexed(root)
    assert rows == expected(root, log, BASE)
    assert {row[3] for row in rows} == {"s"}
    assert status_of(reference(root)).dropped == 0
