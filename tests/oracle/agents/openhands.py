"""A plain reading of OpenHands' events, one a file: an action waits until an event with its call's id comes.

A prompt waits until its session's agent has said something, or has finished.
"""

from __future__ import annotations

from pathlib import Path

from .reading import Place, Reading, records_of

OBSERVED = ("ObservationEvent", "UserRejectObservation", "AgentErrorEvent")


def read(root: Path) -> Reading:
    """Read every conversation and its subagents."""
    found = Reading()
    for folder in sorted((root / "conversations").rglob("events")):
        session = folder.parent.name
        found.sessions.add(session)
        prompts: list[Place] = []
        has_spoken = False
        actions: dict[str, Place] = {}
        observed: set[str] = set()
        for path in sorted(folder.glob("event-*.json")):
            for place, record in records_of(root, path):
                kind, call = record["kind"], record.get("tool_call_id", "")
                if kind == "MessageEvent" and record["source"] == "user":
                    prompts.append(place)
                    found.ask(place, "user", "agent")
                elif kind == "MessageEvent" or (kind == "ActionEvent" and record["tool_name"] == "finish"):
                    has_spoken = True
                    found.say(place, "agent", "user")
                elif kind == "ActionEvent":
                    actions[call] = place
                    found.ask(place, "agent", record["action"].get("subagent_type") or f"tool:{record['tool_name']}")
                elif kind in OBSERVED:
                    observed.add(call)
        found.answered.update(place for call, place in actions.items() if call in observed)
        found.answered.update(prompts if has_spoken else [])
    return found
