"""Disks that really fail: small file systems, limits of a process, and calls that the kernel is made to fail."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from helpers.support import HANG


def run(*arguments: str | Path) -> str:
    """Run a command. Returns what is wrong; empty if nothing is."""
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False)
    return done.stderr.strip() or f"status {done.returncode}" if done.returncode else ""


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """Mount something on a folder, in this process's own view. Skips the test if that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    if why := run("mount", *arguments, folder):
        pytest.skip(f"cannot mount: {why}")
    try:
        yield folder
    finally:
        run("umount", "-l", folder)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A separate file system with this many kilobytes."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=755", "none"):
        yield folder


def fill(folder: Path, leaving: int = 0) -> Path:
    """Leave this many bytes free on the disk of a folder. Returns the file that takes up the others."""
    filler = folder / "filler"
    with open(filler, "ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65536))
    with suppress(OSError), open(filler, "ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    os.truncate(filler, max(0, filler.stat().st_size - leaving))
    return filler


@contextmanager
def limited(pid: int, what: int, soft: int) -> Iterator[None]:
    """Give a process a lower limit during a `with` statement."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


@contextmanager
def failing(pid: int, calls: str, error: str, *options: str) -> Iterator[None]:
    """Make these calls of a running process fail for a while. Skips the test if processes cannot be traced."""
    if shutil.which("strace") is None:
        pytest.skip("there is no `strace` to make calls fail")
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert tracer.stderr is not None
    try:
        line = tracer.stderr.readline().decode()
        while "Requested path" in line:  # it says where a link leads
            line = tracer.stderr.readline().decode()
        if "attached" not in line:
            pytest.skip(f"cannot trace: {line.strip()}")
        os.set_blocking(tracer.stderr.fileno(), False)
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        deadline = time.monotonic() + HANG
        while tracer.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                tracer.stderr.read()  # a full pipe would hold it up
            time.sleep(0.01)
        tracer.kill()
        tracer.communicate()


AS_NOBODY = """
import os, pkgutil, importlib, sidecar, watchdog.observers.inotify, encodings.idna
for module in pkgutil.walk_packages(sidecar.__path__, "sidecar."):
    importlib.import_module(module.name)  # Python itself may lie where only root can read
from sidecar.config.settings import load_settings
from sidecar.service.supervisor import run_once
import tempfile, pathlib
with tempfile.TemporaryDirectory() as folder:  # whatever is loaded late is loaded now
    pathlib.Path(folder, "responses/sessions").mkdir(parents=True)
    pathlib.Path(folder, "responses/sessions/s.jsonl").write_bytes(b'{"event": "x", "timestamp": 1735500000}\\n')
    run_once(load_settings(root=pathlib.Path(folder)), lambda _: None)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
"""
"""Python that makes a process of root's nobody's."""

AS_ITSELF = ""


def without_privileges() -> str:
    """To be run by a process before it starts, so that permissions apply to it."""
    return AS_NOBODY if os.geteuid() == 0 else AS_ITSELF


def given_away(*folders: Path) -> None:
    """Make the user `nobody` the owner of these folders and everything in them, if this process is root."""
    if os.geteuid() == 0:
        for folder in folders:
            for path in (folder, *folder.rglob("*")):
                os.lchown(path, 65534, 65534)


LOCKING = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
database.execute("PRAGMA locking_mode = " + sys.argv[2])
database.execute("BEGIN " + ("EXCLUSIVE" if sys.argv[2] == "EXCLUSIVE" else "IMMEDIATE"))
print("locked", flush=True)
time.sleep(3600)
"""


@contextmanager
def locked_by_another(database: Path, mode: str = "NORMAL") -> Iterator[Callable[[], None]]:
    """Another process holds the write lock of a database, or an exclusive one. Yields a function that ends it."""
    process = subprocess.Popen([sys.executable, "-c", LOCKING, database, mode], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"locked\n"
        yield process.kill
    finally:
        process.kill()
        process.communicate()
