"""What a running sidecar says of itself to whoever asks for its status: a small file beside the index."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from .small import read_small, write_small

NAME = "running.json"


@dataclass(frozen=True, slots=True)
class Beacon:
    """How the running sidecar is doing."""

    watching: str
    """`inotify` or `polling`."""
    why: str
    """Why it polls; empty while it does not."""
    trouble: tuple[str, ...]


def tell(folder: Path, watching: str, why: str, trouble: list[str]) -> None:
    """Replace the file, if what it says differs. A disk that is full leaves the old word standing."""
    said = Beacon(watching, why, tuple(trouble[:100]))
    if read(folder) == said:
        return
    with suppress(OSError):
        write_small(folder / NAME, orjson.dumps(said))


def read(folder: Path) -> Beacon | None:
    """What was said last; None where nothing was, or where it cannot be read."""
    try:
        content = orjson.loads(read_small(folder / NAME))
        return Beacon(str(content["watching"]), str(content["why"]), tuple(map(str, content["trouble"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def clear(folder: Path) -> None:
    """Take the word back when the sidecar stops."""
    with suppress(OSError):
        (folder / NAME).unlink(missing_ok=True)
