"""An index file, open for reading: what every reader of one has in common."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sidecar.fs import try_file_stat

from .codec import checked_row
from .connection import STATEMENT_ERRORS, VALUE_ERRORS, invalid_values, open_for_reading, read_error

T = TypeVar("T")


class OpenDatabase:
    """An index file, open for reading. The constructor raises the errors of `open_for_reading`."""

    kind: int
    """The kind of file that a subclass expects: `DAILY` or `CATALOG`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity = _identity(path)
        self._database = open_for_reading(path, self.kind)

    def is_current(self) -> bool:
        """Whether the file at this path is still the one that is open, by device and inode."""
        return _identity(self.path) == self.identity

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def in_one_state(self) -> Iterator[None]:
        """All statements in this block see the same state of the file: the rows, and what their numbers refer to."""
        self._all("BEGIN")
        try:
            yield
        finally:
            # An iterator that was given up is finished when nobody holds it any more, which may be after `close`.
            if not self._database.is_closed():
                self._all("COMMIT")

    # Every statement of a reader goes through `_all` or `_each`, which alone turn SQLite's errors into the sidecar's.

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows, unchecked. Raises IndexDamaged or IndexMissing, and SidecarError for an error that may pass."""
        try:
            # Statements stay prepared.
            rows: list[tuple[Any, ...]] = self._database.ask(sql, values).fetchall()
        except STATEMENT_ERRORS as error:
            raise read_error(self._database, self.path, error) from error
        return rows

    def _decoded(self, decode: Callable[[Any], T], sql: str, *values: Any) -> list[T]:
        """What `decode` returns for each row. Raises IndexDamaged if it fails for one, and the errors of `_all`."""
        rows = self._all(sql, *values)
        try:
            return [decode(row) for row in rows]
        except VALUE_ERRORS as error:
            raise invalid_values(self.path, error) from error

    def _each(self, decode: Callable[[Any], T], sql: str, *values: Any) -> Generator[T, None, None]:
        """Like `_decoded`, but row by row, for results that do not fit into memory."""
        try:
            for row in self._database.execute_sql(sql, values):
                yield decode(row)
        except STATEMENT_ERRORS as error:
            raise read_error(self._database, self.path, error) from error
        except VALUE_ERRORS as error:
            raise invalid_values(self.path, error) from error

    def _chunks(self, size: int, sql: str, *values: Any) -> Iterator[list[tuple[Any, ...]]]:
        """All rows, unchecked, at most `size` at a time. Raises the errors of `_all`."""
        try:
            cursor = self._database.ask(sql, values)
            yield from iter(lambda: cursor.fetchmany(size), [])
        except STATEMENT_ERRORS as error:
            raise read_error(self._database, self.path, error) from error

    def _typed(self, types: tuple[type, ...], sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows, whose values must have exactly these types (see `codec.checked_row`). Raises the errors of
        `_decoded`."""
        return self._decoded(lambda row: checked_row(row, types), sql, *values)


def _identity(path: Path) -> tuple[int, int] | None:
    stat = try_file_stat(path)
    return None if stat is None else stat.identity
