"""The library's questions over 30 days and 3 million entries; beside DuckDB, and grep and jq, for one of them.

Each question is asked many times with other words, drawn from the logs by a seed. Days are open already, but where it
says cold: that is a new process, timed from the call of `Index` to its first answer.
The compared question is one that all can answer: the requests that an agent made or was given, the first 100 in time.
Their answers are held equal.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from statistics import median
from typing import Any

import corpus
import orjson
from corpus import Corpus
from measure import Figure, Goal, Plan, entries, python, quantile, run, sidecar

from sidecar import Index, SidecarError
from sidecar.records import Entry

ROWS = 100
LIMIT_MS = 5.0

SOME_HOURS = 7 * 3600.0
"""The last sessions begin six hours before the end."""


def measure(plan: Plan) -> Iterator[Figure]:
    per_day = plan.sized(100_000)
    logs = Corpus(plan.folder, 30 * per_day, 30 * per_day // 250, 30)
    told = f"{logs.records:,} entries, 30 days"
    if entries(logs.root) != logs.records or not _is_current(logs):
        logs.drop_index()
        made = run(sidecar(logs.root, "reindex", "--json"))
        rate = logs.records / orjson.loads(made.out)["seconds"]
        yield Figure(
            "rebuild of this corpus, rate", rate, "/s", note=f"{told}; largest process {max(made.peaks):.0f} MB"
        )
    cold = [run(python("query.py", logs.root)) for _ in plan.rounds()]
    yield Figure(
        "cold Index, open and first answer", median(float(one.out) for one in cold), "ms", goal=Goal(50), note=told
    )
    yield Figure("  the whole process", median(one.wall for one in cold) * 1e3, "ms", note="with Python and imports")
    with Index(logs.root) as index:
        for name, ask in questions(index, logs, random.Random(3)).items():
            goal = None if name.startswith("  ") else Goal(LIMIT_MS)
            yield from _timed(name, ask, 3 if goal is None else plan.sized(400), goal)
        yield from _beside(plan, logs, index)


def _is_current(logs: Corpus) -> bool:
    """Whether the index that was kept is one that this version reads."""
    try:
        with Index(logs.root) as index:
            return next(index.timeline(), None) is not None
    except SidecarError:
        return False


def questions(index: Index, logs: Corpus, draw: random.Random) -> dict[str, Callable[[], Any]]:
    """Everything that is asked, each with other words at every call."""
    known = [
        entry
        for day in range(logs.days)
        for entry in index.timeline(since=corpus.FIRST_DAY + day * 86400 + 40_000, limit=200)
    ]
    agents = sorted({agent for entry in known for agent in entry.participating_agents})

    def entry() -> Entry:
        return draw.choice(known)

    def agent() -> str:
        return draw.choice(agents)

    def since(seconds: float) -> float:
        """A window that ends now and begins so long before the end of the logs."""
        return time.time() - logs.end + seconds

    def rows(reverse: bool = False, **wanted: Any) -> list[Entry]:
        return list(index.timeline(limit=ROWS, reverse=reverse, **wanted))

    def role() -> list[dict[str, Any]]:
        one = entry()
        return index.get_agent_role_history(one.participating_agents[0], one.session_id)

    teams = [entry.conversation_id for entry in known if entry.conversation_id != entry.session_id]
    correlations = [entry.correlation_id for entry in known if entry.correlation_id]
    return {
        "find_peer_interactions, last hours": lambda: index.find_peer_interactions(agent(), since(SOME_HOURS)),
        "get_agent_role_history": role,
        "find_pending_requests, last hours": lambda: index.find_pending_requests(since(SOME_HOURS)),
        "get_session_participants": lambda: index.get_session_participants(entry().session_id),
        "get": lambda: index.get(entry().id),
        "read": lambda: index.read(entry()),
        "timeline, agent": lambda: rows(agent=agent()),
        "timeline, agent, latest": lambda: rows(agent=agent(), reverse=True),
        "timeline, agent, since any moment": lambda: rows(agent=agent(), since=entry().timestamp),
        "timeline, agent and event type": lambda: rows(agent=agent(), event_type="agent:role_change"),
        "timeline, since any moment": lambda: rows(since=entry().timestamp),
        "timeline, session": lambda: rows(session=entry().session_id),
        "timeline, conversation": lambda: rows(conversation=draw.choice(teams)),
        "exchange": lambda: list(index.exchange(draw.choice(correlations))),
        "timeline, no such agent": lambda: rows(agent="agent_nobody"),
        "  find_peer_interactions, all days": lambda: index.find_peer_interactions(agent(), since(logs.days * 86400)),
        "  find_pending_requests, all days": lambda: index.find_pending_requests(None),
        "  agents()": index.agents,
    }


def _timed(name: str, ask: Callable[[], Any], times: int, goal: Goal | None) -> Iterator[Figure]:
    ask()
    taken, sizes = [], []
    for _ in range(times):
        began = time.perf_counter()
        answer = ask()
        taken.append((time.perf_counter() - began) * 1e3)
        sizes.append(len(answer) if isinstance(answer, list) else 1)
    note = f"p50 {quantile(taken, 0.5):.2f} ms, max {max(taken):.1f}; {median(sizes):.0f} rows"
    yield Figure(f"{name}, p99" if goal else f"{name}, max", quantile(taken, 0.99), "ms", goal=goal, note=note)


# ---- the others, for one question


def _beside(plan: Plan, logs: Corpus, index: Index) -> Iterator[Figure]:
    agent = corpus.AGENTS[17]
    ours = []
    answer: list[float] = []
    for _ in range(20):
        began = time.perf_counter()
        found = index.timeline(agent=agent, event_type="completion:request", limit=ROWS)
        answer = [round(entry.timestamp, 6) for entry in found]
        ours.append(time.perf_counter() - began)
    asked = f"requests made by or given to an agent, first {ROWS}"
    for peer, ask in (("grep, jq", _grep), ("duckdb", _duckdb)):
        taken = []
        for _ in plan.rounds(2):
            seconds, theirs = ask(logs, agent)
            taken.append(seconds)
        if not theirs:
            yield Figure(asked, median(ours) * 1e3, "ms", note=f"{peer} is not installed: skipped")
            continue
        note = "same answer" if theirs == answer else "ANOTHER ANSWER"
        yield Figure(asked, median(ours) * 1e3, "ms", peer, median(taken) * 1e3, note=note)


def _grep(logs: Corpus, agent: str) -> tuple[float, list[float]]:
    chosen = f'select(.event == "completion:request" and (.data.agent_id == "{agent}" or .data.to_agent == "{agent}"))'
    script = (
        f"LC_ALL=C grep -rhF --include='*.jsonl' '\"{agent}\"' '{logs.root}/responses/sessions'"
        f" | jq -r '{chosen} | .timestamp' | sort -n | head -{ROWS}"
    )
    began = time.perf_counter()
    try:
        found = subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0.0, []
    return time.perf_counter() - began, [round(float(line), 6) for line in found.split()]


def _duckdb(logs: Corpus, agent: str) -> tuple[float, list[float]]:
    try:
        import duckdb
    except ImportError:
        return 0.0, []
    columns = "{event: 'VARCHAR', timestamp: 'DOUBLE', data: 'STRUCT(agent_id VARCHAR, to_agent VARCHAR)'}"
    sql = (
        f"SELECT timestamp FROM read_ndjson('{logs.glob}', columns = {columns}) WHERE event = 'completion:request'"
        f" AND (data.agent_id = '{agent}' OR data.to_agent = '{agent}') ORDER BY timestamp LIMIT {ROWS}"
    )
    with closing(duckdb.connect()) as db:
        began = time.perf_counter()
        found = db.execute(sql).fetchall()
        return time.perf_counter() - began, [round(timestamp, 6) for (timestamp,) in found]


def _cold(root: str) -> float:
    began = time.perf_counter()
    with Index(root) as index:
        list(index.timeline(agent=corpus.AGENTS[17], limit=ROWS))
        return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    print(_cold(sys.argv[1]))
