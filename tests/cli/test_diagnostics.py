"""What the sidecar logs of its own work: nothing unless asked, and never what a log line holds."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.support import Stepped, command, once, reference, write_lines

SECRET = "the launch code is 0000"
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    write_lines(folder / "responses/sessions/s.jsonl", {"event": "agent:say", "timestamp": 1735500000, "data": SECRET})
    return folder


def stderr_of(*arguments: str | Path) -> str:
    return subprocess.run(command(*arguments), capture_output=True, check=True, text=True).stderr


def test_verbose_tells_a_rebuild_with_its_reason_the_start_the_first_scan_and_the_stop(root: Path) -> None:
    *logged, last = stderr_of("-v", "--root", root, "run", "--once").splitlines()
    assert last.startswith("1 entry indexed")
    assert all(re.match(rf"{STAMP} INFO sidecar\.[a-z.]+: ", line) for line in logged), logged
    text = "\n".join(logged)
    for part in ("catalog.db does not exist", "index rebuilt: 1 entries", f"started on {root}", "1 sources", "stopped"):
        assert part in text, (part, text)
    assert SECRET not in text


def test_without_verbose_a_run_prints_what_it_printed(root: Path) -> None:
    assert len(stderr_of("--root", root, "run", "--once").splitlines()) == 1


def test_verbose_may_stand_behind_the_command_and_twice_is_in_detail(root: Path) -> None:
    assert " INFO " in stderr_of("--root", root, "run", "--once", "-v")
    assert " DEBUG " in stderr_of("--root", root, "run", "--once", "-vv")
    assert " DEBUG " in stderr_of("-v", "--root", root, "run", "-v", "--once")


def test_an_error_is_logged_once_when_it_begins_and_once_when_it_ends(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sidecar")
    once(reference(root))
    with Stepped(reference(root)) as stepped:
        stepped.sidecar.faults.note("a/b.jsonl", "a/b.jsonl: denied")
        stepped.sidecar.faults.note("a/b.jsonl", "a/b.jsonl: denied")
        stepped.sidecar.faults.clear("a/b.jsonl")
        stepped.sidecar.faults.clear("a/b.jsonl")
    faults = [one.getMessage() for one in caplog.records if one.name == "sidecar.service.faults"]
    assert faults == ["error: a/b.jsonl: denied", "cleared: a/b.jsonl"]


def test_the_library_prints_no_warning_by_itself() -> None:
    code = "from sidecar.diagnostics import get_logger; get_logger('sidecar.x').error('something')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stderr == done.stdout == ""
