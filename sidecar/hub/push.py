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
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sidecar.errors import SidecarError
from sidecar.times import day_of

from . import values
from .batch import Batch, Cursor, FileRows, LogRows
from .claim import take_claim
from .feed import Feed, FeedCatalog, LogFile, Opens
from .target import Raced, Target
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
        self._folder, self._url, self._node = folder, url, node
        self._read_from, self._take_over, self._batch, self._on_stage = read_from, take_over, batch, on_stage
        self._target: Target | None = None
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
    def target(self) -> Target:
        """The connection to the hub."""
        if self._target is None:
            target = Target(self._url, self._node, self._on_stage)
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
        target.write(Batch(), (epoch, checkpoint, seen_at))
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
        with catalog.in_one_state():
            logs = {values.name(log.path): log for id_ in catalog.changed(-1) if (log := catalog.log(id_))}
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
        rows, batch = 0, Batch()
        for source in sources:
            is_first = True
            while True:
                room = self._batch - batch.count
                if room <= 0:
                    rows += self._send(catalog, batch)
                    batch, room = Batch(), self._batch
                one = self._changes(catalog, source, cursors, opens if is_first else {}, days, after, room, batch)
                if one is None:
                    break
                batch.logs.append(one)
                is_first = False
                if one.is_whole:
                    break
                rows += self._send(catalog, batch)
                batch = Batch()
                cursors.update(self.target.cursors([one.path]))
        return rows + self._send(catalog, batch)

    def _send(self, catalog: FeedCatalog, batch: Batch) -> int:
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

    def _changes(
        self,
        catalog: FeedCatalog,
        source: int,
        cursors: dict[str, list[Cursor]],
        opens: dict[int, dict[int, tuple[float, int]]],
        days: Sequence[str],
        after: int,
        room: int,
        batch: Batch,
    ) -> LogRows | None:
        """What has changed in a log, or as much of it as there is room for; None if nothing has."""
        with catalog.in_one_state():
            log = catalog.log(source)
            if log is None:
                return None
            path = values.name(log.path)
            old = cursors.get(path, [])
            at_hub = {file.path: file for file in old}
            begins = bool(old) and (
                old[0].generation != log.generation
                or any((known := at_hub.get(values.name(f.path))) and known.offset > f.offset for f in log.files)
                or not at_hub.keys() <= {values.name(file.path) for file in log.files}
            )
            one = LogRows(log, path, begins, old)
            names = list(catalog.days()) if begins or not old or after <= 0 else days
            sessions: set[str] = set()
            for file in log.files:
                cursor = None if begins else at_hub.get(values.name(file.path))
                is_last = file is log.files[-1]
                new = FileRows(values.name(file.path), values.name(file.stem), cursor, 0, file.offset)
                new.first = cursor.offset if cursor is not None else 0
                if one.is_whole:
                    self._read(catalog, one, file, new, names, max(1, room - one.count), batch, sessions)
                else:
                    new.last = new.first
                if new.first < new.last or cursor is None or is_last:
                    one.files.append(new)
            if not begins:
                for known in old:
                    self._update(catalog, one, known, opens.get(known.id, {}))
            if one.is_whole:
                self._check_sum(one)
            # A session's own log says something of one session, and all of it may change with any record.
            names_of = None if log.layout == "session" else sessions
            if names_of is None or names_of:
                one.sessions = catalog.sessions(source, names_of)
        return one

    def _read(
        self,
        catalog: FeedCatalog,
        one: LogRows,
        file: LogFile,
        new: FileRows,
        days: Sequence[str],
        room: int,
        batch: Batch,
        sessions: set[str],
    ) -> None:
        """Add the rows of a file, up to its end or as many as there is room for."""
        if new.first >= new.last:
            return
        there = [
            (name, day, number) for name in days if (day := self._feed.day(name)) and (number := day.number(file.path))
        ]
        ends = [end for _, day, number in there if (end := day.end_of(number, new.first, room)) is not None]
        if ends and min(ends) < new.last:
            new.last = min(ends)
            one.is_whole = False
        opens = Opens(catalog, one.log, file)
        for name, _, number in there:
            # Opened again if others were opened since.
            day = self._feed.day(name)
            found = list(day.rows(number, new.first, new.last, opens)) if day is not None else []
            sessions.update(row.context.session for row in found)
            if name in self.target.closed:
                new.closed += len(found)
            elif found:
                batch.days.add(name)
                new.rows += found
        begin, end = file.base + new.first, file.base + new.last
        new.rejected = [
            (position - file.base, line, length, reason)
            for position, line, length, reason in catalog.rejected(one.log.id, begin, end)
        ]

    def _update(
        self, catalog: FeedCatalog, one: LogRows, known: Cursor, open_there: dict[int, tuple[float, int]]
    ) -> None:
        """Add what has become of the requests of a file that the hub has."""
        file = next((file for file in one.log.files if values.name(file.path) == known.path), None)
        if file is None:
            return
        opens = Opens(catalog, one.log, file)
        asked = dict(open_there)
        for position in catalog.marked(one.log.id):
            offset = position - file.base
            if (
                0 <= offset < known.offset
                and offset not in asked
                and (there := self.target.timestamp_at(known.id, offset))
            ):
                asked[offset] = there
        for offset, (at, response) in asked.items():
            state = opens.at(offset)
            if state is not None and state.is_marked == (response == values.ANSWERED_ELSEWHERE):
                continue
            day = self._feed.day(day_of(at))
            number = day.number(file.path) if day is not None else None
            rows = list(day.rows(number, offset, offset + 1, opens)) if day is not None and number is not None else []
            if not rows:
                raise Raced(f"{one.path}: the request at byte {offset} is gone")
            row = rows[0]
            if row.response != response:
                update = (known.id, offset, at, row.response, row.correlation, row.answered_after)
                one.updates.append(update)

    def _check_sum(self, one: LogRows) -> None:
        """Raise Raced unless the hub has as many rows of a log as the catalog counts, with the new ones."""
        had = 0 if one.begins else sum(file.entries + file.closed for file in one.old)
        has = had + sum(len(file.rows) + file.closed for file in one.files)
        if has == one.log.entries:
            return
        wrong = self._wrong[one.path] = self._wrong.get(one.path, 0) + 1
        what = f"{one.log.path}: {has} rows for {one.log.entries} entries"
        if wrong % 10 == 5 and one.old and not one.begins:
            # What is at the hub does not fit, whatever the reason: it begins again.
            with suppress(Raced):
                self.target.mark({one.old[0].id: -1}, [])
        if wrong > 40:
            hint = "run `sidecar verify` on this machine: its index does not agree with itself"
            raise SidecarError(what, hint=hint)
        raise Raced(what)
