"""Killed between the steps by which the rows of a log follow its files to other names."""

from __future__ import annotations

import importlib
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from faults.steps import died, in_a_child
from helpers.corpora import BASE
from helpers.rotations import WAYS, expected, records
from helpers.support import Stepped, everything, indexed, once, rebuilt, reference, write_lines

STEPS = {
    "rotated": (
        "catalog_writer:CatalogWriter.begin_move",
        "day_writer:DayWriter.move",
        "day_writer:DayWriter.make_durable",
        "catalog_writer:CatalogWriter.end_move",
        "catalog_writer:CatalogWriter.save",
    ),
    "renamed": (
        "catalog_writer:CatalogWriter.mark_resetting",
        "day_writer:DayWriter.delete_rows",
        "day_writer:DayWriter.write",
        "day_writer:DayWriter.make_durable",
        "catalog_writer:CatalogWriter.save",
    ),
}


def die_at(step: str, call: int, *, after: bool) -> None:
    """From here on, the process dies at this call of a method."""
    module, _, name = step.partition(":")
    owner_name, _, method = name.partition(".")
    owner: Any = getattr(importlib.import_module(f"sidecar.indexer.{module}"), owner_name)
    original = getattr(owner, method)
    calls = 0

    def deadly(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, method, deadly)


@pytest.mark.parametrize("what", STEPS)
def test_a_kill_while_rows_follow_their_log_to_another_name_doubles_and_loses_none(tmp_path: Path, what: str) -> None:
    kills = 0
    for number, (step, call, after) in enumerate(
        (step, call, after) for step in STEPS[what] for call, after in ((1, False), (1, True), (2, True))
    ):
        root = tmp_path / str(number)
        log = root / "responses/sessions/s.jsonl"
        write_lines(log, *records(random.Random(number), 0, 70))
        settings = reference(root, checkpoint_interval=30.0)
        once(settings)
        WAYS["by number"](log, 1)
        write_lines(log, *records(random.Random(number + 100), 70, 40))
        once(settings)
        if what == "rotated":
            WAYS["by number"](log, 2)
        else:
            log.rename(log.with_name("t.jsonl"))
            Path(f"{log}.1").rename(log)

        def dying(step: str = step, call: int = call, after: bool = after, settings: Any = settings) -> None:
            die_at(step, call, after=after)
            once(settings)

        kills += died(in_a_child(dying))
        with Stepped(settings) as sidecar:
            sidecar.turn()
        if what == "rotated":
            assert indexed(root) == expected(root, log, BASE), (step, call, after)
        assert len(indexed(root)) == 110
        assert everything(root / "index") == rebuilt(settings), (step, call, after)
    assert kills > 8
