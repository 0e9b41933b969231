"""Queries across all daily files of an index, in the order of their days.

Not here: the queries of one daily file (`day_reader.py`), and which version of the files is read (`snapshot.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from sidecar.errors import SidecarError

from .filters import Filter
from .pages import FIRST_PAGE, LARGEST_PAGE, Position
from .questions import Question
from .snapshot import Snapshot


def entries(
    files: Snapshot,
    wanted: Filter,
    reverse: bool = False,
    limit: int | None = None,
    columns: Sequence[str] | None = None,
) -> Iterator[Any]:
    """The entries that match, or a tuple of `columns` for each, in the order of time or in reverse.

    They are read lazily, a page at a time. A caller that needs only `limit` of them says so, and the first page is not
    larger; the iterator itself does not end there.
    """
    without = days_without(files, wanted.texts())
    first = FIRST_PAGE if limit is None else max(1, min(FIRST_PAGE, limit))
    for name in files.names_as_they_are(reverse):
        day = name.removesuffix(".db")
        if day not in without and wanted.may_lie_on(day):
            yield from _of_day(files, name, wanted, reverse, first, columns)


def _of_day(
    files: Snapshot, name: str, wanted: Filter, reverse: bool, first: int, columns: Sequence[str] | None
) -> Iterator[Any]:
    """One day's entries, one query per page: no read transaction is open between two pages. `first` is the number of
    rows of the first page."""
    after: Position | None = None
    size = first
    while True:
        page = files.ask(name, lambda day: day.page(wanted, after, size, reverse, columns))  # noqa: B023
        if page is None:
            return
        yield from page.entries
        if page.is_whole and len(page.entries) < size:
            return
        after = page.last
        # By the entries and not by the size, so that a page that ended early is followed by a small one.
        size = min(LARGEST_PAGE, len(page.entries) * 2)


def answers(files: Snapshot, question: Question, wanted: Filter) -> list[Any]:
    """What a question wants of all entries that match, in the order of time, all from the same version of the index."""
    without = days_without(files, wanted.texts())
    passed = without | {day for name in files.names() if not wanted.may_lie_on(day := name.removesuffix(".db"))}
    return files.of_all_days(lambda day: day.answers(question, wanted), without=passed)


def days_without(files: Snapshot, texts: list[str]) -> set[str]:
    """Days that certainly have no entry with all these strings, found without opening their files."""
    if texts and len(files.names()) > 1:
        # If the catalog cannot be read, every day is opened.
        with suppress(SidecarError):
            return set(files.of_catalog(lambda catalog: catalog.days_without(texts)))
    return set()
