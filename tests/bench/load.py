"""A daemon that writes: so many records a second, in turn over so many session files, one `write` each.

    python tests/bench/load.py ROOT RATE SECONDS FILES

It says `ready`, begins when it is given a line, and tells at the end when it began and ended. A record bears the time
at which it was written, so that whoever sees it knows how old it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import corpus
import orjson
from measure import python, stop

AGENT, PEER = "agent_lead_01", "agent_coder_02"
TEXT = "The first share of results is without correlation. " * 10


def files(root: Path, count: int) -> list[Path]:
    """The session files that it writes."""
    return [root / "responses" / "sessions" / f"load_{number:02}.jsonl" for number in range(count)]


def prepare(root: Path, count: int) -> None:
    """Give each file a first record, so that it is there when others begin to look."""
    for path in files(root, count):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(corpus.request(time.time(), path.stem, AGENT, PEER, "req_first", TEXT))


def write(root: Path, rate: float, seconds: float, count: int) -> dict[str, Any]:
    """Write, on time as far as the machine can; ends when all is written."""
    paths = files(root, count)
    kinds = [[_parts(line) for line in _templates(path.stem)] for path in paths]
    handles = [os.open(path, os.O_WRONLY | os.O_APPEND) for path in paths]
    print("ready", flush=True)
    sys.stdin.readline()
    total, written = int(rate * seconds), 0
    began, clock = time.time(), time.perf_counter()
    while written < total:
        due = min(total, int((time.perf_counter() - clock) * rate) + 1)
        for number in range(written, due):
            turn, which = divmod(number, count)
            head, middle, tail = kinds[which][turn & 1]
            os.write(handles[which], b"%b%.6f%b%012x%b" % (head, time.time(), middle, turn >> 1, tail))
        written = due
        if written < total:
            time.sleep(0.0005)
    return {"written": written, "began": began, "ended": time.time()}


def _templates(name: str) -> tuple[str, str]:
    """A request and its result."""
    return corpus.request(0, name, AGENT, PEER, "req_@", TEXT), corpus.result(0, name, PEER, "req_@", TEXT)


def _parts(line: str) -> tuple[bytes, bytes, bytes]:
    """A line without its time and the number of its correlation."""
    head, rest = line.encode().split(b"0.000000")
    middle, tail = rest.split(b"@")
    return head, middle, tail


# ---- started by others


@contextmanager
def child(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said `ready`; it ends with the block."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{' '.join(command)} did not begin")
        yield process
    finally:
        stop(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def outcome(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Wait for what a child tells at its end."""
    assert process.stdout is not None
    told: dict[str, Any] = orjson.loads(process.stdout.readline())
    process.wait()
    return told


@contextmanager
def writing(root: Path, rate: float, seconds: float, count: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes from now on."""
    with child(python("load.py", root, rate, seconds, count)) as process:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        yield process


if __name__ == "__main__":
    print(orjson.dumps(write(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))).decode())
