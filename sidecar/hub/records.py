"""Where the bytes of a machine's records are read: from a folder that is mounted here, or from its `sidecar serve`."""

from __future__ import annotations

import netrc
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from sidecar.errors import IndexUnavailable, SourceChanged, SourceElsewhere, SourceError, SourceMissing
from sidecar.logs.archive_file import Archive, beside, folder_of
from sidecar.logs.record_reader import open_log
from sidecar.query.snapshot import Snapshot
from sidecar.records import Entry, Extent
from sidecar.store.daily_schema import CHECKSUM_OFFSET

TIMEOUT = 30.0
"""Seconds to wait for another machine."""


class RecordFetcher:
    """Reads records of many machines."""

    def __init__(self) -> None:
        self._archives: dict[Path, Archive] = {}
        self._indexes: dict[Path, Snapshot] = {}

    def close(self) -> None:
        """Close all files."""
        for archive in self._archives.values():
            archive.close()
        for index in self._indexes.values():
            index.close()
        self._archives, self._indexes = {}, {}

    def read(self, entry: Entry, rows: Sequence[tuple[Any, ...]]) -> bytes:
        """The bytes of a record. `rows` are what the hub has at its place: the node, where that can be read, length and
        checksum."""
        where = f"{entry.file_path}, byte {entry.byte_offset}"
        if not rows:
            raise SourceChanged(f"{where}: the hub no longer has such an entry")
        node, read_from, length, checksum = rows[0]
        checksum += CHECKSUM_OFFSET
        if len(rows) > 1:
            raise SourceError(f"{where}: several machines have it", hint="take the entry from `timeline` or `get`")
        if getattr(entry, "checksum", checksum) != checksum:
            raise SourceChanged(f"{where}: other bytes have been indexed there since")
        if read_from is None:
            raise _elsewhere(entry, node)
        if read_from.startswith(("https://", "http://")):
            data = self._fetched(read_from, node, entry, length, checksum)
        else:
            data = self._from_folder(Path(read_from), node, entry, length, checksum)
        if len(data) != length or zlib.crc32(data) != checksum:
            raise SourceChanged(f"{where}: {node} gives other bytes than were indexed")
        return data

    def _from_folder(self, root: Path, node: str, entry: Entry, length: int, checksum: int) -> bytes:
        if not root.is_dir():
            raise _elsewhere(entry, node, f"{root} is not mounted here")
        archive = self._archives.setdefault(root, Archive(beside(root)))

        def parts(path: str) -> tuple[Extent, ...]:
            index = self._indexes.setdefault(root, Snapshot(root / "index"))
            with suppress(IndexUnavailable):
                ((found, noted),) = index.of_catalog(lambda catalog: [(catalog.parts(path), catalog.fact("archive"))])
                if found and noted is not None and Path(folder_of(root, noted)).is_dir():
                    archive.folder = folder_of(root, noted)
                return found
            return ()

        with open_log(root, entry.file_path, archive, parts) as log:
            return log.read(entry.byte_offset, length, checksum)

    def _fetched(self, address: str, node: str, entry: Entry, length: int, checksum: int) -> bytes:
        asked = {"path": entry.file_path, "offset": entry.byte_offset, "length": length, "checksum": checksum}
        request = Request(f"{address.rstrip('/')}/v1/bytes?{urlencode(asked)}")
        token = _token(address)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urlopen(request, timeout=TIMEOUT) as answer:
                data: bytes = answer.read(length + 1)
                return data
        except HTTPError as error:
            error.close()
            if error.code in (401, 403):
                hint = f"put its token into ~/.netrc: machine {urlsplit(address).hostname} login sidecar password TOKEN"
                raise SourceError(f"{node}: {address} wants a token", hint=hint) from None
            if error.code == 404:
                raise SourceMissing(f"{entry.file_path}: {node} has no such record any more") from None
            if error.code in (409, 410):
                raise SourceChanged(f"{entry.file_path}: {node} has other bytes there now") from None
            raise _elsewhere(entry, node, f"{address} answers with {error.code}") from None
        except (URLError, OSError) as error:
            raise _elsewhere(entry, node, f"{address}: {getattr(error, 'reason', error)}") from None


def _elsewhere(entry: Entry, node: str, why: str = "") -> SourceElsewhere:
    message = f"the bytes of {entry.id} are on {node}" + (f" ({why})" if why else "")
    return SourceElsewhere(message, hint=f"run `sidecar show {entry.file_path}:{entry.byte_offset}` there")


def _token(address: str) -> str | None:
    """The token for an address, from ~/.netrc."""
    with suppress(OSError, netrc.NetrcParseError):
        found = netrc.netrc().authenticators(urlsplit(address).hostname or "")
        return found[2] if found else None
    return None
