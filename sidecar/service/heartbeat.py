"""The status file of a running sidecar, beside the index: its watch mode and its current errors."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from sidecar.errors import ForeignFile, SidecarError
from sidecar.guarded import GuardedFolder

HEARTBEAT_FILE = "running.json"
RESERVED_BYTES = 4096
"""The smallest size of the file. Later reports overwrite bytes that are already allocated."""
MAX_ERRORS, MAX_ERROR_CHARACTERS = 100, 1000
"""The largest number of errors in a report, and of characters in each."""


@dataclass(frozen=True, slots=True)
class HeartbeatStatus:
    """The content of the file; its fields are the keys of the JSON object."""

    watching: str
    """`inotify` or `polling`."""
    why: str
    """Why it polls; empty while it does not."""
    trouble: tuple[str, ...]
    """The current errors, oldest first."""


class Heartbeat:
    """Writes the status file. Only the indexing thread touches this.

    The file is kept open and overwritten in place, in the space that it already has, so that a sidecar can report even
    that the disk is full or that it has run out of descriptors.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1
        self._reported: HeartbeatStatus | None = None

    def report(self, watching: str, why: str, errors: list[str]) -> None:
        """Replace the last report, if this one differs. If it cannot be written, it is lost, and nothing is raised."""
        status = HeartbeatStatus(
            watching,
            _json_text(why),
            tuple(_json_text(message)[:MAX_ERROR_CHARACTERS] for message in errors[:MAX_ERRORS]),
        )
        if status == self._reported and self._is_in_place():
            return
        with suppress(OSError, SidecarError):
            if not self._is_in_place():
                self._close()
                with GuardedFolder.open_own(self._folder) as index:
                    self._fd = _open_in_place(index)
            if not (self._write(orjson.dumps(status).ljust(RESERVED_BYTES)) or self._write(_cut_to_fit(status))):
                return
            self._reported = status

    def _is_in_place(self) -> bool:
        try:
            return self._fd >= 0 and os.path.samestat(os.fstat(self._fd), os.lstat(self._folder / HEARTBEAT_FILE))
        except FileNotFoundError:
            return False
        except OSError:
            # Unknown at the moment.
            return True

    def _write(self, content: bytes) -> bool:
        try:
            if os.pwrite(self._fd, content, 0) < len(content):
                return False
            os.ftruncate(self._fd, len(content))
        except OSError:
            return False
        return True

    def clear(self) -> None:
        """Delete the file, when the sidecar stops."""
        self._close()
        with suppress(OSError, SidecarError), GuardedFolder.open_own(self._folder) as index:
            index.delete(HEARTBEAT_FILE)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._reported = -1, None


def _open_in_place(index: GuardedFolder) -> int:
    """A descriptor of the file, to overwrite it. If there is no such file, or it is not ours, a new one is created."""
    try:
        return index.open_file(HEARTBEAT_FILE, os.O_RDWR)
    except FileNotFoundError:
        pass
    except ForeignFile:
        index.delete(HEARTBEAT_FILE)
    return index.create(HEARTBEAT_FILE)


def _json_text(text: str) -> str:
    """A text in a form that JSON can hold, because file names need not be UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _cut_to_fit(status: HeartbeatStatus) -> bytes:
    """The report, cut to the space that is certainly allocated. The oldest errors are kept."""
    errors = status.trouble
    while len(content := orjson.dumps(replace(status, trouble=errors))) > RESERVED_BYTES:
        errors = errors[:-1]
    return content.ljust(RESERVED_BYTES)


def read_heartbeat(folder: Path) -> HeartbeatStatus | None:
    """The last report; None if there is none, or it cannot be read."""
    # While the file is being overwritten, half of the old and half of the new content may be seen.
    for _ in range(3):
        try:
            with GuardedFolder.open_to_read(folder) as index:
                content = orjson.loads(index.read(HEARTBEAT_FILE))
            return HeartbeatStatus(str(content["watching"]), str(content["why"]), tuple(map(str, content["trouble"])))
        except (OSError, ForeignFile):
            return None
        except (ValueError, KeyError, TypeError):
            continue
    return None
