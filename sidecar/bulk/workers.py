"""Worker processes, which read many sources into segments, and merge the segments of a day into its daily file.

Sources are independent when rows are derived, and days are independent when rows are written, so no row ever passes
from one process to another. What does is small: which sources to read, how far each was read, and which segments a day
has.

The pool and its workers exchange messages (`messages.py`) over pipes. A worker carries out one command after another
and answers each with one or more reports, the last of which says that the command is done. It exits when the pool
terminates it, or when its pipe is closed because the pool's process has died.
"""

from __future__ import annotations

import gc
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from math import inf
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import SidecarError, SourceError
from sidecar.fs import FileStat, to_os
from sidecar.guarded import GuardedFolder
from sidecar.indexer.saved_source import SavedSource, to_save
from sidecar.indexer.segment import SegmentWriter, merge_segments
from sidecar.ingest.reader import read_next
from sidecar.ingest.source import SourceState
from sidecar.logs.archive_file import Archive
from sidecar.logs.parts import Part, survey
from sidecar.logs.tail import NEW
from sidecar.records import archived_size
from sidecar.store.connection import DATABASE_ERRORS
from sidecar.times import day_name

from .messages import (
    ClosedSegments,
    CloseSegments,
    Command,
    MergedDay,
    MergeSegments,
    ReadChunk,
    ReadSources,
    ReadTask,
    Result,
    UnreadableSource,
    WorkerReport,
)

REPORT_BYTES = 1 << 20
"""A worker that has read a chunk of this size reports it at once, because the next one may take a while."""
EXIT_SECONDS = 1.0
"""Seconds to wait for the exit status of a worker that has closed its pipe."""


class LogRewritten(SidecarError):
    """A log was rewritten while it was being read."""

    hint = "some of its old rows have already been written: try again"


# ---- the pool


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    unfinished: int = 1
    """The number of commands that were sent and are not done yet. The start counts as one."""


class WorkerPool:
    """Worker processes, and the commands that are waiting for them.

        with closing(WorkerPool(settings, 2, segments)) as pool:
            pool.submit(ReadSources(tasks))
            pool.close_segments()
            for result in pool.results():
                ...

    It belongs to one thread. After a method has raised an error, it can only be closed.
    """

    def __init__(
        self, settings: Settings, count: int, segments: GuardedFolder, days: GuardedFolder | None = None
    ) -> None:
        """Start `count` workers, which write segments to one folder, and daily files to the other if it is given.
        Raises SidecarError if the system refuses to start them."""
        self.count = count
        self._workers: list[_Worker] = []
        self._queue: deque[ReadSources | MergeSegments] = deque()
        self._close_segments = False
        """Whether CloseSegments has to be sent once the queue is empty."""
        with ExitStack() as on_error:
            on_error.callback(self.close)
            try:
                for number in range(count):
                    self._workers.append(_start(settings, number, segments, days))
            except OSError as error:
                raise SidecarError(
                    f"cannot start a worker process: {error.strerror or error}",
                    hint="raise the limits on processes and open files, or use one process: `reindex --workers 1`",
                ) from error
            on_error.pop_all()

    def submit(self, command: ReadSources | MergeSegments) -> None:
        """Give a command to the first worker that has nothing to do. Commands are handed out in order."""
        self._queue.append(command)
        self._dispatch()

    def close_segments(self) -> None:
        """Make every worker close its segments after everything that was submitted before is done."""
        self._close_segments = True
        self._dispatch()

    @property
    def is_idle(self) -> bool:
        """Whether every worker has started and everything that was submitted is done."""
        return not (self._queue or self._close_segments or any(worker.unfinished for worker in self._workers))

    def poll(self, seconds: float | None = None) -> list[Result]:
        """The results that have arrived. If there are none, waits for some, for at most `seconds` (None: no limit).

        Returns at once if the pool is idle. Raises SidecarError if a worker has failed or died.
        """
        if self.is_idle:
            return []
        results: list[Result] = []
        workers = {worker.pipe: worker for worker in self._workers}
        for pipe in connection.wait(workers, seconds):
            assert isinstance(pipe, Connection)
            report = _receive(workers[pipe])
            results += report.results
            if report.is_done:
                workers[pipe].unfinished -= 1
        self._dispatch()
        return results

    def results(self) -> Iterator[Result]:
        """All results, as they arrive, until the pool is idle. Raises the errors of `poll`."""
        while not self.is_idle:
            yield from self.poll()

    def close(self) -> None:
        """Terminate the workers, whatever they are doing."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            worker.process.close()
            worker.pipe.close()

    def _dispatch(self) -> None:
        for worker in self._workers:
            if self._queue and not worker.unfinished:
                _send(worker, self._queue.popleft())
        if self._close_segments and not self._queue:
            self._close_segments = False
            # Sent to busy workers as well, because it is small enough to wait in the pipe. So a worker that has read
            # its last source need not wait until this process has time for it.
            for worker in self._workers:
                _send(worker, CloseSegments())


def _start(settings: Settings, number: int, segments: GuardedFolder, days: GuardedFolder | None) -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    with ExitStack() as on_error, closing(theirs):
        on_error.callback(ours.close)
        process = context.Process(target=_work, args=(theirs, settings, number, segments, days), daemon=True)
        # Ctrl-C at a terminal interrupts every process there. Workers inherit the mask, and leave it to this process to
        # report the interrupt and to end them by SIGTERM. Python's resource tracker is started first, because otherwise
        # `start` would start it, which unblocks SIGINT.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        on_error.pop_all()
    return _Worker(process, ours)


def _send(worker: _Worker, command: Command) -> None:
    worker.unfinished += 1
    # If the worker has died, the next `poll` finds out.
    with suppress(OSError):
        worker.pipe.send(command)


def _receive(worker: _Worker) -> WorkerReport:
    try:
        report: WorkerReport = worker.pipe.recv()
    except (EOFError, OSError):
        pid = worker.process.pid
        worker.process.join(EXIT_SECONDS)
        why = _why_ended(worker.process.exitcode)
        get_logger(__name__).warning("worker process %s died: %s", pid, why)
        raise SidecarError(
            f"a worker process died: {why}",
            hint="the system's log may say why; if it ran out of memory, `reindex --workers 1` needs the least",
        ) from None
    if report.error is not None:
        raise report.error
    return report


def _why_ended(status: int | None) -> str:
    if status is None:
        return "it closed its pipe"
    return f"exit status {status}" if status >= 0 else f"killed by signal {-status} ({signal.strsignal(-status)})"


# ---- a worker


def _work(pipe: Connection, settings: Settings, number: int, folder: GuardedFolder, days: GuardedFolder | None) -> None:
    """The main function of a worker: carry out commands for as long as the pool's process lives."""
    failure: SidecarError
    try:
        with without_gc(), Archive(settings.archive) as archive:
            segments = SegmentWriter(folder, f"{number}-")
            pipe.send(WorkerReport([], is_done=True))
            for command in _commands(pipe):
                for report in _reports(_carry_out(command, settings, segments, days, archive)):
                    pipe.send(report)
        return
    except SidecarError as error:
        failure = error
    except (OSError, *DATABASE_ERRORS) as error:
        failure = SidecarError(f"{folder.path.parent}: {error}")
    # The pool's process may have died.
    with suppress(OSError):
        pipe.send(WorkerReport([], error=failure))


def _commands(pipe: Connection) -> Iterator[Command]:
    """Commands, until the other end of the pipe is closed."""
    with suppress(EOFError):
        while True:
            yield pipe.recv()


def _carry_out(
    command: Command, settings: Settings, segments: SegmentWriter, days: GuardedFolder | None, archive: Archive
) -> Iterator[Result]:
    match command:
        case ReadSources(tasks):
            for task in tasks:
                yield from read_source(settings, task, segments, archive)
        case CloseSegments():
            yield ClosedSegments(segments.close())
        case MergeSegments(day, names):
            assert days is not None
            yield merge_day(day, segments.folder, names, days)


def _reports(results: Iterator[Result]) -> Iterator[WorkerReport]:
    """The results of one command, in as few reports as possible without hiding progress for long."""
    pending: list[Result] = []
    for result in results:
        pending.append(result)
        if isinstance(result, ReadChunk) and result.bytes >= REPORT_BYTES:
            yield WorkerReport(pending)
            pending = []
    yield WorkerReport(pending, is_done=True)


def merge_day(day: int, folder: GuardedFolder, segments: list[str], days: GuardedFolder) -> MergedDay:
    """Merge the segments of a day, which are in `folder`, into its daily file in `days`."""
    return MergedDay(day, merge_segments(folder, segments, days, f"{day_name(day)}.db"))


def read_source(
    settings: Settings, task: ReadTask, segments: SegmentWriter, archive: Archive
) -> Iterator[ReadChunk | UnreadableSource | SavedSource]:
    """Read one source into segments. Yields each chunk; then the reason, if it cannot be read any further; and last how
    far it was read, unless nothing could be read. Raises LogRewritten.
    """
    source = settings.source_for(to_os(task.path))
    assert source is not None
    state = SourceState(task.id, task.path, source, task.first_mtime, archived=task.archived)
    if task.files:
        files = task.files
        state.set_files([Part(one.path, NEW._replace(device=one.device, inode=one.inode)) for one in files])
        state.limits = {one.path: one.limit for one in files if one.limit is not None}
    while task.has_file or state.cursor.offset < archived_size(task.archived):
        before = state.offset
        try:
            now = inf if task.is_again else time.time()
            outcome = read_next(state, settings.root, settings.max_line_bytes, now, task.limit, archive)
            has_moved = outcome.moved and _follow(settings, state)
        except (OSError, SourceError) as error:
            yield UnreadableSource(f"{task.path}: {getattr(error, 'strerror', None) or error}")
            if not (task.archived or state.offset):
                return
            # There are rows of what was read before, so the catalog has to know the source.
            break
        if has_moved:
            continue
        if outcome.changed or outcome.moved:
            # The rows of the old content are in a segment, among others, and cannot be removed from it.
            raise LogRewritten(f"{task.path} was rewritten while it was being read")
        if outcome.batch is not None:
            segments.write(outcome.batch)
            yield ReadChunk(len(outcome.batch.rows), state.offset - before)
        if not outcome.more:
            break
    yield to_save(state)


def _follow(settings: Settings, state: SourceState) -> bool:
    """Find the files of a log that were renamed while it is read. Returns whether any has another path than before."""
    files = survey(settings, state.path) or []
    names = {FileStat.of(file.status).identity: file.path for file in files}
    found = {path: names[cursor[:2]] for path, cursor in state.files if cursor[:2] in names}
    is_new = found != state.found_at
    state.found_at = found
    return is_new


@contextmanager
def without_gc() -> Iterator[None]:
    """Disable Python's cyclic garbage collector. Rows form no cycles, and searching a million of them for cycles takes
    a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
