"""Bulk reading by several processes: each reads sources and writes segments of days; segments become daily files.

Sources are independent in derivation, and days are independent in writing, so no row ever crosses from one process to
another. What does is small: which sources to read, where each of them ended, and which segments make a day.

Sources are handed out in small batches, so that nobody waits for the slowest, in the order of their last change: so
days come one after another, and few of them are written at once.
"""

from __future__ import annotations

import gc
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import SidecarError, SourceError
from sidecar.fs import to_os
from sidecar.indexer.saved_source import SavedSource, to_save
from sidecar.indexer.segment import SegmentWriter, merge_segments
from sidecar.ingest.reader import read_next
from sidecar.ingest.source import SourceState
from sidecar.logs.archive_file import Archive
from sidecar.records import Extent, archived_size
from sidecar.store.connection import DATABASE_ERRORS
from sidecar.times import day_name

MIN_PARALLEL_BYTES = 8 << 20
"""Bytes of log that are not worth starting a process for."""
BATCH_BYTES = 4 << 20
"""Bytes of log that are handed out at once."""
BYTES_PER_OPEN = 4 << 10
"""Bytes that are read in the time that it takes to open a file and to close it."""


class LogRewritten(SidecarError):
    """A log was rewritten while it was read."""

    hint = "its first rows are on their way and cannot be called back: try again"


class ReadTask(NamedTuple):
    """A source to be read."""

    id: int
    path: str
    size: int
    first_mtime: float | None
    """As it was noted when the file was first seen; None for a file never seen before."""
    limit: int | None = None
    """Read up to this byte; None: to the end."""
    archived: tuple[Extent, ...] = ()
    """What of it lies in the archive."""
    has_file: bool = True
    """It has a file, and not only what is archived."""
    mtime: float = 0.0
    """When it was changed last; tasks are done in this order."""


class ReadChunk(NamedTuple):
    """So much more of a source was read."""

    entries: int
    bytes: int


class UnreadableSource(NamedTuple):
    """A source that could not be read, and why."""

    why: str


class MergeTask(NamedTuple):
    """What makes a daily file."""

    day: int
    parts: list[Path]
    target: Path


NO_MORE: list[ReadTask] = []
"""Told to a worker when no source is left to be read."""


class MergedDay(NamedTuple):
    """A daily file, whole and durable."""

    day: int
    summary: tuple[float, float, int]


Result = ReadChunk | SavedSource | UnreadableSource | MergedDay


def load(settings: Settings, todo: list[ReadTask], target: Path, workers: int) -> Iterator[Result]:
    """Make the daily files of all sources in the folder `target`; gives what was done as it is done.

    Raises Rewritten where a log is rewritten meanwhile, SidecarError where a process dies or cannot write.
    """
    target.mkdir(parents=True)
    # A name that no other load has: should this process be killed, a worker may live on for a moment.
    parts = target / f"parts-{uuid4().hex}"
    parts.mkdir()
    todo = sorted(todo, key=lambda task: (task.mtime, task.path))
    total = sum(BYTES_PER_OPEN + (task.size if task.limit is None else task.limit) for task in todo)
    if workers <= 1 or len(todo) < 2 or total <= MIN_PARALLEL_BYTES:
        yield from _alone(settings, todo, target, parts / "0")
    else:
        with processes(settings, parts, workers) as pipes:
            yield from _together(pipes, todo, target)
    shutil.rmtree(parts)


def _alone(settings: Settings, todo: list[ReadTask], target: Path, folder: Path) -> Iterator[Result]:
    with _no_collecting(), Archive(settings.archive) as archive:
        parts = SegmentWriter(folder)
        for task in todo:
            yield from read_source(settings, task, parts, archive)
        for day, paths in parts.close().items():
            yield MergedDay(day, merge_segments(paths, target / f"{day_name(day)}.db"))


def read_source(settings: Settings, task: ReadTask, parts: SegmentWriter, archive: Archive) -> Iterator[Result]:
    """Read one source into parts: how it goes on, and at the end where it ended, or why it could not be read."""
    source = settings.source_for(to_os(task.path))
    assert source is not None
    progress = SourceState(task.id, task.path, source, task.first_mtime, archived=task.archived)
    try:
        while task.has_file or progress.cursor.offset < archived_size(task.archived):
            before = progress.cursor.offset
            seen = read_next(progress, settings.root, settings.max_line_bytes, time.time(), task.limit, archive)
            if seen.changed:
                # Rows of it are written already, and cannot be called back.
                raise LogRewritten(f"{task.path} was rewritten while it was read")
            if seen.batch is not None:
                parts.write(seen.batch)
                yield ReadChunk(len(seen.batch.rows), progress.cursor.offset - before)
            if not seen.more:
                break
    except (OSError, SourceError) as error:
        yield UnreadableSource(f"{task.path}: {getattr(error, 'strerror', None) or error}")
        if task.archived:  # what stands before the damage has rows, and stays findable
            yield to_save(progress)
    else:
        yield to_save(progress)


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


# ---- the process that hands out


def _together(pipes: list[Connection], todo: list[ReadTask], target: Path) -> Iterator[Result]:
    """Hand out sources until none is left, then days. What a worker sends: what it has done; its parts, when it was
    told that no source is left; and None, when it has nothing to do."""
    shares = _shares(todo)
    still_read = list(pipes)
    parts: defaultdict[int, list[Path]] = defaultdict(list)
    days: list[int] | None = None
    running, idle = list(pipes), list[Connection]()
    reporting = len(pipes)
    while running:
        for pipe in connection.wait(running):
            assert isinstance(pipe, Connection)
            for message in received(pipe):
                if message is None:
                    idle.append(pipe)
                elif isinstance(message, dict):
                    reporting -= 1
                    for day, paths in message.items():
                        parts[day] += paths
                else:
                    yield message
        if days is None and not reporting:
            days = sorted(parts, key=lambda day: sum(path.stat().st_size for path in parts[day]))
        for pipe in list(idle):
            if share := next(shares, None):
                pipe.send(share)
            elif pipe in still_read:
                still_read.remove(pipe)
                pipe.send(NO_MORE)
            elif days:
                day = days.pop()  # the largest first
                pipe.send(MergeTask(day, parts[day], target / f"{day_name(day)}.db"))
            elif days is not None:
                running.remove(pipe)
            else:
                continue  # until the others have told their parts
            idle.remove(pipe)


def received(pipe: Connection) -> list[Any]:
    """What a worker has sent; raises SidecarError where it has failed or died."""
    try:
        messages: list[Any] = pipe.recv()
    except (EOFError, OSError):
        get_logger(__name__).warning("a worker process died")
        raise SidecarError("a reading process died", hint="see the system's log, and try again") from None
    for message in messages:
        if isinstance(message, Exception):
            raise message
    return messages


def _shares(todo: list[ReadTask]) -> Iterator[list[ReadTask]]:
    share: list[ReadTask] = []
    size = 0
    for task in todo:
        share.append(task)
        size += task.size + BYTES_PER_OPEN
        if size >= BATCH_BYTES:
            yield share
            share, size = [], 0
    if share:
        yield share


@contextmanager
def processes(settings: Settings, parts: Path, workers: int) -> Iterator[list[Connection]]:
    """Workers that write below the folder `parts`; gives a pipe to each, and ends them."""
    context = get_context("spawn")
    pipes: list[Connection] = []
    processes = []
    try:
        for number in range(workers):
            ours, theirs = context.Pipe()
            arguments = (theirs, settings, parts / str(number))
            process = context.Process(target=_work, args=arguments, daemon=True)
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
        yield pipes
    finally:
        for process in processes:
            process.terminate()
            process.join()
        for pipe in pipes:
            pipe.close()


# ---- a process that reads and writes


def _work(pipe: Connection, settings: Settings, folder: Path) -> None:
    """Do what is handed out, until the other side ends this process, or has died."""
    done: list[Any] = []
    try:
        parts = SegmentWriter(folder)
    except OSError as error:
        pipe.send([SidecarError(f"{folder}: {error.strerror}")])
        return
    with _no_collecting(), Archive(settings.archive) as archive:
        while True:
            done.append(None)
            try:
                pipe.send(done)
                piece = pipe.recv()
            except (EOFError, OSError):
                return
            done = []
            try:
                if isinstance(piece, MergeTask):
                    done.append(MergedDay(piece.day, merge_segments(piece.parts, piece.target)))
                elif piece == NO_MORE:
                    done.append(parts.close())
                else:
                    for task in piece:
                        for result in read_source(settings, task, parts, archive):
                            done.append(result)
                            if isinstance(result, ReadChunk) and result.bytes >= BATCH_BYTES // 4:
                                pipe.send(done)
                                done = []
            except SidecarError as error:
                done.append(error)
            except (OSError, *DATABASE_ERRORS) as error:
                done.append(SidecarError(f"{folder.parent.parent}: {error}"))


class WorkerPool:
    """Processes of a bulk load, each given its share of a slice at once: so they need nobody until they are done."""

    def __init__(self, settings: Settings, folder: Path, count: int) -> None:
        self._opened = ExitStack()
        self._pipes = self._opened.enter_context(processes(settings, folder, count))
        self._starting = set(self._pipes)
        """Those that have not said yet that they have begun."""
        self._working = set(self._pipes)
        """Those that have something to tell."""
        self._parts: dict[int, list[Path]] = {}
        self._results: list[object] = []

    def begin(self, todo: list[ReadTask]) -> None:
        """Read these; when all are done."""
        for number, pipe in enumerate(self._pipes):
            if share := todo[number :: len(self._pipes)]:
                pipe.send(share)
                pipe.send(NO_MORE)
                self._working.add(pipe)

    def are_done(self, seconds: float) -> bool:
        """Whether nobody is at work, after so many seconds at most. Raises SidecarError where one has failed."""
        for pipe in connection.wait(self._working, seconds) if self._working else ():
            assert isinstance(pipe, Connection)
            messages = received(pipe)
            if pipe in self._starting:
                self._starting.discard(pipe)
                self._working.discard(pipe)
            for message in messages:
                if isinstance(message, dict):  # the last that is said of a share
                    self._working.discard(pipe)
                    for day, paths in message.items():
                        self._parts.setdefault(day, []).extend(paths)
                elif message is not None:
                    self._results.append(message)
        return not self._working

    def fetch(self) -> tuple[dict[int, list[Path]], list[object]]:
        """The parts of days, and the results for each source, since the last time."""
        parts, self._parts = self._parts, {}
        results, self._results = self._results, []
        return parts, results

    def close(self) -> None:
        """End them."""
        self._opened.close()
