"""A real sidecar that is disturbed: what it reports, and whether it has every row in the end."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from helpers.corpora import BASE
from helpers.support import HANG, command, eventually, indexed, reference
from helpers.tally import Tally
from oracle.model import FIELDS, model_file
from sidecar.errors import SidecarError
from sidecar.fs import to_os, to_text
from sidecar.health.status import Status, status_of
from sidecar.query.catalog_reader import open_catalog

SESSIONS = "responses/sessions"
SECONDS = HANG
"""How long is waited for what comes within ten seconds on a machine that has no other work."""

TOLD_AFTER: list[float] = []
"""Seconds until `status` named what was wrong, each time."""

Row = tuple[Any, ...]


def said(number: int, at: float | None = None, **data: Any) -> bytes:
    """A line that differs from all others, and that a reader can compare with its entry."""
    record = {"event": "agent:say", "timestamp": BASE + number if at is None else at, "correlation_id": f"c{number}"}
    return orjson.dumps({**record, "data": {"agent_id": f"a{number % 7}", **data}}) + b"\n"


def expected(root: Path) -> list[Row]:
    """What the model makes of the files that are logs: no links, pipes or sockets, and names of any bytes."""
    rows = []
    files = [(path, "session") for path in root.glob(f"{SESSIONS}/*.jsonl")]
    files += [(path, "file") for path in root.glob("events/*/evt_*.json")]
    for path, layout in files:
        status_of = path.lstat()
        if not stat.S_ISREG(status_of.st_mode):
            continue
        relative = to_text(path.relative_to(root).as_posix())
        found = model_file(path.read_bytes(), path=relative, layout=layout, mtime=status_of.st_mtime)
        for row in found.rows:
            row["participating_agents"] = orjson.dumps(row["participating_agents"]).decode()
            row["agent_roles"] = orjson.dumps(row["agent_roles"]).decode()
            row["addressees"] = tuple(row["addressees"])
            rows.append(tuple(row[field] for field in FIELDS))
    return sorted(rows, key=lambda row: (row[4], row[6]))


def found_of_what_is_there(root: Path) -> list[Row]:
    """Every row, except those of files that are gone, which stay and are not compared with anything."""
    rows = indexed(root)
    there = {path: is_file(root / to_os(path)) for path in {row[4] for row in rows}}
    return [row for row in rows if there[row[4]]]


def is_file(path: Path) -> bool:
    """Whether this is a file, and not a link to one."""
    return path.is_file() and not path.is_symlink()


@contextmanager
def sidecar(root: Path, *options: str | Path, python: str = "", through: tuple[str, ...] = ()) -> Iterator[int]:
    """A real `sidecar run` that is watching. Yields its process id. It must not end by itself, and stop when asked to.

    `python` is done before it starts, in its process; `through` is a command that starts it.
    """
    start = command("--root", root, *options, "run")
    if python:
        start = [sys.executable, "-c", f"{python}\nfrom sidecar.cli import main\nmain()", *start[3:]]
    said_at = root.parent / "stderr"
    with said_at.open("wb") as errors:
        process = subprocess.Popen([*through, *start], stdout=subprocess.DEVNULL, stderr=errors)
    try:
        eventually(lambda: (root / "index/running.json").exists() or process.poll() is not None)
        yield process.pid
        ended = process.poll()
        assert ended is None, f"it ended by itself, with {ended}: {said_at.read_text()}"
    finally:
        process.terminate()
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        try:
            process.wait(HANG)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert process.returncode == 0, said_at.read_text()


def state(root: Path) -> Status:
    """What `sidecar status` says now."""
    return status_of(reference(root))


def it_says(root: Path, *words: str, meanwhile: Callable[[], object] = lambda: None) -> str:
    """Wait until `status` reports a fault with one of these words, and return the reason."""
    began = time.monotonic()
    deadline = began + SECONDS
    while True:
        meanwhile()
        found = state(root)
        assert found.healthy == (not found.reasons)
        for reason in found.reasons:
            if any(word.lower() in reason.lower() for word in words):
                TOLD_AFTER.append(time.monotonic() - began)
                return reason
        assert time.monotonic() < deadline, f"status says none of {words}, but: {found.reasons}"
        time.sleep(0.05)


def is_well(root: Path) -> bool:
    """Whether `status` no longer finds anything wrong."""
    return state(root).healthy


def it_has_everything(root: Path, tally: Tally, seconds: float = SECONDS) -> None:
    """Wait until the rows are those of the model, and count them."""
    began = time.monotonic()
    there = expected(root)
    deadline = time.monotonic() + seconds
    while True:
        looked = time.monotonic()
        with suppress(SidecarError):
            found = found_of_what_is_there(root)
            if found == there or time.monotonic() > deadline:
                tally.took(time.monotonic() - began)
                tally.compare(found, there)
                return
        assert time.monotonic() < deadline, "the index could not be read to the end"
        time.sleep(max(0.02, 2 * (time.monotonic() - looked)))


def no_offset_is_ahead(root: Path) -> None:
    """P4, in the middle of a fault: every entry that the catalog counts is there."""
    # The catalog first: what is committed in a daily file afterwards can only be more.
    with closing(open_catalog(root / "index")) as catalog:
        sources = catalog.sources()
    read = {source[0]: source[1] for source in sources}
    rows = Counter(row[4] for row in indexed(root) if row[6] < read.get(row[4], 0))
    for path, _, _, _, _, _, entries in sources:
        assert rows[path] == entries, f"{path} is saved with {entries} entries, and has {rows[path]}"


def within(seconds: float, condition: Callable[[], bool]) -> None:
    """Wait for something that must happen within this time, whatever cannot be read meanwhile."""

    def holds() -> bool:
        with suppress(SidecarError, OSError):
            return condition()
        return False

    eventually(holds, seconds)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process during a `with` statement, so that it sees nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def child(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which is ended at the end of a `with` statement."""
    process = subprocess.Popen(list(map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=HANG)
