"""What an import and a `--help` cost, beside what cannot be saved."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from statistics import median

from measure import Figure, Goal, Plan, python, run

WAYS = {
    "python": [sys.executable, "-c", "pass"],
    "python + peewee": [sys.executable, "-c", "import peewee"],
    "Index": [sys.executable, "-c", "from sidecar import Index"],
    "--help": python("-m sidecar", "--help"),
}


def measure(plan: Plan) -> Iterator[Figure]:
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in plan.rounds(plan.repeat * 4):
        for name, command in WAYS.items():
            taken[name].append(run(command).wall * 1e3)
    middle = {name: median(each) for name, each in taken.items()}
    more = median(ours - bare for ours, bare in zip(taken["Index"], taken["python + peewee"], strict=True))
    yield Figure("from sidecar import Index", middle["Index"], "ms", "python + peewee", middle["python + peewee"])
    yield Figure("  more than that", more, "ms", goal=Goal(60))
    yield Figure("sidecar --help", middle["--help"], "ms", "python", middle["python"], None, Goal(150))
