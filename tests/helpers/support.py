"""What several tests need: settings for a tree, rows as dictionaries, a running sidecar, the model of a whole tree."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import orjson
import pytest

from oracle.logs import model_tree
from oracle.model import FIELDS, LogFile, ModelFile
from sidecar.bulk.rebuild import build_index, first_seen_times, read_tasks
from sidecar.config.formats import load_formats
from sidecar.config.settings import Settings, Source, load_settings
from sidecar.fs import split_path
from sidecar.guarded import GuardedFolder
from sidecar.ingest.reader import read_next
from sidecar.ingest.source import SourceState
from sidecar.query.catalog_reader import CatalogReader
from sidecar.query.day_reader import DayReader
from sidecar.records import Answered, RejectedLine, Row, Session
from sidecar.service.daemon import Sidecar
from sidecar.store import layout as swap
from sidecar.times import day_name

TESTS = Path(__file__).parents[1]
"""What a script of the tests needs in its `sys.path`, as pytest has it (`pythonpath` in pyproject.toml)."""

HANG = 300.0
"""Seconds. A limit for what ends by itself, however loaded the machine: only a hang reaches it."""

LATER = 4_000_000_000.0
"""A moment at which every event file counts as settled."""


def any_source(layout: str) -> Source:
    """A source in the reference format to which every file belongs."""
    return Source("any", "**", layout, load_formats()["reference"])  # type: ignore[arg-type]


def rows_of(content: bytes, path: str, layout: str, mtime: float, max_line_bytes: int = 16 << 20) -> ModelFile:
    """What the package derives from a file, in the model's terms."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, path)
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        os.utime(file, (mtime, mtime))
        progress = SourceState(1, path, any_source(layout))
        rows: list[Row] = []
        answered: list[Answered] = []
        more = True
        while more:
            seen = read_next(progress, Path(folder), max_line_bytes, LATER)
            assert not seen.changed
            if seen.batch:
                rows += seen.batch.rows
                answered += seen.batch.answered
            more = seen.more
    found = {row.byte_offset: as_dict(row, path) for row in rows}
    for answer in answered:
        found[answer.byte_offset]["has_response"] = 1
        found[answer.byte_offset]["correlation_id"] = answer.correlation_id
        found[answer.byte_offset]["answered_after"] = answer.answered_after
    counts = progress.counts
    return ModelFile(
        list(found.values()),
        [tuple(one) for one in progress.rejected],  # type: ignore[misc]
        {key: getattr(counts, key) for key in ("indexed", "blank", "rejected", "skipped")},
        {session for session, note in progress.sessions.items() if note.is_completed},
        times={"own": counts.own, "inherited": counts.inherited, "file": counts.undated},
        repaired=counts.repaired,
    )


def as_dict(row: Row, path: str) -> dict[str, Any]:
    """A row as the view shows it, with its day and length."""
    values = row._asdict()
    return {
        **{key: values[key] for key in FIELDS if key in values and not key.startswith(("is_", "has_", "requests_"))},
        "id": f"{split_path(path)[1]}:{row.byte_offset}",
        "file_path": path,
        "participating_agents": list(row.participants),
        "agent_roles": dict(row.roles),
        "addressees": list(row.addressees),
        "is_completion": int(row.is_completion),
        "is_request": int(row.is_request),
        "has_response": int(row.has_response),
        "requests_response": int(row.requests_response),
        "day": day_name(row.day),
        "byte_length": row.byte_length,
    }


# ---- whole trees


def reference(root: Path, **changes: Any) -> Settings:
    """The reference preset on a root, as a test without a config file has it."""
    from dataclasses import replace

    return replace(load_settings(root=root, preset="reference"), **changes)


def indexed(root: Path) -> list[tuple[Any, ...]]:
    """Every row of every day's `ksi_index`, with what an entry has beside it, in the order of file and place."""
    rows: list[tuple[Any, ...]] = []
    for path in sorted((root / "index" / "daily").glob("*.db")):
        day = DayReader(path)
        rows += day.rows()
        day.close()
    return sorted(rows, key=lambda row: (row[4], row[6]))


def modelled(root: Path, now: float | None = None) -> list[tuple[Any, ...]]:
    """What the model makes of the reference tree below `root`, rotated parts too, as `indexed` has it. `now` is a time
    in seconds since 1970, by default the present."""
    now = time.time() if now is None else now
    paths = [(path, "session") for path in root.glob("responses/sessions/*.jsonl*") if path.is_file()]
    paths += [(path, "file") for path in root.glob("events/*/evt_*.json")]
    files = []
    for path, layout in paths:
        mtime = path.stat().st_mtime
        relative, settled = path.relative_to(root).as_posix(), now - mtime >= 60
        files.append(LogFile(relative, path.read_bytes(), mtime, layout, settled))
    rows = []
    for found in model_tree(files, takes=lambda path: path.endswith((".jsonl", ".json"))).values():
        for row in found.rows:
            row["participating_agents"] = orjson.dumps(row["participating_agents"]).decode()
            row["agent_roles"] = orjson.dumps(row["agent_roles"]).decode()
            row["addressees"] = tuple(row["addressees"])
            rows.append(tuple(row[field] for field in FIELDS))
    return sorted(rows, key=lambda row: (row[4], row[6]))


def write_lines(path: Path, *records: Any) -> None:
    """Append records to a log, one `write` each, as a daemon does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        for record in records:
            file.write(record if isinstance(record, bytes) else orjson.dumps(record) + b"\n")


def use_memory_for_temporary_files() -> None:
    """Make temporary folders in memory, where a sync takes no time, in this process and in those that it starts: unless
    `TMPDIR` says where, or there is too little memory."""
    memory = Path("/dev/shm")
    if "TMPDIR" in os.environ or not os.access(memory, os.W_OK):
        return
    space = os.statvfs(memory)
    if space.f_bavail * space.f_frsize >= 2 << 30:
        os.environ["TMPDIR"] = str(memory)
        tempfile.tempdir = None


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for tests that sync thousands of times."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


# ---- processes


def command(*arguments: str | Path) -> list[str]:
    """The command line of the real `sidecar`."""
    return [sys.executable, "-m", "sidecar", *map(str, arguments)]


def on_a_terminal(*arguments: str | Path, typed: str = "", **environment: str) -> tuple[int, str]:
    """Exit status of the real `sidecar`, and what it writes to its terminal of 80 columns, on which `typed` comes."""
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    with subprocess.Popen(command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        seen = b""
        # Linux ends the reading of a terminal that nobody holds any more with an error.
        with suppress(OSError), open(ours, "rb", buffering=0) as terminal:
            while chunk := terminal.read(65536):
                seen += chunk
        return process.wait(HANG), seen.decode()


def unprivileged(*words: str | Path) -> list[str]:
    """A command line for a process to which permissions apply, even if root starts it."""
    if os.geteuid() != 0:
        return [*map(str, words)]
    if shutil.which("setpriv") is None:
        pytest.skip("root can read everything, and there is no setpriv")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *map(str, words)]


def with_constants(module: str, **values: object) -> str:
    """Python for another process: the module's constants have these values there. One that it has not fails loudly."""
    checks = "; ".join(f"module.{name}" for name in values)
    return f"import {module} as module; {checks}; vars(module).update({values!r})"


@contextmanager
def running(root: Path, *arguments: str, at: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A real `sidecar run` on a root, which is watching already. It is stopped at the end. Its index is in `at`."""
    process = subprocess.Popen(
        command("--root", root, *arguments, "run"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        eventually(lambda: ((at or root / "index") / "running.json").exists() or process.poll() is not None)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=HANG)


def eventually(condition: Any, seconds: float = HANG) -> None:
    """Wait until a condition on another process holds. Give `seconds` only if the time itself is promised."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        assert time.monotonic() < deadline, "waited in vain"
        # What takes long to ask is asked less often, so that the asking leaves the processor to what is waited for.
        time.sleep(min(max(0.005, 2 * (time.monotonic() - began)), 1.0))


# ---- an index held against the same log, rebuilt


class Everything(NamedTuple):
    """Everything that an index says, which must be the same however the index was made."""

    rows: list[tuple[Any, ...]]
    rejected: list[RejectedLine]
    sources: list[tuple[Any, ...]]
    """Path, offset, and where the bytes went."""
    sessions: list[Session]
    days: list[tuple[Any, ...]]


def everything(folder: Path) -> Everything:
    """What the index in a folder says, by default `<root>/index`."""
    rows: list[tuple[Any, ...]] = []
    for path in swap.daily_paths(folder):
        with closing(DayReader(path)) as day:
            rows += day.rows()
    with closing(CatalogReader(swap.catalog_path(folder))) as catalog:
        return Everything(
            sorted(rows, key=lambda row: (row[4], row[6])),
            list(catalog.rejected()),
            catalog.sources(),
            list(catalog.sessions(None)),
            catalog.days(),
        )


def rebuilt(settings: Settings, workers: int = 1, now: float = LATER) -> Everything:
    """What a new index of the same logs says, which is made elsewhere, by default when every file has settled."""
    clock = mock.patch("sidecar.bulk.workers.time.time", lambda: now)
    with tempfile.TemporaryDirectory() as folder, clock, GuardedFolder.open_own(Path(folder)) as target:
        todo = read_tasks(settings, first_seen_times(settings.index_folder))
        build_index(settings, target, todo, workers, lambda _: None)
        return everything(Path(folder))


def nothing_is_saved_ahead_of_its_rows(root: Path) -> None:
    """P4: every entry that the catalog counts is there, for every file, right after a kill."""
    folder = root / "index"
    if not swap.catalog_path(folder).exists():
        return
    # The catalog first: what is committed in a daily file afterwards can only be more.
    with closing(CatalogReader(swap.catalog_path(folder))) as catalog:
        sources, rotated = catalog.sources(), catalog.earlier_parts()
    rows: dict[str, int] = {}
    everywhere: dict[str, int] = {}
    offsets = {source[0]: source[1] for source in sources}
    for path in swap.daily_paths(folder):
        with closing(DayReader(path)) as day:
            for row in day.rows():
                everywhere[row[4]] = everywhere.get(row[4], 0) + 1
                if row[6] < offsets.get(row[4], 0):
                    rows[row[4]] = rows.get(row[4], 0) + 1
    for path_, _, _, _, _, _, entries in sources:
        if path_ in rotated:
            # Some of its rows may have the names that its files had before.
            begin = path_.rpartition(".")[0]
            assert sum(count for path, count in everywhere.items() if path.startswith(begin)) >= entries
        else:
            assert rows.get(path_, 0) == entries


class Stepped:
    """A sidecar without a watcher, which gets the time as an argument."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.now = time.time()
        self.sidecar = Sidecar(settings, watch=False)

    def __enter__(self) -> Stepped:
        self.sidecar.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.sidecar.close()
        else:
            self.sidecar.abandon()

    def turn(self, seconds: float = 60.0) -> None:
        """Let enough time pass for a scan and a checkpoint, and take turns until nothing is left to do."""
        self.now += seconds
        while self.sidecar.step(self.now):
            pass

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """What queries see now."""
        return indexed(self.settings.root)


def once(settings: Settings) -> None:
    """Open the index, take in what is there, and close it, as a start and a stop do."""
    with closing(Sidecar(settings, watch=False)) as sidecar:
        sidecar.open()
        sidecar.run_once()
