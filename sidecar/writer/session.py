"""The log of one session, open for appending under its lock; and the sessions of one folder.

A session's life is told by records in its own log; nothing is registered elsewhere. The index derives
`session_registry` from them: who began the session, when, in which pattern, and whether it is over.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

from sidecar.errors import InvalidName, WriterClosed, WriterError

from .lock import SessionLock
from .record import Place, encode, session_file

SESSIONS_FOLDER = "responses/sessions"
"""Where the session files lie, below the root."""
Fsync = Literal["never", "close", "always"]
"""When a record survives a power failure: as the system likes, after `close`, or before `append` returns. A record that
has been appended survives the death of the process in all three."""
_CHUNK = 1 << 20
_HINT = "see that the disk has room and the folder can be written; what was not acknowledged can be sent again"


class SessionWriter:
    """Appends records to one session: one `write` call each, behind the last whole line.

    It owns the session from its making until `close`; another writer, of this process or any other, gets
    SessionLocked. To be used by one thread at a time; a forked child finds it closed.

    Crash windows: killed inside `append`, the record stands in the log whole, torn, or not at all. A torn last line is
    never cut off, as a reader may have seen it: the next writer ends it with LF, so that it costs itself only.
    An `append` that raised may have left its record there whole, where only the LF was missing or fsync failed.
    """

    def __init__(self, root: str | os.PathLike[str], session_id: str, owner: str, fsync: Fsync = "never") -> None:
        """Take the session's lock and open its log, which is made if it is missing.

        Raises SessionLocked, naming the holder, at once; InvalidName for a session id that is no plain file name or an
        owner without a name; WriterError where the system refuses a file.
        """
        name = session_file(session_id)
        folder = Path(root, SESSIONS_FOLDER)
        self.session_id = session_id
        self.owner = owner
        self.path = f"{SESSIONS_FOLDER}/{name}"
        """Of the log, relative to the root."""
        self._fsync = fsync
        # What is known of the log: its end, the LFs before it, and whether bytes stand there behind the last LF.
        self._end = self._lines = 0
        self._is_torn = False
        self._is_sure = False
        with ExitStack() as undo:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._lock = SessionLock(folder / f"{name}.lock", owner)
                undo.callback(self._lock.release)
                self._file = _open_log(folder / name)
                undo.callback(self._file.close)
                if fsync != "never":
                    for each in (folder, *folder.parents[:2]):  # a file without its name would be lost as well
                        sync_folder(each)
                self._catch_up()
            except OSError as error:
                raise write_refused(self.path, error) from error
            undo.pop_all()

    def append(self, record: dict[str, Any]) -> Place:
        """Append one record and say where it stands. It is stamped with the time where it has no `timestamp`.

        Raises InvalidRecord before a byte is written, WriterError where the system did not take it whole, WriterClosed.
        """
        outcome = self.append_lines((encode(record),))[0]
        if isinstance(outcome, WriterError):
            raise outcome
        return outcome

    def append_lines(self, lines: Sequence[bytes]) -> list[Place | WriterError]:
        """Append records made by `encode`, all in one `write` call; for each its place, or why it has none.

        When the disk fills half-way, the first ones are there and the rest are not. Raises WriterClosed.
        """
        if not self._lock.held:
            raise WriterClosed(f"the writer of {self.session_id!r} has been closed")
        places: list[Place | WriterError] = []
        error: WriterError | None = None
        try:
            self._catch_up()
            places = self._write(lines)
            if self._fsync == "always":
                os.fsync(self._file.fileno())
        except WriterError as met:
            error, places = met, []
        except OSError as met:
            error, places = write_refused(self.path, met), []
        if len(places) < len(lines):
            self._is_sure = False
            error = error or WriterError(f"{self.path}: the disk took only a part of the record", hint=_HINT)
            places += [error] * (len(lines) - len(places))
        return places

    def rename_owner(self, new_owner: str) -> None:
        """Hold the lock in another name from here on. Raises InvalidName, WriterError, WriterClosed."""
        if not self._lock.held:
            raise WriterClosed(f"the writer of {self.session_id!r} has been closed")
        try:
            self._lock.rename(new_owner)
        except OSError as error:
            raise write_refused(self.path, error) from error
        self.owner = new_owner

    def close(self) -> None:
        """Give the session up. A second call does nothing. Raises WriterError where fsync="close" fails."""
        try:
            if self._fsync == "close" and self._lock.held:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise write_refused(self.path, error) from error
        finally:
            self._file.close()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_new(self) -> bool:
        """Nothing stands in the log yet."""
        return self._end == 0

    def _catch_up(self) -> None:
        """Learn where the log ends, after opening it and after a write that failed; reads only what it has not seen."""
        if self._is_sure:
            return
        size = os.fstat(self._file.fileno()).st_size
        if size < self._end:
            self._end, self._lines, self._is_torn = 0, 0, False
        while chunk := os.pread(self._file.fileno(), min(_CHUNK, size - self._end), self._end):
            self._end += len(chunk)
            self._lines += chunk.count(b"\n")
            self._is_torn = not chunk.endswith(b"\n")
        self._is_sure = True

    def _write(self, lines: Sequence[bytes]) -> list[Place | WriterError]:
        """The places of those lines that were written whole."""
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        if self._is_torn:
            data = b"\n" + data
        written = self._file.write(data)
        end = self._file.tell()  # behind these very bytes, even if somebody else appends without the lock
        if end - written != self._end:
            self._end, self._lines, self._is_torn = 0, 0, False
            raise WriterError(
                f"{self.path}: somebody else writes to this log, or has cut it",
                hint="let every writer take the lock; the record is there, but perhaps glued to other bytes",
            )
        offset, number = self._end + self._is_torn, self._lines + self._is_torn
        places: list[Place | WriterError] = []
        for line in lines:
            if offset + len(line) > end:
                return places
            number += 1
            places.append(Place(self.path, number, offset))
            offset += len(line)
        self._end, self._lines, self._is_torn = end, number, False
        return places


def write_refused(path: object, error: OSError) -> WriterError:
    """What the system refused, as a WriterError that names the file."""
    wrapped = WriterError(f"{path}: {error.strerror or error}", hint=_HINT)
    wrapped.__cause__ = error
    return wrapped


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open_log(path: Path) -> io.FileIO:
    file = io.FileIO(path, "a+", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise WriterError(f"{path} is not a regular file")
    return file


# ---- sessions


def create_session(
    root: str | os.PathLike[str],
    initiating_agent: str,
    pattern_type: str = "general",
    *,
    session_id: str | None = None,
    fsync: Fsync = "never",
) -> SessionWriter:
    """Begin a session: its log's first record is written, and the initiating agent holds it.

    Without `session_id`, the id is `sess_` and a UUID. Raises WriterError where the session has records already, and
    what SessionWriter raises.
    """
    session_id = f"sess_{uuid4()}" if session_id is None else session_id
    record = session_created(session_id, initiating_agent, pattern_type)
    encode(record)  # refused before a file is made
    writer = SessionWriter(root, session_id, initiating_agent, fsync)
    try:
        if not writer.is_new:
            raise WriterError(f"{session_id!r} exists already", hint="open it with SessionWriter")
        writer.append(record)
    except BaseException:
        writer.close()
        raise
    return writer


def complete_session(session: SessionWriter) -> Place:
    """Say that the session is over. The writer stays open: a record after this one is no error. Errors as `append`."""
    return session.append(session_completed(session.session_id, session.owner))


def transfer_session(session: SessionWriter, new_owner: str) -> Place:
    """Hand the session over: a record of it in the log, then the lock in the new owner's name.

    The lock is not let go of meanwhile. Where the new owner lives in another process, close the writer then, for that
    process to open its own. Crash window: killed between the two, the log tells the new owner and the lock, which
    nobody holds then, the old. Raises InvalidName, and what `append` raises.
    """
    record = session_transferred(session.session_id, session.owner, new_owner)
    if not isinstance(new_owner, str) or not new_owner:
        raise InvalidName(f"{new_owner!r} is no owner's name", hint="name the agent, as a non-empty string")
    place = session.append(record)
    session.rename_owner(new_owner)
    return place


def session_created(session_id: str, agent_id: str, pattern_type: str) -> dict[str, Any]:
    """The first record of a session."""
    data = {"session_id": session_id, "agent_id": agent_id, "pattern": pattern_type}
    return {"event": "session:created", "data": data}


def session_completed(session_id: str, agent_id: str) -> dict[str, Any]:
    """The record by which the index turns the session's status to `completed`."""
    data = {"session_id": session_id, "agent_id": agent_id, "status": "completed"}
    return {"event": "session:completed", "data": data}


def session_transferred(session_id: str, old_owner: str, new_owner: str) -> dict[str, Any]:
    """The record of a hand-over."""
    data = {"session_id": session_id, "agent_id": old_owner, "to_agent": new_owner}
    return {"event": "session:transfer", "data": data}
