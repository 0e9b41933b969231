"""`sidecar demo`: agents talk in one process, a real `sidecar run` indexes in another, and this one shows the index.

Everything shown is read through `Index`. The other processes are started and watched here, and always ended.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sidecar.board.signals import stopped_by_signals
from sidecar.board.stats import BoardStats, spoken
from sidecar.board.view import Picture, SilentView, WaitingRequest
from sidecar.config.settings import INDEX_FOLDER
from sidecar.errors import ConfigError, EntryNotFound, IndexUnavailable, RootLocked, SidecarError, SourceError
from sidecar.query.index import Index
from sidecar.records import Entry
from sidecar.service import heartbeat
from sidecar.service.lock import lock_holder

_SESSION = re.compile(r"demo\d*_[a-z]+_\d{3,}\.jsonl(\.lock)?")
"""Files of sessions as the demo names them."""

MAX_CACHED_TEXTS = 1000
"""Texts of entries that are kept in memory, so that they are not read again for every frame."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to play."""

    root: Path
    agents: int
    rate: float
    """Records a second."""
    seconds: float
    seed: int
    config: Path | None = None
    index: Path | None = None

    @property
    def index_folder(self) -> Path:
        return self.index or self.root / INDEX_FOLDER


def play(plan: DemoOptions, view: SilentView) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Run the demo; returns a summary, and commands to try next with a description each.

    SIGINT, SIGTERM and SIGHUP end it early and cleanly, a second signal at once; no process is left behind either way.
    Raises ConfigError if the root holds other logs, RootLocked if another sidecar runs, and SidecarError if one of the
    processes fails.
    """
    check_root(plan.root)
    with ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signals())
        indexer = stack.enter_context(child("sidecar run", *_indexing(plan)))
        wait_until(lambda: _has_begun(indexer, plan.index_folder) or stop(), "the start of `sidecar run`")
        index = stack.enter_context(Index(plan.root, index=plan.index_folder))
        seen = BoardStats(time.time())
        stage = _Stage(plan, seen, index, view)
        course = _Course(seen, indexer, stop)

        def is_over() -> bool:
            stage.draw()
            return course.is_over()

        news = index.follow(stop=is_over, poll=0.01)
        course.agents = stack.enter_context(child("the agents", *_talking(plan)))
        with view:
            for entry in news:
                seen.take(entry, time.time())
            stage.draw(at_once=True)
        passed = time.time() - seen.began
        pending = index.find_pending_requests(passed)
    steps = next_steps(plan, seen)
    lag = seen.lag()
    summary = {
        "root": str(plan.root),
        "agents": plan.agents,
        "seed": plan.seed,
        "seconds": round(passed, 3),
        "written": course.written,
        "indexed": seen.total,
        "per_second": round(seen.total / passed, 1),
        "lag_seconds": {name: round(value, 4) for name, value in lag._asdict().items()} if lag else None,
        "sessions": {"active": seen.begun - seen.completed, "completed": seen.completed},
        "matrix": seen.by_author(),
        "roles": [change._asdict() for change in seen.changes],
        "pending": [dict(row) for row in pending],
        "commands": [command for _, command in steps],
    }
    return summary, steps


def check_root(root: Path) -> None:
    """Raise ConfigError if a root holds anything but earlier demos: made-up sessions among real ones would mislead."""
    found = next(_foreign(root), None)
    if found is not None:
        raise ConfigError(
            f"the demo does not write among other logs, and {root} has {found}",
            hint="leave out --root (and SIDECAR_ROOT) to play in a new temporary folder, or name an empty one",
        )


def _foreign(root: Path) -> Iterator[str]:
    """Paths in a root that are not from a demo, relative to the root."""
    if not root.exists():
        return
    sessions = root / "responses" / "sessions"
    own = {path.name for path in sessions.glob("*") if _SESSION.fullmatch(path.name)}
    for folder, expected in (
        (root, {INDEX_FOLDER, "responses", "events"} if own else {INDEX_FOLDER}),
        (root / "responses", {"sessions"}),
        (sessions, own),
    ):
        if folder.is_dir():
            yield from (str(path.relative_to(root)) for path in folder.iterdir() if path.name not in expected)


def next_steps(plan: DemoOptions, seen: BoardStats) -> list[tuple[str, str]]:
    """What a newcomer may ask next: a description, and a command that works in any folder."""
    program = ["sidecar"] if shutil.which("sidecar") else [sys.executable, "-m", "sidecar"]
    change = seen.returned()
    questions = [("requests that nobody answered", ["pending"])]
    if change:
        questions += [
            (f"the roles of {change.agent}, taken and given back", ["roles", change.agent, change.session]),
            ("what was said there, read from the log", ["conversation", change.conversation]),
        ]
    else:
        questions += [("who there is", ["agents"]), ("what happened last", ["timeline", "--reverse", "--limit", "20"])]
    return [(what, shlex.join([*program, *_places(plan), "query", *question])) for what, question in questions]


def _places(plan: DemoOptions) -> list[str]:
    return ["--root", str(plan.root), *(["--index", str(plan.index)] if plan.index else [])]


def _indexing(plan: DemoOptions) -> list[str]:
    # A config.yaml that happens to be in the working folder is not for the demo.
    config = str(plan.config or os.devnull)
    return ["-m", "sidecar", "--config", config, *_places(plan), "--preset", "reference", "run"]


def _talking(plan: DemoOptions) -> list[str]:
    told = {**asdict(plan), "root": str(plan.root), "config": None, "index": None, "name": _new_name(plan.root)}
    return ["-m", "sidecar.demo.agents", json.dumps(told)]


def _new_name(root: Path) -> str:
    """A prefix that no session in the logs has yet."""
    number = 1
    while True:
        name = "demo" if number == 1 else f"demo{number}"
        if not any(root.glob(f"responses/sessions/{name}_*")):
            return name
        number += 1


def _has_begun(indexer: Child, index_folder: Path) -> bool:
    """Whether the sidecar watches: it holds the lock and has written its status. An older status does not count."""
    indexer.check()
    held = lock_holder(index_folder)
    return held is not None and held[0] == indexer.pid and heartbeat.read_heartbeat(index_folder) is not None


class _Course:
    """How far the demo has come."""

    def __init__(self, seen: BoardStats, indexer: Child, stop: Callable[[], bool]) -> None:
        self.agents: Child | None = None
        self.written: int | None = None
        """Records in the logs, once the agents have ended."""
        self._seen = seen
        self._indexer = indexer
        self._stop = stop
        self._deadline = 0.0

    def is_over(self) -> bool:
        """Whether every written record is indexed. Called after each poll of the index. Raises errors of processes."""
        self._indexer.check()
        if self.agents is None:
            return False
        if self._stop():
            self.agents.ask_to_end()
        if self.written is None and self.agents.has_ended:
            self.agents.check()
            self.written = int(self.agents.said() or 0)
            self._deadline = time.monotonic() + PROCESS_TIMEOUT
        return self.written is not None and (self._seen.total >= self.written or time.monotonic() > self._deadline)


class _Stage:
    """Draws a frame whenever one is due."""

    def __init__(self, plan: DemoOptions, seen: BoardStats, index: Index, view: SilentView) -> None:
        self._index = index
        self._view = view
        self._next = time.monotonic()
        self._texts: dict[str, str] = {}
        """Texts of entries shown recently: while a frame is made, nobody polls for new entries."""
        about = f"{plan.agents} agents write, `sidecar run` reads along: what the index knows"
        self._picture = Picture(seen, about, plan.seconds)

    def draw(self, at_once: bool = False) -> None:
        """Draw a frame if one is due, after asking the index for the rest of what it shows."""
        if time.monotonic() < self._next and not at_once:
            return
        now, picture, rows = time.time(), self._picture, self._view.rows
        try:
            picture.waiting_count, picture.waiting = self._pending(now, rows)
            picture.said = [(spoken(entry), self._words(entry)) for entry in picture.seen.last_said(rows)]
        except (IndexUnavailable, EntryNotFound):
            # Not there yet, or being replaced: the frame keeps what was known before.
            pass
        self._view.draw(picture, now)
        self._next = time.monotonic() + self._view.interval

    def _pending(self, now: float, rows: int) -> tuple[int, list[WaitingRequest]]:
        """The number of waiting requests, and those that have waited longest."""
        pending = self._index.find_pending_requests(now - self._picture.seen.began)
        asked = [self._index.get(row.id) for row in pending[:rows]]
        waiting = [WaitingRequest(now - one.timestamp, spoken(one), self._words(one)) for one in asked]
        return len(pending), waiting

    def _words(self, entry: Entry) -> str:
        if entry.id not in self._texts:
            if len(self._texts) > MAX_CACHED_TEXTS:
                self._texts.clear()
            try:
                self._texts[entry.id] = self._index.text(entry)
            except SourceError as error:
                self._texts[entry.id] = str(error)
        return self._texts[entry.id]


# ---- processes

PROCESS_TIMEOUT = 10.0
"""Seconds that a process gets to start, and to end by itself."""


class Child:
    """A process that was started here, with its output."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], out: int, err: int) -> None:
        self._name = name
        self._process = process
        self._out = out
        self._err = err
        self._is_asked = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, in success or failure."""
        return self._process.poll() is not None

    def ask_to_end(self) -> None:
        """Ask it to end. A second call does nothing."""
        if not self._is_asked and not self.has_ended:
            self._is_asked = True
            self._process.terminate()

    def check(self) -> None:
        """Raise SidecarError if it has failed; ConfigError or RootLocked if its exit status says so."""
        status = self._process.poll()
        if not status or (self._is_asked and status == -signal.SIGTERM):
            return
        lines = [line for line in _read(self._err).splitlines() if line.strip()]
        told = next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else f"status {status}")
        message = told.removeprefix("error: ")
        for kind in (ConfigError, RootLocked):
            if status == kind.exit_status:
                raise kind(message)
        raise SidecarError(f"{self._name}: {message}")

    def said(self) -> str:
        """Its standard output so far."""
        return _read(self._out)

    def end(self) -> None:
        """Ask it to end, wait for it, and kill it if it does not."""
        try:
            self.ask_to_end()
            self._process.wait(PROCESS_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if not self.has_ended:
                self._process.kill()
            self._process.wait()


@contextmanager
def child(name: str, *arguments: str) -> Iterator[Child]:
    """Python running `arguments` in a process of its own, which is ended with the block, by force if need be."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            # Ctrl-C is for the demo, which ends the other processes in order.
            start_new_session=True,
        )
        started = Child(name, process, out.fileno(), err.fileno())
        try:
            yield started
        finally:
            started.end()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds, which another process brings about. Raises SidecarError after PROCESS_TIMEOUT."""
    deadline = time.monotonic() + PROCESS_TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise SidecarError(f"{what} took longer than {PROCESS_TIMEOUT:.0f} s")
        time.sleep(0.01)


def _read(fd: int) -> str:
    # The child writes through the same open file: reading must not move its position.
    return os.pread(fd, 1 << 20, 0).decode("utf-8", "replace")
