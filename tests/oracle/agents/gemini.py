"""A plain reading of the Gemini CLI's chats. Calls stand in the reply, with their results, so only prompts can wait.

A rewind takes nothing back: the prompt that it goes back to was said, and nobody has answered it.
"""

from __future__ import annotations

from pathlib import Path

from .reading import Place, Reading, records_of


def read(root: Path) -> Reading:
    """Read every chat: a file of the main agent, or in a folder named for its parent's session one of a subagent."""
    found = Reading()
    for path in sorted(root.glob("tmp/*/chats/**/*.jsonl")):
        found.sessions.add(path.stem)
        is_main = path.parent.name == "chats"
        me, asker = ("gemini", "user") if is_main else (path.stem, path.parent.name)
        prompt: Place | None = None
        for place, record in records_of(root, path):
            if record.get("type") == "user":
                prompt = place
                found.ask(place, asker, me)
            elif record.get("type") == "gemini" and prompt:
                found.answered.add(prompt)
                calls = record.get("toolCalls") or []
                helpers = [call["agentId"] for call in calls if call.get("agentId")]
                found.say(place, me, asker, *(f"tool:{call['name']}" for call in calls), *helpers)
    return found
