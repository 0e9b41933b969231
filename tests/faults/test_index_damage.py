"""Each file of an index deleted, cut or overwritten, at rest and under a running sidecar that follows a writer.

`tests/service/test_repair.py` takes each damage by itself; here they come at every place of a file, together, with the
logs of SQLite, and with traffic.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.corpora import BASE, DAY
from helpers.support import (
    Everything,
    eventually,
    everything,
    indexed,
    modelled,
    rebuilt,
    reference,
    running,
    scratch,
    write_lines,
)
from helpers.tally import Tally
from sidecar.errors import SidecarError
from sidecar.indexer.day_files import MAX_OPEN_DAYS
from sidecar.query.index import Index
from sidecar.service.supervisor import run_once
from sidecar.store import layout as swap

LOG = "responses/sessions/s.jsonl"
DAYS = [f"daily/2024-12-{day}.db" for day in (29, 30, 31)]
FILES = ["catalog.db", *DAYS, "running.json", "swap.json", "sidecar.lock"]
AT_REST = "index files damaged at rest"
RUNNING = "index files damaged under a running sidecar"
PAGE = 4_096


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


def test_any_damage_at_rest_is_repaired_or_harmless(
    root: Path, often: Callable[[int, int], int], tally: Callable[[str], Tally]
) -> None:
    """One to four damages at once, at any place."""
    conf = reference(root)
    expected = modelled(root)
    counted = tally(AT_REST)
    for seed in range(often(12, 300)):
        chance = random.Random(seed)
        aside = root / "index" / swap.QUARANTINE
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
def test_stale_write_ahead_logs_beside_every_file_stop_nothing(
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


def noise(path: Path, chance: random.Random) -> None:
    _overwritten(path, chance, chance.randbytes(chance.choice([100, 8_192, 20 * PAGE])))


def zeros(path: Path, chance: random.Random) -> None:
    _overwritten(path, chance, bytes(chance.choice([100, 8_192, 20 * PAGE])))


def flipped(path: Path, chance: random.Random) -> None:
    """A few bytes."""
    at = chance.randrange(path.stat().st_size - 4)
    content = path.read_bytes()[at : at + chance.choice([1, 4])]
    _put(path, at, bytes(255 - byte for byte in content))


def cut(path: Path, chance: random.Random) -> None:
    size = path.stat().st_size
    os.truncate(path, chance.choice([0, PAGE, size // 2, size - PAGE, size - 1, chance.randrange(size)]))


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def noise_in_its_log(path: Path, chance: random.Random) -> None:
    """In the write-ahead log of SQLite; where there is none, or nothing in it, noise makes one."""
    log = log_of(path)
    size = log.stat().st_size if log.exists() else 0
    log.touch()
    _put(log, chance.randrange(size + 1), chance.randbytes(chance.choice([100, 8_192])))


def _overwritten(path: Path, chance: random.Random, content: bytes) -> None:
    """In the midst of a file, which stays as long as it is."""
    size = path.stat().st_size
    content = content[: size // 2]
    _put(path, chance.randrange(1, size - len(content)), content)


def _put(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(at)
        file.write(content)


IN_THE_MIDST: list[Damage] = [noise, zeros, flipped, cut, noise_in_its_log]


def in_the_midst(root: Path, chance: random.Random) -> None:
    """Where SQLite may not look for long."""
    chance.choice(IN_THE_MIDST)(chance.choice([path for path in there(root) if path.suffix == ".db"]), chance)


UNDER_IT = [
    the_whole_folder,
    in_the_midst,
    the_daily_folder,
    in_the_midst,
    the_logs_of_sqlite,
    in_the_midst,
    from_its_start,
    in_the_midst,
    some_file,
]


def test_a_running_sidecar_repairs_its_files_while_it_follows_a_writer(
    root: Path, often: Callable[[int, int], int], tally: Callable[[str], Tally]
) -> None:
    config = root.parent / "config.yaml"
    config.write_text("checkpoint_interval: 0.05\nscan_interval: 0.1\n")
    counted = tally(RUNNING)
    number = 0
    with running(root, "--config", str(config)) as process:
        for seed in range(often(9, 90)):
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
                found = None if (root / "index/swap.json").exists() else whole(root)
                return found is not None and found.rows == expected

            began = time.monotonic()
            try:
                eventually(is_whole)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, {damage.__name__}: {error}") from error
            counted.took(time.monotonic() - began)
            counted.tried += 1
            counted.compare(everything(root / "index").rows, expected)
    assert process.returncode == 0
    assert everything(root / "index") == rebuilt(reference(root))


@pytest.fixture(scope="module")
def sound_days() -> Iterator[Path]:
    """A root with an index of more days than are kept open."""
    with scratch() as folder:
        root = folder / "logs"
        days = MAX_OPEN_DAYS + 3
        said = ({**record(number), "timestamp": BASE + DAY * (number % days)} for number in range(40 * days))
        write_lines(root / LOG, *said)
        yield root


@pytest.mark.parametrize("day", ["catalog.db", "the first day", "the last day"])
@pytest.mark.parametrize("damage", IN_THE_MIDST)
def test_damage_in_the_middle_of_a_file_is_noticed_even_if_nobody_reads_it(
    sound_days: Path, damage: Damage, day: str, often: Callable[[int, int], int], tally: Callable[[str], Tally]
) -> None:
    """Of a day that is open, of one that was closed, of the catalog: at rest, and while its rows are written."""
    root = sound_days
    config = root.parent / "config.yaml"
    config.write_text("checkpoint_interval: 0.05\nscan_interval: 0.1\n")
    run_once(reference(root), lambda _: None)
    days = sorted((root / "index/daily").glob("*.db"))
    path = {"the first day": days[0], "the last day": days[-1]}.get(day, root / "index" / day)
    aside = root / "index" / swap.QUARANTINE
    counted = tally(RUNNING)
    with running(root, "--config", str(config)) as process:
        eventually(lambda: log_of(days[-1]).exists())
        for seed in range(often(2, 10)):
            chance = random.Random(seed)
            shutil.rmtree(aside, ignore_errors=True)
            if seed % 2:  # and no checkpoint has come since
                last = BASE + DAY * (MAX_OPEN_DAYS + 2)
                write_lines(root / LOG, *({**record(number), "timestamp": last} for number in range(20)))
            expected = modelled(root)
            eventually(lambda expected=expected: indexed(root) == expected)
            damage(path, chance)

            def is_healed(expected: list[Any] = expected) -> bool:
                assert process.poll() is None, process.communicate()[1].decode()
                if not (aside / "why.txt").exists() or (root / "index/swap.json").exists():
                    return False
                found = whole(root)
                return found is not None and found.rows == expected

            eventually(is_healed)
            assert path.name in (aside / "why.txt").read_text()
            assert [kept for kept in aside.iterdir() if kept.name.endswith(path.name)]
            counted.tried += 1
            counted.compare(everything(root / "index").rows, expected)
            eventually(lambda: log_of(days[-1]).exists())  # it is at work again
    assert process.returncode == 0
    assert everything(root / "index") == rebuilt(reference(root))
