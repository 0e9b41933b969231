"""Each file of an index deleted, cut or overwritten, at rest and under a running sidecar that follows a writer.

`tests/test_heal.py` takes each damage by itself; here they come at every place of a file, together, with the logs of
SQLite, and with traffic.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from corpora import BASE, DAY
from support import Everything, eventually, everything, modelled, rebuilt, reference, running, scratch, write_lines
from tally import Tally

from sidecar import swap
from sidecar.errors import SidecarError
from sidecar.query import Index
from sidecar.service import run_once

LOG = "responses/sessions/s.jsonl"
DAYS = [f"daily/2024-12-{day}.db" for day in (29, 30, 31)]
FILES = ["catalog.db", *DAYS, "running.json", "swap.json", "sidecar.lock"]
AT_REST = "index files damaged at rest"
RUNNING = "index files damaged under a running sidecar"


def record(number: int) -> dict[str, Any]:
    event = ("completion:request", "completion:result", "agent:say")[number % 3]
    data = {"agent_id": f"agent_{number % 50}", "role": f"role_{number % 7}", "to_agent": "other"}
    return {"event": event, "timestamp": BASE + DAY * (number % 3), "correlation_id": f"c{number // 2}", "data": data}


@pytest.fixture(scope="module")
def sound() -> Iterator[Path]:
    """A root with an index of three days, each of some hundred kilobytes, and rejected lines."""
    with scratch() as folder:
        root = folder / "logs"
        for session in range(4):
            log = root / f"responses/sessions/s{session or ''}.jsonl"
            write_lines(log, *map(record, range(session, 900)), b"no record\n")
        run_once(reference(root), lambda _: None)
        yield root


@pytest.fixture
def root(sound: Path) -> Iterator[Path]:
    with scratch() as folder:
        root = folder / "logs"
        shutil.copytree(sound, root, copy_function=shutil.copy2)
        run_once(reference(root), lambda _: None)  # a copied log is another file
        yield root


# ---- how a file is damaged

Damage = Callable[[Path, random.Random], None]


def deleted(path: Path, _: random.Random) -> None:
    path.unlink(missing_ok=True)


def truncated(path: Path, chance: random.Random) -> None:
    size = path.stat().st_size
    os.truncate(
        path,
        chance.choice([0, 1, 15, 16, 99, 100, 511, 4_095, 4_096, size // 3, max(0, size - 4_096), max(0, size - 1)]),
    )


def overwritten(path: Path, chance: random.Random) -> None:
    """With zeros or noise, at the start, in the middle or at the end, a few bytes or many pages."""
    size = path.stat().st_size
    length = min(size, chance.choice([1, 16, 100, 4_096, 20_000, size]))
    at = chance.choice([0, chance.randrange(max(1, size - length + 1)), size - length])
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(length) if chance.random() < 0.5 else chance.randbytes(length))


def grown(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(chance.randbytes(10_000))


def of_another_time(path: Path, chance: random.Random) -> None:
    """Another file of the index in its place."""
    others = [other for other in path.parent.parent.rglob("*.db") if other != path]
    if others:
        shutil.copy2(chance.choice(others), path.with_name("copy"))
        path.with_name("copy").replace(path)


def a_stale_log(path: Path, chance: random.Random) -> None:
    """A write-ahead log of another file, or noise, where there was none."""
    for suffix in ("-wal", "-shm", "-journal"):
        if chance.random() < 0.6 and path.suffix == ".db":
            Path(f"{path}{suffix}").write_bytes(chance.randbytes(chance.choice([0, 32, 32_768])))


DAMAGES: list[Damage] = [deleted, truncated, overwritten, overwritten, overwritten, grown, of_another_time, a_stale_log]


def there(root: Path) -> list[Path]:
    return [path for name in FILES if (path := root / "index" / name).exists()]


def whole(root: Path) -> Everything | None:
    try:
        return everything(root / "index")
    except (SidecarError, sqlite3.Error):
        return None


def test_any_damage_at_rest_is_made_good_or_was_none(
    root: Path, often: Callable[[int, int], int], tally: Callable[[str], Tally]
) -> None:
    """One to four damages at once, at any place."""
    conf = reference(root)
    expected = modelled(root)
    counted = tally(AT_REST)
    for seed in range(often(12, 300)):
        chance = random.Random(seed)
        aside = root / "index" / swap.ASIDE
        shutil.rmtree(aside, ignore_errors=True)
        done = []
        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            path, damage = chance.choice(there(root)), chance.choice(DAMAGES)
            damage(path, chance) if path.exists() and path.stat().st_size else None
            done.append(f"{path.name} {damage.__name__}")
        with Index(root) as index:  # answers, or names what is wrong
            for ask in (index.timeline, index.sessions, index.rejected):
                with suppress(SidecarError):
                    list(ask())
        run_once(conf, lambda _: None)
        counted.tried += 1
        found = whole(root)
        assert found is not None, f"seed {seed}: {done}"
        counted.compare(found.rows, expected)
        assert found == rebuilt(conf), f"seed {seed}: {done}"
        if aside.exists():
            assert (aside / "why.txt").read_text().strip()


@pytest.mark.parametrize("size", [32, 32_768])
@pytest.mark.parametrize("suffixes", [("-journal",), ("-wal", "-journal"), ("-wal", "-shm", "-journal")])
def test_stale_logs_beside_every_file_stop_nobody(
    root: Path, suffixes: tuple[str, ...], size: int, tally: Callable[[str], Tally]
) -> None:
    """SQLite wants to undo what a journal says before anybody reads, and who only reads may not."""
    for file in ["catalog.db", *DAYS]:
        for suffix in suffixes:
            (root / "index" / f"{file}{suffix}").write_bytes(b"\xd9" + random.Random(size).randbytes(size))
    run_once(reference(root), lambda _: None)
    counted = tally(AT_REST)
    counted.tried += 1
    counted.compare(everything(root / "index").rows, modelled(root))


@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), ("-wal", "-shm")])
@pytest.mark.parametrize("name", ["catalog.db", DAYS[0], "all"])
def test_a_write_ahead_log_that_is_gone_after_a_kill_costs_a_replay_and_no_row(
    root: Path, name: str, suffixes: tuple[str, ...], tally: Callable[[str], Tally]
) -> None:
    """What was committed since the last checkpoint is in there alone."""
    config = root.parent / "config.yaml"
    config.write_text("checkpoint_interval: 0.05\nscan_interval: 0.2\n")
    before = len(modelled(root))
    with running(root, "--config", str(config)) as process:
        write_lines(root / LOG, *map(record, range(300)))
        eventually(lambda: (found := whole(root)) is not None and len(found.rows) == before + 300)
        process.send_signal(signal.SIGKILL)
        process.wait()
    files = ["catalog.db", *DAYS] if name == "all" else [name]
    for file in files:
        for suffix in suffixes:
            (root / "index" / f"{file}{suffix}").unlink(missing_ok=True)
    run_once(reference(root), lambda _: None)
    counted = tally(AT_REST)
    counted.tried += 1
    found = everything(root / "index")
    counted.compare(found.rows, modelled(root))
    assert found == rebuilt(reference(root))


# ---- while it runs


def the_whole_folder(root: Path, _: random.Random) -> None:
    with suppress(OSError):
        shutil.rmtree(root / "index")


def the_daily_folder(root: Path, _: random.Random) -> None:
    with suppress(OSError):
        shutil.rmtree(root / "index/daily")


def the_logs_of_sqlite(root: Path, chance: random.Random) -> None:
    for path in (root / "index").rglob("*.db-*"):
        if chance.random() < 0.7:
            path.unlink(missing_ok=True)


def from_its_start(root: Path, chance: random.Random) -> None:
    """Where a running sidecar looks."""
    path = chance.choice([path for path in there(root) if path.suffix == ".db"])
    with path.open("r+b") as file:
        file.write(bytes(4_096) if chance.random() < 0.5 else chance.randbytes(20_000))


def some_file(root: Path, chance: random.Random) -> None:
    path = chance.choice(there(root))
    with suppress(FileNotFoundError):
        chance.choice([deleted, of_another_time])(path, chance)


UNDER_IT = [the_whole_folder, the_daily_folder, the_logs_of_sqlite, from_its_start, some_file, some_file]


def test_a_running_sidecar_makes_good_what_is_done_to_its_files_while_it_follows_a_writer(
    root: Path, often: Callable[[int, int], int], tally: Callable[[str], Tally]
) -> None:
    config = root.parent / "config.yaml"
    config.write_text("checkpoint_interval: 0.05\nscan_interval: 0.1\n")
    counted = tally(RUNNING)
    number = 0
    with running(root, "--config", str(config)) as process:
        for seed in range(often(5, 60)):
            chance = random.Random(seed)
            damage = UNDER_IT[seed % len(UNDER_IT)]
            for _ in range(chance.choice([1, 20])):
                write_lines(root / LOG, record(number))
                number += 1
            with suppress(FileNotFoundError, IndexError):  # it may be healing already
                damage(root, chance)
            write_lines(root / LOG, record(number))
            number += 1
            expected = modelled(root)

            def is_whole(expected: list[Any] = expected) -> bool:
                assert process.poll() is None, process.communicate()[1].decode()
                found = whole(root)
                return found is not None and found.rows == expected

            try:
                eventually(is_whole, 20)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, {damage.__name__}: {error}") from error
            counted.tried += 1
            counted.compare(everything(root / "index").rows, expected)
    assert process.returncode == 0
    assert everything(root / "index") == rebuilt(reference(root))


def test_noise_in_the_middle_of_a_daily_file_is_found_at_the_latest_by_the_next_start(
    root: Path, tally: Callable[[str], Tally]
) -> None:
    """While it runs nobody reads those pages: readers name the damage, and a start checks what was changed."""
    path = root / "index" / DAYS[0]
    with running(root):
        with path.open("r+b") as file:
            file.seek(8 * 4_096)
            file.write(random.Random(1).randbytes(20 * 4_096))
        with Index(root) as index, suppress(SidecarError):
            list(index.timeline())
    run_once(reference(root), lambda _: None)
    counted = tally(RUNNING)
    counted.tried += 1
    counted.compare(everything(root / "index").rows, modelled(root))
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
