"""Two at once: only one process writes, and each reader gets its answer from one index."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faults.steps import died, in_a_child
from helpers.corpora import BASE, DAY
from helpers.support import (
    HANG,
    Stepped,
    command,
    eventually,
    everything,
    indexed,
    modelled,
    nothing_is_saved_ahead_of_its_rows,
    rebuilt,
    reference,
    running,
    write_lines,
)
from helpers.tally import Tally
from sidecar.bulk.rebuild import reindex
from sidecar.config.settings import Settings
from sidecar.errors import RootLocked, SidecarError
from sidecar.guarded import GuardedFolder
from sidecar.health.verify import compare
from sidecar.query import snapshot as files
from sidecar.query.index import Index
from sidecar.records import Report
from sidecar.service import lock
from sidecar.service.lock import root_locked
from sidecar.service.supervisor import run_once
from sidecar.store import layout as swap

Often = Callable[[int, int], int]
Tallied = Callable[[str], Tally]

LOG = "responses/sessions/s.jsonl"


def take_in(settings: Settings) -> None:
    run_once(settings, lambda _: None)


def rebuild(settings: Settings) -> None:
    with root_locked(settings, "reindex"):
        reindex(settings, 1)


def sidecar(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command("--root", root, *arguments), capture_output=True, check=False, timeout=HANG)


# ---- who comes second


@contextmanager
def rebuilding(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real `sidecar reindex`, stopped in the middle. It continues at the end."""
    while True:
        process = subprocess.Popen(command("--root", root, "reindex"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        eventually(lambda: (root / "index" / swap.REBUILD).exists() or process.poll() is not None)  # noqa: B023
        process.send_signal(signal.SIGSTOP)
        if lock.lock_holder(root / "index"):
            break
        process.send_signal(signal.SIGCONT)
        process.communicate()
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=HANG)
    assert process.returncode == 0


@pytest.mark.parametrize("first", [running, rebuilding])
def test_a_second_sidecar_is_refused_by_name_and_readers_are_served(folder: Path, first: Any) -> None:
    root = folder / "logs"
    write_lines(root / LOG, *[{"event": "agent:say", "timestamp": BASE + n, "n": n} for n in range(3_000)])
    take_in(reference(root))
    job = {running: "run", rebuilding: "reindex"}[first]
    with first(root) as process:
        for second in (["run"], ["run", "--once"], ["reindex"]):
            refused = sidecar(root, *second)
            assert refused.returncode == 3
            assert f"held by `sidecar {job}`, process {process.pid}" in refused.stderr.decode()
            assert "Traceback" not in refused.stderr.decode()
        told = sidecar(root, "query", "timeline", "--limit", "5000", "--json")
        assert told.returncode == 0 and len(told.stdout.splitlines()) == 3_000
        assert sidecar(root, "verify").returncode == 0
        assert process.poll() is None
    assert indexed(root) == modelled(root)


# ---- races


def damaged(root: Path) -> None:
    (root / "index/daily/2024-12-30.db").write_bytes(b"noise")


def half_swapped(root: Path) -> None:
    def dying() -> None:
        swap.finish_swap = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        swap.commit_swap(root / "index", [path.name for path in (root / "index/daily").glob("*.db")])

    (root / "index").rename(root / "old")
    (root / "index").mkdir()
    (root / "old").rename(root / "index" / swap.REBUILD)
    assert died(in_a_child(dying))


def without(root: Path) -> None:
    for path in sorted((root / "index").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


SITUATIONS = [damaged, half_swapped, without, lambda _: None]


def test_of_racing_starts_one_works_at_a_time_even_if_some_are_killed(
    folder: Path, tally: Tallied, often: Often
) -> None:
    """On a first run, where there is something to heal, where a swap has to be finished, and where there is nothing."""
    root = folder / "logs"
    chance = random.Random(5)
    settings = reference(root)
    write_lines(root / LOG, {"event": "agent:spawn", "timestamp": BASE})
    counted = tally("starts that race, the holder of the lock killed")
    working = mmap.mmap(-1, 8)
    for number in range(often(12, 200)):
        write_lines(root / LOG, *[{"event": "agent:say", "timestamp": BASE + DAY * (n % 3)} for n in range(number % 9)])
        take_in(settings)
        SITUATIONS[number % len(SITUATIONS)](root)
        write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE, "n": number})
        ready = os.pipe()

        def start() -> None:
            os.close(ready[1])  # noqa: B023
            os.read(ready[0], 1)  # noqa: B023
            for _ in range(1_000):
                with suppress(RootLocked), root_locked(settings, "run"):
                    assert working[0] == 0, "two work at once"
                    working[0] = 1
                    working[0] = 0
                with suppress(RootLocked):
                    take_in(settings) if chance.random() < 0.7 else rebuild(settings)
                    return
            raise AssertionError("nobody let it in")

        children = []
        for _ in range(4):
            chance.random()
            children.append(in_a_child(start))
        os.close(ready[0])
        os.close(ready[1])
        for child in children[:2]:
            time.sleep(chance.random() * 0.02)
            os.kill(child, signal.SIGKILL)
        lived = [not died(child) for child in children]
        assert lived[2:] == [True, True]
        counted.tried += 1
        nothing_is_saved_ahead_of_its_rows(root)
        counted.compare(indexed(root), modelled(root))
        assert lock.lock_holder(settings.index_folder) is None
    assert everything(root / "index") == rebuilt(settings)


# ---- readers, and one swap after the other


class Generations:
    """Told between processes: the last index that may be seen, and the last that must be."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 64)

    def _get(self, place: int) -> int:
        return int(struct.unpack_from("q", self._shared, place * 8)[0])

    begun = property(lambda self: self._get(0))
    done = property(lambda self: self._get(1))

    @property
    def is_over(self) -> bool:
        """Nobody needs to read any more."""
        return bool(self._get(2))

    @is_over.setter
    def is_over(self, value: bool) -> None:
        struct.pack_into("q", self._shared, 16, value)

    def tell(self, begun: int, done: int) -> None:
        """What may be seen from now on, and what must be."""
        struct.pack_into("qq", self._shared, 0, begun, done)

    def checked(self, reader: int, answers: int) -> None:
        """A reader has checked so many more answers."""
        struct.pack_into("q", self._shared, 24 + reader * 8, self._get(3 + reader) + answers)

    @property
    def answers(self) -> list[int]:
        """How many each reader has checked."""
        return [self._get(3 + reader) for reader in range(3)]


def records_of(generation: int) -> list[dict[str, Any]]:
    """What the log says in one generation more, all over some days: requests in an odd one, in an even one their
    answers. Every third is one line only, which may come into an index that is not rebuilt: other lines would come into
    it a day at a time."""
    chance = random.Random(generation)
    what = "result" if generation % 2 == 0 else "request"
    days = 3 if generation < 5 else 6
    return [
        {
            "event": f"completion:{what}",
            "timestamp": BASE + chance.randrange(days * DAY) + n / 1_000 + generation / 100_000,
            "correlation_id": f"c{(generation + 1) // 2}:{n}",
            "data": {"agent_id": f"agent_{generation}", "to_agent": "everybody", "generation": generation},
        }
        for n in range(1 if generation % 3 == 0 else 10)
    ]


Said = tuple[float, int]
"""An entry by its time, and the generation that it came in."""


def is_old_then_new(answer: list[Said], log: list[Said], must: int, may: int) -> bool:
    """Whether an answer is one index up to some entry, and a newer one from there on; `log` is what it may hold."""
    given = set(answer)
    if [one for one in log if one in given] != answer:
        return False  # in another order, twice, or out of nowhere
    newest = must
    for one in log:
        _, generation = one
        if one in given:
            newest = max(newest, generation)
        elif generation <= newest:
            return False
    return newest <= may


def test_an_answer_from_two_indexes_is_told_apart_from_one() -> None:
    log = [(float(place), generation) for place, generation in enumerate([1, 3, 2, 1, 3, 2])]

    def holds(*places: int, must: int = 1, may: int = 3) -> bool:
        return is_old_then_new([log[place] for place in places], log, must, may)

    assert holds(0, 3) and holds(0, 2, 3, 5) and holds(0, 1, 2, 3, 4, 5)
    assert holds(0, 3, 4, 5)  # the first half was read before the swap
    assert not holds(0, 1, 2, 3, 5)  # an older index after a newer one
    assert not holds(0)
    assert not holds(0, 3, must=2)
    assert not holds(0, 1, 2, 3, 4, 5, may=2)
    assert not holds(0, 3, 3)
    assert not holds(3, 0)


QUESTIONS = ["timeline", "timeline", "reverse", "pages", "agents", "pending", "participants", "rejected", "get"]


def ask_forever(root: Path, told: Generations, seed: int) -> None:
    """A reader: asks until it is over, with an index kept open or one opened for each question, and checks."""
    chance = random.Random(seed)
    asked = 0
    kept = Index(root)
    everywhere: dict[int, list[Said]] = {0: []}
    while not told.is_over or asked < 20:
        index = kept if chance.random() < 0.7 else Index(root)
        must = told.done
        question = chance.choice(QUESTIONS)
        if question in ("timeline", "reverse", "pages"):
            limit = chance.randint(1, 40) if question == "pages" else None
            reverse = question == "reverse"
            answer: Any = [
                (one.timestamp, int(one.participating_agents[0].partition("_")[2]))
                for one in index.timeline(reverse=reverse, limit=limit)
            ]
        elif question == "agents":
            answer = {one.agent: one.entries for one in index.agents()}
        elif question == "pending":
            answer = sorted(one.timestamp for one in index.find_pending_requests(None))
        elif question == "rejected":
            answer = len(list(index.rejected()))
        elif question == "participants":
            answer = index.get_session_participants("s")
        else:
            entry = next(index.timeline(agent="agent_1"))
            assert index.get(entry.id).timestamp == entry.timestamp
            assert index.read(entry)["timestamp"] == entry.timestamp
            answer = [one.status for one in index.sessions()]
        may = told.begun
        for generation in range(len(everywhere), may + 1):
            more = [(one["timestamp"], generation) for one in records_of(generation)]
            everywhere[generation] = sorted([*everywhere[generation - 1], *more])
        if question in ("timeline", "reverse", "pages"):
            log = everywhere[may][::-1] if question == "reverse" else everywhere[may]
            if question == "pages" and answer:
                log = [one for one in log if one <= answer[-1]]
            assert is_old_then_new(answer, log, must, may), f"{question}: neither {must} nor what came till {may}"
        elif question in ("agents", "pending", "participants", "rejected"):
            right = [right_answer(question, generation) for generation in range(must, may + 1)]
            assert answer in right, f"{question}: neither {must} nor what came till {may}"
        if index is not kept:
            index.close()
        asked += 1
        told.checked(seed, len(answer) if isinstance(answer, list) else 1)
    kept.close()


def verify_forever(root: Path, told: Generations, reader: int) -> None:
    """Another reader: compares the index with the logs."""
    while not told.is_over:
        with suppress(SidecarError):  # replaced again and again, which it says
            assert compare(reference(root)).differences == ()
            told.checked(reader, 1)


@contextmanager
def reading(told: Generations, *works: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Readers in processes of their own, until the end of the block. Yields a test of whether all are still running."""
    readers = [in_a_child(work) for work in works]
    try:
        yield lambda: all(Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[0] != "Z" for one in readers)
        told.is_over = True
        while readers:
            assert not died(readers.pop())
    finally:
        for one in readers:
            os.kill(one, signal.SIGKILL)
            os.waitpid(one, 0)


def taken_in_and_killed(settings: Settings) -> None:
    """What is there is indexed, and neither saved nor closed."""

    def dying() -> None:
        with Stepped(settings) as stepped:
            stepped.turn()
            os.kill(os.getpid(), signal.SIGKILL)

    assert died(in_a_child(dying))


def right_answer(question: str, generation: int) -> Any:
    """Of an index of so many generations."""
    if question == "rejected":
        return generation
    agents: Counter[str] = Counter()
    pending: dict[str, tuple[str, float]] = {}
    for number in range(1, generation + 1):
        for record in records_of(number):
            agents.update((f"agent_{number}", "everybody"))
            if number % 2:
                pending[record["correlation_id"]] = (f"agent_{number}", record["timestamp"])
            elif asked := pending.pop(record["correlation_id"], None):
                agents[asked[0]] += 1  # who asked takes part in the answer
    if question == "pending":
        return sorted(at for _, at in pending.values())
    return agents if question == "agents" else sorted(agents)


def test_readers_get_each_answer_from_one_index_while_swap_follows_swap(
    folder: Path, tally: Tallied, often: Often
) -> None:
    """`verify` is one of them."""
    root = folder / "logs"
    settings = reference(root)
    told = Generations()
    write_lines(root / LOG, *records_of(1), b"no record\n")
    take_in(settings)
    told.tell(1, 1)
    counted = tally("swaps under readers in other processes")
    with reading(
        told,
        lambda: ask_forever(root, told, 0),
        lambda: ask_forever(root, told, 1),
        lambda: verify_forever(root, told, 2),
    ) as all_is_well:
        for generation in range(2, often(30, 300)):
            told.tell(generation, generation - 1)
            write_lines(root / LOG, *records_of(generation), b"no record\n")
            if generation % 3 == 0:
                taken_in_and_killed(settings)  # the old index has logs of its own, which go before it does
            rebuild(settings)
            told.tell(generation, generation)
            assert all_is_well()
            counted.tried += 1
    counted.rows += sum(told.answers)
    counted.compare(indexed(root), modelled(root))


# ---- in the midst of a swap


def swapped(settings: Settings, moves: int) -> None:
    """A rebuild that dies in its swap, when the manifest is there and so many files have been moved."""
    left = moves

    def dying() -> None:
        def move(source: GuardedFolder, name: str, new: str, into: GuardedFolder | None = None) -> None:
            nonlocal left
            if swap.READY in str(source.path) and name.endswith(".db"):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            move_it(source, name, new, into)

        move_it = GuardedFolder.rename
        GuardedFolder.rename = move  # type: ignore[method-assign]
        rebuild(settings)

    assert died(in_a_child(dying))
    assert (settings.index_folder / swap.MANIFEST).exists()


@pytest.mark.parametrize("moves", range(4))
def test_a_reader_that_has_read_the_new_index_never_reads_the_old_one(folder: Path, moves: int) -> None:
    root = folder / "logs"
    for n in range(2):
        write_lines(root / LOG, *[{"event": "agent:say", "timestamp": BASE + n + DAY * day} for day in range(4)])
        if n == 0:
            take_in(reference(root))
    with Index(root) as index:
        entries = index.timeline()
        days = [next(entries).timestamp]
        swapped(reference(root), moves)
        days += [entry.timestamp for entry in entries]
    assert days == [BASE, *(BASE + n + DAY * day for day in range(1, 4) for n in range(2))]


def test_a_daily_file_that_lost_its_write_ahead_log_to_a_swap_is_not_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader knows where the file is, and is slow to open it: meanwhile its write-ahead log goes, and it not yet."""
    root = folder / "logs"
    write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE})
    take_in(reference(root))
    write_lines(root / LOG, *[{"event": "agent:say", "timestamp": BASE + n} for n in range(1, 5)])
    taken_in_and_killed(reference(root))
    slow = iter([True])

    class SlowDay(files.DayReader):
        def __init__(self, path: Path) -> None:
            if next(slow, False):
                swapped(reference(root), 0)
                assert not path.with_name(f"{path.name}-wal").exists() and path.exists()
            super().__init__(path)

    monkeypatch.setattr(files, "DayReader", SlowDay)
    with Index(root) as index:
        assert len(list(index.timeline())) == 5


def test_verify_begins_again_when_another_index_is_swapped_in(folder: Path) -> None:
    root = folder / "logs"
    settings = reference(root)
    write_lines(root / LOG, *[{"event": "agent:say", "timestamp": BASE + DAY * day} for day in range(3)])
    take_in(settings)
    reports: list[str] = []

    def meanwhile(report: Report) -> None:
        if report.what == "comparing" and "comparing" not in reports:
            (root / LOG).write_bytes(b"")
            write_lines(root / LOG, *[{"event": "agent:listen", "timestamp": BASE + DAY * day} for day in range(3)])
            rebuild(settings)
        reports.append(report.what)

    verified = compare(settings, meanwhile)
    assert verified.differences == () and verified.entries == 3
    assert reports.count("comparing") > 3


# ---- readers beside a real sidecar


def look_at_logs(root: Path, told: Generations, reader: int) -> None:
    """Ask for everything, again and again: of each log and day there is what came first, and no less than before."""
    seen: Counter[tuple[str, int]] = Counter()
    with Index(root) as index:
        while not told.is_over:
            now: Counter[tuple[str, int]] = Counter()
            for entry in index.timeline():
                place = (entry.session_id, int(entry.timestamp // DAY))
                assert index.read(entry)["n"] == now[place], f"not the next of {place}"
                now[place] += 1
            assert now >= seen, "less than before"
            seen = now
            assert sum(one.entries for one in index.agents()) >= now.total()
            told.checked(reader, 1)


def test_heavy_queries_and_verify_are_right_beside_a_running_sidecar(
    folder: Path, tally: Tallied, often: Often
) -> None:
    root = folder / "logs"
    told = Generations()
    chance = random.Random(7)
    written: Counter[tuple[str, int]] = Counter()
    write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE, "n": 0, "data": {"agent_id": "a"}})
    enough = often(10, 50)
    with running(root), Index(root) as index:
        eventually(lambda: len(list(index.timeline())) == 1)
        with reading(told, lambda: look_at_logs(root, told, 0), lambda: verify_forever(root, told, 1)) as all_is_well:
            while min(told.answers[:2]) < enough:
                # No faster than they read, or they would never be done.
                eventually(lambda: written.total() < 100 * (1 + min(told.answers[:2])) or not all_is_well())
                assert all_is_well()
                for _ in range(chance.choice([1, 10, 50])):
                    session, day = chance.choice("abcde"), BASE // DAY + chance.randrange(1, 5)
                    record = {"event": "agent:say", "timestamp": day * DAY, "n": written[session, day]}
                    write_lines(root / f"responses/sessions/{session}.jsonl", {**record, "data": {"agent_id": "a"}})
                    written[session, day] += 1
                eventually(lambda: sum(one.entries for one in index.agents()) == 1 + written.total())
    counted = tally("heavy questions and `verify` beside a sidecar at work")
    counted.tried += sum(told.answers)
    counted.compare(indexed(root), modelled(root))


# ---- follow


def follow_into(pipe: int, root: Path) -> None:
    """A reader that tells what it is given, an event type a line, from the moment on when it says 0."""
    with Index(root) as index:
        entries = index.follow(poll=0.002)
        os.write(pipe, b"0\n")
        for entry in entries:
            os.write(pipe, b"%s\n" % entry.event_type.encode())


def test_follow_gives_each_entry_once_whatever_happens_to_the_index(folder: Path, tally: Tallied, often: Often) -> None:
    """Rebuilds, runs that are killed before they save, and runs that come to their end, one after the other."""
    root = folder / "logs"
    settings = reference(root)
    chance = random.Random(6)
    write_lines(root / LOG, {"event": "0", "timestamp": BASE})
    take_in(settings)
    ours, theirs = os.pipe()
    follower = in_a_child(lambda: follow_into(theirs, root))
    os.close(theirs)
    counted = tally("swaps and kills under `follow`")
    written = 0
    given: list[int] = []

    def write(numbers: Iterable[int]) -> None:
        for n in numbers:
            log = root / f"responses/sessions/{'abc'[n * 7 % 11 % 3]}.jsonl"
            write_lines(log, {"event": str(n), "timestamp": BASE + DAY * (n % 3)})

    def killed_before_it_saves(numbers: range) -> None:
        with Stepped(replace(settings, checkpoint_interval=30.0)) as stepped:
            write(numbers[:1])
            stepped.turn()  # ends in a checkpoint, and the next one is far away
            write(numbers[1:])
            stepped.turn(seconds=10.0)
            # On a busy machine it may have had to wait, for a reader or for its own retry.
            eventually(lambda: str(numbers[-1]) in {row[2] for row in stepped.rows} or stepped.turn(seconds=0.01))
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        with open(ours) as told:
            assert told.readline() == "0\n"
            for _ in range(often(40, 400)):
                new = range(written + 1, written + chance.randint(3, 6))
                written += len(new)
                job = chance.choice([rebuild, rebuild, take_in, None])
                if job is None:
                    assert died(in_a_child(lambda: killed_before_it_saves(new)))  # noqa: B023
                    while written not in given:
                        given.append(int(told.readline()))
                    take_in(settings)  # takes back what was given, and writes it anew
                else:
                    write(new)
                    job(settings)
                counted.tried += 1
            take_in(settings)
            write_lines(root / LOG, {"event": "-1", "timestamp": BASE})
            take_in(settings)
            given += iter(lambda: int(told.readline()), -1)
    finally:
        os.kill(follower, signal.SIGKILL)
        os.waitpid(follower, 0)
    assert sorted(given) == list(range(1, written + 1))
    counted.rows += len(given)
