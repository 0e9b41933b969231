"""Make new daily files from all their sources, in worker processes, or in this process if there is little to read.

First, the sources are read into segments. Then the segments of each day are merged into its daily file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from uuid import uuid4

from sidecar.config.settings import Settings
from sidecar.guarded import GuardedFolder
from sidecar.indexer.saved_source import SavedSource
from sidecar.indexer.segment import SegmentWriter
from sidecar.logs.archive_file import Archive

from .messages import ClosedSegments, MergedDay, MergeSegments, ReadChunk, ReadSources, ReadTask, UnreadableSource
from .workers import WorkerPool, merge_day, read_source, without_gc

MIN_PARALLEL_BYTES = 8 << 20
"""Up to this many bytes of log it is not worth starting processes. Opening a file counts as BYTES_PER_OPEN."""
BATCH_BYTES = 4 << 20
"""How many bytes of log a worker is given at a time."""
BYTES_PER_OPEN = 4 << 10
"""How many bytes can be read in the time that it takes to open and close a file."""

LoadResult = ReadChunk | SavedSource | UnreadableSource | MergedDay


def load(
    settings: Settings, tasks: list[ReadTask], target: GuardedFolder, days: GuardedFolder, workers: int
) -> Generator[LoadResult]:
    """Make the daily files of some sources in the folder `days` of the new index `target`. Yields results as they come.

    Sources are read in the order in which they were last changed, so that days come one after another and few of them
    are written at once. Raises LogRewritten, SidecarError if a worker fails or dies, and OSError or DATABASE_ERRORS.
    """
    # A name of its own, because a worker of a killed process may go on writing for a moment.
    name = f"parts-{uuid4().hex}"
    tasks = sorted(tasks, key=lambda task: (task.mtime, task.path))
    total = sum(BYTES_PER_OPEN + (task.size if task.limit is None else task.limit) for task in tasks)
    with target.folder(name, create=True) as folder:
        if workers <= 1 or len(tasks) < 2 or total <= MIN_PARALLEL_BYTES:
            yield from _load_here(settings, tasks, folder, days)
        else:
            with closing(WorkerPool(settings, workers, folder, days)) as pool:
                yield from _load_with(pool, tasks, folder)
    target.delete(name)


def _load_here(
    settings: Settings, tasks: list[ReadTask], folder: GuardedFolder, days: GuardedFolder
) -> Iterator[LoadResult]:
    with without_gc(), Archive(settings.archive) as archive, ExitStack() as stack:
        segments = SegmentWriter(folder)
        stack.callback(segments.abandon)
        for task in tasks:
            yield from read_source(settings, task, segments, archive)
        for day, names in segments.close().items():
            yield merge_day(day, folder, names, days)


def _load_with(pool: WorkerPool, tasks: list[ReadTask], folder: GuardedFolder) -> Iterator[LoadResult]:
    for batch in _batches(tasks):
        pool.submit(ReadSources(batch))
    pool.close_segments()
    segments: defaultdict[int, list[str]] = defaultdict(list)
    for result in pool.results():
        if isinstance(result, ClosedSegments):
            for day, names in result.by_day.items():
                segments[day] += names
        else:
            yield result
    sizes = {day: sum(folder.status_of(name).st_size for name in names) for day, names in segments.items()}
    # The largest first, so that the last worker to finish has a small one.
    for day in sorted(sizes, key=sizes.__getitem__, reverse=True):
        pool.submit(MergeSegments(day, segments[day]))
    for result in pool.results():
        assert not isinstance(result, ClosedSegments)
        yield result


def _batches(tasks: list[ReadTask]) -> Iterator[list[ReadTask]]:
    """The tasks in their order, a few at a time, so that all workers end at about the same time."""
    batch: list[ReadTask] = []
    size = 0
    for task in tasks:
        batch.append(task)
        size += task.size + BYTES_PER_OPEN
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
