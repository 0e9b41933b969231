"""For programs that write logs: append records to sessions, each under its own lock, and write event files.

It knows nothing of the index, and shares only the errors with the rest of the package.

    from sidecar.writer import create_session, complete_session

    with create_session("var/logs", "agent_explorer", "peer_discovery") as session:
        session.append({"event": "completion:request", "data": {"agent_id": "agent_explorer", "prompt": "Anyone?"}})
        complete_session(session)

The modules: `record` checks and encodes records, `lock` is the lock of a session, `session` writes one session, `queue`
queues records for many sessions, and `events` writes event files and routes messages.
"""

from __future__ import annotations

from sidecar.writer.events import handle_completion_event, route_message
from sidecar.writer.record import detect_communication_pattern
from sidecar.writer.session import adopt_session, complete_session, create_session, transfer_session

from .events import write_event
from .queue import ResponseLogWriter
from .record import MissingSessionId, Place
from .session import Fsync, SessionWriter

__all__ = [
    "Fsync",
    "MissingSessionId",
    "Place",
    "ResponseLogWriter",
    "SessionWriter",
    "adopt_session",
    "complete_session",
    "create_session",
    "detect_communication_pattern",
    "handle_completion_event",
    "route_message",
    "transfer_session",
    "write_event",
]
