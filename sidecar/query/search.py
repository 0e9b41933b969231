"""Searching in the logs: the entries whose records have a text, the latest first.

A day is searched in slices of time, the latest first and small, so that the first hits come soon. In each slice, the
logs are scanned for candidates (`search/scan.py`); then the candidates' records are read one after the other, as
`Index.read` does it, and compared. So a hit never shows other bytes than those that were indexed. The earlier, larger
part of a day is scanned log by log without asking the index for its entries, unless a filter is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from sidecar.errors import SidecarError, SourceError
from sidecar.fs import FileStat
from sidecar.lenient import read_document
from sidecar.logs.record_reader import LogReader
from sidecar.records import Entry
from sidecar.said import said
from sidecar.search.hit import Found, Hit, find
from sidecar.search.scan import Spot, candidates_among, candidates_between
from sidecar.search.wanted import Wanted
from sidecar.times import day_of

from . import day_places
from .all_days import days_without
from .filters import Filter
from .record_finder import RecordFinder
from .snapshot import Snapshot

FIRST_SLICE = 4_096
"""Entries in the first slice of a day. Each slice has eight times as many as the one before, up to `LARGEST_SLICE`."""
LARGEST_SLICE = 1 << 18
LARGEST_BATCH = 2_048
"""Candidates whose records are read together, log by log. The first batch has 8."""

Unreadable = Callable[[SourceError], None]
"""A function that is called with the first error of each log that cannot be searched whole."""


class Suspect(NamedTuple):
    """An entry that may be a hit. The order of candidates is that of entries in a timeline."""

    timestamp: float
    file_path: str
    byte_offset: int
    place: Spot


class Search:
    """One search through an index. For one thread."""

    def __init__(
        self,
        files: Snapshot,
        records: RecordFinder,
        asked: Filter,
        wanted: Wanted,
        context: int,
        unreadable: Unreadable | None,
    ) -> None:
        self._files = files
        self._records = records
        self._asked = asked
        self._wanted = wanted
        self._context = context
        self._unreadable = unreadable
        self._told: set[str] = set()
        """The logs of which an error was passed on."""
        self._places_of_text = lru_cache(1024)(records.places_of_text)
        self._looks: dict[str, FileStat] = {}

    def hits(self) -> Iterator[Hit]:
        """The hits, the latest first. Raises SourceError for a record that cannot be read, unless there is a function
        to call."""
        without = days_without(self._files, self._asked.texts())
        for name in self._files.names_as_they_are(reverse=True):
            day = name.removesuffix(".db")
            if day not in without and self._asked.may_lie_on(day):
                for candidates in self._slices(name):
                    yield from self._confirmed(name, sorted(candidates, reverse=True))

    # ---- from a day to candidates

    def _slices(self, name: str) -> Iterator[list[Suspect]]:
        """The candidates of a day, in slices of time."""
        # If the catalog cannot be read, every record is checked.
        self._looks = {}
        with suppress(SidecarError):
            (self._looks,) = self._files.of_catalog(lambda catalog: [catalog.looks()])
        asked, size = self._asked, FIRST_SLICE
        while True:
            if size > FIRST_SLICE and self._is_rest_of_day(name, asked):
                yield self._of_whole_logs(name, asked)
                return
            first = self._files.ask(name, lambda day: day_places.edge(day, asked, size))  # noqa: B023
            since = asked.since if first is None else first
            yield self._of_entries(name, replace(asked, since=since))
            if first is None:
                return
            asked, size = replace(asked, until=first), min(size * 8, LARGEST_SLICE)

    def _is_rest_of_day(self, name: str, asked: Filter) -> bool:
        """Whether everything on a day before some time is asked for, and can be held in memory."""
        everything = replace(asked, since=None, until=None) == Filter()
        begins_before = asked.since is None or day_of(asked.since) < name.removesuffix(".db")
        if not (everything and begins_before and self._wanted.can_rule_out):
            return False
        return (self._files.ask(name, lambda day: day.last_number()) or 0) <= 2 * LARGEST_SLICE

    def _of_entries(self, name: str, asked: Filter) -> list[Suspect]:
        found: list[Suspect] = []
        for path, places in self._files.ask(name, lambda day: day_places.places(day, asked)) or ():
            found += self._among(path, places)
        return found

    def _among(self, path: str, places: Sequence[Spot]) -> Iterator[Suspect]:
        """The candidates among some entries of a log; all of them if it cannot be opened."""
        try:
            with self._records.open(path) as log:
                is_unchanged = log.is_unchanged_since(self._looks.get(path))
                yield from _of_log(path, candidates_among(log, self._wanted, places, is_unchanged))
        except SourceError:
            yield from _of_log(path, places)

    def _of_whole_logs(self, name: str, asked: Filter) -> list[Suspect]:
        found: list[Suspect] = []
        for path, start, end in self._files.ask(name, day_places.extents) or ():
            found += self._between(name, path, start, end)
        until = float("inf") if asked.until is None else asked.until
        return [one for one in found if one.timestamp < until]

    def _between(self, name: str, path: str, start: int, end: int) -> Iterator[Suspect]:
        """The candidates between two offsets of a log."""

        def places_between(start: int, end: int) -> Sequence[Spot]:
            return self._files.ask(name, lambda day: day_places.places_between(day, path, start, end)) or ()

        with suppress(SourceError), self._records.open(path) as log:
            if log.is_unchanged_since(self._looks.get(path)):
                yield from _of_log(path, candidates_between(log, self._wanted, start, end, places_between))
                return
        yield from self._among(path, places_between(start, end))

    # ---- from candidates to hits

    def _confirmed(self, name: str, candidates: Sequence[Suspect]) -> Iterator[Hit]:
        at, size = 0, 8
        while at < len(candidates):
            batch = candidates[at : at + size]
            at, size = at + size, min(size * 2, LARGEST_BATCH)
            compared = self._compared(batch)
            hits = [one for one in batch if isinstance(compared.get(one), Found)]
            entries = self._entries(name, hits)
            for one in batch:
                found = compared.get(one)
                if isinstance(found, SourceError):
                    self._pass_on(one.file_path, found)
                elif found is not None and (entry := entries.get((one.file_path, one.byte_offset))):
                    yield found.hit(entry)

    def _compared(self, batch: Iterable[Suspect]) -> dict[Suspect, Found | SourceError]:
        """What is found in the record of each candidate, or why it cannot be read."""
        found: dict[Suspect, Found | SourceError] = {}
        for path, group in groupby(sorted(batch, key=attrgetter("file_path", "byte_offset")), attrgetter("file_path")):
            candidates = list(group)
            try:
                with self._records.open(path) as log:
                    found |= {one: answer for one in candidates if (answer := self._compare(log, one)) is not None}
            except SourceError as error:
                found |= dict.fromkeys(candidates, error)
        return found

    def _compare(self, log: LogReader, candidate: Suspect) -> Found | SourceError | None:
        place = candidate.place
        try:
            record = read_document(log.read(place.byte_offset, place.byte_length, place.checksum))
        except SourceError as error:
            return error
        except ValueError:
            return None
        return find(
            record, self._wanted, lambda: said(record, self._places_of_text(candidate.file_path)), self._context
        )

    def _entries(self, name: str, hits: Sequence[Suspect]) -> dict[tuple[str, int], Entry]:
        """The entries of some candidates, by path and offset; without those that the index no longer has."""
        if not hits:
            return {}
        numbers = [one.place.number for one in hits]
        found = self._files.ask(name, lambda day: day_places.entries_at(day, numbers)) or {}
        for one in hits:
            entry = found.get((one.file_path, one.byte_offset))
            if entry is None or entry.checksum != one.place.checksum:
                # Another index was swapped in meanwhile, in which it has another number.
                places = self._places_at(name, one)
                found |= self._files.ask(name, lambda day: day_places.entries_at(day, places)) or {}  # noqa: B023
        same = {(one.file_path, one.byte_offset): one.place.checksum for one in hits}
        return {at: entry for at, entry in found.items() if entry.checksum == same.get(at)}

    def _places_at(self, name: str, one: Suspect) -> list[int]:
        start, path = one.byte_offset, one.file_path
        places = self._files.ask(name, lambda day: day_places.places_between(day, path, start, start + 1)) or ()
        return [place.number for place in places if place.byte_offset == start]

    def _pass_on(self, path: str, error: SourceError) -> None:
        if self._unreadable is None:
            raise error
        if path not in self._told:
            self._told.add(path)
            self._unreadable(error)


def hits_by_reading(
    entries: Iterable[Entry],
    read: Callable[[Entry], Any],
    text: Callable[[Entry], str],
    wanted: Wanted,
    context: int,
    unreadable: Unreadable | None,
) -> Iterator[Hit]:
    """The hits among some entries whose logs are not here: each record is read with `read`, and what was said in it
    with `text`. Raises SourceError unless there is a function to call."""
    told: set[str] = set()
    for entry in entries:
        try:
            record = read(entry)
        except SourceError as error:
            if unreadable is None:
                raise
            if entry.file_path not in told:
                told.add(entry.file_path)
                unreadable(error)
            continue
        found = find(record, wanted, lambda: text(entry), context)  # noqa: B023
        if found is not None:
            yield found.hit(entry)


def _of_log(path: str, places: Iterable[Spot]) -> Iterator[Suspect]:
    return (Suspect(place.timestamp, path, place.byte_offset, place) for place in places)
