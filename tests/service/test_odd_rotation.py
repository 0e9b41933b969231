"""A rotated log whose lines and parts are such as parsers dislike: each record once, where the law has it."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest

from helpers.corpora import BASE
from helpers.oddities import odd_line
from helpers.rotations import WAYS, records
from helpers.support import Stepped, everything, indexed, modelled, rebuilt, reference, write_lines

FIRST = orjson.dumps({"event": "agent:spawn", "timestamp": BASE, "data": {"agent_id": "ann"}}) + b"\n"


def some_lines(rng: random.Random, first: int, count: int) -> bytes:
    plain = [orjson.dumps(record) for record in records(rng, first, count)]
    lines = [odd_line(rng, lambda line=line: line) if rng.random() < 0.3 else line for line in plain]
    return b"".join(line + b"\n" for line in lines)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 40))])
def test_odd_lines_and_parts_are_where_the_law_has_them_whenever_the_log_is_rotated_looked_at_or_killed(
    way: str, seed: int, tmp_path: Path
) -> None:
    rng = random.Random(f"odd {way} {seed}")
    root = tmp_path / "logs"
    log = root / "responses/sessions/s.jsonl"
    write_lines(log, FIRST)
    conf = reference(root, checkpoint_interval=30.0)
    sidecar = Stepped(conf).__enter__()
    number = rotations = 0
    for action in rng.choices(["write", "rotate", "turn", "stop", "kill"], [3, 1, 3, 1, 1], k=30):
        if action == "write":
            # Each part may begin with a byte order mark.
            begins = not log.exists() or log.stat().st_size == 0
            mark = rng.choice([b"", b"\xef\xbb\xbf"]) if begins else b""
            write_lines(log, mark + some_lines(rng, number, 4))
            number += 4
        elif action == "rotate" and log.exists() and log.stat().st_size:
            rotations += 1
            WAYS[way](log, rotations)
        elif action == "turn":
            sidecar.turn()
            if log.exists() and log.stat().st_size:
                assert indexed(root) == modelled(root)
        elif action == "stop":
            sidecar.__exit__(None)
            sidecar = Stepped(conf).__enter__()
        elif action == "kill":
            sidecar.sidecar.abandon()
            sidecar = Stepped(conf).__enter__()
    if log.exists() and log.stat().st_size:
        WAYS[way](log, rotations + 1)
    write_lines(log, some_lines(rng, number, 1))
    sidecar.turn()
    sidecar.__exit__(None)
    assert indexed(root) == modelled(root)
    assert everything(root / "index") == rebuilt(conf)
