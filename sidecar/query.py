"""`Index`: the questions, answered from the daily files. It never writes, never watches, and needs no sidecar."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from . import swap
from .archive_reader import Archive, beside, folder_of
from .bytes_of import open_log
from .errors import AmbiguousId, EntryNotFound, IndexMissing, SidecarError, SourceChanged
from .follower import Follower
from .paths import split_path
from .reader import Catalog, Day, Filter, Place, day_of, open_catalog
from .records import AgentSummary, Entry, Part, PeerInteraction, PendingRequest, RejectedLine, Session
from .times import Time, duration, moment_of

OPEN_DAYS = 64
"""Daily files kept open by one `Index`."""


class Index:
    """The index below a root, for reading.

    It serves with no sidecar running, beside a running one, and in a folder that it cannot write. Use one for each
    thread; close it, or use it in a `with`. Every method raises IndexMissing where there is no index, IndexDamaged or
    SchemaMismatch where it cannot be read.

    Methods that give many yield lazily, in the order of time, across days; entries of the same time stand in the order
    of file path and byte offset. A time is seconds since 1970, a datetime, ISO 8601 (no zone: UTC) or an age such as
    `2h`; BadTime is raised for anything else.

    What was archived is read in `archive`; by default in the folder that the index was archived to, see
    `archive_reader.py`.
    """

    def __init__(self, root: str | os.PathLike[str], archive: str | os.PathLike[str] | None = None) -> None:
        self.root = Path(root).absolute()
        self._archive_folder = None if archive is None else Path(archive).absolute()
        self._archive: Archive | None = None
        self._folder = self.root / "index"
        self._days: dict[str, Day] = {}
        self._listed: tuple[tuple[int, int] | None, list[Path]] = (None, [])
        """The daily files, and what says that they are still these: to list a year of them costs a millisecond."""
        self._catalog: Catalog | None = None

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened. The index can be used again afterwards."""
        for day in self._days.values():
            day.close()
        self._days = {}
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None
        if self._archive is not None:
            self._archive.close()
            self._archive = None

    # ---- many entries

    def timeline(
        self,
        since: Time | None = None,
        until: Time | None = None,
        agent: str | None = None,
        session: str | None = None,
        event_type: str | None = None,
        pattern: str | None = None,
        conversation: str | None = None,
        correlation: str | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Entry]:
        """Entries from `since` on and before `until`, that fit everything else that is given.

        `agent` is one of the participants. `limit` is the number of entries at most; with `reverse` the latest come
        first.
        """
        wanted = Filter(
            None if since is None else moment_of(since),
            None if until is None else moment_of(until),
            *(agent, session, event_type, pattern, conversation, correlation),
        )
        return islice(self._entries(wanted, reverse), limit)

    def _entries(self, wanted: Filter, reverse: bool = False) -> Iterator[Entry]:
        days = [path for path in self._daily_files() if wanted.may_lie_on(path.stem)]
        for path in self._that_may_have(wanted.texts(), reversed(days) if reverse else days):
            yield from self._pages(path, wanted, reverse)

    def _pages(self, path: Path, wanted: Filter, reverse: bool) -> Iterator[Entry]:
        """One day's entries, a page a query: no read transaction is open while the caller thinks."""
        after: Place | None = None
        size = 128
        while day := self._day(path):
            try:
                page = day.page(wanted, after, size, reverse)
            except IndexMissing:
                if day.is_current():
                    raise
                continue  # a swap moved the file: open it where it is now
            yield from page
            if len(page) < size:
                return
            after = Place.of(page[-1])
            size = min(2048, size * 2)

    def conversation(self, id: str) -> Iterator[Entry]:
        """All that was said in a conversation."""
        return self.timeline(conversation=id)

    def exchange(self, correlation_id: str) -> Iterator[Entry]:
        """A request and its answers: all entries with a correlation id."""
        return self.timeline(correlation=correlation_id)

    def follow(
        self,
        agent: str | None = None,
        session: str | None = None,
        event_type: str | None = None,
        pattern: str | None = None,
        conversation: str | None = None,
        correlation: str | None = None,
        stop: Callable[[], bool] | None = None,
        poll: float = 0.05,
    ) -> Iterator[Entry]:
        """Entries as they come into the index, from the call on, in the order of their coming; waits for more.

        Ends when `stop()` is true. `poll` is the longest wait between two looks, in seconds; while entries come it
        looks far more often. The index may be rebuilt or not be there yet: it goes on.
        """
        wanted = Filter(None, None, agent, session, event_type, pattern, conversation, correlation)
        follower = Follower(self._folder)
        return self._following(follower, wanted, stop or (lambda: False), poll)

    def _following(
        self, follower: Follower, wanted: Filter, stop: Callable[[], bool], poll: float
    ) -> Iterator[Entry]:
        wait = 0.002
        try:
            while not stop():
                came = False
                for entry in follower.news(wanted):
                    came = True
                    yield entry
                wait = 0.002 if came else min(poll, wait * 1.5)
                time.sleep(wait)
        finally:
            follower.close()

    # ---- one entry

    def get(self, id: str) -> Entry:
        """The entry with an id. Raises EntryNotFound; and AmbiguousId where files of the same name have it both.

        `<file path>:<byte offset>` is taken for an id as well.
        """
        name, _, number = id.rpartition(":")
        found = []
        if name and number.isascii() and number.isdigit() and len(number) < 19:
            # By its stem, which may hold a dot, or by its path.
            without = self._days_without([name])
            if (stem := split_path(name)[1]) != name:
                without &= self._days_without([stem])
            for path in reversed(self._daily_files()):
                if path.stem not in without and (day := self._day(path)):
                    found += day.at(name, int(number))
        if not found:
            raise EntryNotFound(f"no entry has the id {id!r}")
        found = [entry for entry in found if entry.file_path == name] or found
        if len(found) > 1:
            raise AmbiguousId(f"{id!r} is the id of entries in {', '.join(entry.file_path for entry in found)}")
        return found[0]

    def read(self, entry: Entry) -> dict[str, Any]:
        """The record behind an entry, parsed. Errors as with `read_bytes`."""
        record: dict[str, Any] = orjson.loads(self.read_bytes(entry))
        return record

    def read_bytes(self, entry: Entry) -> bytes:
        """The bytes of the record behind an entry, just as they were indexed, without the line end.

        Raises SourceMissing where the file is gone, SourceChanged where its bytes are others now, UnsafePath where the
        pointer leaves the root; never gives other bytes. Of what was archived, they are ArchiveMissing, ArchiveDamaged.
        """
        with open_log(self.root, entry.file_path, self._open_archive(), self._parts) as log:
            place = self._place(entry)
            if place is None:
                where = f"{entry.file_path}, byte {entry.byte_offset}"
                raise SourceChanged(f"{where}: the index has no such entry any more")
            return log.read(entry.byte_offset, *place)

    def _open_archive(self) -> Archive:
        if self._archive is None:
            self._archive = Archive(self._archive_folder or beside(self.root))
        return self._archive

    def _parts(self, path: str) -> tuple[Part, ...]:
        """What of a log lies in the archive; asked only where its file does not have the bytes."""
        try:
            catalog = self._open_catalog()
            parts = catalog.parts(path)
            said = catalog.fact("archive") if parts and self._archive_folder is None else None
        except IndexMissing:
            return ()
        archive = self._open_archive()
        if said is not None:
            archive.folder = folder_of(self.root, said)
        return parts

    def _place(self, entry: Entry) -> tuple[int, int] | None:
        """Length and checksum of the record, as the index has them now."""
        name = f"{day_of(entry.timestamp)}.db"
        for path in self._daily_files():
            if path.name == name and (day := self._day(path)):
                return day.place(entry.file_path, entry.byte_offset)
        return None

    # ---- what the catalog knows

    def sessions(self, status: str | None = None) -> Iterator[Session]:
        """The session registry, in the order of creation; with `status` only the `active` or `completed` ones."""
        return self._open_catalog().sessions(status)

    def rejected(self) -> Iterator[RejectedLine]:
        """The lines that are no records, in the order of file and place."""
        return self._open_catalog().rejected()

    def agents(self) -> list[AgentSummary]:
        """Every agent that took part in anything, with the number of its entries and its first and last time."""
        known: dict[str, AgentSummary] = {}
        for path in self._daily_files():
            day = self._day(path)
            for one in day.agents() if day else ():
                before = known.get(one.agent)
                known[one.agent] = one if before is None else before.plus(one)
        return [known[agent] for agent in sorted(known)]

    # ---- the reference's four questions

    def find_peer_interactions(self, agent_id: str, time_window: float | str) -> list[PeerInteraction]:
        """Peer-to-peer interactions that an agent took part in, within a time until now (seconds, or an age)."""
        wanted = Filter(after=time.time() - duration(time_window), agent=agent_id, pattern="peer_to_peer")
        return [
            PeerInteraction(
                entry.id,
                entry.timestamp,
                entry.file_path,
                entry.line_number,
                orjson.dumps(entry.participating_agents).decode(),
            )
            for entry in self._entries(wanted)
        ]

    def get_agent_role_history(self, agent_id: str, session_id: str) -> list[dict[str, Any]]:
        """How an agent's role evolved in a session: a `timestamp` and a `role` for each entry where it had one."""
        return [
            {"timestamp": entry.timestamp, "role": entry.agent_roles[agent_id]}
            for entry in self._entries(Filter(agent=agent_id, session=session_id))
            if agent_id in entry.agent_roles
        ]

    def find_pending_requests(self, time_limit: float | str | None = 300) -> list[PendingRequest]:
        """Requests without a response, not older than `time_limit` (seconds, or an age; None: however old)."""
        after = None if time_limit is None else time.time() - duration(time_limit)
        return [
            PendingRequest(entry.id, entry.timestamp, entry.initiating_agent, entry.file_path)
            for entry in self._entries(Filter(after=after, pending=True))
        ]

    def get_session_participants(self, session_id: str) -> list[str]:
        """Everybody who took part in a session, in the order of their names."""
        agents: set[str] = set()
        for path in self._that_may_have([session_id], self._daily_files()):
            if day := self._day(path):
                agents |= day.participants(session_id)
        return sorted(agents)

    # ---- files

    def _that_may_have(self, texts: list[str], days: Iterable[Path]) -> Iterator[Path]:
        """Those of some days that may have an entry with all these strings, in the order given."""
        paths = list(days)
        without = self._days_without(texts) if len(paths) > 1 else set()
        return (path for path in paths if path.stem not in without)

    def _days_without(self, texts: list[str]) -> set[str]:
        """Days that need not be opened; none without a catalog that can be read: then every day is asked."""
        if texts:
            with suppress(SidecarError):
                return self._open_catalog().days_without(texts)
        return set()

    def _daily_files(self) -> list[Path]:
        stamp = swap.listing_stamp(self._folder)
        if stamp is not None and stamp == self._listed[0]:
            return self._listed[1]
        paths = swap.daily_paths(self._folder)
        self._listed = (stamp if paths else None, paths)
        if not paths and not swap.catalog_path(self._folder).exists():
            raise IndexMissing(f"there is no index below {self.root}")
        return paths

    def _day(self, path: Path) -> Day | None:
        """A daily file, open; None where it was removed since it was listed. Opened anew when it was replaced."""
        day = self._days.get(path.name)
        if day is not None and not day.is_current():
            day.close()
            del self._days[path.name]
            day = None
        if day is None:
            try:
                day = Day(path)
            except IndexMissing:
                # A swap moves files: it may be in its final place by now.
                for now in swap.daily_paths(self._folder):
                    if now.name == path.name:
                        day = Day(now)
                        break
                else:
                    return None
            while len(self._days) >= OPEN_DAYS:
                self._days.pop(next(iter(self._days))).close()
            self._days[path.name] = day
        return day

    def _open_catalog(self) -> Catalog:
        if self._catalog is not None and not self._catalog.is_current():
            self._catalog.close()
            self._catalog = None
        if self._catalog is None:
            self._catalog = open_catalog(self._folder)
        return self._catalog

