"""A signal ends a sidecar in every state that it can be in, and the next run has every row."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.corpora import write_tree
from helpers.support import HANG, eventually, indexed, modelled, reference, running, with_constants, write_lines
from sidecar.service.supervisor import run_once

LINE = {"event": "x", "timestamp": 1735500000}

SIGNALLED = """
import os, signal, sys, threading, time
from sidecar.cli.app import main
{hook}
sys.argv = ["sidecar", "--root", {root!r}, *{words!r}]
main()
"""
"""A real `sidecar` that a hook sends a signal at a step of its own."""


BEFORE = """
import {module} as module
real = module.{name}
def signalled(*values, **options):
    module.{name} = real
    os.kill(os.getpid(), signal.SIGTERM)
    return real(*values, **options)
module.{name} = signalled
"""

STATES = {
    "before the lock": ("sidecar.service.supervisor", "root_locked"),
    "at the check of the index": ("sidecar.service.supervisor", "repair"),
    "in a rebuild": ("sidecar.bulk.rebuild", "load"),
    "before a swap": ("sidecar.store.layout", "commit_swap"),
    "as it looks for an unfinished swap": ("sidecar.store.layout", "finish_swap"),
    "while it reads a file": ("sidecar.service.daemon", "read_next"),
}


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    write_tree(folder, 1, sessions=3, lines=30, events=3)
    return folder


def whole(root: Path) -> None:
    run_once(reference(root), lambda _: None)
    assert indexed(root) == modelled(root)


@pytest.mark.parametrize("state", STATES)
def test_a_signal_ends_a_run_in_every_state(logs: Path, state: str) -> None:
    module, name = STATES[state]
    if state == "while it reads a file":
        run_once(reference(logs), lambda _: None)
        write_lines(logs / "responses/sessions/new.jsonl", *[LINE] * 50)
    hook = BEFORE.format(module=module, name=name)
    script = SIGNALLED.format(hook=hook, root=str(logs), words=["run"])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=HANG)
    assert done.returncode in (0, -signal.SIGTERM), done.stderr
    assert "Traceback" not in done.stderr
    whole(logs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_whose_root_is_gone(logs: Path, number: int) -> None:
    with running(logs) as process:
        logs.rename(logs.with_name("elsewhere"))
        logs.mkdir()
        eventually(lambda: waits(process))
        process.send_signal(number)
        assert process.wait(HANG) in (0, -number)
    logs.rmdir()
    logs.with_name("elsewhere").rename(logs)
    whole(logs)


def waits(process: subprocess.Popen[bytes]) -> bool:
    assert process.stderr is not None
    return b"waiting for it" in process.stderr.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_that_cannot_write(logs: Path, number: int) -> None:
    run_once(reference(logs), lambda _: None)
    write_lines(logs / "responses/sessions/new.jsonl", *[{**LINE, "data": {"agent_id": f"a{n}"}} for n in range(5000)])
    limit = "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))"
    script = SIGNALLED.format(hook=limit, root=str(logs), words=["run"])
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        eventually(lambda: "trouble" in reported(logs) and '"trouble":[]' not in reported(logs))
        process.send_signal(number)
        assert process.wait(HANG) in (0, 1, -number)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    whole(logs)


def reported(root: Path) -> str:
    try:
        return (root / "index/running.json").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_does_not_return_is_ended_all_the_same(logs: Path, number: int) -> None:
    stuck = (
        "import sidecar.service.daemon as daemon\n"
        "def step(*_):\n    print('stuck', flush=True)\n    time.sleep(1e6)\n"
        "daemon.Sidecar.step = step\n" + with_constants("sidecar.cli.run", GRACE_SECONDS=0.2)
    )
    script = SIGNALLED.format(hook=stuck, root=str(logs), words=["run"])
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"stuck\n"
        process.send_signal(number)
        assert process.wait(HANG) == -number
    whole(logs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_that_is_answering_a_request(logs: Path, number: int) -> None:
    with running(logs) as process:
        write_lines(logs / "responses/sessions/new.jsonl", *[LINE] * 50)
        for count in range(200):
            path = logs / f"index/requests/{count}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text('{"drop": []}')
        process.send_signal(number)
        assert process.wait(HANG) == 0
    whole(logs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_archive_job_and_the_next_one_goes_on(logs: Path, number: int) -> None:
    run_once(reference(logs), lambda _: None)
    hook = BEFORE.format(module="sidecar.archive.job", name="archive").replace("SIGTERM", signal.Signals(number).name)
    script = SIGNALLED.format(hook=hook, root=str(logs), words=["archive", "--older-than", "0s"])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=HANG)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    whole(logs)
