"""The filters of days in the catalog, for writing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from peewee import SqliteDatabase


class DayFilterTables(ABC):
    """The part of the catalog that holds the filters of days (`store/bloom.py`)."""

    _database: SqliteDatabase

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Any]:
        """The transaction for everything that is written, alone or within another one."""

    def filtered(self) -> set[str]:
        """The names of the days that have a filter."""
        return {str(day) for (day,) in self._database.execute_sql("SELECT day FROM filtered_day")}

    def save_filter(self, day: str, blocks: list[bytes], *, is_compact: bool) -> None:
        """Save the filter of a day, whose rows are durable. `is_compact` says whether its file is."""
        with self._transaction():
            self._drop_filters([day])
            rows = [(day, number, bits) for number, bits in enumerate(blocks)]
            run = self._database.connection().executemany
            run("INSERT INTO day_filter (day, block, bits) VALUES (?, ?, ?)", rows)
            self._database.execute_sql("INSERT INTO filtered_day VALUES (?, ?, ?)", (day, len(blocks), is_compact))

    def drop_filters(self, days: Iterable[str]) -> None:
        """Delete the filters of days, durably, before anything is written on them. Killed after that, a day without a
        filter is opened for every query until the next `sidecar archive` makes another."""
        with self._transaction():
            self._drop_filters(days)

    def _drop_filters(self, days: Iterable[str]) -> None:
        names = [(day,) for day in days]
        for table in ("filtered_day", "day_filter"):
            self._database.connection().executemany(f"DELETE FROM {table} WHERE day = ?", names)
