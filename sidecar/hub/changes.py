"""What has changed in a log since it was last pushed: from the catalog and the daily files, up to the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sidecar.errors import SidecarError
from sidecar.times import day_of

from . import values
from .batch import FileRows, HubCursor, LogRows, PushBatch
from .feed import Feed, FeedCatalog, LogFile, Opens
from .target import HubTarget, Raced


class Changes:
    """Reads what has changed in logs, for one turn."""

    def __init__(
        self,
        feed: Feed,
        catalog: FeedCatalog,
        target: HubTarget,
        days: Sequence[str],
        after: int,
        wrong: dict[str, int],
    ) -> None:
        """`days` were written after the checkpoint `after`, which the hub has. `wrong` is how often the numbers of a
        log did not add up."""
        self._feed, self._catalog, self._target = feed, catalog, target
        self._days, self._after, self._wrong = days, after, wrong

    def of_log(
        self,
        source: int,
        cursors: dict[str, list[HubCursor]],
        opens: dict[int, dict[int, tuple[float, int]]],
        room: int,
        batch: PushBatch,
    ) -> LogRows | None:
        """What has changed in a log, or as much of it as there is room for; None if nothing has."""
        with self._catalog.in_one_state():
            log = self._catalog.log(source)
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
            names = list(self._catalog.days()) if begins or not old or self._after <= 0 else self._days
            sessions: set[str] = set()
            for file in log.files:
                cursor = None if begins else at_hub.get(values.name(file.path))
                is_last = file is log.files[-1]
                new = FileRows(values.name(file.path), values.name(file.stem), cursor, 0, file.offset)
                new.first = cursor.offset if cursor is not None else 0
                if one.is_whole:
                    self._read(one, file, new, names, max(1, room - one.count), batch, sessions)
                else:
                    new.last = new.first
                if new.first < new.last or cursor is None or is_last:
                    one.files.append(new)
            if not begins:
                for known in old:
                    self._update(one, known, opens.get(known.id, {}))
            if one.is_whole:
                self._check_sum(one)
            # A session's own log says something of one session, and all of it may change with any record.
            names_of = None if log.layout == "session" else sessions
            if names_of is None or names_of:
                one.sessions = self._catalog.sessions(source, names_of)
        return one

    def _read(
        self,
        one: LogRows,
        file: LogFile,
        new: FileRows,
        days: Sequence[str],
        room: int,
        batch: PushBatch,
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
        opens = Opens(self._catalog, one.log, file)
        for name, _, number in there:
            # Opened again if others were opened since.
            day = self._feed.day(name)
            found = list(day.rows(number, new.first, new.last, opens)) if day is not None else []
            sessions.update(row.context.session for row in found)
            if name in self._target.closed:
                new.closed += len(found)
            elif found:
                batch.days.add(name)
                new.rows += found
        begin, end = file.base + new.first, file.base + new.last
        new.rejected = [
            (position - file.base, line, length, reason)
            for position, line, length, reason in self._catalog.rejected(one.log.id, begin, end)
        ]

    def _update(self, one: LogRows, known: HubCursor, open_there: dict[int, tuple[float, int]]) -> None:
        """Add what has become of the requests of a file that the hub has."""
        file = next((file for file in one.log.files if values.name(file.path) == known.path), None)
        if file is None:
            return
        opens = Opens(self._catalog, one.log, file)
        asked = dict(open_there)
        for position in self._catalog.marked(one.log.id):
            offset = position - file.base
            if (
                0 <= offset < known.offset
                and offset not in asked
                and (there := self._target.timestamp_at(known.id, offset))
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
                self._target.mark({one.old[0].id: -1}, [])
        if wrong > 40:
            hint = "run `sidecar verify` on this machine: its index does not agree with itself"
            raise SidecarError(what, hint=hint)
        raise Raced(what)
