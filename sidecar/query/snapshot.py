"""The files of an index, open for reading, also while a rebuilt index is swapped in.

A swap replaces the index file by file, so the file behind a name may change between any two steps of a reader.
Therefore the place of a file is looked up before each question (`store.layout` knows it), and again after the answer. A
file that was replaced meanwhile may have been read without its write-ahead log, or with that of the new file: then the
answer is discarded and the new file is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from sidecar.errors import IndexMissing, SidecarError
from sidecar.fs import OpenFiles
from sidecar.store import layout

from .catalog_reader import CatalogReader, open_catalog
from .day_reader import DayReader

T = TypeVar("T")

MAX_OPEN_DAYS = 64
"""Daily files kept open."""


class Snapshot:
    """The daily files and the catalog of the index in a folder. Its methods raise IndexMissing if there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._days: OpenFiles[str, DayReader] = OpenFiles(MAX_OPEN_DAYS)
        self._catalog: CatalogReader | None = None
        self._listed: tuple[tuple[int, int] | None, list[str]] = (None, [])
        """The names of the daily files, and the stamp with which they are still valid: listing a year of them takes a
        millisecond."""

    def close(self) -> None:
        """Close all files. They are opened again when they are needed."""
        self._days.close()
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None

    # ---- answers from one index

    def whole(self, answer: Callable[[], list[T]]) -> list[T]:
        """An answer from one index: `answer` is called again if there was a swap meanwhile."""
        while True:
            before = layout.change_stamp(self._folder)
            try:
                given = answer()
            except SidecarError:
                if layout.change_stamp(self._folder) == before:
                    raise
            else:
                if layout.change_stamp(self._folder) == before:
                    return given

    def of_all_days(
        self, question: Callable[[DayReader], Iterable[T]], reverse: bool = False, without: Collection[str] = ()
    ) -> list[T]:
        """The answers of all days but those in `without`, joined, in the order of the days."""

        def answer() -> list[T]:
            names = sorted((name for name in self.names() if name.removesuffix(".db") not in without), reverse=reverse)
            return [one for name in names for one in self.ask(name, lambda day: list(question(day)), alone=False) or ()]

        return self.whole(answer)

    def of_catalog(self, question: Callable[[CatalogReader], Iterable[T]]) -> list[T]:
        """The answer of the catalog."""
        return self.whole(lambda: list(question(self._open_catalog())))

    def ask(self, name: str, question: Callable[[DayReader], T], *, alone: bool = True) -> T | None:
        """The answer of the daily file of this name; None if it does not exist any more.

        `alone`: the answer is not a part of one that `whole` checks. Then it is discarded, and the question asked
        again, if the file was replaced meanwhile.
        """
        while day := self._day(name):
            try:
                answer = question(day)
            except SidecarError:
                if self._is_current(day):
                    raise
            else:
                if not alone or self._is_current(day):
                    return answer
        return None

    # ---- names

    def names(self) -> list[str]:
        """The names of the daily files, in the order of their days."""
        stamp = layout.listing_stamp(self._folder)
        if stamp is not None and stamp == self._listed[0]:
            return self._listed[1]
        names = [path.name for path in layout.daily_paths(self._folder)]
        self._listed = (stamp if names else None, names)
        if not names and not layout.catalog_path(self._folder).exists():
            raise IndexMissing(f"there is no index in {self._folder}")
        return names

    def names_as_they_are(self, reverse: bool = False) -> Iterator[str]:
        """The names of the daily files in the order of their days, or in reverse. If an index is swapped in
        meanwhile, the names that follow are those of the new one."""
        last = ""
        listed = None
        names: list[str] = []
        while True:
            now = layout.change_stamp(self._folder)
            if now != listed:
                listed = now
                names = [name for name in self.names() if not last or (name < last if reverse else name > last)]
                names.sort(reverse=not reverse)
            if not names:
                return
            last = names.pop()
            yield last

    # ---- files

    def _is_current(self, day: DayReader) -> bool:
        """Whether the index still has this file under its name."""
        return layout.daily_path(self._folder, day.path.name) == day.path and day.is_current()

    def _day(self, name: str) -> DayReader | None:
        """A daily file, open, and opened again if it was replaced; None if it was removed since it was listed."""
        day = self._days.current(name, self._is_current)
        if day is None and (day := self._opened(name)) is not None:
            self._days.add(name, day)
        return day

    def _opened(self, name: str) -> DayReader | None:
        path = layout.daily_path(self._folder, name)
        while path is not None:
            try:
                return DayReader(path)
            except SidecarError:
                before, path = path, layout.daily_path(self._folder, name)
                if path == before and path.exists():
                    raise
                if path == before:
                    return None
        return None

    def _open_catalog(self) -> CatalogReader:
        path = layout.catalog_path(self._folder)
        if self._catalog is not None and not (self._catalog.path == path and self._catalog.is_current()):
            self._catalog.close()
            self._catalog = None
        if self._catalog is None:
            self._catalog = open_catalog(self._folder)
        return self._catalog
