"""The README is short, begins with the reader's own agents, has two commands to copy, and CI runs both. What it shows
is executed by `test_docs.py`, in a home with logs of agent tools."""

from __future__ import annotations

import re
from pathlib import Path

import sidecar

REPOSITORY = Path(sidecar.__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()
LONGEST = 200
"""Lines."""
FIRST_SCREEN = 45
"""Lines."""


def commands() -> list[str]:
    """What is to be typed into a shell as it is."""
    return [block.strip() for block in re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]


def test_the_readme_is_short_and_has_a_picture_near_its_top() -> None:
    lines = README.splitlines()
    assert len(lines) <= LONGEST
    assert any(line.startswith("![") for line in lines[:20])


def test_the_readme_has_two_commands_and_ci_runs_them() -> None:
    set_up, tests = commands()
    scripts = (REPOSITORY / ".ci" / "run").read_text() + (REPOSITORY / "task").read_text()
    assert set_up in scripts
    assert tests in scripts


def test_the_first_screen_shows_the_agents_of_whoever_reads_it() -> None:
    screen = "\n".join(README.splitlines()[:FIRST_SCREEN])
    typed = re.findall(r"^\$ (sidecar .*)$", screen, re.MULTILINE)
    assert typed[0] == "sidecar --preset claude-code run --once"
    assert any(line.startswith("sidecar --preset claude-code query") for line in typed[1:])
