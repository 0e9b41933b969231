"""A session's life is told by records in its own log; nothing is registered anywhere else.

The index derives `session_registry` from them: who began the session, when, in which pattern, and that it is over.
"""

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

from sidecar.errors import InvalidName, WriterError

from .record import Place, encode
from .session import Fsync, SessionWriter


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
