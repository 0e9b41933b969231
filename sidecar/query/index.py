"""`Index`: the questions, answered from the daily files. It never writes, never watches, and needs no sidecar."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import orjson

from sidecar.errors import AmbiguousId, EntryNotFound, IndexMissing, SidecarError, SourceChanged
from sidecar.fs import split_path
from sidecar.logs.archive_file import Archive, beside, folder_of
from sidecar.logs.record_reader import open_log
from sidecar.records import AgentSummary, Entry, Extent, PeerInteraction, PendingRequest, RejectedLine, Session
from sidecar.times import Time, day_of, duration, moment_of

from .day_reader import DayReader, Filter, Position
from .follow import Follower
from .snapshot import Snapshot

INDEX = "index"
"""The index folder's name below the root."""


class _Agent(NamedTuple):
    """What is known of an agent: its entries, and the daily files and seconds of the first and the last of them."""

    entries: int
    first: tuple[str, int]
    last: tuple[str, int]


class Index:
    """The index below a root, for reading.

    It serves with no sidecar running, beside a running one, and in a folder that it cannot write. Use one for each
    thread; close it, or use it in a `with`. Every method raises IndexMissing where there is no index, IndexDamaged or
    SchemaMismatch where it cannot be read.

    Methods that give many yield lazily, in the order of time, across days; entries of the same time stand in the order
    of file path and byte offset. Where a rebuilt index is swapped in meanwhile, what follows comes out of that one; an
    answer that is given at once comes out of one index. A time is seconds since 1970, a datetime, ISO 8601 (no zone:
    UTC) or an age such as `2h`; BadTime is raised for anything else.

    What was archived is read in `archive`; by default in the folder that the index was archived to, see
    `logs/archive_file.py`. The index lies in `index`; by default in the folder of that name below the root.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        archive: str | os.PathLike[str] | None = None,
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        self.root = Path(root).absolute()
        self._index_folder = self.root / INDEX if index is None else Path(index).absolute()
        self._files = Snapshot(self._index_folder)
        self._archive_folder = None if archive is None else Path(archive).absolute()
        self._archive: Archive | None = None

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all open files. They are opened again when the index is next used."""
        self._files.close()
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
        now = time.time()
        wanted = Filter(
            None if since is None else moment_of(since, now),
            None if until is None else moment_of(until, now),
            *(agent, session, event_type, pattern, conversation, correlation),
        )
        return islice(self._entries(wanted, reverse), limit)

    def _entries(self, wanted: Filter, reverse: bool = False) -> Iterator[Entry]:
        without = self._days_without(wanted.texts())
        for name in self._files.names_as_they_are(reverse):
            day = name.removesuffix(".db")
            if day not in without and wanted.may_lie_on(day):
                yield from self._pages(name, wanted, reverse)

    def _days_without(self, texts: list[str]) -> set[str]:
        """Days that have no entry with all these strings, told without opening their files."""
        if texts and len(self._files.names()) > 1:
            # Without a catalog that can be read, every day is asked.
            with suppress(SidecarError):
                return set(self._files.of_catalog(lambda catalog: catalog.days_without(texts)))
        return set()

    def _all(self, wanted: Filter) -> list[Entry]:
        return self._files.whole(lambda: list(self._entries(wanted)))

    def _pages(self, name: str, wanted: Filter, reverse: bool) -> Iterator[Entry]:
        """One day's entries, a page a query: no read transaction is open while the caller thinks."""
        after: Position | None = None
        size = 128
        while True:
            page = self._files.ask(name, lambda day: day.page(wanted, after, size, reverse))  # noqa: B023
            if page is None:
                return
            yield from page
            if len(page) < size:
                return
            after = Position.of(page[-1])
            size = min(2048, size * 2)

    def conversation(self, id: str) -> Iterator[Entry]:
        """All entries of a conversation, in time order."""
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
        poll: float = 0.02,
    ) -> Iterator[Entry]:
        """Entries as they come into the index, from the call on, in the order of their coming; waits for more.

        Ends when `stop()` is true. `poll` is the longest wait between two looks, in seconds; while entries come it
        looks far more often. The index may be rebuilt or not be there yet: it goes on.
        """
        wanted = Filter(None, None, agent, session, event_type, pattern, conversation, correlation)
        follower = Follower(self._index_folder)
        return self._following(follower, wanted, stop or (lambda: False), poll)

    def _following(self, follower: Follower, wanted: Filter, stop: Callable[[], bool], poll: float) -> Iterator[Entry]:
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
        found: list[Entry] = []
        if name and number.isascii() and number.isdigit() and len(number) < 19:
            at = int(number)
            # By its stem, which may hold a dot, or by its path.
            without = self._days_without([name])
            if (stem := split_path(name)[1]) != name:
                without &= self._days_without([stem])
            found = self._files.of_all_days(lambda day: day.at(name, at), reverse=True, without=without)
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
            where = f"{entry.file_path}, byte {entry.byte_offset}"
            if place is None:
                raise SourceChanged(f"{where}: the index has no such entry any more")
            length, checksum = place
            if getattr(entry, "checksum", checksum) != checksum:
                raise SourceChanged(f"{where}: other bytes have been indexed there since")
            return log.read(entry.byte_offset, length, checksum)

    def _open_archive(self) -> Archive:
        if self._archive is None:
            self._archive = Archive(self._archive_folder or beside(self.root))
        return self._archive

    def _parts(self, path: str) -> tuple[Extent, ...]:
        """What of a log lies in the archive; asked only where its file does not have the bytes."""
        try:
            ((parts, said),) = self._files.of_catalog(lambda catalog: [(catalog.parts(path), catalog.fact("archive"))])
        except IndexMissing:
            return ()
        archive = self._open_archive()
        if parts and said is not None and self._archive_folder is None:
            archive.folder = folder_of(self.root, said)
        return parts

    def _place(self, entry: Entry) -> tuple[int, int] | None:
        """Length and checksum of the record, as the index has them now."""
        self._files.names()
        day_name = f"{day_of(entry.timestamp)}.db"
        return self._files.ask(day_name, lambda day: day.place(entry.file_path, entry.byte_offset))

    # ---- what the catalog knows

    def sessions(self, status: str | None = None) -> Iterator[Session]:
        """The session registry, in the order of creation; with `status` only the `active` or `completed` ones."""
        return iter(self._files.of_catalog(lambda catalog: catalog.sessions(status)))

    def rejected(self) -> Iterator[RejectedLine]:
        """The lines that are no records, in the order of file and place."""
        return iter(self._files.of_catalog(lambda catalog: catalog.rejected()))

    def agents(self) -> list[AgentSummary]:
        """Every agent that took part in anything, with the number of its entries and its first and last time."""
        return self._files.whole(self._agents)

    def _agents(self) -> list[AgentSummary]:
        known: dict[str, _Agent] = {}
        for name in self._files.names():
            for agent, entries, first, last in self._files.ask(name, DayReader.agents, alone=False) or ():
                before = known.get(agent)
                began = (name, first) if before is None else before.first
                known[agent] = _Agent(entries + (before.entries if before else 0), began, (name, last))
        return [
            AgentSummary(agent, one.entries, self._moments(agent, one.first)[0], self._moments(agent, one.last)[1])
            for agent, one in sorted(known.items())
        ]

    def _moments(self, agent: str, place: tuple[str, int]) -> tuple[float, float]:
        name, second = place
        moments = self._files.ask(name, lambda day: day.moments(agent, second), alone=False)
        if moments is None:
            raise IndexMissing(f"the index of {name} was removed while it was read")
        return moments

    # ---- the four reference queries

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
            for entry in self._all(wanted)
        ]

    def get_agent_role_history(self, agent_id: str, session_id: str) -> list[dict[str, Any]]:
        """How an agent's role evolved in a session: a `timestamp` and a `role` for each entry where it had one."""
        return [
            {"timestamp": entry.timestamp, "role": entry.agent_roles[agent_id]}
            for entry in self._all(Filter(agent=agent_id, session=session_id))
            if agent_id in entry.agent_roles
        ]

    def find_pending_requests(self, time_limit: float | str | None = 300) -> list[PendingRequest]:
        """Requests without a response, not older than `time_limit` (seconds, or an age; None: however old)."""
        after = None if time_limit is None else time.time() - duration(time_limit)
        return [
            PendingRequest(entry.id, entry.timestamp, entry.initiating_agent, entry.file_path)
            for entry in self._all(Filter(after=after, pending=True))
        ]

    def get_session_participants(self, session_id: str) -> list[str]:
        """The agents that took part in a session, sorted by name."""
        without = self._days_without([session_id])
        return sorted(set(self._files.of_all_days(lambda day: day.participants(session_id), without=without)))
