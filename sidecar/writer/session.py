"""The log of one session, open for appending under its lock; and the records that begin, hand over and complete it.

That a session was begun, handed over or completed is said by records in its own log, and registered nowhere else. The
index derives `session_registry` from them: who began the session, when, in which pattern, and whether it is completed.
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
"""The folder of the session logs, below the root."""
Fsync = Literal["never", "close", "always"]
"""When records survive a power failure: `never`: whenever the system writes them to disk; `close`: once `close` has
returned; `always`: once `append` has returned. A record that was appended survives the death of the process in any
case."""
_CHUNK_BYTES = 1 << 20
_HINT = "make sure that the disk has room and the folder is writable; then append again what was not acknowledged"


class SessionWriter:
    """Appends records to the log of one session, each with one `write` call, after the last whole line.

        with SessionWriter("var/logs", "sess_discovery_123", "agent_explorer") as session:
            place = session.append({"event": "completion:request", "data": {"agent_id": "agent_explorer"}})

    It owns the session from its creation until `close`; another writer, in this process or any other, gets
    SessionLocked. To be used by one thread at a time. In a forked child it is closed.

    Crash windows: after a kill in `append`, the record is in the log whole, torn, or not at all. A torn last line is
    never removed, because a reader may have seen it: the next writer ends it with an LF, so that no other record is
    lost. If `append` raises, its record may still be in the log whole, namely if only the LF is missing or fsync
    failed.
    """

    def __init__(self, root: str | os.PathLike[str], session_id: str, owner: str, fsync: Fsync = "never") -> None:
        """Take the session's lock, without waiting, and open its log, which is created if it is missing.

        Raises SessionLocked with the name of the holder, InvalidName if the session id is not a plain file name or the
        owner not a name, and WriterError if the system refuses a file.
        """
        name = session_file(session_id)
        folder = Path(root, SESSIONS_FOLDER)
        self.session_id = session_id
        self.owner = owner
        self.path = f"{SESSIONS_FOLDER}/{name}"
        """The log, relative to the root, with `/`."""
        self._fsync = fsync
        # What is known of the log: its size, its number of LFs, and whether its last line has no LF.
        self._end = self._lines = 0
        self._is_torn = False
        self._is_sure = False
        """False until the log has been read, and after a write that failed."""
        with ExitStack() as undo:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._lock = SessionLock(folder / f"{name}.lock", owner)
                undo.callback(self._lock.release)
                self._file = _open_log(folder / name)
                undo.callback(self._file.close)
                if fsync != "never":
                    # Without its name, the file would be lost.
                    for each in (folder, *folder.parents[:2]):
                        sync_folder(each)
                self._catch_up()
            except OSError as error:
                raise write_refused(self.path, error) from error
            undo.pop_all()

    def append(self, record: dict[str, Any]) -> Place:
        """Append one record and return its place. If it has no `timestamp`, it gets the current time.

        Raises InvalidRecord before anything is written, WriterClosed, and WriterError if the record could not be
        written whole.
        """
        outcome = self.append_lines((encode(record),))[0]
        if isinstance(outcome, WriterError):
            raise outcome
        return outcome

    def append_lines(self, lines: Sequence[bytes]) -> list[Place | WriterError]:
        """Append lines made by `record.encode`, all with one `write` call. Returns for each line its place, or the
        error that kept it from being written.

        If the disk becomes full within the call, the first lines are written and the rest are not. Raises WriterClosed.
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
            error = error or WriterError(f"{self.path}: only a part of the record was written", hint=_HINT)
            places += [error] * (len(lines) - len(places))
        return places

    def rename_owner(self, new_owner: str) -> None:
        """Hold the lock under another name from now on. Raises InvalidName, WriterError, WriterClosed."""
        if not self._lock.held:
            raise WriterClosed(f"the writer of {self.session_id!r} has been closed")
        try:
            self._lock.rename(new_owner)
        except OSError as error:
            raise write_refused(self.path, error) from error
        self.owner = new_owner

    def close(self) -> None:
        """Close the log and release the lock. A second call does nothing. Raises WriterError if `fsync="close"` fails;
        the session is released nevertheless."""
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
        """Whether the log is empty."""
        return self._end == 0

    def _catch_up(self) -> None:
        """Find out where the log ends, after it was opened or a write failed. Reads only what was not read before."""
        if self._is_sure:
            return
        size = os.fstat(self._file.fileno()).st_size
        if size < self._end:
            self._end, self._lines, self._is_torn = 0, 0, False
        while chunk := os.pread(self._file.fileno(), min(_CHUNK_BYTES, size - self._end), self._end):
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
        # The end of these bytes, even if somebody else appends without the lock.
        end = self._file.tell()
        if end - written != self._end:
            self._end, self._lines, self._is_torn = 0, 0, False
            raise WriterError(
                f"{self.path}: somebody else writes to this log without the lock, or has truncated it",
                hint="let every writer take the lock; the record was written, but other bytes may be in its line",
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
    """A WriterError that names the file, for an error of the system."""
    wrapped = WriterError(f"{path}: {error.strerror or error}", hint=_HINT)
    wrapped.__cause__ = error
    return wrapped


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
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
    """Begin a session: take its lock for the initiating agent, and write the first record of its log.

    Without `session_id`, the id is `sess_` and a UUID. Raises WriterError if the session has records already, and what
    SessionWriter and its `append` raise; the session is released then.
    """
    session_id = f"sess_{uuid4()}" if session_id is None else session_id
    record = session_created(session_id, initiating_agent, pattern_type)
    # So that an invalid one is refused before a file is created.
    encode(record)
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
    """Write the record that completes a session, and return its place. The writer stays open, and may append more
    records. Raises what `append` raises."""
    return session.append(session_completed(session.session_id, session.owner))


def transfer_session(session: SessionWriter, new_owner: str, node: str | None = None) -> Place:
    """Hand a session over: write the record that says so, then put the new owner's name into the lock. Returns the
    place of the record.

    With `node`, to an owner on another machine, which goes on with `adopt_session` in a log of its own: the record is
    the hand-over, and nobody is asked. Close the writer afterwards.

    The lock is held all the time. If the new owner is in another process, close the writer afterwards, so that the
    other process can open its own. Crash window: after a kill between the two, the log names the new owner, and the
    lock, which nobody holds then, the old one. Raises InvalidName, and what `append` raises.
    """
    record = session_transferred(session.session_id, session.owner, new_owner, node)
    if node is not None and (not isinstance(node, str) or not node):
        raise InvalidName(
            f"{node!r} is not the name of a machine", hint="name a machine of the hub, a non-empty string"
        )
    if not isinstance(new_owner, str) or not new_owner:
        raise InvalidName(f"{new_owner!r} is not the name of an owner", hint="name an agent, a non-empty string")
    place = session.append(record)
    session.rename_owner(new_owner)
    return place


def adopt_session(
    root: str | os.PathLike[str], owner: str, session_id: str, from_node: str, fsync: Fsync = "never"
) -> SessionWriter:
    """Go on with a session that another machine has handed over: begin a log of the same name here with the record
    that says so, and return the writer. Raises InvalidName, SessionLocked, WriterError."""
    if not isinstance(from_node, str) or not from_node:
        raise InvalidName(f"{from_node!r} is not the name of a machine", hint="name the machine that it comes from")
    writer = SessionWriter(root, session_id, owner, fsync)
    try:
        writer.append(session_adopted(session_id, owner, from_node))
    except BaseException:
        writer.close()
        raise
    return writer


def session_created(session_id: str, agent_id: str, pattern_type: str) -> dict[str, Any]:
    """The first record of a session."""
    data = {"session_id": session_id, "agent_id": agent_id, "pattern": pattern_type}
    return {"event": "session:created", "data": data}


def session_completed(session_id: str, agent_id: str) -> dict[str, Any]:
    """The record that makes the index set the session's status to `completed`."""
    data = {"session_id": session_id, "agent_id": agent_id, "status": "completed"}
    return {"event": "session:completed", "data": data}


def session_transferred(session_id: str, old_owner: str, new_owner: str, node: str | None = None) -> dict[str, Any]:
    """The record of a hand-over, to another machine if one is named."""
    data = {"session_id": session_id, "agent_id": old_owner, "to_agent": new_owner}
    return {"event": "session:transfer", "data": data if node is None else {**data, "to_node": node}}


def session_adopted(session_id: str, owner: str, from_node: str) -> dict[str, Any]:
    """The record with which a session goes on on another machine."""
    data = {"session_id": session_id, "agent_id": owner, "from_node": from_node}
    return {"event": "session:adopted", "data": data}
