"""`GET /v1/bytes`: the bytes of a record, for a hub's readers on other machines (docs/hub.md).

Only what the index has an entry for is given, and only if the reader names its length and checksum: the bytes that were
indexed, or an error. Whoever asks checks them again.
"""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.errors import EntryNotFound, SourceChanged, SourceMissing
from sidecar.query.index import Index

from .spans import BadParameter, needed

STATUS = {EntryNotFound: 404, SourceChanged: 409, SourceMissing: 404}
"""What these errors are here: gone, or other bytes."""


def record_bytes(index: Index, params: Mapping[str, str]) -> bytes:
    """The bytes at `path` and `offset`. Raises EntryNotFound, SourceChanged, and the errors of `Index.read_bytes`."""
    path = needed(params, "path")
    offset, length, checksum = (_whole(params, name) for name in ("offset", "length", "checksum"))
    entry = index.get(f"{path}:{offset}")
    if entry.file_path != path:
        raise EntryNotFound(f"no entry is at {path}:{offset}")
    data = index.read_bytes(entry)
    if (len(data), entry.checksum) != (length, checksum):
        raise SourceChanged(f"{path}, byte {offset}: other bytes have been indexed there since")
    return data


def _whole(params: Mapping[str, str], name: str) -> int:
    text = needed(params, name)
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadParameter(f"{name}: a whole number is expected, not {text[:40]!r}")
    return int(text)
