"""The files of an index, open for reading, even while a rebuilt index is swapped in.

A swap replaces the index file by file, so the file behind a name may change between any two steps of a reader.
Therefore the place of a file is looked up (`store.layout` knows it), and again after the answer. A file that was
replaced meanwhile may have been read without its write-ahead log, or with that of the new file: then the answer is
discarded and the new file is asked.

Looking up thirty files takes longer than most queries. But no file comes or goes without a change of the folder, so as
long as the folder's stamp (`layout.listing_stamp`) is the same, every file that was found in its place is still there.
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
        self._stamp: tuple[int, int] | None = None
        """The stamp of the folder when it was last looked at; None if it may have been changing. The next two
        attributes hold as long as the stamp is the same."""
        self._names: list[str] | None = None
        """The names of the daily files. They are kept because listing a year of them takes a millisecond."""
        self._in_place: set[str] = set()
        """The open daily files that were found to be those that the index has under their names."""

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
                self._in_place.discard(name)
            else:
                if not alone or self._is_unchanged() or self._is_current(day):
                    return answer
        return None

    # ---- names

    def names(self) -> list[str]:
        """The names of the daily files, in the order of their days; the same list object if nothing has changed."""
        if self._is_unchanged() and self._names is not None:
            return self._names
        names = [path.name for path in layout.daily_paths(self._folder)]
        self._names = names or None
        if not names and not layout.catalog_path(self._folder).exists():
            raise IndexMissing(f"there is no index in {self._folder}")
        return names

    def names_as_they_are(self, reverse: bool = False) -> Iterator[str]:
        """The names of the daily files in the order of their days, or in reverse. If an index is swapped in
        meanwhile, the names that follow are those of the new one."""
        last = ""
        listed: list[str] | None = None
        names: list[str] = []
        while True:
            now = self.names()
            if now is not listed:
                listed = now
                names = [name for name in now if not last or (name < last if reverse else name > last)]
                names.sort(reverse=not reverse)
            if not names:
                return
            last = names.pop()
            yield last

    # ---- files

    def _is_unchanged(self) -> bool:
        """Whether no daily file has come or gone since the last call. False if that is not certain."""
        stamp = layout.listing_stamp(self._folder)
        if stamp is not None and stamp == self._stamp:
            return True
        self._stamp, self._names = stamp, None
        self._in_place.clear()
        return False

    def _is_current(self, day: DayReader) -> bool:
        """Whether the index still has this file under its name."""
        return layout.daily_path(self._folder, day.path.name) == day.path and day.is_current()

    def _day(self, name: str) -> DayReader | None:
        """A daily file, open, and opened again if it was replaced before the folder was last looked at; None if it was
        removed since it was listed."""
        day = self._days.current(name, lambda day: name in self._in_place or self._is_current(day))
        if day is None and (day := self._opened(name)) is not None:
            self._days.add(name, day)
        if day is not None and self._stamp is not None:
            self._in_place.add(name)
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
