"""The files of an index, open for reading, whatever is swapped meanwhile.

A rebuild takes the place of the index file by file, and the file that a name stands for may change between any two
steps of a reader. So where a file is now is asked each time (`layout.py` tells), and asked again after an answer. A
file that was replaced meanwhile may have been read without its log, or with that of the new one: the answer is thrown
away, and the new file asked.
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
    """Daily files and catalog of the index in a folder. Raises IndexMissing where there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._days: OpenFiles[str, DayReader] = OpenFiles(MAX_OPEN_DAYS)
        self._catalog: CatalogReader | None = None
        self._listed: tuple[tuple[int, int] | None, list[str]] = (None, [])
        """The daily files, and what says that they are still these: to list a year of them costs a millisecond."""

    def close(self) -> None:
        """Close what was opened. It is opened again when it is needed."""
        self._days.close()
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None

    # ---- answers out of one index

    def whole(self, answer: Callable[[], list[T]]) -> list[T]:
        """An answer out of one index: given again where a swap came while it was given."""
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
        """What the days say, one after the other, but for those in `without`."""

        def answer() -> list[T]:
            names = sorted((name for name in self.names() if name.removesuffix(".db") not in without), reverse=reverse)
            return [one for name in names for one in self.ask(name, lambda day: list(question(day)), alone=False) or ()]

        return self.whole(answer)

    def of_catalog(self, question: Callable[[CatalogReader], Iterable[T]]) -> list[T]:
        """What the catalog says."""
        return self.whole(lambda: list(question(self._open_catalog())))

    def ask(self, name: str, question: Callable[[DayReader], T], *, alone: bool = True) -> T | None:
        """What the daily file of this name says, out of one index; None where there is no such file any more.

        An answer that is part of another does not stand `alone`: `whole` looks whether all of them are of one index.
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
        """The names of the daily files in the order of their days, or the other way round, for one who takes his time:
        a swap brings other days."""
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
        """Whether this is the daily file of its name in the index, as it is now."""
        return layout.daily_path(self._folder, day.path.name) == day.path and day.is_current()

    def _day(self, name: str) -> DayReader | None:
        """A daily file, open; None where it was removed since it was listed. Opened again when it was replaced."""
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
