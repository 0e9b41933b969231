"""The presets of agent tools against a plain reading of the same logs, which knows nothing of the formats.

The logs are those in `tests/samples/home`, and, where the environment variable SIDECAR_AGENT_SAMPLES names a folder
with one home per tool in it, all logs there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from oracle.agents import claude_code, codex, copilot, gemini, openhands
from oracle.agents.reading import Place, Reading
from sidecar import Entry, Index
from sidecar.config.settings import load_settings
from sidecar.health.verify import compare
from sidecar.service.supervisor import run_once

HOME = Path(__file__).parent.parent / "samples" / "home"
ELSEWHERE = os.environ.get("SIDECAR_AGENT_SAMPLES", "")


class Tool(NamedTuple):
    """A tool: its preset, the folder below a home where its logs are, and its plain reading."""

    preset: str
    folder: str
    read: Callable[[Path], Reading]


TOOLS = [
    Tool("claude-code", ".claude/projects", claude_code.read),
    Tool("codex", ".codex", codex.read),
    Tool("copilot", ".copilot", copilot.read),
    Tool("gemini", ".gemini", gemini.read),
    Tool("openhands", ".openhands", openhands.read),
]


def homes() -> list[Path]:
    return [HOME, *(path for path in sorted(Path(ELSEWHERE).iterdir()) if path.is_dir())] if ELSEWHERE else [HOME]


LOGS = [
    pytest.param(tool, home / tool.folder, id=f"{tool.preset}-{home.name}")
    for tool in TOOLS
    for home in homes()
    if (home / tool.folder).is_dir()
]


def entries_of(tool: Tool, root: Path, index_folder: Path) -> tuple[dict[Place, Entry], set[str]]:
    """All entries by their place, and the ids of all sessions."""
    settings = load_settings(root=root, preset=tool.preset, index=index_folder)
    run_once(settings, lambda _: None)
    assert compare(settings, lambda _: None).holds
    with Index(root, index=index_folder) as index:
        assert not list(index.rejected())
        sessions = {one.session_id for one in index.sessions()}
        return {Place(entry.file_path, entry.line_number): entry for entry in index.timeline()}, sessions


@pytest.mark.parametrize(("tool", "root"), LOGS)
def test_a_preset_says_what_a_plain_reading_of_the_logs_says(tool: Tool, root: Path, tmp_path: Path) -> None:
    read = tool.read(root)
    entries, sessions = entries_of(tool, root, tmp_path / "index")
    asked = {place for place, entry in entries.items() if entry.requests_response}
    assert asked == read.asked
    assert {place for place in asked if not entries[place].has_response} == read.waiting
    spoke = {
        place: (entry.author, frozenset(entry.participating_agents) - {entry.author})
        for place, entry in entries.items()
    }
    assert {place: spoke.get(place) for place in read.spoke} == read.spoke
    assert sessions == read.sessions


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.preset)
def test_the_samples_have_requests_with_and_without_an_answer(tool: Tool) -> None:
    read = tool.read(HOME / tool.folder)
    assert read.waiting and read.answered
