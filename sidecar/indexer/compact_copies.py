"""Replace daily files by the compact copies of them that `sidecar archive` has made."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable

from sidecar.errors import SidecarError
from sidecar.guarded import GuardedFolder
from sidecar.records import Compacted
from sidecar.times import day_number

from .catalog_writer import CatalogWriter
from .day_files import DayFiles


def replace_by_copies(
    index: GuardedFolder, days: DayFiles, catalog: CatalogWriter, compacted: Iterable[Compacted]
) -> tuple[dict[str, str], set[int]]:
    """Replace daily files by their compact copies, and save their filters. Everything must be saved before. Returns the
    reasons for refusals, by day, and the days that have a new filter.

    A kill leaves the old file or the copy. Both have the same rows, so an older filter fits both.
    """
    refused: dict[str, str] = {}
    filtered: set[int] = set()
    for name, copy, state, blocks in compacted:
        day = day_number(name)
        if not days.is_as(day, state):
            refused[name] = "it has changed"
            continue
        try:
            above, _, file = copy.partition("/")
            with index.folder(above) as copies:
                is_compact = days.replace(day, copies, file)
        except (OSError, SidecarError) as error:
            refused[name] = f"its compact copy cannot be used: {error}"
            continue
        # Before anything else is written to the new file: if its name is not durable, a power cut takes that back.
        days.folder.sync()
        catalog.save_filter(name, [b64decode(block) for block in blocks], is_compact=is_compact)
        filtered.add(day)
        if not is_compact:
            refused[name] = "somebody reads it"
    return refused, filtered
