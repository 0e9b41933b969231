"""Real processes, killed with SIGKILL wherever they are: nothing is lost, nothing doubled, and one index is whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.corpora import BASE, DAY
from helpers.support import (
    Stepped,
    command,
    everything,
    indexed,
    modelled,
    nothing_is_saved_ahead_of_its_rows,
    rebuilt,
    reference,
    write_lines,
)
from helpers.trees import Copier, tree
from sidecar.bulk.rebuild import reindex
from sidecar.config.settings import Settings
from sidecar.indexer.day_writer import DayWriter
from sidecar.query.index import Index
from sidecar.service.supervisor import run_once
from sidecar.store import layout as swap

KILLS = 40
KILLS_OF_THE_LONG_FORM = 1_500


def take_in(settings: Settings) -> None:
    run_once(settings, lambda _: None)


def rebuild_it(settings: Settings) -> None:
    reindex(settings, 1)


# ---- an indexing process


def kill_again_and_again(folder: Path, seed: int, kills: int, sessions: int, lines: int) -> None:
    """Write a tree while a sidecar follows that is killed and started again; at the end compare."""
    chance = random.Random(seed)
    tree(folder / "all", seed, sessions=sessions, lines=lines, events=30 * sessions)
    root = folder / "logs"
    root.mkdir()
    config = folder / "config.yaml"
    config.write_text("checkpoint_interval: 0.02\nscan_interval: 0.1\n")
    copier = Copier(folder / "all", root, chance)
    start = command("--root", root, "--config", config, "run")
    writes = 0
    for number in range(kills):
        process = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        # Some die while Python starts, most at work. The writer goes on meanwhile, and tears lines.
        for _ in range(chance.choice([1, 20, 30, 40, 50])):
            copier.write_some(torn=True)
            writes += 1
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.random() * 0.025)
        ended = process.poll()
        process.kill()
        _, said = process.communicate()
        assert ended is None, f"it ended by itself, as run {number}: {said.decode()}"
        nothing_is_saved_ahead_of_its_rows(root)
    while copier.write_some(torn=True):
        pass
    settings = reference(root)
    take_in(settings)
    with Stepped(settings) as stepped:  # event files that do not parse have settled by its time
        stepped.turn()
        stepped.turn()
    assert indexed(root) == modelled(root)
    assert everything(root / "index") == rebuilt(settings)


def test_an_indexing_process_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, seed=1, kills=KILLS, sessions=10, lines=300)


@pytest.mark.slow
def test_an_indexing_process_may_be_killed_at_any_moment_many_times(tmp_path: Path) -> None:
    rounds = 10
    for seed in range(rounds):
        folder = tmp_path / str(seed)
        kill_again_and_again(folder, 100 + seed, KILLS_OF_THE_LONG_FORM // rounds, sessions=20, lines=2_000)
        shutil.rmtree(folder)


# ---- a child that dies at a given step

_STEPS = {
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.scandir", "os.listdir", "os.truncate"),
    *("shutil.rmtree", "sqlite3.connect"),
}


def dies_at_step(number: int, settings: Settings, work: Callable[[Settings], object]) -> bool:
    """Do some work in a child that kills itself before its n-th look at or change of the index folder.

    False where the work was done before it came to that.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL), f"the child ended with {status}"
        return status == signal.SIGKILL
    try:
        left = number
        within = os.fspath(settings.index_folder)

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            paths = [os.fsdecode(one) for one in arguments if isinstance(one, str | bytes | os.PathLike)]
            # A name alone is one in a folder that is open.
            if event in _STEPS and any(within in path or "/" not in path for path in paths):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        work(settings)
    except BaseException:
        os._exit(1)
    os._exit(0)


@pytest.fixture
def root(folder: Path) -> Path:
    """A root with an index that is behind its logs, so that the old index and a new one can be told apart."""
    root = folder / "logs"
    log = root / "responses/sessions/s.jsonl"
    records = [{"event": "agent:say", "timestamp": BASE + DAY * (number % 4), "n": number} for number in range(60)]
    write_lines(log, *records[:30])
    take_in(reference(root))
    write_lines(log, *records[30:])
    return root


def ids(root: Path) -> list[str]:
    with Index(root) as index:
        return [entry.id for entry in index.timeline()]


def killed_in_a_rebuild_everywhere(root: Path, folder: Path) -> int:
    """For each step of a rebuild: kill there, look at what readers find, start again. Gives the number of steps."""
    old = ids(root)
    new = [row[0] for row in sorted(modelled(root), key=lambda row: (row[1], row[6]))]
    assert len(old) == 30 and len(new) == 60
    copy = folder / "copy"
    seen = []
    for step in range(10_000):
        shutil.copytree(root, copy, copy_function=shutil.copy2)
        settings = reference(copy)
        if not dies_at_step(step, settings, rebuild_it):
            break
        found = ids(copy)
        assert found in (old, new), f"step {step}: {len(found)} entries"
        seen.append(found == new)
        take_in(settings)
        assert ids(copy) == new
        assert not (copy / "index" / swap.REBUILD).exists()
        assert not (copy / "index" / swap.MANIFEST).exists()
        assert everything(copy / "index").rows == modelled(copy)
        shutil.rmtree(copy)
    assert seen == sorted(seen), "a new index became the old one again"
    assert {False, True} == set(seen)
    return len(seen)


EVERY = pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
"""Every fifth step in the short form."""


def test_a_rebuild_may_be_killed_at_every_step(root: Path, folder: Path) -> None:
    assert killed_in_a_rebuild_everywhere(root, folder) > 30


@EVERY
def test_so_may_one_over_an_index_that_was_killed_before(root: Path, folder: Path, every: int) -> None:
    """Then the old files have write-ahead logs, which must not be taken for those of the new."""
    with Stepped(reference(root)) as stepped:
        log = root / "responses/sessions/t.jsonl"
        write_lines(log, *[{"event": "agent:say", "timestamp": BASE + DAY * number} for number in range(4)])
        stepped.turn()
        shutil.copytree(root, folder / "killed", copy_function=shutil.copy2)
    killed = folder / "killed"
    (killed / "responses/sessions/t.jsonl").unlink()
    assert list((killed / "index/daily").glob("*-wal"))
    copy = folder / "copy"
    new = modelled(killed)
    for step in range(0, 10_000, every):
        shutil.copytree(killed, copy, copy_function=shutil.copy2)
        settings = reference(copy)
        if not dies_at_step(step, settings, rebuild_it):
            break
        assert len(ids(copy)) in (len(new), len(new) + 4), f"step {step}"
        reindex(settings, 1)
        assert indexed(copy) == new
        shutil.rmtree(copy)
    assert step > 30


@EVERY
def test_healing_may_be_killed_at_every_step(root: Path, folder: Path, every: int) -> None:
    copy = folder / "copy"
    for step in range(0, 10_000, every):
        shutil.copytree(root, copy, copy_function=shutil.copy2)
        settings = reference(copy)
        (copy / "index/daily/2024-12-30.db").write_bytes(b"noise")
        if not dies_at_step(step, settings, take_in):
            break
        take_in(settings)
        assert indexed(copy) == modelled(copy)
        shutil.rmtree(copy)
    assert step > 50


@EVERY
def test_a_first_run_may_be_killed_at_every_step(root: Path, folder: Path, every: int) -> None:
    copy = folder / "copy"
    shutil.rmtree(root / "index")
    for step in range(0, 10_000, every):
        shutil.copytree(root, copy, copy_function=shutil.copy2)
        settings = reference(copy)
        if not dies_at_step(step, settings, take_in):
            break
        take_in(settings)
        assert indexed(copy) == modelled(copy)
        shutil.rmtree(copy)
    assert step > 30


@pytest.mark.parametrize("days_dropped", [0, 1, 3])
def test_the_rows_of_a_changed_file_go_though_a_kill_interrupts_it(root: Path, days_dropped: int) -> None:
    settings = reference(root)
    take_in(settings)
    (root / "responses/sessions/s.jsonl").write_bytes(b"")
    write_lines(root / "responses/sessions/s.jsonl", {"event": "agent:say", "timestamp": BASE, "n": "new"})
    child = os.fork()
    if child == 0:
        forget, left = DayWriter.delete_rows, days_dropped

        def dying(self: DayWriter, *arguments: Any) -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            forget(self, *arguments)

        DayWriter.delete_rows = dying  # type: ignore[method-assign]
        take_in(settings)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert len(indexed(root)) < 61
    take_in(settings)
    assert indexed(root) == modelled(root)
    assert everything(root / "index") == rebuilt(settings)


# ---- who reads meanwhile


@contextmanager
def rebuilding_forever(settings: Settings) -> Iterator[None]:
    """A child that does nothing but rebuild the index, until it is killed."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            while True:
                reindex(settings, 1)
        os._exit(1)
    try:
        yield
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the rebuilding child has died"
    finally:
        with suppress(ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_readers_always_find_a_whole_index_while_it_is_rebuilt(root: Path) -> None:
    settings = reference(root)
    take_in(settings)
    expected = ids(root)
    builds = set()
    with rebuilding_forever(settings), Index(root) as long_lived:
        for _ in range(300):
            assert ids(root) == expected
            assert [entry.id for entry in long_lived.timeline()] == expected
            assert long_lived.get(expected[0]).id == expected[0]
            assert [one.session_id for one in long_lived.sessions()] == ["s"]
            with suppress(FileNotFoundError):  # in this moment it is being moved
                builds.add((settings.index_folder / swap.CATALOG_NAME).stat().st_ino)
    assert len(builds) > 5
