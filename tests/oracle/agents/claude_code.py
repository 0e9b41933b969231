"""A plain reading of Claude Code's logs.

A record names the one before it (`parentUuid`), so what is said can be followed back to the prompt that led to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .reading import Place, Reading, records_of

NO_PROMPT = ("<command-", "<local-command", "<bash-", "<task-notification", "<teammate-message", "Caveat: ")
"""Beginnings of what the terminal writes in the name of the user."""


def read(root: Path) -> Reading:
    """Read every log below `projects`."""
    found = Reading()
    for path in sorted(root.rglob("*.jsonl")):
        _read_log(root, path, found)
    return found


def _read_log(root: Path, path: Path, found: Reading) -> None:
    is_agent = path.stem.startswith("agent-")
    me = path.stem.removeprefix("agent-") if is_agent else "claude"
    led_to: dict[str, tuple[Place, str] | None] = {}  # by uuid: the prompt that led to a record, and who asked
    latest: dict[bool, tuple[Place, str]] = {}  # the latest prompt, in a side chain and in the main one
    calls: dict[str, Place] = {}
    for place, record in records_of(root, path):
        blocks, texts = _content(record)
        side = record.get("isSidechain") is True
        prompt = led_to.get(record.get("parentUuid") or "") or latest.get(side)
        results = [block for block in blocks if block["type"] == "tool_result"]
        uses = [block for block in blocks if block["type"] == "tool_use"]
        if record["type"] == "user" and results:
            for block in results:
                if block["tool_use_id"] in calls:
                    found.answered.add(calls[block["tool_use_id"]])
        elif record["type"] == "assistant" and uses:
            calls[uses[0]["id"]] = place
            found.ask(place, me, *_called(uses))
        elif record["type"] == "assistant" and texts:
            if prompt:
                found.answered.add(prompt[0])
                found.say(place, me, prompt[1])
        elif record["type"] == "user" and texts and texts[0].startswith("[Request interrupted"):
            if prompt:
                found.answered.add(prompt[0])
        elif _is_prompt(record, texts):
            who = "claude" if side else "user"
            prompt = latest[side] = (place, who)
            found.ask(place, who, *([me] if is_agent or not side else []))
        if place in found.asked or record["type"] == "assistant":  # else nobody but the terminal has said anything
            found.sessions.add(path.stem)
        if "uuid" in record:
            led_to[record["uuid"]] = prompt


def _content(record: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    message = record.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return [], [content]
    blocks = [block for block in content or [] if isinstance(block, dict)]
    return blocks, [block["text"] for block in blocks if block["type"] == "text"]


def _is_prompt(record: dict[str, Any], texts: list[str]) -> bool:
    if record["type"] != "user" or not texts or record.get("isMeta") or record.get("isCompactSummary"):
        return False
    return not texts[0].startswith(NO_PROMPT)


def _called(uses: list[dict[str, Any]]) -> list[str]:
    """Who is called: a record is about its first call, but the tools of all of them are named."""
    name, given = uses[0]["name"], uses[0]["input"]
    if name in ("Agent", "Task"):
        return [given[key] for key in ("name", "subagent_type") if given.get(key)]
    if name == "SendMessage":
        return [given[key] for key in ("to", "recipient") if given.get(key)]
    return [f"tool:{use['name']}" for use in uses]
