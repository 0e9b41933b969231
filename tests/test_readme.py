"""The README is short, has two commands to copy, and CI runs both. What it shows is executed by `test_docs.py`."""

from __future__ import annotations

import re
from pathlib import Path

import sidecar

REPOSITORY = Path(sidecar.__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()
LONGEST = 200
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
