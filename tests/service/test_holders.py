"""Whoever keeps the sidecar from a lock is named: by the kernel's list, not by what a file says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from helpers.support import command, reference, running, write_lines
from sidecar.errors import RootLocked
from sidecar.health.status import status_of
from sidecar.service.faults import index_fault
from sidecar.service.lock import LOCK_FILE, RootLock
from sidecar.service.supervisor import run_once

LINE = {"event": "x", "timestamp": 1735500000}

HOLD = """
import fcntl, sys
file = open(sys.argv[1], sys.argv[2])
{lock}
print("held", flush=True)
sys.stdin.read()
"""
FLOCK = "fcntl.flock(file, fcntl.LOCK_EX)"
READ_LOCK = "fcntl.lockf(file, fcntl.LOCK_SH, 1, {byte})"


@contextmanager
def holding(path: Path, lock: str, mode: str = "rb") -> Iterator[int]:
    """Another process holds a lock on a file."""
    words = [sys.executable, "-c", HOLD.format(lock=lock), str(path), mode]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == b"held\n"
        yield process.pid
        process.stdin.close()


def test_the_process_that_holds_the_root_is_named_whoever_the_lock_names(tmp_path: Path) -> None:
    write_lines(tmp_path / "responses/sessions/s.jsonl", LINE)
    run_once(reference(tmp_path), lambda _: None)
    lock = tmp_path / "index" / LOCK_FILE
    lock.write_bytes(orjson.dumps({"pid": os.getpid(), "job": "run", "since": 0.0}))
    with holding(lock, FLOCK) as pid:
        with pytest.raises(RootLocked, match=rf"process {pid} \(python.*`sidecar run`, process {os.getpid()}"):
            RootLock(tmp_path / "index").acquire("run")
        assert status_of(reference(tmp_path)).running == pid


def test_the_holder_that_the_lock_names_is_told_with_its_job(tmp_path: Path) -> None:
    write_lines(tmp_path / "responses/sessions/s.jsonl", LINE)
    with running(tmp_path) as process:
        done = subprocess.run(command("--root", tmp_path, "run"), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert f"`sidecar run`, process {process.pid}" in done.stderr


@pytest.mark.parametrize("byte", [120, 121])
def test_who_may_only_read_and_keeps_the_writer_out_is_named(tmp_path: Path, byte: int) -> None:
    write_lines(tmp_path / "responses/sessions/s.jsonl", LINE)
    run_once(reference(tmp_path), lambda _: None)
    shared = tmp_path / "index/catalog.db-shm"
    shared.touch()
    with holding(shared, READ_LOCK.format(byte=byte)) as pid:
        fault = index_fault(tmp_path / "index", RuntimeError("database is locked"))
    assert f"catalog.db is held by process {pid} (" in fault
    assert index_fault(tmp_path / "index", RuntimeError("database is locked")) == "index: database is locked"
