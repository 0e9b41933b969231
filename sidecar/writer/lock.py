"""One writer a session: a kernel lock on a file that says who holds it.

Plain `flock`, and not the filelock library: the loser must learn the holder's name, so the holder writes into the very
file that it has locked, and nobody else may touch it; filelock owns its file's content, hands the same lock to its
process twice, and where the kernel has no locks it falls back to a file's existence, which death does not release.

The file is never unlinked here: whoever has it open would go on holding a lock that nobody else can see.
"""

from __future__ import annotations

import fcntl
import io
import os
import weakref
from pathlib import Path

import orjson

from sidecar.errors import InvalidName, SessionLocked

_MOST_READ = 65536


class SessionLock:
    """A lock, held from the moment of its making until `release`, or until the process dies.

    A child made by fork does not inherit it: it would keep the lock alive after its parent's death.
    """

    def __init__(self, path: Path, owner: str) -> None:
        """Raises SessionLocked, naming the holder, at once; InvalidName for an owner without a name; OSError."""
        text = _text(owner)
        self._file = _lock(path)
        self.held = True
        _held.add(self)
        try:
            self._write(text)
        except BaseException:
            self.release()
            raise

    def rename(self, owner: str) -> None:
        """Name another owner. The lock itself is not let go of for a moment."""
        self._write(_text(owner))

    def release(self) -> None:
        """Let go. The text stays: nobody reads it while nobody holds the lock. A second call does nothing."""
        if self.held:
            self.held = False
            _held.discard(self)
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._file.close()

    def _write(self, text: bytes) -> None:
        # Over the old text, and only then cut: whoever reads meanwhile finds a whole first line.
        # Crash window: killed between the lock and this line, or looked at there, the file names the owner before.
        os.pwrite(self._file.fileno(), text, 0)
        os.ftruncate(self._file.fileno(), len(text))

    def _forget(self) -> None:
        """In a forked child: close without unlocking, for the lock is the parent's."""
        self.held = False
        self._file.close()


def _lock(path: Path) -> io.FileIO:
    while True:
        file = io.FileIO(path, "a+", opener=_open)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, file):
                return file
        except BlockingIOError:
            holder = _holder(os.pread(file.fileno(), _MOST_READ, 0))
            file.close()
            raise SessionLocked(f"{path.name.removesuffix('.jsonl.lock')!r} is held by {holder}") from None
        except BaseException:
            file.close()
            raise
        file.close()  # unlinked between open and lock: this lock guards nothing


def _open(path: str, _: int) -> int:
    # Neither O_TRUNC nor O_APPEND: nothing in it changes before it is ours, and then the text is written at its start.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


def _is_at(path: Path, file: io.FileIO) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(file.fileno()))


def _text(owner: str) -> bytes:
    said = {"owner": owner, "pid": os.getpid(), "host": os.uname().nodename}
    try:
        text = orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        text = b""
    if not text or not owner or not isinstance(owner, str):
        raise InvalidName(f"{owner!r} is no owner's name", hint="name the agent that writes, as a non-empty string")
    return text


def _holder(text: bytes) -> str:
    try:
        said = orjson.loads(text.partition(b"\n")[0])
        return f"{said['owner']} (pid {said['pid']} on {said['host']})"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "a writer that has not said its name yet"


_held: weakref.WeakSet[SessionLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_held):
        lock._forget()
    _held.clear()


os.register_at_fork(after_in_child=_forget_all)
