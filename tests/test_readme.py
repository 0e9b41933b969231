"""What the README shows is executed here, in a copy of the repository's example."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import Index
from sidecar.config.settings import load_settings
from sidecar.service.supervisor import run_once

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of the README in a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration and the example logs, without an index, as the working folder."""
    shutil.copy(REPOSITORY / "config.yaml", tmp_path)
    shutil.copytree(REPOSITORY / "var", tmp_path / "var", ignore=shutil.ignore_patterns("index"))
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    script = bin_folder / "sidecar"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sidecar "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_sessions_in_the_readme_print_what_it_shows(example: Path) -> None:
    commands = 0
    for block in blocks("console"):
        for session in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, shown = session.partition("\n")
            done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=example, check=False)
            assert done.returncode == 0, (line, done.stderr)
            assert fits(shown, done.stdout + done.stderr), (line, done.stdout, done.stderr)
            commands += 1
    assert commands >= 10


def fits(shown: str, printed: str) -> bool:
    """Whether the lines shown are the lines printed; `...` stands for anything. Spaces at line ends do not count."""
    pattern = ".*".join(map(re.escape, trimmed(shown).split("...")))
    return re.fullmatch(pattern, trimmed(printed), re.DOTALL) is not None


def trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def test_the_library_code_in_the_readme_runs(example: Path) -> None:
    run_once(load_settings(root=example / "var" / "logs", preset="reference"), lambda _: None)
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)


def test_the_configuration_in_the_readme_indexes_the_lines_in_the_readme(tmp_path: Path) -> None:
    (lines,) = blocks("json")
    (configuration,) = blocks("yaml")
    (tmp_path / "config.yaml").write_text(configuration)
    log = tmp_path / "logs" / "bus" / "2025-01-07.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(lines + '{"kind": "shout", "at": "2025-01-07T10:00:00Z", "sender": {"id": "planner"}}\n')
    run_once(load_settings(tmp_path / "config.yaml"), lambda _: None)
    with Index(tmp_path / "logs") as index:
        ask, reply, shout = index.timeline()
        assert ask.has_response and ask.participating_agents == ("planner", "coder")
        assert reply.participating_agents == ("coder", "planner")
        assert ask.correlation_id == reply.correlation_id == "17"
        assert shout.pattern_type == "broadcast"


def test_the_units_in_the_readme_are_ones_that_systemd_accepts(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    units = []
    for unit in blocks("ini"):
        name = unit.partition("\n")[0].rpartition("/")[2]
        units.append(tmp_path / name)
        units[-1].write_text(unit.replace("/opt/sidecar/bin/sidecar", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if any(unit.name in line for unit in units)]
    assert units and not complaints, done.stderr


def test_ci_runs_the_set_up_and_the_tests_as_the_readme_gives_them() -> None:
    commands = [block.strip() for block in blocks("sh") if "pytest" in block]
    script = (REPOSITORY / ".ci" / "run").read_text()
    set_up, _, tests = commands[0].rpartition(" && ")
    assert set_up in script
    assert tests in script
