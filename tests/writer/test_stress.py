"""Eight writers, two hundred sessions, kills at random, and a real sidecar beside them: nothing is lost, nothing is
there twice, nothing is out of order."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from helpers.support import HANG, TESTS, command, eventually, everything, rebuilt, reference
from sidecar.health.status import status_of
from sidecar.writer import SessionWriter

WRITERS = 8
SESSIONS = 200
ACK_BYTES = 120
"""At most, of a line that tells of a record."""


class Ack(NamedTuple):
    """What a writer was told of a record."""

    id: str
    begun: int
    ended: int
    path: str
    line_number: int
    byte_offset: int


class Logged(NamedTuple):
    """A record as it stands in a log."""

    id: str
    begun: int
    path: str
    line_number: int
    byte_offset: int


@dataclass
class Figures:
    """What is told in the end."""

    seconds: float = 0.0
    written: int = 0
    """Records that stand in the logs whole."""
    acknowledged: int = 0
    kills: int = 0
    """From outside, at random."""
    deaths: int = 0
    """By a writer's own hand, in mid-record."""
    sidecar_kills: int = 0
    torn: int = 0
    """Lines in the logs that are no records."""
    rejected: int = 0
    """Lines that the index says are no records."""
    rows: int = 0
    megabytes: float = 0.0
    lost: int = 0
    """Acknowledged, and not in the log or not in the index."""
    doubled: int = 0
    """In the log or in the index more than once."""
    out_of_order: int = 0
    misplaced: int = 0
    """Acknowledged at another place than where the log and the index have it."""

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:,}" for name, value in asdict(self).items())


@dataclass
class Stress:
    """The writers and the sidecar. All of it runs in the test's one thread."""

    root: Path
    random: Random
    figures: Figures = field(default_factory=Figures)
    writers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _names: Callable[[], int] = field(default_factory=lambda: count(1).__next__)

    @property
    def complaints(self) -> Path:
        """Where the writers' stderr goes."""
        return self.root.parent / "complaints"

    def start_writer(self, slot: int) -> subprocess.Popen[bytes]:
        """A new process in the place of one that died: half of them write one by one, half in groups."""
        name = f"writer_{self._names()}"
        seed = self.random.randrange(10**9)
        words = (str(self.root), name, "sync" if slot % 2 else "async", str(SESSIONS), str(seed))
        script = TESTS / "helpers" / "stress_writer.py"
        with self.complaints.open("ab") as complaints:
            return subprocess.Popen([sys.executable, str(script), *words], stderr=complaints)

    def start_sidecar(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command("--root", self.root, "run"), stderr=subprocess.DEVNULL)

    def has_enough(self) -> bool:
        """Whether so much has happened, however slowly, that the run shows something."""
        told = sum(file.stat().st_size for file in (self.root.parent / "acks").iterdir())
        by_own_hand = self.figures.deaths - self.figures.kills
        return told > 1_100 * ACK_BYTES and self.figures.kills >= 15 and by_own_hand >= 3

    def run(self, seconds: float, *, kills_sidecar: bool) -> None:
        """Let them write for so long, and until enough has happened, and kill one now and then."""
        begun = time.monotonic()
        sidecar = self.start_sidecar()
        self.writers = [self.start_writer(slot) for slot in range(WRITERS)]
        next_kill = begun + 1.0
        next_sidecar_kill = begun + 8.0
        try:
            while (now := time.monotonic()) < begun + seconds or not self.has_enough():
                if now >= next_kill:
                    victim = self.random.choice(self.writers)
                    self.figures.kills += victim.poll() is None
                    victim.kill()
                    next_kill = now + self.random.uniform(0.0, 0.4)
                if kills_sidecar and now >= next_sidecar_kill:
                    sidecar.kill()
                    sidecar.wait()
                    sidecar = self.start_sidecar()
                    self.figures.sidecar_kills += 1
                    next_sidecar_kill = now + self.random.uniform(2.0, 12.0)
                self._replace_the_dead()
                time.sleep(0.01)
            self._end_writers()
            self.figures.deaths -= self.figures.kills
            self._close_torn_lines()
            settings = reference(self.root)
            eventually(lambda: status_of(settings).behind_bytes == 0)
            self.figures.seconds = round(time.monotonic() - begun, 1)
        finally:
            for process in self.writers:
                process.kill()
                process.wait()
            sidecar.terminate()
            sidecar.wait(HANG)
        assert sidecar.returncode == 0

    def _replace_the_dead(self) -> None:
        for slot, process in enumerate(self.writers):
            if process.poll() is not None:
                self._check(process)
                self.writers[slot] = self.start_writer(slot)

    def _check(self, process: subprocess.Popen[bytes]) -> None:
        """It ended as asked or by SIGKILL; anything else is a failure of the writer's."""
        assert process.returncode in (0, -9), (process.returncode, self.complaints.read_text())
        self.figures.deaths += process.returncode == -9

    def _end_writers(self) -> None:
        for process in self.writers:
            process.terminate()
        for process in self.writers:
            try:
                process.wait(HANG)
            finally:
                process.kill()
            # One that was started a moment ago dies of SIGTERM before it can take it.
            if process.returncode != -15:
                self._check(process)

    def _close_torn_lines(self) -> None:
        """The next writer of each session: no lock is left behind by the dead, and torn lines get their end."""
        for number in range(SESSIONS):
            with SessionWriter(self.root, f"sess_{number:03}", "the_last") as writer:
                writer.append({"event": "stress:last", "correlation_id": f"last:{number + 1}"})


def acknowledged(root: Path) -> list[Ack]:
    """What all the writers were told, in the order of each one's telling."""
    acks = []
    for file in sorted((root.parent / "acks").iterdir()):
        whole, _, _ = file.read_bytes().decode().rpartition("\n")  # one may have died while it acknowledged
        for line in whole.splitlines():
            id, begun, ended, path, line_number, byte_offset = line.split(" ")
            acks.append(Ack(id, int(begun), int(ended), path, int(line_number), int(byte_offset)))
    return acks


def logged(root: Path, figures: Figures) -> list[Logged]:
    """What stands in the logs, in the order of each one's lines; read without any of the package."""
    found = []
    for path in (*sorted(root.glob("responses/sessions/*.jsonl")), *sorted(root.glob("events/*/evt_*.json"))):
        content = path.read_bytes()
        figures.megabytes += len(content) / 1e6
        offset = 0
        for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
            try:
                record = json.loads(line)
                place = (path.relative_to(root).as_posix(), number, offset)
                found.append(Logged(record["correlation_id"], record.get("begun", 2**63), *place))
            except ValueError:
                figures.torn += 1
            offset += len(line) + 1
    return found


def judge(root: Path, figures: Figures) -> None:
    """Hold the acknowledgements, the logs and the index against each other."""
    acks = acknowledged(root)
    records = logged(root, figures)
    index = everything(root / "index")
    rows = [(row[12], row[4], row[5], row[6]) for row in index.rows]
    figures.acknowledged, figures.written, figures.rows = len(acks), len(records), len(rows)
    figures.rejected = len(index.rejected)
    figures.megabytes = round(figures.megabytes, 1)

    in_log = {one.id: one for one in records}
    in_index = {str(row[0]): row for row in rows}
    figures.lost = sum(ack.id not in in_log or ack.id not in in_index for ack in acks)
    figures.lost += sum(one.id not in in_index for one in records)
    figures.doubled = len(records) - len(in_log) + len(rows) - len(in_index)
    figures.misplaced = sum(ack[3:] != in_log[ack.id][2:] for ack in acks if ack.id in in_log)
    figures.misplaced += sum(tuple(one[2:]) != in_index[one.id][1:] for one in records if one.id in in_index)
    figures.out_of_order = disorder(records, {ack.id: ack.ended for ack in acks})


def disorder(records: list[Logged], ended: dict[str, int]) -> int:
    """Records behind one of the same session that began only after they were acknowledged; and records of one writer
    that stand in another order than its numbers."""
    found = 0
    by_path: dict[str, list[Logged]] = {}
    for record in records:
        if record.path.endswith(".jsonl"):
            by_path.setdefault(record.path, []).append(record)
    for lines in by_path.values():
        last: Counter[str] = Counter()
        latest_begun = 0
        for record in lines:
            writer, _, number = record.id.partition(":")
            found += int(number) <= last[writer]
            last[writer] = int(number)
            found += ended.get(record.id, 2**63) < latest_begun
            latest_begun = max(latest_begun, record.begun)
    return found


@pytest.mark.parametrize(
    ("seconds", "kills_sidecar"),
    [
        pytest.param(2.0, False, id="short"),
        pytest.param(90.0, True, id="long", marks=pytest.mark.slow),
    ],
)
def test_every_acknowledged_record_is_in_the_log_once_and_in_the_index_once_and_in_order(
    tmp_path: Path, seconds: float, kills_sidecar: bool, record_property: Callable[[str, object], None]
) -> None:
    root = tmp_path / "logs"
    root.mkdir()
    (tmp_path / "acks").mkdir()
    stress = Stress(root, Random(seconds))
    stress.run(seconds, kills_sidecar=kills_sidecar)
    assert stress.complaints.read_text() == ""

    figures = stress.figures
    judge(root, figures)
    for name, value in asdict(figures).items():
        record_property(name, value)
    print(f"\nstress: {figures}")

    assert (figures.lost, figures.doubled, figures.out_of_order, figures.misplaced) == (0, 0, 0, 0)
    assert figures.rows == figures.written >= figures.acknowledged > 1000
    assert figures.rejected == figures.torn <= figures.kills + figures.deaths
    assert figures.torn > 0, "no writer died in mid-record: this run shows nothing of torn lines"
    settings = reference(root)
    assert everything(settings.index_folder) == rebuilt(settings)
    found = status_of(settings)
    assert found.bytes.total == found.bytes.indexed + found.bytes.rejected + found.bytes.blank
