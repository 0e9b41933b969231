"""What a running sidecar says of itself to whoever asks for its status: a small file beside the index."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

NAME = "running.json"
ROOM = 4096
"""Bytes that the file has at least."""
MOST, LONGEST = 100, 1000
"""Troubles that are told, and characters of each."""


@dataclass(frozen=True, slots=True)
class Beacon:
    """How the running sidecar is doing."""

    watching: str
    """`inotify` or `polling`."""
    why: str
    """Why it polls; empty while it does not."""
    trouble: tuple[str, ...]


def tell(folder: Path, watching: str, why: str, trouble: list[str]) -> None:
    """Replace the file, if what it says differs. On a disk that is full it is written over, in the room that it has."""
    said = Beacon(watching, why, tuple(one[:LONGEST] for one in trouble[:MOST]))
    if read(folder) == said:
        return
    path = folder / NAME
    temporary = path.with_suffix(".tmp")
    content = orjson.dumps(said).ljust(ROOM)
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        with suppress(OSError), path.open("r+b", buffering=0) as file:
            file.write(_fitting(said))


def _fitting(said: Beacon) -> bytes:
    """As much of it as has room for certain, the first of the troubles first."""
    trouble = said.trouble
    while len(content := orjson.dumps(replace(said, trouble=trouble))) > ROOM:
        trouble = trouble[:-1]
    return content.ljust(ROOM)


def read(folder: Path) -> Beacon | None:
    """What was said last; None where nothing was, or where it cannot be read."""
    for _ in range(3):  # while it is written over, half of each may be seen
        try:
            content = orjson.loads((folder / NAME).read_bytes())
            return Beacon(str(content["watching"]), str(content["why"]), tuple(map(str, content["trouble"])))
        except OSError:
            return None
        except (ValueError, KeyError, TypeError):
            continue
    return None


def clear(folder: Path) -> None:
    """Take the word back when the sidecar stops."""
    with suppress(OSError):
        (folder / NAME).unlink(missing_ok=True)
