"""The reference's four questions, under its names. Each equals the reference's SQL over all days."""

from __future__ import annotations

import time
from typing import Any

from sidecar.records import PeerInteraction, PendingRequest
from sidecar.times import duration

from . import all_days
from .arguments import as_indexed
from .filters import Filter
from .questions import PEERS, PENDING, ROLES, Question
from .snapshot import Snapshot


class ReferenceQueries:
    """What `Index` answers in the reference's terms."""

    _files: Snapshot

    def find_peer_interactions(self, agent_id: str, time_window: float | str) -> list[PeerInteraction]:
        """Entries of the pattern `peer_to_peer` that an agent is a participant of, in the order of time.

        `time_window` is how far back to look, in seconds or as an age: entries at exactly that age are not included.
        Raises BadTime.
        """
        after = time.time() - duration(time_window)
        wanted = Filter(after=after, agent=as_indexed(agent_id, "agent_id"), pattern="peer_to_peer")
        return self._answers(PEERS, wanted)

    def get_agent_role_history(self, agent_id: str, session_id: str) -> list[dict[str, Any]]:
        """The roles of an agent in a session: one `{"timestamp": ..., "role": ...}` per entry in which it has one.

        >>> index.get_agent_role_history("agent_viz", "sess_team_456")[-1]
        {'timestamp': 1735500910.0, 'role': 'peer'}
        """
        agent = as_indexed(agent_id, "agent_id")
        rows = self._answers(ROLES, Filter(agent=agent, session=as_indexed(session_id, "session_id")))
        return [{"timestamp": timestamp, "role": roles[agent]} for timestamp, roles in rows if agent in roles]

    def find_pending_requests(self, time_limit: float | str | None = 300) -> list[PendingRequest]:
        """Requests that expect a response and have none, in the order of time.

        `time_limit` is the age that they are younger than, in seconds or as an age; None for all. Raises BadTime.
        """
        after = None if time_limit is None else time.time() - duration(time_limit)
        return self._answers(PENDING, Filter(after=after, pending=True))

    def _answers(self, question: Question, wanted: Filter) -> list[Any]:
        """What a question wants of all entries that match, in the order of time."""
        return all_days.answers(self._files, question, wanted)

    def get_session_participants(self, session_id: str) -> list[str]:
        """The participants of all entries of a session, sorted by name.

        >>> index.get_session_participants("sess_team_456")
        ['agent_analyst', 'agent_lead', 'agent_viz']
        """
        session = as_indexed(session_id, "session_id")
        without = all_days.days_without(self._files, [session])
        return sorted(set(self._files.of_all_days(lambda day: day.participants(session), without=without)))
