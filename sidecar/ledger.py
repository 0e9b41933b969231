"""The writing side of an index as one thing: catalog, daily files, and what is known of each source in memory.

It is opened from what was saved, and either closed after a last checkpoint or abandoned; nothing else ever needs to be
put right in memory. Only the indexing thread touches it.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack

from .catalog import Catalog, Known, to_save
from .config import Settings
from .errors import IndexUnavailable, SidecarError
from .fold import Batch, Progress
from .index import DailyIndex
from .paths import to_os
from .schema import check_same, nonsense_named
from .swap import CATALOG_NAME, DAILY_NAME

HOT_FILES = 512
"""Sources kept in memory with their states; the others are loaded from the catalog when they change."""

HOT_STATE = 500_000
"""Open requests and roles kept in memory with them, as far as they are not those of one source."""


class Ledger:
    """What the index holds, and how to go on from there. Raises IndexUnavailable where it cannot be opened."""

    def __init__(self, settings: Settings) -> None:
        folder = settings.index_folder
        self._settings = settings
        self._folder = folder
        with ExitStack() as opened, nonsense_named(folder):
            self._catalog = Catalog(folder / CATALOG_NAME)
            opened.callback(self._catalog.close)
            self._index = DailyIndex(folder / DAILY_NAME)
            opened.callback(self._index.close)
            if self._catalog.fact("config") is None:
                self._catalog.note("config", settings.fingerprint)
            # Take back what no checkpoint covers; finish dropping the rows of files that had changed.
            self._index.recover(self._catalog.checkpoint, self._catalog.saved)
            for path in self._catalog.resetting():
                self._index.forget(path)
            self.known: dict[str, Known] = dict(self._catalog.known())
            """Every source that was ever seen, as it was last seen."""
            self._open = opened.pop_all()
        self._next_id = 1 + max((known.id for known in self.known.values()), default=0)
        self._hot: OrderedDict[str, Progress] = OrderedDict()
        self._unsaved: dict[str, Progress] = {}
        self._gone: set[str] = set()

    @property
    def unsaved(self) -> int:
        """Sources that a checkpoint would save."""
        return len(self._unsaved) + len(self._gone)

    def progress(self, path: str) -> Progress | None:
        """Everything known of a source, from memory, from the catalog, or new; None for what is no source."""
        progress = self._hot.get(path)
        if progress is None:
            source = self._settings.source_for(to_os(path))
            if source is None:
                return None
            with nonsense_named(self._folder):
                progress = self._catalog.load(path, source, lambda places: self._index.requests(path, places))
            if progress is None:
                progress = Progress(self._next_id, path, source)
                self._next_id += 1
            self._hot[path] = progress
        self._hot.move_to_end(path)
        return progress

    def seen(self, progress: Progress) -> None:
        """A source was looked at, and its progress has been moved on."""
        path = progress.path
        self._unsaved[path] = progress
        self._gone.discard(path)
        self.known[path] = Known(progress.id, *progress.mark[:4], is_missing=False)

    def begin_again(self, progress: Progress) -> None:
        """A file is another one now: its old rows go, first in the catalog's word, then in fact."""
        if progress.path in self.known:
            with nonsense_named(self._folder):
                self._catalog.begin_reset(progress)
                self._index.forget(progress.path)
        progress.first_mtime = None
        progress.begin_again()
        self._unsaved[progress.path] = progress

    def vanished(self, path: str) -> None:
        """A file is gone: its rows stay, and it is marked."""
        known = self.known.get(path)
        if known is not None and not known.is_missing:
            self._gone.add(path)
            self.known[path] = known._replace(is_missing=True)

    def write(self, batches: list[Batch]) -> None:
        """Commit rows, so that queries see them. After an error, abandon."""
        if batches:
            with nonsense_named(self._folder):
                self._index.write(batches, self._catalog.checkpoint + 1)

    def checkpoint(self) -> None:
        """Make the rows durable, then save how far each file was read. After an error, abandon."""
        if not self.unsaved:
            return
        check_same(self._catalog.path, self._catalog.inodes)
        self._index.check_open()
        with nonsense_named(self._folder):
            days = list(self._index.make_durable(self._catalog.checkpoint + 1))
            self._catalog.save(map(to_save, self._unsaved.values()), days, self._gone)
        self._unsaved = {}
        self._gone = set()
        held = sum(progress.weight for progress in self._hot.values())
        while len(self._hot) > HOT_FILES or (held > HOT_STATE and len(self._hot) > 1):
            held -= self._hot.popitem(last=False)[1].weight

    def check(self) -> None:
        """Raise IndexUnavailable where somebody else has deleted, replaced or overwritten a file of the index."""
        try:
            self._catalog.check()
            self._index.check_all()
        except IndexUnavailable:
            raise
        except (SidecarError, OSError):
            pass  # it cannot be told now: whoever needs the file will say what is wrong

    def close(self) -> None:
        """Checkpoint, and leave the index as one that a reader can open anywhere."""
        with self._open:
            self.checkpoint()
            self._index.close()
            self._catalog.note("files", self._index.signs())
            self._catalog.note("closed", str(self._catalog.checkpoint))

    def abandon(self) -> None:
        """Close without saving: what was done since the last checkpoint is taken back at the next opening."""
        self._open.close()
