"""`sidecar demo`: agents talk in one process, the real `sidecar run` indexes in another, and this one shows what the
index knows. All it knows of either is what it reads through `Index`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from . import beacon
from .demo_frame import Picture, Waiting
from .demo_screen import View
from .demo_seen import Seen
from .errors import EntryNotFound, IndexUnavailable, SidecarError, SourceError
from .query import Index
from .words import words

PATIENCE = 10.0
"""Seconds that a process gets to start or to end, and the index to come after the last record."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be played."""

    root: Path
    agents: int
    rate: float
    seconds: float
    seed: int
    config: Path | None = None


def play(plan: Plan, view: View) -> dict[str, Any]:
    """Let the agents talk, show what the index knows meanwhile, and give a summary. Errors as of `sidecar run`.

    SIGINT, SIGTERM and SIGHUP end it early and in good order; a second one at once. No process is left behind.
    """
    name = _unused_name(plan.root)
    with ExitStack() as stack:
        stop = stack.enter_context(_signals())
        indexer = stack.enter_context(_process(*_indexer(plan)))
        _wait_for_start(indexer, plan.root, stop)
        with Index(plan.root) as index:
            stage = _Stage(plan, view, index, indexer, stop)
            news = index.follow(stop=stage.is_over)
            stage.agents = stack.enter_context(_process(*_talkers(plan, name)))
            stack.enter_context(view)
            for entry in news:
                stage.seen.take(entry, time.time())
            passed = time.time() - stage.seen.began
        _end(indexer.process)  # in good order: the session registry is now as new as the entries
        return _summary(plan, stage, passed)


class _Stage:
    """The demo while it plays."""

    def __init__(self, plan: Plan, view: View, index: Index, indexer: _Child, stop: _Stop) -> None:
        self.seen = Seen(time.time())
        self.agents: _Child | None = None
        self.written: int | None = None
        """Records in the logs, once the agents have ended."""
        self._plan = plan
        self._view = view
        self._index = index
        self._indexer = indexer
        self._stop = stop
        self._next = time.monotonic()
        self._deadline = 0.0
        about = f"{plan.agents} agents write logs, `sidecar run` indexes them: this is what the index knows"
        self._picture = Picture(self.seen, about, plan.seconds)

    def is_over(self) -> bool:
        """Asked after each look into the index: whether everything that was written has come. Draws when it is time."""
        now = time.monotonic()
        if now >= self._next:
            self._draw()
            self._next = max(now, self._next + self._view.interval)
        self._indexer.check()
        assert self.agents is not None
        if self._stop.asked:
            _ask_to_end(self.agents.process)
        if self.written is None and self.agents.process.poll() is not None:
            self.agents.check()
            self.written = int(self.agents.said())
            self._deadline = now + PATIENCE
        is_over = self.written is not None and (self.seen.total >= self.written or now >= self._deadline)
        if is_over:
            self._draw()
        return is_over

    def _draw(self) -> None:
        now = time.time()
        picture, rows = self._picture, self._view.rows
        try:
            pending = self._index.find_pending_requests(now - self.seen.began)
            picture.waiting_count = len(pending)
            picture.waiting = [self._waiting(row.id, now) for row in pending[:rows]]
            if rows:
                sessions = list(self._index.sessions())
                completed = sum(one.status == "completed" for one in sessions)
                picture.sessions = f"{len(sessions) - completed:,} sessions active, {completed:,} completed"
            latest = list(self.seen.latest)[: -rows - 1 : -1]
            picture.said = [(entry.participating_agents, self._words(entry)) for entry in latest]
        except (IndexUnavailable, EntryNotFound):
            pass  # not there yet, or just being replaced: the picture keeps what it had
        self._view.draw(picture, now)

    def _waiting(self, id: str, now: float) -> Waiting:
        entry = self._index.get(id)
        return Waiting(now - entry.timestamp, entry.participating_agents, self._words(entry))

    def _words(self, entry: Any) -> str:
        try:
            return words(self._index.read(entry))
        except SourceError as error:
            return str(error)


def _summary(plan: Plan, stage: _Stage, passed: float) -> dict[str, Any]:
    """What it came to, as the index has it."""
    seen, lag = stage.seen, stage.seen.lag()
    matrix: dict[str, dict[str, int]] = {}
    for (author, other), count in sorted(seen.matrix.items()):
        matrix.setdefault(author, {})[other] = count
    with Index(plan.root) as index:
        pending = index.find_pending_requests(time.time() - seen.began)
        sessions = [one.status for one in index.sessions() if one.created_at >= seen.began]
    return {
        "root": str(plan.root),
        "seconds": round(passed, 3),
        "agents": plan.agents,
        "seed": plan.seed,
        "written": stage.written,
        "indexed": seen.total,
        "per_second": round(seen.total / passed, 1),
        "lag_seconds": {key: round(value, 4) for key, value in lag._asdict().items()} if lag else None,
        "sessions": {"active": sessions.count("active"), "completed": sessions.count("completed")},
        "matrix": matrix,
        "roles": [change._asdict() for change in seen.changes],
        "pending": [{"id": row.id, "timestamp": row.timestamp, "asked_by": row.initiating_agent} for row in pending],
        "commands": [command for _, command in commands(plan, seen)],
    }


def commands(plan: Plan, seen: Seen) -> list[tuple[str, str]]:
    """What somebody new would try next: what each is for, and the command, as it works from anywhere."""
    program = ["sidecar"] if shutil.which("sidecar") else [sys.executable, "-m", "sidecar"]
    change = seen.returned()
    asked = [
        ("requests that nobody answered", ["pending"]),
        ("how one agent's role changed and came back", ["roles", change.agent, change.session]) if change else
        ("who there is", ["agents"]),
        ("what was said there, from the log itself", ["conversation", seen.latest[-1].conversation_id]) if change else
        ("what happened last", ["timeline", "--reverse", "--limit", "20"]),
    ]
    return [(what, shlex.join([*program, "--root", str(plan.root), "query", *words])) for what, words in asked]
