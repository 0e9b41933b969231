"""Read the record behind an entry, from the log or from the archive. The entry itself is not trusted: the bytes must
have the length and the checksum that the index has now."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from pathlib import Path

from sidecar.errors import IndexMissing, SidecarError, SourceChanged
from sidecar.fs import to_os
from sidecar.logs.archive_file import Archive, beside, folder_of
from sidecar.logs.record_reader import LogReader, open_log
from sidecar.places import Place
from sidecar.records import Entry, Extent
from sidecar.said import places_in
from sidecar.times import day_of

from .snapshot import Snapshot


class RecordFinder:
    """Reads the records behind the entries of an index. `archive` is the archive folder; None stands for the one that
    the index names, or else the one beside the root."""

    def __init__(self, root: Path, files: Snapshot, archive: Path | None) -> None:
        self._root = root
        self._files = files
        self._archive_folder = archive
        self._archive: Archive | None = None

    def close(self) -> None:
        """Close the archive. It is opened again when it is next needed."""
        if self._archive is not None:
            self._archive.close()
            self._archive = None

    def read(self, entry: Entry) -> bytes:
        """The bytes that were indexed, without the line end. Raises the errors of `Index.read_bytes`."""
        with self.open(entry.file_path) as log:
            place = self._place(entry)
            where = f"{entry.file_path}, byte {entry.byte_offset}"
            if place is None:
                raise SourceChanged(f"{where}: the index no longer has such an entry")
            length, checksum = place
            if getattr(entry, "checksum", checksum) != checksum:
                raise SourceChanged(f"{where}: other bytes have been indexed there since")
            return log.read(entry.byte_offset, length, checksum)

    def open(self, path: str) -> AbstractContextManager[LogReader]:
        """A log, open for reading during a `with` statement. Raises UnsafePath and SourceError."""
        return open_log(self._root, path, self._open_archive(), self._parts)

    def places_of_text(self, path: str) -> tuple[Place, ...] | None:
        """The places of texts (`text`) in the format of a log; None if it names none, or if the catalog cannot be read,
        which does not keep the record from being read."""
        with suppress(SidecarError):
            for note in self._files.of_catalog(lambda catalog: [catalog.fact("text")]):
                return places_in(note, to_os(path)) if note else None
        return None

    def _open_archive(self) -> Archive:
        if self._archive is None:
            self._archive = Archive(self._archive_folder or beside(self._root))
        return self._archive

    def _parts(self, path: str) -> tuple[Extent, ...]:
        """The archived extents of a log. Called only if its file does not have the bytes."""
        try:
            ((parts, noted),) = self._files.of_catalog(lambda catalog: [(catalog.parts(path), catalog.fact("archive"))])
        except IndexMissing:
            return ()
        archive = self._open_archive()
        if parts and noted is not None and self._archive_folder is None:
            archive.folder = folder_of(self._root, noted)
        return parts

    def _place(self, entry: Entry) -> tuple[int, int] | None:
        """Length and checksum of the record, as the index has them now; None if it no longer has such an entry."""
        self._files.names()
        day_name = f"{day_of(entry.timestamp)}.db"
        return self._files.ask(day_name, lambda day: day.place(entry.file_path, entry.byte_offset))
