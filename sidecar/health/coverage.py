"""Whether the sources match the logs. If they do not, `status`, `run` and `doctor` say so, because an index without
entries would look as sound as any other."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice

from sidecar.config.settings import Settings
from sidecar.errors import SidecarError
from sidecar.fs import to_os, to_text
from sidecar.query.catalog_reader import open_catalog

LOG_SUFFIXES = (".jsonl", ".ndjson", ".json", ".log")
"""Endings of files that may be logs."""

MAX_FOLDERS = 2_000
"""Folders that are searched for such files."""


def misfits(settings: Settings, logs: Iterable[tuple[str, int, int]]) -> list[str]:
    """Sentences that say what does not match; empty if all does. `logs`: path, number of entries and rejected bytes of
    each log."""
    files: Counter[str] = Counter()
    entries: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for path, taken, refused in logs:
        source = settings.source_for(to_os(path))
        name = source.name if source else ""
        files[name] += 1
        entries[name] += taken
        rejected[name] += refused
    if not files:
        globs = ", ".join(source.glob for source in settings.sources) or "none"
        return [f"no file below {settings.root} belongs to a source; their globs: {globs}"]
    found = [
        f"every line of the source {name} is rejected, in {count:,} {'file' if count == 1 else 'files'}"
        for name, count in files.items()
        if rejected[name] and not entries[name]
    ]
    if not found and not entries.total():
        return [f"there is no record in the logs below {settings.root} yet"]
    return found


def misfits_of_index(settings: Settings) -> list[str]:
    """The same for the logs in the catalog; empty if that cannot be read."""
    try:
        with closing(open_catalog(settings.index_folder)) as catalog:
            rows = catalog.sources()
    except SidecarError:
        return []
    return misfits(settings, [(path, entries, rejected) for path, _, _, _, rejected, _, entries in rows])


def unclaimed_files(settings: Settings) -> Iterator[str]:
    """Paths, relative to the root, of files that are named like logs and belong to no source. At most MAX_FOLDERS
    folders are searched."""
    root = os.fspath(settings.root)
    for folder, folders, names in islice(os.walk(root), MAX_FOLDERS):
        relative = os.path.relpath(folder, root)
        prefix = "" if relative == "." else f"{relative}/"
        folders[:] = sorted(name for name in folders if f"{prefix}{name}" != settings.index_path)
        for name in sorted(names):
            path = f"{prefix}{name}"
            if name.endswith(LOG_SUFFIXES) and settings.source_for(path) is None:
                yield to_text(path)
