"""A process is killed at each step while its logs are as they are in the wild: glued, torn, filled with NULs, without a
last line end, rotated in every way."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from faults.odd_writer import OddWriter
from faults.steps import ROTATION_STAGES, STAGES
from faults.test_kill_steps import Lives
from helpers.support import (
    Stepped,
    everything,
    indexed,
    modelled,
    nothing_is_saved_ahead_of_its_rows,
    rebuilt,
    reference,
)
from helpers.tally import Tally
from helpers.trees import tree
from sidecar.service.supervisor import run_once
from sidecar.store import layout as swap

A_SERIES = 50
"""Kills after which an index is compared with its logs, and another begun."""


def a_series(folder: Path, seed: int, kills: int, lives: Lives, tally: Tally) -> None:
    """Write odd logs while a sidecar follows that is killed again and again; at the end compare."""
    chance = random.Random(f"odd {seed}")
    tree(folder / "all", seed, sessions=6, lines=60, events=6)
    root = folder / "logs"
    root.mkdir()
    settings = reference(root, scan_interval=0.01)
    writer = OddWriter(folder / "all", root, chance, lines=60)

    def meanwhile() -> None:
        for _ in range(chance.choice([0, 1, 3])):
            writer.write_some(torn=True)
        if chance.random() < 0.5:
            writer.be_odd()
        if chance.random() < 0.1:
            writer.meddle()
        if chance.random() < 0.1:
            writer.settle()

    for _ in range(kills):
        while not lives.one(settings, meanwhile):
            pass
        tally.tried += 1
        nothing_is_saved_ahead_of_its_rows(root)
        assert not (settings.index_folder / swap.QUARANTINE).exists(), "a kill was taken for damage"
    while writer.write_some():
        pass
    writer.end()
    run_once(settings, lambda _: None)
    with Stepped(settings) as stepped:  # event files that do not parse have settled by its time
        stepped.turn()
        stepped.turn()
    tally.compare(indexed(root), modelled(root, stepped.now))
    assert everything(root / "index") == rebuilt(settings, now=stepped.now)


def test_an_indexing_process_of_odd_logs_may_be_killed_at_every_step(
    folder: Path, tally: Callable[[str], Tally], often: Callable[[int, int], int]
) -> None:
    kills = often(100, 10_000)
    lives = Lives(random.Random(f"odd {kills}"), STAGES | ROTATION_STAGES)
    for seed in range(kills // A_SERIES):
        a_series(folder / str(seed), seed, A_SERIES, lives, tally("SIGKILL at each step, odd and rotated logs"))
        shutil.rmtree(folder / str(seed))
    missed = [step for step, times in lives.kills.items() if not times]
    assert len(missed) < (1 if kills > 1_000 else 24), f"nobody died at {missed}"
