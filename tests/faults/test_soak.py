"""A soak test: days of log time at full speed, with all kinds of faults mixed, under one sidecar that must not grow.

Writers are killed in the midst of lines, logs are rotated, truncated and written anew, event files appear, index files
are damaged, readers ask all the while. At the end live = rebuilt = model.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median

import orjson

from helpers.corpora import BASE, DAY
from helpers.support import HANG, command, eventually, everything, modelled, rebuilt, reference, scratch
from helpers.tally import Tally
from sidecar import Index, SidecarError
from sidecar.health.status import status_of
from sidecar.service.supervisor import rebuild

WRITERS = 3
SESSIONS = 12
"""Of each writer."""
DAYS = 12
LARGEST = 60_000
"""Bytes from which a log is rotated, so that what is compared at the end stays small whatever was written."""

FAULT = "soak: traffic, rotation, truncation, kills of writers, damage, readers"


def record(chance: random.Random, number: int, now: float) -> dict[str, object]:
    kind = chance.choice(["completion:request", "completion:result", "agent:say", "agent:request", "a:error"])
    data = {"agent_id": f"agent_{chance.randrange(40)}", "text": "x" * chance.choice([0, 50, 400])}
    if chance.random() < 0.3:
        data["role"] = f"role_{chance.randrange(9)}"
    if chance.random() < 0.5:
        data["to_agent"] = f"agent_{chance.randrange(40)}"
    return {"event": kind, "timestamp": now, "correlation_id": f"{now:.0f}_{number // 2}", "data": data}


class Writer:
    """A process that writes some sessions until it is killed in the middle of a line."""

    def __init__(self, root: Path, name: int, seed: int, now: float) -> None:
        self.name = name
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._write(root / "responses/sessions", name, random.Random(seed), now)
            finally:
                os._exit(1)

    def _write(self, folder: Path, name: int, chance: random.Random, now: float) -> None:
        number = 0
        while True:
            log = folder / f"w{name}_{chance.randrange(SESSIONS)}.jsonl"
            self._trouble(log, chance)
            lines = b""
            for _ in range(chance.choice([1, 1, 5, 40])):
                number += 1
                lines += orjson.dumps(record(chance, number, now + number * 0.01)) + b"\n"
            fd = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            size = os.fstat(fd).st_size
            if size == 0:
                os.write(fd, orjson.dumps({"event": "agent:spawn", "timestamp": now}) + b"\n")
            elif os.pread(fd, 1, size - 1) != b"\n":
                os.write(fd, b"\n")  # ends what a writer before had torn
            cut = chance.randrange(len(lines))
            os.write(fd, lines[:cut])
            time.sleep(chance.choice([0, 0, 0.002, 0.02]))
            os.write(fd, lines[cut:])
            os.close(fd)

    def _trouble(self, log: Path, chance: random.Random) -> None:
        if not log.exists():
            return
        if log.stat().st_size > LARGEST:
            part = log.with_suffix(".jsonl.1")
            kind = chance.randrange(3)
            if kind == 2 or part.exists():
                # The log goes before its part: an index keeps a part that is missing, as long as the log goes on.
                log.unlink()
                part.unlink(missing_ok=True)
            elif kind == 0:
                log.replace(part)
            else:
                shutil.copyfile(log, part)
                os.truncate(log, 0)
            if not log.exists():
                log.touch()
        elif chance.random() < 0.01:
            os.truncate(log, chance.randrange(log.stat().st_size + 1))

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def event_file(root: Path, chance: random.Random, number: int, now: float) -> None:
    folder = root / f"events/day_{number % 7}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"evt_{now:.3f}_{number}.json"
    content = orjson.dumps(record(chance, number, now))
    if number % 2:
        path.write_bytes(content)
    else:
        path.with_suffix(".tmp").write_bytes(content)
        path.with_suffix(".tmp").replace(path)


def damage(root: Path, chance: random.Random) -> None:
    files = [root / "index/catalog.db", *(root / "index/daily").glob("*.db")]
    file = chance.choice(files)
    with suppress(FileNotFoundError):
        kind = chance.randrange(4)
        if kind == 0:
            file.unlink()
        elif kind == 1:
            os.truncate(file, 4_096)
        elif kind == 2:
            with file.open("r+b") as opened:
                opened.seek(chance.randrange(file.stat().st_size))
                opened.write(chance.randbytes(8_192))
        else:
            for suffix in ("-wal", "-shm"):
                file.with_name(file.name + suffix).unlink(missing_ok=True)


def read(root: Path, chance: random.Random, index: Index) -> None:
    """One that was opened long ago, and a new one; whatever they find, they raise nothing but what is ours."""
    with suppress(SidecarError):
        for entry in index.timeline(agent=f"agent_{chance.randrange(40)}", limit=50, reverse=True):
            with suppress(SidecarError):
                assert index.read(entry)["event"] == entry.event_type or "events/" in entry.file_path
    with suppress(SidecarError), Index(root) as fresh:
        list(fresh.sessions()), fresh.find_pending_requests(None), fresh.agents()
    with suppress(SidecarError):
        status_of(reference(root))


def sample(pid: int) -> tuple[float, int, int]:
    """Memory in MB, descriptors and threads."""
    told = Path(f"/proc/{pid}/status").read_text()
    values = {
        line.split(":")[0]: line.split()[1] for line in told.splitlines() if line.startswith(("VmRSS", "Threads"))
    }
    return int(values["VmRSS"]) / 1024, len(os.listdir(f"/proc/{pid}/fd")), int(values["Threads"])  # noqa: PTH208


def slope(values: list[float]) -> float:
    """How much they rise from first to last, along the line that fits them best."""
    count = len(values)
    middle, mean = (count - 1) / 2, sum(values) / count
    steepness = sum((at - middle) * (value - mean) for at, value in enumerate(values))
    return steepness / sum((at - middle) ** 2 for at in range(count)) * (count - 1)


def test_a_sidecar_that_lives_through_all_of_it_stays_as_it_was_and_loses_nothing(
    often: Callable[[int, int], int], tally: Callable[[str], Tally]
) -> None:
    seconds = often(12, 600)
    counted = tally(FAULT)
    with scratch() as folder:
        root = folder / "logs"
        (root / "responses/sessions").mkdir(parents=True)
        config = folder / "config.yaml"
        config.write_text("checkpoint_interval: 0.1\nscan_interval: 0.3\n")
        start = command("--root", root, "--config", config, "run")
        with (folder / "said").open("wb") as said, subprocess.Popen(start, stdout=said, stderr=said) as process:
            writers: list[Writer] = []
            try:
                eventually(lambda: (root / "index/running.json").exists())
                samples = soaked(root, process, writers, seconds, counted)
                for writer in writers:
                    writer.kill()
                writers.clear()
                settled(root, process, counted)
            finally:
                for writer in writers:
                    writer.kill()
                process.terminate()
                process.wait(HANG)
        assert process.returncode == 0, (folder / "said").read_text()
        expected = modelled(root)
        live = everything(root / "index")
        counted.compare(live.rows, expected)
        assert live.rows == rebuilt(reference(root)).rows
        rebuild(reference(root), 0, lambda _: None)
        counted.compare(everything(root / "index").rows, expected)
        stays_flat(samples)


def soaked(
    root: Path, process: subprocess.Popen[bytes], writers: list[Writer], seconds: int, counted: Tally
) -> list[tuple[float, int, int]]:
    """Trouble for so many seconds; what was sampled meanwhile."""
    chance = random.Random(1)
    samples = []
    number = 0
    began = time.monotonic()
    next_sample = next_damage = 0.0
    with Index(root) as index:
        while (past := time.monotonic() - began) < seconds:
            assert process.poll() is None, (root.parent / "said").read_text()[-3000:]
            number += 1
            now = BASE + DAY * (number // 4 % DAYS) + number
            if len(writers) == WRITERS:
                writers.pop(chance.randrange(WRITERS)).kill()
            while len(writers) < WRITERS:
                taken = {writer.name for writer in writers}
                name = next(name for name in range(WRITERS) if name not in taken)
                writers.append(Writer(root, name, 1_000 * number + name, now))
            event_file(root, chance, number, now)
            read(root, chance, index)
            if past >= next_damage and past > 1:
                damage(root, chance)
                next_damage = past + max(4.0, seconds / 60)
                counted.tried += 1
            if past >= next_sample:
                samples.append(sample(process.pid))
                next_sample = past + seconds / 120
            counted.tried += 1
            time.sleep(0.05)
    return samples


def settled(root: Path, process: subprocess.Popen[bytes], counted: Tally) -> None:
    """All is indexed: a line that a killed writer tore is ended, so that nothing waits."""
    for log in (root / "responses/sessions").glob("*.jsonl"):
        with log.open("ab") as file:
            file.write(b"\n")

    def is_quiet() -> bool:
        assert process.poll() is None
        with suppress(SidecarError):
            if status_of(reference(root)).behind_bytes:
                return False
            return everything(root / "index").rows == modelled(root)
        return False

    try:
        eventually(is_quiet)
    except AssertionError:
        print(status_of(reference(root)))
        counted.compare(everything(root / "index").rows, modelled(root))
        raise


def stays_flat(samples: list[tuple[float, int, int]]) -> None:
    """Without the first third, in which caches fill."""
    third = len(samples) // 3
    memory, descriptors, threads = zip(*samples[third:], strict=True)
    rise = slope(list(memory))
    told = f"memory {min(memory):.0f} to {max(memory):.0f} MB, rise {rise:+.1f} MB"
    print(f"\n{told}; descriptors at most {max(descriptors)}; threads at most {max(threads)}")
    assert rise < 10 + 0.15 * median(memory), f"memory grows: {memory}"
    # Sixteen days may be open, of three files each, and it may take some time until they are.
    assert max(descriptors[third:]) <= max([*descriptors[:third], 72]) + 8, f"descriptors grow: {descriptors}"
    assert max(descriptors) < 128 and max(threads) <= 8, f"{descriptors} {threads}"
