"""How `sidecar archive` changes the index: there is one index writer per root, also while logs are archived.

Where no sidecar runs, the command holds the root's lock and opens the index itself. Where one runs, the command puts a
request into `index/requests/`; the sidecar processes it between two turns, in its own thread, and writes an answer. A
request states only facts: the archives are complete, durable and verified. Crash windows:

- the command dies: the sidecar records what was requested. The logs remain where they are until the next
  `sidecar archive`, which finds them in both places;
- the sidecar dies before it answers: the request is still there. What was recorded of it is durable; the next sidecar
  processes the whole request again, and repeating what has been recorded changes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import orjson

from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import RootLocked, SidecarError
from sidecar.fs import MTIME_GRANULARITY, write_small
from sidecar.indexer.index_writer import IndexWriter
from sidecar.records import Compacted, Extent, Move
from sidecar.store import layout

from .lock import lock_holder, root_locked
from .repair import database_errors_named, reason_to_rebuild

REQUESTS_FOLDER = "requests"
LOGS_PER_TURN = 200
"""Logs recorded as archived in one turn of a running sidecar, so that fresh lines do not wait long."""
ANSWER_TIMEOUT = 120.0
"""Seconds to wait for an answer of a running sidecar before giving up."""
NEXT_REQUEST_WITHIN = 5.0
"""Seconds after a request in which the next one is expected."""
POLL_INTERVAL = 0.02
"""Seconds between two polls for requests within that time."""
_REQUEST_SUFFIX, _ANSWER_SUFFIX = ".json", ".done"
_log = get_logger(__name__)


class IndexOwner(Protocol):
    """The index writer, local (`IndexWriter`) or in another process (`RemoteIndexOwner`).

    Each method returns what was refused, with the reason.
    """

    def archive(self, moves: Iterable[Move], folder: str) -> dict[str, str]:
        """Record that logs have been archived in `folder`. Returns refused logs by path."""

    def drop(self, paths: Iterable[str]) -> dict[str, str]:
        """Delete logs and their rows, before their archives are deleted. Returns refused logs by path."""

    def compact(self, days: Iterable[Compacted]) -> dict[str, str]:
        """Replace daily files by compacted ones, with their Bloom filters. Returns refused days by name."""


# ---- the command's side


@dataclass(frozen=True, slots=True)
class RemoteIndexOwner:
    """The index writer of a running sidecar, reached through request files."""

    index_folder: Path
    wait: Callable[[float], None] = time.sleep

    def archive(self, moves: Iterable[Move], folder: str) -> dict[str, str]:
        """As `IndexOwner`. Raises SidecarError if the sidecar does not answer; then nothing may be deleted."""
        return self._request({"archive": folder, "moves": [[*move[:2], list(move.part)] for move in moves]})

    def drop(self, paths: Iterable[str]) -> dict[str, str]:
        """As `IndexOwner`."""
        return self._request({"drop": list(paths)})

    def compact(self, days: Iterable[Compacted]) -> dict[str, str]:
        """As `IndexOwner`."""
        return self._request({"days": [list(day) for day in days]})

    def _request(self, content: dict[str, Any]) -> dict[str, str]:
        folder = self.index_folder / REQUESTS_FOLDER
        folder.mkdir(exist_ok=True)
        path = folder / f"{uuid4().hex}{_REQUEST_SUFFIX}"
        answer = path.with_suffix(_ANSWER_SUFFIX)
        write_small(path, orjson.dumps(content), durable=True)
        _log.debug("waiting for the running sidecar to process %s", path)
        deadline = time.monotonic() + ANSWER_TIMEOUT
        polls = 0
        while not answer.exists():
            polls += 1
            ended = polls % 25 == 0 and lock_holder(self.index_folder) is None
            if (ended or time.monotonic() > deadline) and not answer.exists():
                path.unlink(missing_ok=True)
                why = "has ended" if ended else "does not answer"
                raise SidecarError(f"the sidecar that runs on this root {why}", hint="run `sidecar archive` again")
            self.wait(POLL_INTERVAL)
        reply = orjson.loads(answer.read_bytes())
        answer.unlink(missing_ok=True)
        if "error" in reply:
            raise SidecarError(f"the running sidecar could not record it: {reply['error']}")
        return {str(path): str(why) for path, why in reply["refused"].items()}


# ---- the running sidecar's side


class RequestInbox:
    """The requests in an index folder, processed one slice per turn. Only the indexing thread touches this."""

    def __init__(self, index_folder: Path) -> None:
        self._folder = index_folder / REQUESTS_FOLDER
        self._seen = 0
        self._in_progress: Iterator[None] | None = None
        self._expected_until = 0.0

    def turn(self, owner: IndexOwner) -> bool:
        """Process a slice of a request, if there is one. True where there is more to do at once.

        Raises what writing an index raises; the request is then processed again from its start.
        """
        if self._in_progress is None:
            try:
                changed = os.stat(self._folder).st_mtime_ns
            except OSError:
                return False
            if changed == self._seen:
                return False
            requested = sorted(self._folder.glob(f"*{_REQUEST_SUFFIX}"))
            if not requested:
                # Not sooner: a request that came since may have left the folder with the same mtime.
                if time.time_ns() - changed > MTIME_GRANULARITY:
                    self._seen = changed
                return False
            self._in_progress = _answering(requested[0], owner)
        self._expected_until = time.monotonic() + NEXT_REQUEST_WITHIN
        try:
            next(self._in_progress)
        except StopIteration:
            self._in_progress = None
        except BaseException:
            self.begin_again()
            raise
        return True

    def due(self) -> float:
        """When to poll next, in seconds since 1970: soon after a request, else never (infinity)."""
        return time.time() + POLL_INTERVAL if time.monotonic() < self._expected_until else float("inf")

    def begin_again(self) -> None:
        """Process a half-done request again from its start, because the index writer is a new one."""
        self._in_progress = None
        self._seen = 0


def _answering(path: Path, owner: IndexOwner) -> Iterator[None]:
    refused: dict[str, str] = {}
    answer: dict[str, Any] = {"refused": refused}
    try:
        requested = orjson.loads(path.read_bytes())
        moves = [Move(log, tuple(looks), Extent(*part)) for log, looks, part in requested.get("moves", ())]
        days = [Compacted(*values) for values in requested.get("days", ())]
        drop = [str(one) for one in requested.get("drop", ())]
        folder = str(requested.get("archive", ""))
    except FileNotFoundError:
        return  # withdrawn
    except (OSError, ValueError, TypeError, AttributeError) as error:
        answer = {"error": f"a request that cannot be read: {error}"}
    else:
        for batch in _batched(moves, LOGS_PER_TURN):
            refused |= owner.archive(batch, folder)
            yield
        for day in days:
            refused |= owner.compact([day])
            yield
        if drop:
            refused |= owner.drop(drop)
    with suppress(OSError):  # the command may be gone, and the folder with it
        write_small(path.with_suffix(_ANSWER_SUFFIX), orjson.dumps(answer), durable=True)
        path.unlink(missing_ok=True)


def _batched(values: list[Any], size: int) -> Iterator[list[Any]]:
    for begin in range(0, len(values), size):
        yield values[begin : begin + size]


def delete_stale_requests(index_folder: Path) -> None:
    """Delete unfetched answers and the requests of dead commands. No request may be in progress."""
    with suppress(OSError):
        for stale in (index_folder / REQUESTS_FOLDER).iterdir():
            stale.unlink(missing_ok=True)
        (index_folder / REQUESTS_FOLDER).rmdir()


# ---- either side


@contextmanager
def index_owner(settings: Settings) -> Iterator[IndexOwner]:
    """The index writer of the root: this process, or a running sidecar. Raises RootLocked during any other job."""
    with ExitStack() as stack:
        try:
            stack.enter_context(root_locked(settings, "archive"))
        except RootLocked:
            held = lock_holder(settings.index_folder)
            if held is None or held[1] != "run":
                raise
            writer: IndexOwner = RemoteIndexOwner(settings.index_folder)
        else:
            layout.finish_swap(settings.index_folder)
            why = reason_to_rebuild(settings)
            if why is not None:
                raise SidecarError(f"the index has to be rebuilt: {why}", hint="run `sidecar run --once` first")
            writer = stack.enter_context(_opened(settings))
        yield writer


@contextmanager
def _opened(settings: Settings) -> Iterator[IndexWriter]:
    with database_errors_named(settings):
        writer = IndexWriter(settings)
        try:
            yield writer
            writer.close()
        except BaseException:
            writer.abandon()
            raise
