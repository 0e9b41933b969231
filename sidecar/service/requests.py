"""How `sidecar archive` gets its work into the index: one writer per root, also while it archives.

Where no sidecar runs, the command holds the root's lock and opens the index itself. Where one runs, the command leaves
a request in `index/requests/`; the sidecar takes it between two turns, in its own thread, and leaves an answer. A
request states only facts: the archives are complete, durable and verified. Crash windows:

- the command dies: the sidecar records what was requested. The logs stay where they are until the next
  `sidecar archive`, which finds them in both places;
- the sidecar dies before it answers: the request is still there. What was recorded of it is durable; the next sidecar
  takes the whole request again, and what is recorded already stays so.
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
from sidecar.errors import RootLocked, SidecarError
from sidecar.fs import MTIME_GRANULARITY, write_small
from sidecar.indexer.index_writer import IndexWriter
from sidecar.records import Compacted, Extent, Move
from sidecar.store import layout

from .lock import lock_holder, root_locked
from .repair import database_errors_named, reason_to_rebuild

REQUESTS_FOLDER = "requests"
LOGS_PER_TURN = 200
"""Logs that are noted in one turn of a running sidecar, so that fresh lines do not wait for long."""
ANSWER_TIMEOUT = 120.0
"""Seconds without a sign of a running sidecar, after which it is said not to answer."""
NEXT_REQUEST_WITHIN = 5.0
POLL_INTERVAL = 0.02
"""Seconds after a request in which the next is expected, and between two looks then."""
_ASKED, _ANSWERED = ".json", ".done"


class IndexOwner(Protocol):
    """Who may write an index: `IndexWriter`, or whoever asks it."""

    def archive(self, moves: Iterable[Move], folder: str) -> dict[str, str]:
        """Note that logs lie in the archive; gives for each that was refused why."""

    def drop(self, paths: Iterable[str]) -> dict[str, str]:
        """Forget logs and their rows, whose archives are to be deleted; the same."""

    def compact(self, days: Iterable[Compacted]) -> dict[str, str]:
        """Take smaller files of days, and what their filters are; the same, by the day's name."""


# ---- the command's side


@dataclass(frozen=True, slots=True)
class RemoteIndexOwner:
    """The owner, where it is a running sidecar."""

    index_folder: Path
    wait: Callable[[float], None] = time.sleep

    def archive(self, moves: Iterable[Move], folder: str) -> dict[str, str]:
        """As `IndexOwner`. Raises SidecarError where the sidecar does not answer; then nothing may be deleted."""
        return self._ask({"archive": folder, "moves": [[*move[:2], list(move.part)] for move in moves]})

    def drop(self, paths: Iterable[str]) -> dict[str, str]:
        """As `IndexOwner`."""
        return self._ask({"drop": list(paths)})

    def compact(self, days: Iterable[Compacted]) -> dict[str, str]:
        """As `IndexOwner`."""
        return self._ask({"days": [list(day) for day in days]})

    def _ask(self, what: dict[str, Any]) -> dict[str, str]:
        folder = self.index_folder / REQUESTS_FOLDER
        folder.mkdir(exist_ok=True)
        path = folder / f"{uuid4().hex}{_ASKED}"
        answer = path.with_suffix(_ANSWERED)
        write_small(path, orjson.dumps(what), durable=True)
        deadline = time.monotonic() + ANSWER_TIMEOUT
        turns = 0
        while not answer.exists():
            turns += 1
            ended = turns % 25 == 0 and lock_holder(self.index_folder) is None
            if (ended or time.monotonic() > deadline) and not answer.exists():
                path.unlink(missing_ok=True)
                why = "has ended" if ended else "does not answer"
                raise SidecarError(f"the sidecar that runs on this root {why}", hint="run `sidecar archive` again")
            self.wait(0.02)
        said = orjson.loads(answer.read_bytes())
        answer.unlink(missing_ok=True)
        if "error" in said:
            raise SidecarError(f"the running sidecar could not note it: {said['error']}")
        return {str(path): str(why) for path, why in said["refused"].items()}


# ---- the running sidecar's side


class RequestInbox:
    """The requests that lie in an index folder, taken a slice a turn. Only the indexing thread touches this."""

    def __init__(self, index_folder: Path) -> None:
        self._folder = index_folder / REQUESTS_FOLDER
        self._seen = 0
        self._at_work: Iterator[None] | None = None
        self._expects_until = 0.0

    def turn(self, owner: IndexOwner) -> bool:
        """Do some of what is asked, if anything is; true where there is more to do at once. Raises what writing an
        index raises; then the request is taken again from its start."""
        if self._at_work is None:
            try:
                changed = os.stat(self._folder).st_mtime_ns
            except OSError:
                return False
            if changed == self._seen:
                return False
            asked = sorted(self._folder.glob(f"*{_ASKED}"))
            if not asked:
                if time.time_ns() - changed > MTIME_GRANULARITY:  # else one that came since may bear the same time
                    self._seen = changed
                return False
            self._at_work = _answering(asked[0], owner)
        self._expects_until = time.monotonic() + NEXT_REQUEST_WITHIN
        try:
            next(self._at_work)
        except StopIteration:
            self._at_work = None
        except BaseException:
            self.begin_again()
            raise
        return True

    def due(self) -> float:
        """When to look next, in seconds since 1970: soon, where somebody has just asked, else never."""
        return time.time() + POLL_INTERVAL if time.monotonic() < self._expects_until else float("inf")

    def begin_again(self) -> None:
        """The owner is another one now: what was half done is done again."""
        self._at_work = None
        self._seen = 0


def _answering(path: Path, owner: IndexOwner) -> Iterator[None]:
    refused: dict[str, str] = {}
    answer: dict[str, Any] = {"refused": refused}
    try:
        asked = orjson.loads(path.read_bytes())
        moves = [Move(log, tuple(looks), Extent(*part)) for log, looks, part in asked.get("moves", ())]
        days = [Compacted(*values) for values in asked.get("days", ())]
        drop = [str(one) for one in asked.get("drop", ())]
        folder = str(asked.get("archive", ""))
    except FileNotFoundError:
        return  # taken back
    except (OSError, ValueError, TypeError, AttributeError) as error:
        answer = {"error": f"a request that cannot be read: {error}"}
    else:
        for some in _batched(moves, LOGS_PER_TURN):
            refused |= owner.archive(some, folder)
            yield
        for day in days:
            refused |= owner.compact([day])
            yield
        if drop:
            refused |= owner.drop(drop)
    with suppress(OSError):  # who asked may be gone, and the folder with it
        write_small(path.with_suffix(_ANSWERED), orjson.dumps(answer), durable=True)
        path.unlink(missing_ok=True)


def _batched(values: list[Any], size: int) -> Iterator[list[Any]]:
    for begin in range(0, len(values), size):
        yield values[begin : begin + size]


def delete_stale_requests(index_folder: Path) -> None:
    """Delete answers that nobody fetched, and requests of commands that are dead; none may be under way."""
    with suppress(OSError):
        for left in (index_folder / REQUESTS_FOLDER).iterdir():
            left.unlink(missing_ok=True)
        (index_folder / REQUESTS_FOLDER).rmdir()


# ---- whoever may write


@contextmanager
def index_owner(settings: Settings) -> Iterator[IndexOwner]:
    """Whoever may write the index: this process, or a running sidecar."""
    with ExitStack() as stack:
        try:
            stack.enter_context(root_locked(settings, "archive"))
        except RootLocked:
            held = lock_holder(settings.index_folder)
            if held is None or held[1] != "run":
                raise
            owner_: IndexOwner = RemoteIndexOwner(settings.index_folder)
        else:
            layout.finish_swap(settings.index_folder)
            why = reason_to_rebuild(settings)
            if why is not None:
                raise SidecarError(f"the index has to be made again: {why}", hint="run `sidecar run --once` first")
            owner_ = stack.enter_context(_opened(settings))
        yield owner_


@contextmanager
def _opened(settings: Settings) -> Iterator[IndexWriter]:
    with database_errors_named(settings):
        ledger = IndexWriter(settings)
        try:
            yield ledger
            ledger.close()
        except BaseException:
            ledger.abandon()
            raise
