"""Without an extra, what needs it says in one line what to install, and the rest works; and nothing loads one early."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.support import reference, write_lines
from sidecar.service.supervisor import run_once

EXTRAS = ("networkx", "pyarrow", "psycopg", "mcp", "pydantic", "prometheus_client", "starlette", "uvicorn", "duckdb")
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r})); from sidecar.cli import main; main()"


def test_nothing_loads_an_extra_before_it_is_needed() -> None:
    code = "import sys, sidecar, sidecar.cli; from sidecar import Index; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    # peewee loads psycopg by itself, where it is installed.
    assert {*EXTRAS} & {*loaded} <= {"psycopg"}


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["mcp"], "mcp"),
        (["run", "--metrics", "127.0.0.1:0"], "metrics"),
        (["export", "--parquet", "OUT"], "arrow"),
        (["serve"], "web"),
        (["hub", "status"], "hub"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_missing_extra_is_one_line_that_says_what_to_install(tmp_path: Path, words: list[str], extra: str) -> None:
    root = tmp_path / "logs"
    write_lines(root / "responses/sessions/s.jsonl", {"event": "note", "timestamp": 1_735_500_000, "data": {}})
    run_once(reference(root), lambda _: None)
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    hub = ["--hub", "postgresql://127.0.0.1:1/none"] if extra == "hub" else []
    command = [sys.executable, "-c", WITHOUT, "--root", str(root), *hub, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"pip install 'agent-sidecar[{extra}]'" in line
    asked = [sys.executable, "-c", WITHOUT, "--root", str(root), "query", "search", "note"]
    assert subprocess.run(asked, capture_output=True, check=False).returncode == 0
