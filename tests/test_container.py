"""Logs mounted read-only with a writable volume on `index`, as in a container; in a mount namespace of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.support import write_lines

SCRIPT = """
set -e
mount --bind "$1" "$1"
mount --bind "$2" "$1/index"
mount -o remount,bind,ro "$1"
! touch "$1/probe" 2>/dev/null
"$3" -m sidecar --root "$1" run --once --json
mount -o remount,bind,ro "$1/index"
"$3" -m sidecar --root "$1" query timeline --json
"""


def may_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0


def test_read_only_logs_with_a_writable_index_are_indexed_and_then_read_where_nothing_can_be_written(
    tmp_path: Path,
) -> None:
    if not may_unshare():
        pytest.skip("this user may not make mount namespaces")
    logs, volume = tmp_path / "logs", tmp_path / "volume"
    write_lines(logs / "responses" / "sessions" / "s.jsonl", {"event": "note", "timestamp": 1_735_500_000})
    (logs / "index").mkdir()
    volume.mkdir()
    command = ["unshare", "-m", "sh", "-c", SCRIPT, "sh", logs, volume, sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"id":"s:0"' in done.stdout.replace(" ", "").splitlines()[-1]
