"""What every figure needs: a child process timed and weighed, medians, and what is printed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure: where, how large, how often."""

    folder: Path
    quick: bool = False
    repeat: int = 5
    scale: int = 1
    """Times the records of the rebuild's corpus."""

    def sized(self, full: int) -> int:
        """A count as it is, or a twentieth of it for a smoke run."""
        return max(1, full // 20) if self.quick else full

    def rounds(self, full: int | None = None) -> range:
        """As often as asked for, but twice in a smoke run."""
        return range(min(2, self.repeat) if self.quick else full or self.repeat)


class Goal(NamedTuple):
    """What is to be reached."""

    bound: float
    of: str = "ours"
    """`ours` or `ratio`."""
    least: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {self.bound:g}{' x' if self.of == 'ratio' else ''}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    ours: float
    unit: str
    beside: str = ""
    """What it is compared with."""
    other: float | None = None
    ratio: float | None = None
    """Median of the ratios within a round, where there were several; else of the two."""
    goal: Goal | None = None
    note: str = ""

    def compared(self) -> float | None:
        """How many times the other it is."""
        return self.ratio if self.ratio is not None else self.ours / self.other if self.other else None

    def reached(self) -> bool | None:
        """Whether the goal is; None where there is none."""
        value = None if self.goal is None else self.ours if self.goal.of == "ours" else self.compared()
        if self.goal is None or value is None:
            return None
        return value >= self.goal.bound if self.goal.least else value <= self.goal.bound


def quantile(values: Iterable[float], share: float) -> float:
    """The value that this share of all does not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


# ---- processes


class Run(NamedTuple):
    """A child process that ended well."""

    wall: float
    cpu: float
    """Seconds of all its processes together."""
    peaks: list[float]
    """The most memory of each of its processes, in MB."""
    out: str


def python(script: str, *arguments: object) -> list[str]:
    """The command line of a script beside this one, or of a module (`-m`)."""
    return [
        sys.executable,
        *(["-m", script[3:]] if script.startswith("-m ") else [str(HERE / script)]),
        *map(str, arguments),
    ]


def sidecar(root: Path, *arguments: object) -> list[str]:
    """The command line of the real `sidecar`."""
    return python("-m sidecar", "--root", root, *arguments)


def run(command: list[str]) -> Run:
    """Run a command to its end. Raises RuntimeError with what it said where it fails."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as complaints:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=complaints)
        peaks: dict[int, float] = {}
        stop = threading.Event()
        weigher = threading.Thread(target=_weigh, args=(process.pid, peaks, stop))
        weigher.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            stop.set()
            weigher.join()
            if process.returncode is None:
                process.kill()
        for file in (out, complaints):
            file.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: status {process.returncode}: {complaints.read()[-2000:]}")
        return Run(wall, usage.ru_utime + usage.ru_stime, list(peaks.values()), out.read())


def _weigh(pid: int, peaks: dict[int, float], stop: threading.Event) -> None:
    while not stop.wait(0.05):
        for one in family(pid):
            with suppress(OSError, KeyError, ValueError):
                peaks[one] = memory(one)[1]


def family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in path.read_text().split():
                yield from family(int(child))


def memory(pid: int) -> tuple[float, float]:
    """Memory of a process in MB: now, and at most."""
    told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(told["VmRSS"].split()[0]) / 1000, int(told["VmHWM"].split()[0]) / 1000


def cpu(pid: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def following(root: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A real `sidecar run`, stopped at the end; what it says is shown where it fails."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(python("-m sidecar", "--root", root, *options, "run"), stdout=said, stderr=said)
        try:
            until((root / "index" / "running.json").exists, 120, process)
            yield process
        finally:
            stop(process)
            if process.returncode:
                said.seek(0)
                print(said.read().decode()[-2000:], file=sys.stderr)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(condition: Callable[[], object], seconds: float, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until something holds. Raises TimeoutError where it does not in time, or where the process has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            raise TimeoutError("waited in vain")
        time.sleep(0.003)


def entries(root: Path) -> int:
    """Entries that a reader sees now, in all daily files."""
    total = 0
    for path in (root / "index" / "daily").glob("*.db"):
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as day:
            total += day.execute("SELECT COUNT(*) FROM entry").fetchone()[0]
    return total
