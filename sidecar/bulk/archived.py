"""Everything that lies in the archive, found by looking: what a rebuild reads beside the logs.

Each archive file says what it holds. Of two that hold the same bytes of a log, which a kill can leave behind, the
longer counts: a log is only archived again from the same place on when it has grown since.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Container, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sidecar.config.settings import Settings
from sidecar.errors import ArchiveDamaged, ArchiveMissing, SourceError
from sidecar.ingest.replay import still_archived
from sidecar.logs.archive import Archive, is_of, owner
from sidecar.logs.archive_format import Member
from sidecar.paths import to_os, under
from sidecar.records import Part
from sidecar.store import layout as swap

Held = dict[str, tuple[tuple[Part, ...], float | None]]
"""From a log to what of it is archived, and the time when its file was first seen."""


def held(settings: Settings, files: Container[str], *, strict: bool) -> Held:
    """What of each source lies in the archive, beside its file where `files` has it.

    Raises ArchiveMissing where the index says that there is an archive, and there is none: it may not be mounted, and
    what is in it must not be taken for gone. An archive file that is gone or damaged has what the index says of it;
    where there is no index either, `strict` raises ArchiveDamaged.
    """
    noted = _Noted(settings.index_folder)
    named = owner(settings.archive)
    if named is None or not (is_of(settings.archive, settings.root) or not named.exists()):
        if noted.files:
            raise ArchiveMissing(
                f"{settings.archive} is not the archive of {settings.root}, whose index has logs that were archived",
                hint="mount it, or name it in config.yaml (`archive`); to give up what was archived, delete the index",
            )
        if named is not None or not settings.archive.is_dir():
            return {}
    found: defaultdict[str, list[tuple[Member, str]]] = defaultdict(list)
    sound = set()
    with Archive(settings.archive) as archive:
        for file in archive.files():
            try:
                members = archive.members(file)
            except (ArchiveDamaged, ArchiveMissing):
                if strict and file not in noted.files:
                    raise
                continue
            sound.add(file)
            for member in members:
                found[member.path].append((member, file))
    for member, file in noted.members(noted.files - sound):
        found[member.path].append((member, file))
    return {
        path: (_beside(settings, path, parts) if path in files else parts, first_mtime)
        for path, members in found.items()
        if settings.source_for(to_os(path)) is not None
        for parts, first_mtime in (_in_order(members),)
    }


def _in_order(members: list[tuple[Member, str]]) -> tuple[tuple[Part, ...], float | None]:
    """The parts of a log, without a gap, the longest of those that begin at the same byte."""
    parts: list[Part] = []
    offset = 0
    while True:
        here = [(member.size, file, member) for member, file in members if member.start == offset and member.size]
        if not here:
            return tuple(parts), members[0][0].first_mtime
        size, file, member = max(here, key=lambda one: one[:2])
        parts.append(Part(file, member.at, size, member.lines, member.sign))
        offset += size


def _beside(settings: Settings, path: str, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    with suppress(OSError, SourceError):
        return still_archived(under(settings.root, path), parts)
    return parts


class _Noted:
    """What the present catalog says of the archive, or the one that was set aside. By hand, because it may be one of
    another version; nothing where it cannot be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files = {str(name) for (name,) in self._all("SELECT name FROM archive_file")}
        """The archive files that the index points into."""

    def members(self, files: set[str]) -> Iterator[tuple[Member, str]]:
        """What it says that these files hold."""
        sql = (
            "SELECT s.path, a.start, a.at, a.size, a.lines, a.sign, s.first_mtime, f.name FROM archived a"
            " JOIN archive_file f ON f.id = a.file JOIN source s ON s.id = a.source"
        )
        for *values, file in self._all(sql) if files else ():
            if file in files:
                yield Member(*values), file

    def _all(self, sql: str) -> list[tuple[Any, ...]]:
        for path in (swap.catalog_path(self._folder), *(self._folder / swap.ASIDE).glob(f"*{swap.CATALOG_NAME}")):
            uri = f"file:{quote(str(path))}?mode=ro"
            with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True)) as catalog:
                return catalog.execute(sql).fetchall()
        return []
