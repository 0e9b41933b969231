"""The index made again from the logs alone: the recovery for everything.

Files are independent in derivation, so worker processes read, parse and derive, and this one writes. What crosses
between them is few large buffers: all values of a batch, marshalled. The pipe of a worker holds a few of them and then
blocks it, so that memory stays bounded whatever the logs hold.

The rows come out of `visit`, as they do live; only the daily files are loaded differently, without indexes until the
end.
"""

from __future__ import annotations

import gc
import marshal
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

from . import swap
from .archive_reader import Archive
from .archive_scan import held
from .catalog import Catalog, Saved, to_save
from .config import Settings
from .errors import SidecarError, SourceError
from .fold import Batch, Progress
from .index import DailyIndex
from .paths import to_os
from .records import Answered, Part, Report, Row, archived_size
from .scan import Scan
from .visit import visit

SAVED_AT_ONCE = 1_000
"""Sources whose states are written to the catalog in one transaction."""

SMALL = 8 << 20
"""Bytes of log that are not worth starting a process for."""

ATTEMPTS = 5
"""Rebuilds begun before a log that is rewritten meanwhile, each time, is an error."""

Reporter = Callable[[Report], None]


class Rewritten(SidecarError):
    """A log was rewritten while it was read."""

    hint = "its first rows are on their way and cannot be called back: try again"


class Task(NamedTuple):
    """A source to be read."""

    id: int
    path: str
    size: int
    first_mtime: float | None
    """As it was noted when the file was first seen; None for a file never seen before."""
    limit: int | None = None
    """Read up to this byte; None: to the end."""
    archived: tuple[Part, ...] = ()
    """What of it lies in the archive."""
    has_file: bool = True
    """It has a file, and not only what is archived."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild made."""

    entries: int
    sources: int
    bytes: int
    seconds: float
    unreadable: tuple[str, ...] = ()
    """Files that could not be read, and why."""


def reindex(
    settings: Settings,
    workers: int = 0,
    report: Reporter = lambda _: None,
    first_mtimes: dict[str, float] | None = None,
    *,
    strict: bool = True,
) -> Rebuilt:
    """Build a new index beside the old and put it in its place; the caller holds the root's lock.

    Queries are served from the old one until the new one is whole. `workers` is the number of processes that read
    (0: as many as there are processors); `first_mtimes` the notes to take over, by default those of the old index.
    Raises SidecarError where a folder cannot be read; not `strict`, it leaves that to whoever scans next.
    """
    folder = settings.index_folder
    if first_mtimes is None:
        first_mtimes = noted(folder)
    target = folder / swap.REBUILD
    for attempt in range(1, ATTEMPTS + 1):
        swap.settle(folder)
        try:
            todo = tasks(settings, first_mtimes, strict)
            rebuilt = build(settings, target, todo, workers or os.cpu_count() or 1, report)
        except Rewritten:
            if attempt == ATTEMPTS:
                raise
        else:
            break
    swap.commit(folder, [path.name for path in (target / swap.DAILY_NAME).glob("*.db")])
    return rebuilt


def noted(folder: Path) -> dict[str, float]:
    """The first-seen times in the present index, as far as they can be read: a rebuild takes them over.

    Without a catalog they are in the one that was set aside, whose rebuild has not come to its end.
    """
    for path in (swap.catalog_path(folder), *(folder / swap.ASIDE).glob(f"*{swap.CATALOG_NAME}")):
        # By hand, because the catalog may be one of another version.
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as catalog:
            sql = "SELECT path, first_mtime FROM source WHERE first_mtime IS NOT NULL"
            return {str(path): float(mtime) for path, mtime in catalog.execute(sql)}
    return {}


def tasks(settings: Settings, first_mtimes: dict[str, float], strict: bool = True) -> list[Task]:
    """Every source that a scan finds; where `strict`, SidecarError for a folder that cannot be read: it may be full."""
    scan = Scan(settings)
    sizes = {one.path: one.status.st_size for one in scan}
    if scan.failed and strict:
        folder, why = next(iter(scan.failed.items()))
        raise SidecarError(f"cannot read {settings.root / folder}: {why}", hint="make it readable, then try again")
    archived = held(settings, sizes, strict=strict)
    todo = []
    for id_, path in enumerate(sorted(sizes.keys() | archived.keys()), 1):
        parts, first_mtime = archived.get(path, ((), None))
        size = sizes.get(path, 0) + archived_size(parts)
        todo.append(Task(id_, path, size, first_mtimes.get(path, first_mtime), None, parts, path in sizes))
    return todo


def build(settings: Settings, target: Path, todo: list[Task], workers: int, report: Reporter) -> Rebuilt:
    """Make an index of some sources in a folder of its own; it is durable when this returns."""
    began = time.perf_counter()
    total = sum(task.size if task.limit is None else task.limit for task in todo)
    entries = done = 0
    read: dict[str, int] = {}
    """How far the sources were read that are being read."""
    unreadable: list[str] = []
    catalog = Catalog(target / swap.CATALOG_NAME, bulk=True)
    index = DailyIndex(target / swap.DAILY_NAME, bulk=True)
    waiting: list[Saved] = []
    with closing(catalog), closing(index), _no_collecting():
        for result in _read(settings, todo, workers if total > SMALL else 1):
            if isinstance(result, Batch):
                index.write([result], 0)
                entries += len(result.rows)
                if result.rows:
                    read[result.path] = result.rows[-1].byte_offset
                    report(Report("rebuilding", done + sum(read.values()), total, entries))
            elif isinstance(result, Saved):
                waiting.append(result)
                _, path, *_ = result.source
                read.pop(path, None)
                done += result.source[9]
                if len(waiting) >= SAVED_AT_ONCE:
                    catalog.save(waiting, ())
                    waiting = []
            else:
                unreadable.append(result)
        days = []
        for day in index.finish_bulk():
            days.append(day)
            report(Report("rebuilding", done, total, entries))
        catalog.save(waiting, days)
        catalog.note("files", index.signs())
        if any(task.archived for task in todo):
            catalog.note("archive", str(settings.archive))
        catalog.note("config", settings.fingerprint)
        catalog.note("build", uuid4().hex)
    for folder in (target, target / swap.DAILY_NAME):
        swap.sync_folder(folder)
    with (target / swap.CATALOG_NAME).open("rb") as file:
        os.fsync(file.fileno())
    report(Report("rebuilding", total, total, entries))
    return Rebuilt(entries, len(todo) - len(unreadable), done, time.perf_counter() - began, tuple(unreadable))


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Rows make no cycles, and looking for some in a million of them costs a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


Result = Batch | Saved | str
"""Rows, the end of a source, or why one could not be read."""


def read_sources(settings: Settings, todo: Iterable[Task]) -> Iterator[Result]:
    """Read sources one after the other: their batches, and behind them where each of them ended."""
    with Archive(settings.archive) as archive:
        yield from _read_all(settings, todo, archive)


def _read_all(settings: Settings, todo: Iterable[Task], archive: Archive) -> Iterator[Result]:
    for task in todo:
        source = settings.source_for(to_os(task.path))
        assert source is not None
        progress = Progress(task.id, task.path, source, task.first_mtime, archived=task.archived)
        try:
            yield from _read_source(settings, progress, task, archive)
        except (OSError, SourceError) as error:
            yield f"{task.path}: {getattr(error, 'strerror', None) or error}"
            if task.archived:  # what stands before the damage has rows, and stays findable
                yield to_save(progress)
        else:
            yield to_save(progress)


def _read_source(settings: Settings, progress: Progress, task: Task, archive: Archive) -> Iterator[Batch]:
    while True:
        if not task.has_file and progress.mark.offset >= archived_size(task.archived):
            return
        seen = visit(progress, settings.root, settings.max_line_bytes, time.time(), task.limit, archive)
        if seen.changed:
            # Batches of it are on their way already, and cannot be called back.
            raise Rewritten(f"{progress.path} was rewritten while it was read")
        if seen.batch is not None:
            yield seen.batch
        if not seen.more:
            return


# ---- several processes


def _read(settings: Settings, todo: list[Task], workers: int) -> Iterator[Result]:
    if workers <= 1 or len(todo) < 2:
        yield from read_sources(settings, todo)
        return
    context = get_context("spawn")
    pipes: list[Connection] = []
    processes = []
    try:
        for share in _shares(todo, workers):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(theirs, settings, share), daemon=True)
            # A ctrl-C at the terminal goes to every process there; this one ends its workers, and says why. They
            # inherit the mask. SIGTERM stays, because that is what ends them.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        yield from _receive(pipes)
    finally:
        for process in processes:
            process.terminate()
            process.join()
        for pipe in pipes:
            pipe.close()


def _shares(todo: list[Task], workers: int) -> list[list[Task]]:
    """Tasks for each worker, of about as many bytes: the largest first, each to whoever has least."""
    shares: list[list[Task]] = [[] for _ in range(min(workers, len(todo)))]
    loads = [0] * len(shares)
    for task in sorted(todo, key=lambda task: -task.size):
        least = loads.index(min(loads))
        shares[least].append(task)
        loads[least] += task.size + 4096
    return [sorted(share) for share in shares]


def _receive(pipes: list[Connection]) -> Iterator[Result]:
    open_ = list(pipes)
    while open_:
        for pipe in connection.wait(open_):
            assert isinstance(pipe, Connection)
            try:
                message = marshal.loads(pipe.recv_bytes())
            except EOFError:
                raise SidecarError("a reading process died", hint="see the system's log, and try again") from None
            if message is None:
                open_.remove(pipe)
            else:
                yield _unpacked(message)


def _work(pipe: Connection, settings: Settings, todo: list[Task]) -> None:
    """A worker: reads its share and sends what comes of it."""
    try:
        with _no_collecting():
            for result in read_sources(settings, todo):
                pipe.send_bytes(marshal.dumps(_packed(result)))
    except Rewritten as error:
        pipe.send_bytes(marshal.dumps(("rewritten", str(error))))
    pipe.send_bytes(marshal.dumps(None))


def _packed(result: Result) -> tuple[Any, ...]:
    if isinstance(result, Batch):
        return ("batch", result.path, list(map(tuple, result.rows)), list(map(tuple, result.answered)))
    return ("saved", *result) if isinstance(result, Saved) else ("unreadable", result)


def _unpacked(message: tuple[Any, ...]) -> Result:
    kind, *values = message
    if kind == "batch":
        path, rows, answered = values
        return Batch(path, list(map(Row._make, rows)), list(map(Answered._make, answered)))
    if kind == "saved":
        return Saved(*values)
    if kind == "rewritten":
        raise Rewritten(values[0])
    return str(values[0])
