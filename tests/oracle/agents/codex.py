"""A plain reading of the Codex CLI's rollouts: one log a thread."""

from __future__ import annotations

from pathlib import Path

from .reading import Place, Reading, records_of

CALLS = ("function_call", "custom_tool_call", "local_shell_call", "tool_search_call")
OUTPUTS = ("function_call_output", "custom_tool_call_output", "tool_search_output")
ENDS = ("task_complete", "turn_complete", "turn_aborted")


def read(root: Path) -> Reading:
    """Read every rollout."""
    found = Reading()
    for path in sorted(root.rglob("rollout-*.jsonl")):
        thread = path.stem[len("rollout-2026-01-01T00-00-00-") :]
        found.sessions.add(thread)
        _read_log(root, path, thread, found)
    return found


def _read_log(root: Path, path: Path, thread: str, found: Reading) -> None:
    parent: str | None = None
    prompts: list[Place] = []  # of this turn, without an answer
    calls: dict[str, Place] = {}
    for place, record in records_of(root, path):
        payload = record["payload"]
        kind = payload.get("type")
        item = (payload.get("item") or {}).get("type")
        if record["type"] == "session_meta" and parent is None:
            source = payload.get("source")
            spawn = source.get("subagent", {}).get("thread_spawn", {}) if isinstance(source, dict) else {}
            parent = spawn.get("parent_thread_id") or payload.get("parent_thread_id")
        elif kind == "user_message" or item == "UserMessage":
            prompts.append(place)
            found.ask(place, parent or "user", thread)
        elif kind == "agent_message" or item == "AgentMessage":
            if prompts:
                found.answered.add(prompts.pop())
            found.say(place, thread, parent or "user")
        elif kind in ENDS:
            found.answered.update(prompts)
            prompts.clear()
        elif kind in CALLS:
            calls[payload.get("call_id") or payload["id"]] = place
            found.ask(place, thread, f"tool:{payload.get('name') or kind}")
        elif kind in OUTPUTS and payload["call_id"] in calls:
            found.answered.add(calls[payload["call_id"]])
