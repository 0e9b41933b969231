"""The daemon's side: it only appends, under a lock a session, and knows nothing of the index.

    from sidecar.writer import create_session, complete_session

    with create_session("var/logs", "agent_explorer", "peer_discovery") as session:
        session.append({"event": "completion:request", "data": {"agent_id": "agent_explorer", "prompt": "Anyone?"}})
        complete_session(session)

Behind these names: `record` says what may be written, `lock` who may write; `session` writes one session and the
records of its life; `queue` keeps many open and queues for them; `events` writes event files and routes messages.
"""

from __future__ import annotations

from sidecar.writer.events import handle_completion_event, route_message
from sidecar.writer.record import detect_communication_pattern
from sidecar.writer.session import complete_session, create_session, transfer_session

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
    "complete_session",
    "create_session",
    "detect_communication_pattern",
    "handle_completion_event",
    "route_message",
    "transfer_session",
    "write_event",
]
