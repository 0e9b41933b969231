"""A search through one day of 105 MB, beside `grep -F` over the same files.

The text that is looked for occurs nowhere, in a few records, or in most. `grep -F` compares bytes; `grep -iF`, in
UTF-8, ignores case, as the sidecar does. The sidecar is timed with the index open, and as a process from its start.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from statistics import median

from corpus import Corpus
from measure import Figure, Goal, Plan, entries, run, sidecar

from sidecar import Index

RARE = "zeppelin"
"""Not a word of the corpus."""
COMMON = "correlation; see table"


def measure(plan: Plan) -> Iterator[Figure]:
    logs = Corpus(plan.folder, plan.sized(126_000), plan.sized(504), 1)
    if entries(logs.root) != logs.records:
        logs.drop_index()
        run(sidecar(logs.root, "reindex", "--json"))
    told = f"{logs.bytes / 1e6:.0f} MB, {logs.sessions} files"
    with Index(logs.root) as index:
        index.get(next(index.timeline(limit=1)).id)
        for name, words, limit, goal in (
            ("search a day, nowhere", RARE, None, Goal(2, "ratio")),
            ("search a day, the 20 latest of many", COMMON, 20, None),
            ("search a day for a word in Cyrillic", "журнал", None, None),
        ):
            rounds = []
            for _ in plan.rounds():
                beside = _grep(logs, "-rF", words)
                began = time.perf_counter()
                for _hit in index.search(words, limit=limit):
                    pass
                rounds.append((time.perf_counter() - began, beside))
            ours, theirs = (median(values) * 1e3 for values in zip(*rounds, strict=True))
            ratio = median(ours / theirs for ours, theirs in rounds)
            yield Figure(name, ours, "ms", "grep -F", theirs, ratio, goal, told)
    runs = [(run(sidecar(logs.root, "query", "search", RARE)).wall, _grep(logs, "-rFi", RARE)) for _ in plan.rounds()]
    ours, theirs = (median(values) * 1e3 for values in zip(*runs, strict=True))
    yield Figure("  the command, with Python and imports", ours, "ms", "grep -iF", theirs)


def _grep(logs: Corpus, option: str, words: str) -> float:
    began = time.perf_counter()
    command = ["grep", option, "-c", words, str(logs.root / "responses")]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
    return time.perf_counter() - began
