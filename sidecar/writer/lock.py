"""The lock of a session, so that it has one writer: a kernel lock on a file that names its holder.

It is plain `flock`, not the filelock library. A second writer must learn who holds the lock, so the holder writes its
name into the locked file, and nothing else may write there. But filelock owns the content of its file, grants the same
lock twice within a process, and without kernel locks falls back to a file's existence, which a dead process does not
release.

The file is never deleted here: a process that has it open would hold a lock that no other process can see.
"""

from __future__ import annotations

import fcntl
import io
import os
import weakref
from pathlib import Path

import orjson

from sidecar.errors import InvalidName, SessionLocked

_MAX_BYTES = 65536
"""Bytes of a lock file that are read to name its holder."""


class SessionLock:
    """A lock, held from its creation until `release` or the death of the process.

    A forked child does not inherit it, because it would keep the lock alive after its parent's death.
    """

    def __init__(self, path: Path, owner: str) -> None:
        """Take the lock, without waiting. Raises SessionLocked with the name of the holder, InvalidName if `owner` is
        not a name, and OSError."""
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
        """Write another owner's name into the lock file, while the lock is held. Raises InvalidName, OSError."""
        self._write(_text(owner))

    def release(self) -> None:
        """Release the lock. The name stays in the file, where it means nothing while nobody holds the lock. A second
        call does nothing."""
        if self.held:
            self.held = False
            _held.discard(self)
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._file.close()

    def _write(self, text: bytes) -> None:
        # Over the old text, and only then truncated, so that a reader always finds a whole first line.
        # Crash window: between taking the lock and this line, the file names the owner before.
        os.pwrite(self._file.fileno(), text, 0)
        os.ftruncate(self._file.fileno(), len(text))

    def _forget(self) -> None:
        """In a forked child: close the file without unlocking it, because the lock is the parent's."""
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
            holder = _holder(os.pread(file.fileno(), _MAX_BYTES, 0))
            file.close()
            raise SessionLocked(f"{path.name.removesuffix('.jsonl.lock')!r} is held by {holder}") from None
        except BaseException:
            file.close()
            raise
        # Deleted between open and lock, so that this lock protects nothing.
        file.close()


def _open(path: str, _: int) -> int:
    # Neither O_TRUNC nor O_APPEND: the content must not change before the lock is ours, and is then written from byte 0
    # on.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


def _is_at(path: Path, file: io.FileIO) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(file.fileno()))


def _text(owner: str) -> bytes:
    """The content of a lock file: one line of JSON. Raises InvalidName."""
    holder = {"owner": owner, "pid": os.getpid(), "host": os.uname().nodename}
    try:
        text = orjson.dumps(holder, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        text = b""
    if not text or not owner or not isinstance(owner, str):
        raise InvalidName(f"{owner!r} is not the name of an owner", hint="name the writing agent, a non-empty string")
    return text


def _holder(text: bytes) -> str:
    """The holder that the content of a lock file names, for people."""
    try:
        holder = orjson.loads(text.partition(b"\n")[0])
        return f"{holder['owner']} (pid {holder['pid']} on {holder['host']})"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "a writer that has not written its name yet"


_held: weakref.WeakSet[SessionLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_held):
        lock._forget()
    _held.clear()


os.register_at_fork(after_in_child=_forget_all)
