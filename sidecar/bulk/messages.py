"""The messages between a worker pool and its workers: commands to the workers, and reports with results back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sidecar.errors import SidecarError
from sidecar.indexer.saved_source import SavedSource
from sidecar.records import Extent

# ---- commands, from the pool to a worker


class PartTask(NamedTuple):
    """A file of a rotated log to read."""

    path: str
    device: int
    inode: int
    limit: int | None = None
    """Read up to this byte; None: to the end."""


class ReadTask(NamedTuple):
    """A source to read."""

    id: int
    path: str
    size: int
    """Bytes of the log, archived ones included."""
    first_mtime: float | None
    """The modification time noted when the file was first seen; None for a file never seen before."""
    limit: int | None = None
    """The byte up to which it is read; None: to the end."""
    archived: tuple[Extent, ...] = ()
    """Its archived extents."""
    has_file: bool = True
    """False for a log of which only archived bytes are left."""
    mtime: float = 0.0
    """When it was last changed, in seconds since 1970. A rebuild reads its sources in this order."""
    files: tuple[PartTask, ...] = ()
    """For a rotated log: its earlier parts, the oldest first, and the file with the plain name. Rows get these paths
    even if the files are renamed while they are read."""
    is_again: bool = False
    """Whether all that is before the limits was read once before, so that a last line without LF was taken."""


@dataclass(frozen=True, slots=True)
class ReadSources:
    """Read these sources, and write their rows into the worker's segments."""

    tasks: list[ReadTask]


@dataclass(frozen=True, slots=True)
class CloseSegments:
    """Close all segments written since the last such command, and report them."""


@dataclass(frozen=True, slots=True)
class MergeSegments:
    """Merge all segments of a day into its daily file."""

    day: int
    segments: list[str]
    """Their names in the folder of the pool's segments."""


Command = ReadSources | CloseSegments | MergeSegments


# ---- results, from a worker to the pool


class ReadChunk(NamedTuple):
    """A chunk of a source has been read."""

    entries: int
    bytes: int
    """Bytes of log."""


class UnreadableSource(NamedTuple):
    """A source could not be read, or not to its end."""

    why: str
    """Its path and the reason."""


class ClosedSegments(NamedTuple):
    """The segments that are complete."""

    by_day: dict[int, list[str]]
    """Their names by day, in the order of their rows."""


class MergedDay(NamedTuple):
    """A daily file is complete and durable."""

    day: int
    summary: tuple[float, float, int]
    """First timestamp, last timestamp, number of entries."""


Result = ReadChunk | SavedSource | UnreadableSource | ClosedSegments | MergedDay


class WorkerReport(NamedTuple):
    """Some results, and whether more will follow."""

    results: list[Result]
    is_done: bool = False
    """Whether the command is done, so that the worker waits for the next. The start counts as a command."""
    error: SidecarError | None = None
    """Why the command failed. The worker has exited then."""
