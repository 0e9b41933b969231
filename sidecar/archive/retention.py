"""Retention: which archives are to be deleted, by age or by total size. Off unless asked for.

The age of an archive is that of the day in its name. A log goes as a whole or not at all: an archive stays while it
holds a part of a log that has another part which stays, or that goes on in a file. The rows go first, then the archive:

- killed between the two, the archive is one that the index does not know. The next run with the same option deletes
  it; a rebuild before that takes it in again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sidecar.errors import SourceError
from sidecar.logs.archive import Archive
from sidecar.query.reader import Catalog
from sidecar.records import archived_size

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


class Doomed(NamedTuple):
    """An archive that is to be deleted."""

    file: str
    size: int
    logs: tuple[str, ...]
    """What goes with it; none where the index does not know it."""


def doomed(
    catalog: Catalog, archive: Archive, now: float, keep: float | None, keep_size: int | None
) -> list[Doomed]:
    """The archives that are older than `keep` seconds, and the oldest ones beyond a total of `keep_size` bytes."""
    if keep is None and keep_size is None:
        return []
    logs: defaultdict[str, set[str]] = defaultdict(set)
    files: dict[str, set[str]] = {}
    offsets = {path: offset for path, (offset, _) in catalog.offsets().items()}
    goes_on: set[str] = set()
    for path, parts in catalog.archived().items():
        files[path] = {part.file for part in parts}
        for file in files[path]:
            logs[file].add(path)
        if offsets.get(path, 0) > archived_size(parts):
            goes_on.add(path)
    sizes: dict[str, int] = {}
    for file in archive.files():
        with suppress(SourceError):
            sizes[file] = archive.size(file)
    oldest_first = sorted(sizes, key=lambda file: (_day(file), file))
    chosen = {file for file in oldest_first if keep is not None and _end(file) + keep <= now}
    if keep_size is not None:
        left = sum(size for file, size in sizes.items() if file not in chosen)
        for file in oldest_first:
            if left <= keep_size:
                break
            if file not in chosen:
                chosen.add(file)
                left -= sizes[file]
    while stays := {
        file
        for file in chosen
        if any(path in goes_on or not files[path] <= chosen for path in logs.get(file, ()))
    }:
        chosen -= stays
    return [Doomed(file, sizes[file], tuple(sorted(logs.get(file, ())))) for file in oldest_first if file in chosen]


def _day(file: str) -> str:
    return max(_DAY.findall(file), default="9999-12-31", key=lambda day: file.rindex(day))


def _end(file: str) -> float:
    """When the day of an archive was over, in seconds."""
    try:
        return (datetime.fromisoformat(_day(file)).replace(tzinfo=UTC) + timedelta(days=1)).timestamp()
    except (ValueError, OverflowError):
        return float("inf")


def delete(archive: Archive, going: Iterable[Doomed]) -> None:
    """Delete archives, and folders that are empty then. Raises OSError."""
    archive.close()
    for one in going:
        path = archive.folder / one.file
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()
