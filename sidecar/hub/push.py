"""The pusher: what a node's index has beyond its cursors at the hub goes there, rows and cursors in one transaction.

Nothing is kept on the node but its claim. What a kill, a lost answer or a race leaves, and what happens then:

- before COMMIT, anywhere: nothing of the batch; it is read again from the hub's cursors;
- COMMIT sent and its answer lost: the batch or nothing; the connection and all that was remembered go, and the cursors
  at the hub say which;
- the hub set back to a backup: rows and cursors are both older, and it goes on from there;
- two pushers of a node: one waits at the node's row or finds that its turn has passed, and reads all again;
- a log that begins again, moves or goes while it is read: its generation is asked for once more before anything is
  sent; and what does not add up with the catalog's number of entries is not sent;
- a rebuilt index, or one from a backup: another epoch, or an earlier checkpoint; what is equal stays (`verify.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from . import values
from .batch import PushBatch
from .changes import Changes
from .claim import take_claim
from .feed import Feed, FeedCatalog, Log
from .target import HubTarget, Raced
from .verify import differing

BATCH = 20_000
"""Rows of a transaction, about: one log more than fits, and of that at most twice as many."""
LOGS_AT_ONCE = 500
"""Logs whose cursors are read at once."""


class Pushed(NamedTuple):
    """What a turn has done."""

    rows: int
    """Rows that came to the hub."""
    is_done: bool
    """Whether the hub has all of the checkpoint at which the turn began."""


class Compared(NamedTuple):
    """What a comparison has found."""

    entries: int
    """The number of entries that the node has."""
    differ: list[str]
    """The logs that differ, and on which days."""
    repaired: int
    """The number of logs that were sent again."""


class Pusher:
    """Pushes the index in a folder under the name of a node."""

    def __init__(
        self,
        folder: Path,
        url: str,
        node: str,
        *,
        read_from: str | None = None,
        take_over: bool = False,
        batch: int = BATCH,
        on_stage: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_stage` is called with the name of each stage of a transaction, for tests."""
        self._feed = Feed(folder)
        self.node = node
        self._folder, self._url = folder, url
        self._read_from, self._take_over, self._batch, self._on_stage = read_from, take_over, batch, on_stage
        self._target: HubTarget | None = None
        self._wrong: dict[str, int] = {}
        """How often the numbers of a log did not add up."""

    def close(self) -> None:
        """Close everything."""
        self._feed.close()
        self.give_up()

    def give_up(self) -> None:
        """Forget the connection and all that was remembered, as after an error."""
        if self._target is not None:
            self._target.close()
            self._target = None

    @property
    def target(self) -> HubTarget:
        """The connection to the hub."""
        if self._target is None:
            target = HubTarget(self._url, self.node, self._on_stage)
            try:
                take_claim(self._folder, target, self._take_over)
                self._take_over = False
                if self._read_from is not None:
                    target.set(read_from=self._read_from)
            except BaseException:
                target.close()
                raise
            self._target = target
        return self._target

    def once(self, tries: int = 100) -> int:
        """Push until the hub has all that is checkpointed now. Returns the number of rows. Raises SidecarError."""
        rows = 0
        for left in reversed(range(tries)):
            try:
                done = self.turn()
            except Raced:
                self.give_up()
                if not left:
                    raise
                time.sleep(0.05)
                continue
            rows += done.rows
            if done.is_done:
                break
        return rows

    def verify(self, *, repair: bool = False, tries: int = 5) -> Compared:
        """Compare the node with the hub, after a push. What differs while the sidecar is at work is looked at again."""
        suspects: list[str] | None = None
        found: dict[str, str] = {}
        for left in reversed(range(tries)):
            self.once()
            catalog, target = self._feed.catalog(), self.target
            logs = self._logs(catalog)
            found = {}
            every = {*target.all_logs(), *(path for path, log in logs.items() if log.entries)}
            paths = iter(sorted(every) if suspects is None else suspects)
            while some := list(islice(paths, LOGS_AT_ONCE)):
                cursors = target.cursors(some)
                found |= {path: f"{path}: the node has no such log" for path in cursors if path not in logs}
                missing = [path for path in some if path in logs and path not in cursors]
                found |= {path: f"{path}: the hub has no such log" for path in missing}
                here = {path: (logs[path], files) for path, files in cursors.items() if path in logs}
                found |= differing(self._feed, catalog, target, here)
            if not found or not left:
                break
            suspects = list(found)
            time.sleep(0.2)
        entries = sum(log.entries for log in logs.values())
        repaired = 0
        if found and repair:
            marks = {files[0].id: -1 for files in target.cursors(list(found)).values()}
            target.mark(marks, [])
            target.set(epoch="")  # all logs are looked at again
            self.give_up()
            self.once()
            repaired = len(found)
        return Compared(entries, sorted(found.values()), repaired)

    def note_trouble(self, retries: int, error: str) -> None:
        """Tell the hub what kept this pusher from it."""
        self.target.set(retries=retries, last_error=error)

    def _logs(self, catalog: FeedCatalog) -> dict[str, Log]:
        with catalog.in_one_state():
            return {values.name(log.path): log for id_ in catalog.changed(-1) if (log := catalog.log(id_))}

    def turn(self) -> Pushed:
        """Push what there is. Raises Raced, HubUnavailable, IndexMissing and others: then `give_up`, and try again."""
        catalog = self._feed.catalog()
        target = self.target
        with catalog.in_one_state():
            epoch, checkpoint = catalog.position()
            is_other = epoch != target.epoch or checkpoint < target.checkpoint
            if not is_other and checkpoint == target.checkpoint:
                return Pushed(0, True)
            after = -1 if is_other else target.checkpoint
            wanted = catalog.changed(after)
            gone = catalog.gone(after)
            days = {day: number for day, number in catalog.days().items() if number > after or after <= 0}
            dropped = catalog.dropped()
        seen_at = time.time()
        if is_other:
            self._adopt(catalog)
        elif gone:
            self._bury(gone)
        if not is_other:
            wanted += self._touched(catalog, days, after, set(wanted))
        rows = 0
        left = iter(wanted)
        while some := list(islice(left, LOGS_AT_ONCE)):
            rows += self._push(catalog, some, list(days), after)
        target.note_dropped(dropped)
        target.write(PushBatch(), (epoch, checkpoint, seen_at))
        self._on_stage("committed")
        self._wrong.clear()
        return Pushed(rows, self._feed.catalog() is catalog)

    def _touched(self, catalog: FeedCatalog, days: Iterable[str], after: int, known: set[int]) -> list[int]:
        """Logs that were not read, but of which requests were answered in other logs."""
        found = set()
        for name in days:
            day = self._feed.day(name)
            for path in day.touched(after) if day is not None else ():
                log = catalog.log_of_file(path)
                if log is not None and log not in known:
                    found.add(log)
        return sorted(found)

    def _bury(self, paths: Sequence[str]) -> None:
        """Delete logs that are gone."""
        for files in self.target.cursors([values.name(path) for path in paths]).values():
            self.target.mark({}, files)

    def _adopt(self, catalog: FeedCatalog) -> None:
        """The index is another one than that whose rows are here. Logs that say the same keep their rows; the others
        begin again, and those that are gone go."""
        target = self.target
        logs = self._logs(catalog)
        paths = iter(target.all_logs())
        while some := list(islice(paths, LOGS_AT_ONCE)):
            cursors = target.cursors(some)
            here = {path: (logs[path], files) for path, files in cursors.items() if path in logs}
            differ = differing(self._feed, catalog, target, here)
            marks = {files[0].id: -1 if path in differ else log.generation for path, (log, files) in here.items()}
            target.mark(marks, [file for path, files in cursors.items() if path not in logs for file in files])

    # ---- some logs

    def _push(self, catalog: FeedCatalog, sources: list[int], days: Sequence[str], after: int) -> int:
        with catalog.in_one_state():
            paths = [log.path for source in sources if (log := catalog.log(source)) is not None]
        cursors = self.target.cursors([values.name(path) for path in paths])
        opens = self.target.opens([file.id for files in cursors.values() for file in files])
        changes = Changes(self._feed, catalog, self.target, days, after, self._wrong)
        rows, batch = 0, PushBatch()
        for source in sources:
            is_first = True
            while True:
                room = self._batch - batch.count
                if room <= 0:
                    rows += self._send(catalog, batch)
                    batch, room = PushBatch(), self._batch
                one = changes.of_log(source, cursors, opens if is_first else {}, room, batch)
                if one is None:
                    break
                batch.logs.append(one)
                is_first = False
                if one.is_whole:
                    break
                rows += self._send(catalog, batch)
                batch = PushBatch()
                cursors.update(self.target.cursors([one.path]))
        return rows + self._send(catalog, batch)

    def _send(self, catalog: FeedCatalog, batch: PushBatch) -> int:
        if not batch.logs:
            return 0
        self._on_stage("read")
        # The catalog says so before rows are deleted, so this look comes last.
        now = catalog.generations([one.log.id for one in batch.logs])
        for one in batch.logs:
            paths = tuple(file.path for file in one.log.files)
            if now.get(one.log.id) != (one.log.generation, paths):
                raise Raced(f"{one.log.path} has begun again")
        self.target.write(batch)
        self._on_stage("committed")
        return sum(len(file.rows) for one in batch.logs for file in one.files)
