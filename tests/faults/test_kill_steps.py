"""A process is killed before and after each step of a commit: no row is lost or doubled, and no reader is misled.

`steps.py` names the steps. A kill within a step, between two system calls of a commit, comes at a random moment after
it has begun; that every write of a commit may be the last one is tested by `test_power_loss.py` as well.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from faults.meddler import Meddler
from faults.steps import STAGES, Fate, Log, died, in_a_child, of_files, of_stages
from helpers.corpora import BASE, DAY
from helpers.support import (
    Stepped,
    everything,
    indexed,
    modelled,
    nothing_is_saved_ahead_of_its_rows,
    rebuilt,
    reference,
    write_lines,
)
from helpers.tally import Tally
from helpers.trees import tree
from sidecar.config.settings import Settings
from sidecar.indexer import tamper as seal
from sidecar.service.lock import root_locked
from sidecar.service.supervisor import open_sidecar, run_once
from sidecar.store import layout as swap

Often = Callable[[int, int], int]
Tallied = Callable[[str], Tally]

A_SERIES = 50
"""Kills after which an index is compared with its logs, and another begun."""


# ---- an indexing process


def live(settings: Settings, between: Callable[[], None], turns: int) -> None:
    """What `sidecar run` does from its start to its stop, in so many turns, some of which end in a checkpoint."""
    with root_locked(settings, "run"), open_sidecar(settings, lambda _: None) as (sidecar, _):
        now = time.time()
        for _ in range(turns):
            between()
            now += settings.checkpoint_interval / 2
            while sidecar.step(now):
                pass
            assert not sidecar.faults.current
        sidecar.close()


class Lives:
    """Lives of an indexing process, each of which ends at a step if it comes to one that few have died at."""

    def __init__(self, chance: random.Random, stages: dict[str, str] = STAGES) -> None:
        self.kills = Counter(dict.fromkeys((f"{when}: {stage}" for stage in stages for when in ("before", "after")), 0))
        """By the name of the step."""
        self._stages = stages
        self._enough = 0
        self._likely = 1.0
        self._chance = chance

    def one(self, settings: Settings, meanwhile: Callable[[], None]) -> bool:
        """Live, and perhaps die, while a writer does what is `meanwhile`; true where it was killed."""
        chance = random.Random(self._chance.random())
        asked, answer = os.pipe(), os.pipe()

        def between() -> None:
            os.write(asked[1], b"?")
            os.read(answer[0], 1)

        with Log() as log:

            def doomed() -> None:
                turns = chance.randint(1, 4)
                seal.MAX_WAL_BYTES = chance.choice([seal.MAX_WAL_BYTES, 20 * 4_120])
                fate = Fate(self.kills, self._enough, self._likely, chance, log)
                of_files(settings.index_folder, fate.at)
                of_stages(fate.at, self._stages)
                live(settings, between, turns)

            child = in_a_child(doomed)
            os.close(asked[1])
            while os.read(asked[0], 1):
                meanwhile()
                os.write(answer[1], b"!")
            killed = died(child)
            for fd in (asked[0], *answer):
                os.close(fd)
            if killed:
                self.kills.update(log.steps())
        self._enough += not killed and self._likely == 1.0  # it met no step that so few have died at
        self._likely = self._chance.choice([1.0, 0.3, 0.1, 0.03]) if killed else 1.0
        return killed


def a_series(folder: Path, seed: int, kills: int, lives: Lives, tally: Tally) -> None:
    """Write a tree, and meddle with it, while a sidecar follows that is killed again and again; at the end compare."""
    chance = random.Random(seed)
    tree(folder / "all", seed, sessions=6, lines=60, events=30)
    root = folder / "logs"
    root.mkdir()
    settings = reference(root, scan_interval=0.01)
    writer = Meddler(folder / "all", root, chance, lines=60)

    def meanwhile() -> None:
        for _ in range(chance.choice([0, 1, 3])):
            writer.write_some(torn=True)
        if chance.random() < 0.2:
            writer.meddle()

    for _ in range(kills):
        while not lives.one(settings, meanwhile):
            pass
        tally.tried += 1
        nothing_is_saved_ahead_of_its_rows(root)
        assert not (settings.index_folder / swap.QUARANTINE).exists(), "a kill was taken for damage"
    while writer.write_some():
        pass
    run_once(settings, lambda _: None)
    with Stepped(settings) as stepped:  # event files that do not parse have settled by its time
        stepped.turn()
        stepped.turn()
    tally.compare(indexed(root), modelled(root))
    assert everything(root / "index") == rebuilt(settings)


def test_an_indexing_process_may_be_killed_at_every_step(folder: Path, tally: Tallied, often: Often) -> None:
    kills = often(200, 10_000)
    lives = Lives(random.Random(kills))
    for seed in range(kills // A_SERIES):
        a_series(folder / str(seed), seed, A_SERIES, lives, tally("SIGKILL at each step of an indexing process"))
        shutil.rmtree(folder / str(seed))
    missed = [step for step, times in lives.kills.items() if not times]
    assert len(missed) < (1 if kills > 1_000 else 5), f"nobody died at {missed}"


def test_a_request_waits_again_when_its_answer_is_gone_after_a_kill(folder: Path) -> None:
    """The answer was indexed and not saved; the log, whose writer did not sync it either, has lost it as well."""
    root = folder / "logs"
    log = root / "responses/sessions/s.jsonl"
    settings = reference(root, checkpoint_interval=30.0)
    write_lines(log, *[{"event": "completion:request", "timestamp": BASE + day * DAY} for day in range(3)])
    size = log.stat().st_size

    def dying() -> None:
        with Stepped(settings) as stepped:
            stepped.turn()
            write_lines(log, *[{"event": "completion:result", "correlation_id": "c", "timestamp": BASE + 4 * DAY}] * 3)
            stepped.turn(seconds=10.0)
            os.kill(os.getpid(), signal.SIGKILL)

    assert died(in_a_child(dying))
    assert len(indexed(root)) == 6 and sum(row[15] for row in indexed(root)) == 1
    os.truncate(log, size)
    run_once(settings, lambda _: None)
    assert len(indexed(root)) == 3
    assert indexed(root) == modelled(root)
