"""The content of a request to a running sidecar, and how it is checked.

A request is a file in the index folder, so it may come from anyone who can write there. The type and the range of every
value are checked before anything is done: what `parse_request` returns can be passed on to the index owner.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from datetime import date
from typing import Any

import orjson

from sidecar.fs import is_relative_path
from sidecar.records import Compacted, Extent, Move
from sidecar.times import DAY

MAX_ITEMS = 10_000_000
"""The largest number of logs, days or paths in a request."""
_MAX_INTEGER = 1 << 63


@dataclass(frozen=True, slots=True)
class ArchiveRequest:
    """What `sidecar archive` requests from the index owner."""

    folder: str = ""
    """The archive folder that contains the logs in `moves`."""
    moves: tuple[Move, ...] = ()
    drop: tuple[str, ...] = ()
    """Logs to delete, with their rows."""
    days: tuple[Compacted, ...] = ()


def to_json(request: ArchiveRequest) -> bytes:
    """The content of the file for a request."""
    return orjson.dumps(
        {
            "archive": request.folder,
            "moves": [[move.path, list(move.looks), list(move.part)] for move in request.moves],
            "drop": list(request.drop),
            "days": [list(day) for day in request.days],
        }
    )


def parse_request(content: bytes, copies_folder: str) -> ArchiveRequest:
    """The request in the content of a file. `copies_folder` is the subfolder of the index with the compact copies.

    Raises ValueError, which says what is wrong with it.
    """
    values = orjson.loads(content)
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    if unknown := values.keys() - {"archive", "moves", "drop", "days"}:
        raise ValueError(f"unknown key {min(unknown)!r}")
    return ArchiveRequest(
        _text(values.get("archive", "")),
        tuple(_move(one) for one in _list(values.get("moves", []))),
        tuple(_path(one) for one in _list(values.get("drop", []))),
        tuple(_day(one, copies_folder) for one in _list(values.get("days", []))),
    )


def _move(value: Any) -> Move:
    path, looks, extent = _list(value, 3)
    device, inode, size, mtime_ns = map(_integer, _list(looks, 4))
    file, at, length, lines, digest = _list(extent, 5)
    return Move(
        _path(path),
        (device, inode, size, mtime_ns),
        Extent(_text(file), _count(at), _count(length), _count(lines), _integer(digest)),
    )


def _day(value: Any, copies_folder: str) -> Compacted:
    day, copy, state, blocks = _list(value, 4)
    name = _text(day)
    if not DAY.fullmatch(name):
        raise ValueError(f"{name!r} is not a day")
    date.fromisoformat(name)
    if copy != f"{copies_folder}/{name}.db":
        raise ValueError(f"the copy of {name} is not at {copies_folder}/{name}.db")
    texts = [_text(block) for block in _list(blocks)]
    for text in texts:
        b64decode(text, validate=True)
    return Compacted(name, str(copy), [_integer(one) for one in _list(state)], texts)


def _list(value: Any, length: int | None = None) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, not {type(value).__name__}")
    if len(value) > MAX_ITEMS or (length is not None and len(value) != length):
        raise ValueError(f"a list has {len(value)} items, not {f'at most {MAX_ITEMS}' if length is None else length}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, not {type(value).__name__}")
    return value


def _path(value: Any) -> str:
    if not is_relative_path(_text(value)):
        raise ValueError(f"{value!r} is not the path of a log")
    return str(value)


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -_MAX_INTEGER <= value < _MAX_INTEGER:
        raise ValueError("expected a signed 64-bit integer")
    return value


def _count(value: Any) -> int:
    if _integer(value) < 0:
        raise ValueError(f"{value} is negative")
    return int(value)
