"""A plain reading of the Copilot CLI's events: each kind of request has its `completed` with the same id."""

from __future__ import annotations

from pathlib import Path

from .reading import Place, Reading, records_of

ASKED_OF_USER = ("permission", "user_input", "elicitation", "exit_plan_mode")


def read(root: Path) -> Reading:
    """Read every session, in a folder of its own or, as it was before, a file."""
    found = Reading()
    state = root / "session-state"
    for path in sorted([*state.glob("*/events.jsonl"), *state.glob("*.jsonl")]):
        found.sessions.add(path.parent.name if path.stem == "events" else path.stem)
        _read_log(root, path, found)
    return found


def _read_log(root: Path, path: Path, found: Reading) -> None:
    prompt: Place | None = None
    open_: dict[tuple[str, str], Place] = {}  # by what is asked and its id
    for place, record in records_of(root, path):
        data, who = record["data"], record.get("agentId") or "copilot"
        kind, _, what = record["type"].partition(".")
        if record["type"] == "user.message":
            prompt = place
            found.ask(place, "user", "copilot")
        elif record["type"] == "abort" and prompt:
            found.answered.add(prompt)
        elif record["type"] == "assistant.message":
            if who != "copilot":
                found.answered.update(value for key, value in open_.items() if key == ("subagent", who))
                found.say(place, who, "copilot")
            elif prompt:
                found.answered.add(prompt)
                found.say(place, who, "user")
        elif record["type"] == "tool.execution_start":
            open_["tool", data["toolCallId"]] = place
            found.ask(place, who, f"tool:{data['toolName']}")
        elif record["type"] == "subagent.started":
            open_["subagent", data["toolCallId"]] = place
            found.ask(place, "copilot", who)
        elif kind in ASKED_OF_USER and what == "requested":
            open_[kind, data["requestId"]] = place
            found.ask(place, who, "user")
        elif what in ("execution_complete", "completed", "failed"):
            asked = open_.get((kind, data.get("requestId") or data.get("toolCallId", "")))
            if asked:
                found.answered.add(asked)
