"""What a running sidecar says of itself to whoever asks for its status: a small file beside the index."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from sidecar.fs import read_small

HEARTBEAT_FILE = "running.json"
RESERVED_BYTES = 4096
"""Bytes that the file has at least."""
MAX_ERRORS, MAX_ERROR_CHARACTERS = 100, 1000
"""Troubles that are told, and characters of each."""

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class HeartbeatStatus:
    """How the running sidecar is doing."""

    watching: str
    """`inotify` or `polling`."""
    why: str
    """Why it polls; empty while it does not."""
    trouble: tuple[str, ...]


class Heartbeat:
    """Who says it. The file is kept open and written over, in the room that it has: a disk that is full, or a process
    without descriptors, must still be able to say so. Only the indexing thread touches this."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1
        self._said: HeartbeatStatus | None = None

    def report(self, watching: str, why: str, trouble: list[str]) -> None:
        """Replace what was said last, if it differs. What cannot be written is not said."""
        say = HeartbeatStatus(
            watching, _sayable(why), tuple(_sayable(one)[:MAX_ERROR_CHARACTERS] for one in trouble[:MAX_ERRORS])
        )
        if say == self._said and self._is_in_place():
            return
        with suppress(OSError):
            if not self._is_in_place():
                self._close()
                self._fd = os.open(self._folder / HEARTBEAT_FILE, _FLAGS, 0o644)
            if not (self._write(orjson.dumps(say).ljust(RESERVED_BYTES)) or self._write(_fitting(say))):
                return
            self._said = say

    def _is_in_place(self) -> bool:
        try:
            return self._fd >= 0 and os.path.samestat(os.fstat(self._fd), os.stat(self._folder / HEARTBEAT_FILE))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # it cannot be told now

    def _write(self, content: bytes) -> bool:
        try:
            if os.pwrite(self._fd, content, 0) < len(content):
                return False
            os.ftruncate(self._fd, len(content))
        except OSError:
            return False
        return True

    def clear(self) -> None:
        """Take the word back when the sidecar stops."""
        self._close()
        with suppress(OSError):
            (self._folder / HEARTBEAT_FILE).unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._said = -1, None


def _sayable(text: str) -> str:
    """A text as JSON can hold it: the name of a file may be no UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _fitting(said: HeartbeatStatus) -> bytes:
    """As much of it as has room for certain, the first of the troubles first."""
    trouble = said.trouble
    while len(content := orjson.dumps(replace(said, trouble=trouble))) > RESERVED_BYTES:
        trouble = trouble[:-1]
    return content.ljust(RESERVED_BYTES)


def read_heartbeat(folder: Path) -> HeartbeatStatus | None:
    """What was said last; None where nothing was, or where it cannot be read."""
    for _ in range(3):  # while it is written over, half of each may be seen
        try:
            content = orjson.loads(read_small(folder / HEARTBEAT_FILE))
            return HeartbeatStatus(str(content["watching"]), str(content["why"]), tuple(map(str, content["trouble"])))
        except OSError:
            return None
        except (ValueError, KeyError, TypeError):
            continue
    return None
