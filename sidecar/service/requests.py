"""How `sidecar archive` changes the index, although there is only one index writer per root.

If no sidecar is running, the command holds the root's lock and opens the index itself. If one is running, the command
puts a request into `index/requests/`, and the sidecar processes it between two turns, in its own thread, and writes an
answer. A request states only facts: the archives that it names are complete, durable and verified. Crash windows:

- The command dies: the sidecar records what was requested. The logs remain where they are until the next
  `sidecar archive`, which finds them in both places.
- The sidecar dies before it answers: the request is still there. What has been recorded of it is durable. The next
  sidecar processes the whole request again, and recording something twice changes nothing.
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
from sidecar.errors import ForeignFile, RootLocked, SidecarError
from sidecar.fs import MTIME_GRANULARITY
from sidecar.guarded import GuardedFolder
from sidecar.indexer.index_writer import IndexWriter
from sidecar.records import Compacted, Move
from sidecar.store import layout

from .lock import lock_holder, root_locked
from .repair import database_errors_named, reason_to_rebuild
from .request_values import ArchiveRequest, parse_request, to_json

REQUESTS_FOLDER = "requests"
COMPACT_FOLDER = "compact"
"""A folder in the index folder, for the compact copies of days that the index owner is asked to use."""
LOGS_PER_TURN = 200
"""How many logs a running sidecar records as archived in one turn, so that new lines do not have to wait long."""
ANSWER_TIMEOUT = 120.0
"""Seconds to wait for the answer of a running sidecar."""
MAX_REQUEST_BYTES = 64 << 20
"""The largest size of a request or an answer, in bytes. A larger file is not the sidecar's."""
LOGS_PER_REQUEST = 2_000
"""How many logs a request names. A path has at most 4 KiB, six times that in JSON, so neither a request nor its answer
exceeds MAX_REQUEST_BYTES."""
NEXT_REQUEST_WITHIN = 5.0
"""For this many seconds after a request another one is expected."""
POLL_INTERVAL = 0.02
"""Seconds between two polls for requests within that time, or for an answer."""
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
        """Replace daily files by their compact copies, and save their Bloom filters. Returns refused days by name."""


# ---- the command's side


@dataclass(frozen=True, slots=True)
class RemoteIndexOwner:
    """The index writer of a running sidecar, reached through request files."""

    index_folder: Path
    wait: Callable[[float], None] = time.sleep

    def archive(self, moves: Iterable[Move], folder: str) -> dict[str, str]:
        """See `IndexOwner`. Raises SidecarError if the sidecar does not answer; then nothing may be deleted."""
        refused: dict[str, str] = {}
        for batch in _batched(list(moves), LOGS_PER_REQUEST):
            refused |= self._request(ArchiveRequest(folder=folder, moves=tuple(batch)))
        return refused

    def drop(self, paths: Iterable[str]) -> dict[str, str]:
        """See `IndexOwner`. Raises the errors of `archive`."""
        refused: dict[str, str] = {}
        for batch in _batched(list(paths), LOGS_PER_REQUEST):
            refused |= self._request(ArchiveRequest(drop=tuple(batch)))
        return refused

    def compact(self, days: Iterable[Compacted]) -> dict[str, str]:
        """See `IndexOwner`. Raises the errors of `archive`."""
        return self._request(ArchiveRequest(days=tuple(days)))

    def _request(self, request: ArchiveRequest) -> dict[str, str]:
        name = uuid4().hex
        with GuardedFolder.open_own(self.index_folder) as index, index.folder(REQUESTS_FOLDER, create=True) as folder:
            folder.write(name + _REQUEST_SUFFIX, to_json(request), durable=True)
            _log.debug("waiting for the running sidecar to process %s", folder.path / (name + _REQUEST_SUFFIX))
            answer = self._answer(folder, name)
        if "error" in answer:
            raise SidecarError(f"the running sidecar could not record it: {answer['error']}")
        refused = answer.get("refused")
        if not isinstance(refused, dict):
            raise ForeignFile(f"{folder.path / (name + _ANSWER_SUFFIX)} is not an answer of the sidecar")
        return {str(path): str(why) for path, why in refused.items()}

    def _answer(self, folder: GuardedFolder, name: str) -> dict[str, Any]:
        """The answer to a request. Raises SidecarError if none comes, and ForeignFile if it cannot be read."""
        deadline = time.monotonic() + ANSWER_TIMEOUT
        turns = 0
        while folder.status(name + _ANSWER_SUFFIX) is None:
            turns += 1
            ended = turns % 25 == 0 and lock_holder(self.index_folder) is None
            if (ended or time.monotonic() > deadline) and folder.status(name + _ANSWER_SUFFIX) is None:
                folder.delete(name + _REQUEST_SUFFIX)
                why = "has ended" if ended else "does not answer"
                raise SidecarError(f"the sidecar that runs on this root {why}", hint="run `sidecar archive` again")
            self.wait(POLL_INTERVAL)
        content = folder.read(name + _ANSWER_SUFFIX, MAX_REQUEST_BYTES)
        folder.delete(name + _ANSWER_SUFFIX)
        try:
            answer = orjson.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ForeignFile(f"{folder.path / (name + _ANSWER_SUFFIX)} is not an answer of the sidecar")
        return answer


# ---- the running sidecar's side


class RequestInbox:
    """The requests in an index folder, processed one slice per turn. Only the indexing thread touches this.

    Anyone who can write to the index folder can put something here. What is not a request is answered with an error and
    deleted, if possible, and never stops the sidecar.
    """

    def __init__(self, index_folder: Path) -> None:
        self._index_folder = index_folder
        self._seen = 0
        self._in_progress: Iterator[None] | None = None
        self._expected_until = 0.0

    def turn(self, owner: IndexOwner) -> bool:
        """Process a slice of a request, if there is one. Returns whether there is more to do at once.

        Raises the errors of the index writer; the request is then processed again from its start.
        """
        if self._in_progress is None:
            try:
                name = self._next()
            except (OSError, SidecarError):
                return False
            if name is None:
                return False
            self._in_progress = _answering(self._index_folder, name, owner)
        self._expected_until = time.monotonic() + NEXT_REQUEST_WITHIN
        try:
            next(self._in_progress)
        except StopIteration:
            self._in_progress = None
        except BaseException:
            self.begin_again()
            raise
        return True

    def _next(self) -> str | None:
        """The name of the next request; None if there is none. Raises OSError and ForeignFile."""
        path = self._index_folder / REQUESTS_FOLDER
        changed = os.stat(path, follow_symlinks=False).st_mtime_ns
        if changed == self._seen:
            return None
        with GuardedFolder.open_own(self._index_folder) as index, index.folder(REQUESTS_FOLDER) as folder:
            names = [name for name in folder.names() if name.endswith(_REQUEST_SUFFIX)]
        if not names:
            # Not sooner, because a request that has come since may have left the folder with the same mtime.
            if time.time_ns() - changed > MTIME_GRANULARITY:
                self._seen = changed
            return None
        return names[0]

    def due(self) -> float:
        """When to poll next, in seconds since 1970: soon if there was a request a moment ago, else never (infinity)."""
        return time.time() + POLL_INTERVAL if time.monotonic() < self._expected_until else float("inf")

    def begin_again(self) -> None:
        """Process an unfinished request again from its start, because there is a new index writer."""
        self._in_progress = None
        self._seen = 0


def _answering(index_folder: Path, name: str, owner: IndexOwner) -> Iterator[None]:
    refused: dict[str, str] = {}
    answer: dict[str, Any] = {"refused": refused}
    try:
        request = parse_request(_content(index_folder, name), COMPACT_FOLDER)
    except FileNotFoundError:
        # The command has withdrawn it.
        return
    except (OSError, ValueError, SidecarError) as error:
        answer = {"error": f"a request that cannot be read: {error}"}
    else:
        for batch in _batched(list(request.moves), LOGS_PER_TURN):
            refused |= owner.archive(batch, request.folder)
            yield
        for day in request.days:
            refused |= owner.compact([day])
            yield
        if request.drop:
            refused |= owner.drop(request.drop)
    # The command may be gone, and the folder with it.
    with (
        suppress(OSError, SidecarError),
        GuardedFolder.open_own(index_folder) as index,
        index.folder(REQUESTS_FOLDER) as folder,
    ):
        try:
            folder.write(name.removesuffix(_REQUEST_SUFFIX) + _ANSWER_SUFFIX, orjson.dumps(answer), durable=True)
        finally:
            # Even if it cannot be answered, because otherwise it would be processed forever.
            folder.delete(name)


def _content(index_folder: Path, name: str) -> bytes:
    with GuardedFolder.open_own(index_folder) as index, index.folder(REQUESTS_FOLDER) as folder:
        return folder.read(name, MAX_REQUEST_BYTES)


def _batched(values: list[Any], size: int) -> Iterator[list[Any]]:
    for begin in range(0, len(values), size):
        yield values[begin : begin + size]


def delete_stale_requests(index_folder: Path) -> None:
    """Delete answers that were not fetched, and requests of commands that have died. None may be in progress."""
    with suppress(OSError, SidecarError), GuardedFolder.open_own(index_folder) as index:
        index.delete_all(REQUESTS_FOLDER)


# ---- either side


@contextmanager
def index_owner(settings: Settings) -> Iterator[IndexOwner]:
    """The index owner of the root: this process, or a running sidecar. Raises RootLocked during any job other than
    `run`, and SidecarError if the index has to be rebuilt first."""
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
