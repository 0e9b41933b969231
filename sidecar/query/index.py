"""`Index`: queries, answered from the daily files. It never writes, never watches, and needs no sidecar."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from sidecar.errors import AmbiguousId, EntryNotFound
from sidecar.fs import FileStat, split_path
from sidecar.lenient import read_document
from sidecar.records import AgentSummary, Entry, RejectedLine, Session
from sidecar.said import said
from sidecar.store.layout import day_stamp
from sidecar.times import Time, duration, moment_of
from sidecar.tool_logs import places_of

from . import all_days, arrow
from .agents import all_agents
from .arguments import as_indexed, checked_day, checked_entry, checked_limit, checked_status, checked_wait
from .columns import COLUMNS, checked_names
from .day_reader import DayReader
from .filters import Filter
from .follow import Follower
from .record_finder import RecordFinder
from .reference import ReferenceQueries
from .searching import SearchQueries
from .snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow

INDEX = "index"
"""Name of the index folder below the root."""
SHORTEST_WAIT = 0.0005
"""Seconds between two looks of `Index.follow` while entries come."""


def split_id(id: str) -> tuple[str, int] | None:
    """What comes before the byte offset in an id or a place, and the offset; None if it is neither."""
    name, _, number = id.rpartition(":")
    return (name, int(number)) if name and number.isascii() and number.isdigit() and len(number) < 19 else None


class Index(ReferenceQueries, SearchQueries):
    """The index below a root, for reading.

        from sidecar import Index

        with Index("var/logs") as index:
            for entry in index.timeline(agent="agent_analyzer", since="2h"):
                print(entry.timestamp, entry.event_type, index.read(entry)["data"])

    It works without a running sidecar, beside one, and in a folder that it cannot write to. Close it, or use it in a
    `with` statement. It is not thread-safe: use one per thread.

    Entries come in the order of time, across days; those of the same time in the order of file path and byte offset.
    Methods that return an iterator of entries read lazily, a page at a time; if a rebuilt index is swapped in
    meanwhile, the rest comes from the new one. Methods that return a list answer from one index.

    A time is seconds since 1970, a `datetime`, ISO 8601 (UTC where it names no zone), a time of day, `today`,
    `yesterday`, or an age such as `2h`.

    All methods raise BadArgument for an argument of the wrong kind, IndexMissing if there is no index, IndexDamaged or
    SchemaMismatch if it has to be rebuilt, and SidecarError if it cannot be read at the moment.

    Args:
        root: The log folder, or the address of a hub: `postgresql://HOST/DATABASE`.
        archive: The archive folder. Default: the one that the index names.
        index: The index folder. Default: `index` below the root.
    """

    def __new__(cls, root: str | os.PathLike[str], *_: Any, **__: Any) -> Self:
        """An address of PostgreSQL gives the index of many machines, which is a package of its own (docs/hub.md)."""
        if cls is Index and isinstance(root, str) and root.startswith(("postgresql://", "postgres://")):
            kind: type[Self] = import_module("sidecar.hub.reader").HubIndex
            return super().__new__(kind)
        return super().__new__(cls)

    def __init__(
        self,
        root: str | os.PathLike[str],
        archive: str | os.PathLike[str] | None = None,
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        self.root = Path(root).absolute()
        self._index_folder = self.root / INDEX if index is None else Path(index).absolute()
        self._files = Snapshot(self._index_folder)
        self._records = RecordFinder(self.root, self._files, None if archive is None else Path(archive).absolute())

    @classmethod
    def of(cls, preset: str) -> Index:
        """The index of a preset whose logs belong to another tool, such as `claude-code`, with the root, the index and
        the archive that `sidecar --preset` uses. Raises ConfigError for a preset without a root of its own.
        """
        places = places_of(preset)
        return cls(places.root, places.archive, places.index)

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all open files. They are opened again when the index is next used."""
        self._files.close()
        self._records.close()

    # ---- many entries

    @overload
    def timeline(
        self,
        since: Time | None = ...,
        until: Time | None = ...,
        agent: str | None = ...,
        session: str | None = ...,
        event_type: str | None = ...,
        pattern: str | None = ...,
        conversation: str | None = ...,
        correlation: str | None = ...,
        limit: int | None = ...,
        reverse: bool = ...,
        columns: None = ...,
    ) -> Iterator[Entry]: ...

    @overload
    def timeline(
        self,
        since: Time | None = ...,
        until: Time | None = ...,
        agent: str | None = ...,
        session: str | None = ...,
        event_type: str | None = ...,
        pattern: str | None = ...,
        conversation: str | None = ...,
        correlation: str | None = ...,
        limit: int | None = ...,
        reverse: bool = ...,
        *,
        columns: Sequence[str],
    ) -> Iterator[tuple[Any, ...]]: ...

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
        columns: Sequence[str] | None = None,
    ) -> Iterator[Entry] | Iterator[tuple[Any, ...]]:
        """Entries from `since` on and before `until` that match everything else that is given.

            >>> [entry.id for entry in index.timeline(agent="agent_viz", pattern="team", limit=2)]
            ['evt_1735500299.500_team_formation:0', 'sess_team_456:928']
            >>> [entry.id for entry in index.timeline(since="2024-12-29T19:21:00Z", until=1735500065)]
            ['sess_discovery_123:0', 'sess_discovery_123:251']
            >>> next(index.timeline(correlation="req_201", columns=["timestamp", "author", "addressees"]))
            (1735500090.0, 'agent_researcher', ('agent_nlp_1',))

        Args:
            since: The first moment that is included.
            until: The first moment that is not.
            agent: A participant: sender, recipient or member.
            session: A session id.
            event_type: An event type, whole.
            pattern: A communication pattern, such as `peer_to_peer`.
            conversation: A conversation id.
            correlation: A correlation id.
            limit: The number of entries at most.
            reverse: The latest entries first.
            columns: Names of attributes of `Entry`. If given, a tuple of their values is yielded in place of each
                entry; for a few columns this takes half the time.

        Raises BadTime for a value that is not a time, BadArgument and UnknownColumn.
        """
        wanted = Filter.of(since, until, agent, session, event_type, pattern, conversation, correlation)
        names = None if columns is None else checked_names(columns)
        most = checked_limit(limit)
        return islice(self._entries(wanted, reverse, most, names), most)

    def to_arrow(
        self, since: Time | None = None, until: Time | None = None, columns: Sequence[str] | None = None
    ) -> pyarrow.Table:
        """The entries from `since` on and before `until`, in the order of time, as a `pyarrow.Table` in memory, about
        300 bytes an entry. `columns` are names of attributes of `Entry`; default: all. Raises BadTime, UnknownColumn,
        and MissingExtra without pyarrow.
        """
        names = checked_names(COLUMNS if columns is None else columns)
        return arrow.table(self.timeline(since, until, columns=names), names)

    def conversation(self, id: str) -> Iterator[Entry]:
        """All entries of a conversation, in the order of time. An unknown id has none."""
        return self.timeline(conversation=as_indexed(id, "id"))

    def exchange(self, correlation_id: str) -> Iterator[Entry]:
        """A request and its answers: all entries with a correlation id, in the order of time.

        >>> request, answer = index.exchange("req_201")
        >>> request.has_response, answer.participating_agents
        (True, ('agent_nlp_1', 'agent_researcher'))
        """
        return self.timeline(correlation=as_indexed(correlation_id, "correlation_id"))

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
        """Entries that are added to the index after this call, each once, in the order in which they are added.

        Waits for more until `stop()` returns true. It goes on through restarts of the sidecar and rebuilds, and waits
        for an index that does not exist yet. The filters are those of `timeline`. `poll` is the longest time between
        two looks at the index, in seconds; while entries come, it looks more often.
        """
        wanted = Filter(None, None, agent, session, event_type, pattern, conversation, correlation)
        return self._news(wanted, stop or (lambda: False), checked_wait(poll, "poll"))

    def _news(self, wanted: Filter, stop: Callable[[], bool], poll: float) -> Iterator[Entry]:
        """The entries that match and are added after this call."""
        return self._following(Follower(self._index_folder), wanted, stop, poll)

    def _following(self, follower: Follower, wanted: Filter, stop: Callable[[], bool], poll: float) -> Iterator[Entry]:
        wait = SHORTEST_WAIT
        try:
            while not stop():
                came = False
                for entry in follower.news(wanted):
                    came = True
                    yield entry
                wait = SHORTEST_WAIT if came else min(poll, wait * 1.5)
                time.sleep(wait)
        finally:
            follower.close()

    def waiting(
        self,
        to: str | None = None,
        by: str | None = None,
        older_than: float | str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        since: Time | None = None,
        until: Time | None = None,
    ) -> Iterator[Entry]:
        """Requests that expect an answer and have none, the oldest first unless `newest_first`.

        `to` is an addressee, `by` the author; `older_than` is an age, in seconds or as `5m`; `limit` is the number of
        entries at most; `since` and `until` are as in `timeline`. Raises BadTime and BadArgument.
        """
        now = time.time()
        by = None if by is None else as_indexed(by, "by")
        to = None if to is None else as_indexed(to, "to")
        ends = [now - duration(older_than)] if older_than is not None else []
        ends += [moment_of(until, now)] if until is not None else []
        wanted = Filter(
            None if since is None else moment_of(since, now),
            min(ends, default=None),
            agent=by if to is None else to,
            pending=True,
        )
        entries = self._entries(wanted, newest_first)
        fitting = (
            entry for entry in entries if (by is None or entry.author == by) and (to is None or to in entry.addressees)
        )
        return islice(fitting, checked_limit(limit))

    def _entries(
        self, wanted: Filter, reverse: bool = False, limit: int | None = None, names: Sequence[str] | None = None
    ) -> Iterator[Any]:
        """The entries that match, or a tuple of the columns `names` for each, a page at a time."""
        return all_days.entries(self._files, wanted, reverse, limit, names)

    # ---- one entry

    def get(self, id: str) -> Entry:
        """The entry with an id, or at a place, `<file path>:<byte offset>`. An id is `<file stem>:<byte offset>`, or
        `<session>:<byte offset>` where the path of the log names its session.

            >>> index.get("sess_discovery_123:666") == index.get("responses/sessions/sess_discovery_123.jsonl:666")
            True

        Raises EntryNotFound, and AmbiguousId where several files have the stem and an entry at the offset.
        """
        place = split_id(as_indexed(id, "id"))
        entry: Entry | None = None
        if place is not None:
            name, at = place
            # `name` is a stem, which may contain a dot, a session, or a path.
            without = all_days.days_without(self._files, [name])
            if (stem := split_path(name)[1]) != name:
                without &= all_days.days_without(self._files, [stem])
            (entry,) = self._files.whole(lambda: [self._entry_at(name, at, without)])
        if entry is None:
            raise EntryNotFound(f"no entry has the id {id!r}")
        return entry

    def _entry_at(self, name: str, at: int, without: set[str]) -> Entry | None:
        """The entry at an offset in the log with this path, or else in the only log whose ids begin with this name.
        Raises AmbiguousId if there are several."""

        def look(day: DayReader) -> list[tuple[str, str, int]]:
            return [(path, day.path.name, number) for path, number in day.at(name, at)]

        found = self._files.of_all_days(look, reverse=True, without=without)
        found = [one for one in found if one[0] == name] or found
        if len(found) > 1:
            raise AmbiguousId(f"'{name}:{at}' is the id of entries in {', '.join(path for path, _, _ in found)}")
        if not found:
            return None
        _, file, number = found[0]
        return self._files.ask(file, lambda day: day.entry(number), alone=False)

    def read(self, entry: Entry) -> dict[str, Any]:
        """The record behind an entry, as a JSON object. A record that is not strict JSON is read leniently, as it was
        when it was indexed (docs/derivation.md, section 2). Raises the errors of `read_bytes`.

        >>> index.read(index.get("sess_discovery_123:0"))["data"]["prompt"]
        'Looking for agents with NLP capabilities'
        """
        record: dict[str, Any] = read_document(self.read_bytes(entry))
        return record

    def text(self, entry: Entry) -> str:
        """What was said in the record behind an entry: the texts at the places that its format names under `text`, else
        the text at the first of the usual places, such as `prompt` and `response`. Empty where there is none. Raises
        the errors of `read_bytes`.

        >>> index.text(index.get("sess_discovery_123:0"))
        'Looking for agents with NLP capabilities'
        """
        return said(self.read(entry), self._records.places_of_text(entry.file_path))

    def names_text(self, entry: Entry) -> bool:
        """Whether the format of an entry's log names the places of what was said."""
        return self._records.places_of_text(checked_entry(entry).file_path) is not None

    def read_bytes(self, entry: Entry) -> bytes:
        """The bytes of the record behind an entry, without the line end. They are the bytes that were indexed, by
        length and CRC-32, read from the log or from the archive.

        Raises SourceMissing if the log is gone, SourceChanged if other bytes are there now, ArchiveMissing and
        ArchiveDamaged likewise for an archived log, UnsafePath if the entry points outside the root, and SourceError
        if the file cannot be read.
        """
        return self._records.read(checked_entry(entry))

    # ---- what the catalog knows

    def sessions(self, status: str | None = None) -> Iterator[Session]:
        """The sessions in the order of their creation; with `status`, only the `active` or the `completed` ones."""
        wanted = checked_status(status)
        return iter(self._files.of_catalog(lambda catalog: catalog.sessions(wanted)))

    def rejected(self) -> Iterator[RejectedLine]:
        """The lines that are not records, in the order of file path and byte offset."""
        return iter(self._files.of_catalog(lambda catalog: catalog.rejected()))

    @property
    def index_folder(self) -> Path:
        """The folder that the index is in."""
        return self._index_folder

    def days(self) -> list[str]:
        """The days that have entries, as `YYYY-MM-DD`, in their order."""
        return [name.removesuffix(".db") for name in self._files.names()]

    def day_stamp(self, day: str) -> tuple[FileStat | None, ...]:
        """What the files of a day look like. As long as this is the same, the day's entries most likely are."""
        return day_stamp(self._index_folder, f"{checked_day(day)}.db")

    def agents(self) -> list[AgentSummary]:
        """Every agent that is a participant of any entry, sorted by name, with its number of entries."""
        return self._files.whole(lambda: all_agents(self._files))
