"""What a request to a running sidecar may say, and nothing else.

A request is a file in the index folder, and so it may come from anyone who can write there. Each value is checked for
its type and its range before any of it is acted on: what `parse_request` returns can be passed to the owner of the
index as it is.
"""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import dataclass
from datetime import date
from typing import Any

import orjson

from sidecar.records import Compacted, Extent, Move

MAX_ITEMS = 10_000_000
"""Logs, days or paths of one request."""
_MAX_INTEGER = 1 << 63
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ArchiveRequest:
    """What `sidecar archive` asks the owner of the index for."""

    folder: str = ""
    """The archive folder that the logs of `moves` lie in."""
    moves: tuple[Move, ...] = ()
    drop: tuple[str, ...] = ()
    """Logs to forget."""
    days: tuple[Compacted, ...] = ()


def to_json(request: ArchiveRequest) -> bytes:
    """The request as it stands in its file."""
    return orjson.dumps(
        {
            "archive": request.folder,
            "moves": [[move.path, list(move.looks), list(move.part)] for move in request.moves],
            "drop": list(request.drop),
            "days": [list(day) for day in request.days],
        }
    )


def parse_request(content: bytes, copies_folder: str) -> ArchiveRequest:
    """The request in a file. `copies_folder` is the folder of the index in which copies of days lie.

    Raises ValueError, which says what is wrong.
    """
    values = orjson.loads(content)
    if not isinstance(values, dict):
        raise ValueError("it is not an object")
    if unknown := values.keys() - {"archive", "moves", "drop", "days"}:
        raise ValueError(f"unknown key {min(unknown)!r}")
    return ArchiveRequest(
        _text(values.get("archive", "")),
        tuple(_move(one) for one in _list(values.get("moves", []))),
        tuple(_text(one) for one in _list(values.get("drop", []))),
        tuple(_day(one, copies_folder) for one in _list(values.get("days", []))),
    )


def _move(value: Any) -> Move:
    path, looks, extent = _list(value, 3)
    device, inode, size, mtime_ns = map(_integer, _list(looks, 4))
    file, at, length, lines, digest = _list(extent, 5)
    return Move(
        _text(path),
        (device, inode, size, mtime_ns),
        Extent(_text(file), _count(at), _count(length), _count(lines), _integer(digest)),
    )


def _day(value: Any, copies_folder: str) -> Compacted:
    day, copy, state, blocks = _list(value, 4)
    name = _text(day)
    if not _DAY.fullmatch(name):
        raise ValueError(f"{name!r} is not a day")
    date.fromisoformat(name)
    if copy != f"{copies_folder}/{name}.db":
        raise ValueError(f"the copy of {name} is not in its place")
    texts = [_text(block) for block in _list(blocks)]
    for text in texts:
        b64decode(text, validate=True)
    return Compacted(name, str(copy), [_integer(one) for one in _list(state)], texts)


def _list(value: Any, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_ITEMS or (length is not None and len(value) != length):
        raise ValueError("a list is not as it should be")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text was expected")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -_MAX_INTEGER <= value < _MAX_INTEGER:
        raise ValueError("a whole number was expected")
    return value


def _count(value: Any) -> int:
    if _integer(value) < 0:
        raise ValueError("a number that is not negative was expected")
    return int(value)
