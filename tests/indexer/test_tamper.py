"""Whoever else writes to an index file that the sidecar has at work is noticed, and who only reads is not."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from random import Random
from unittest import mock

import pytest

from helpers.corpora import BASE, DAY
from helpers.support import Stepped, everything, indexed, modelled, reference, write_lines
from sidecar.errors import IndexDamaged
from sidecar.guarded import GuardedFolder
from sidecar.indexer import day_files as index
from sidecar.indexer import tamper as seal
from sidecar.indexer.day_files import DayFiles
from sidecar.indexer.day_writer import DayWriter
from sidecar.indexer.index_writer import IndexWriter
from sidecar.indexer.tamper import TamperGuard, stat_after_write, states_of
from sidecar.logs import scanner as scans
from sidecar.query.index import Index
from sidecar.service.daemon import Sidecar
from sidecar.service.supervisor import run_once
from sidecar.store.connection import DAILY, create
from sidecar.times import day_number

LOG = "responses/sessions/s.jsonl"
NAMES = ["2024-12-29", "2024-12-30", "2024-12-31"]
PAGE = 4_096
REALTIME_COARSE = 5


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root, indexed: three days of some pages each."""
    root = tmp_path / "logs"
    for number in range(600):
        data = {"agent_id": f"agent_{number}", "to_agent": f"other_{number % 97}"}
        write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE + DAY * (number % 3), "data": data})
    run_once(reference(root), lambda _: None)
    return root


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[tuple[TamperGuard, Callable[[int], None], Path]]:
    """The seal of an open daily file, what writes so many kilobytes through it, and its path."""
    path = tmp_path / "2024-12-31.db"
    with GuardedFolder.open_own(tmp_path) as folder, closing(create(folder, path.name, DAILY)) as database:
        its = TamperGuard(database, path)
        with its.writing():
            database.execute_sql("CREATE TABLE t (x)")

        def write(kilobytes: int) -> None:
            with its.writing():
                for _ in range(kilobytes):
                    database.execute_sql("INSERT INTO t VALUES (?)", (Random(kilobytes).randbytes(1_000),))

        write(100)
        yield its, write, path


def overwrite(path: Path, at: int, content: bytes) -> None:
    """As `dd conv=notrunc` does."""
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, content, at)
    os.close(fd)


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


# ---- an open file


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_foreign_write_in_the_very_moment_after_ours_is_noticed(
    sealed: tuple[TamperGuard, Callable[[int], None], Path], suffix: str
) -> None:
    """The clock of the kernel ticks every few milliseconds, and the size stays."""
    its, write, path = sealed
    name = Path(f"{path}{suffix}")
    overlooked = 0
    with mock.patch.object(seal, "MAX_WAL_BYTES", 0):  # so that both files are written each time
        for _ in range(200):
            write(1)
            overwrite(name, 24, name.read_bytes()[24:28])
            try:
                its.check()
                overlooked += 1
            except IndexDamaged:
                its.__init__(its._database, path)  # type: ignore[misc]
    assert overlooked == 0


def test_the_time_that_a_written_file_is_given_is_none_that_the_kernel_gives(tmp_path: Path) -> None:
    """Kernels since 6.13 look at a finer clock where somebody has asked for the time in between; others do not."""
    for number in range(100):
        path = tmp_path / str(number)
        before = time.clock_gettime_ns(REALTIME_COARSE)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)  # Python's own `open` asks
        os.write(fd, b"x")
        os.close(fd)
        after = time.clock_gettime_ns(REALTIME_COARSE)
        given = stat_after_write(path)
        assert given is not None and given.mtime_ns not in (before, after)
        assert before <= given.mtime_ns <= time.time_ns()


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_file_that_takes_the_place_of_ours_in_a_transaction_does_not_pass_for_it(
    sealed: tuple[TamperGuard, Callable[[int], None], Path], suffix: str
) -> None:
    its, write, path = sealed
    name = Path(f"{path}{suffix}")
    moved = its._checkpoint_log

    def replace() -> None:
        shutil.copy2(name, path.with_name("copy"))
        path.with_name("copy").replace(name)

    def meddled() -> None:
        its.check()
        with mock.patch.object(its, "check", replace):
            moved()

    if suffix:
        with its.writing():
            its._database.execute_sql("INSERT INTO t VALUES (1)")
            replace()
    else:
        with mock.patch.object(seal, "MAX_WAL_BYTES", 0), mock.patch.object(its, "_checkpoint_log", meddled):
            write(1)
    with pytest.raises(IndexDamaged, match=f"{name.name} was deleted or replaced"):
        its.check()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_nothing_is_written_to_a_file_that_was_deleted_or_replaced(
    sealed: tuple[TamperGuard, Callable[[int], None], Path], suffix: str
) -> None:
    _, write, path = sealed
    name = Path(f"{path}{suffix}")
    shutil.copy2(name, path.with_name("copy"))
    path.with_name("copy").replace(name)
    with pytest.raises(IndexDamaged, match=f"{name.name} was deleted or replaced"):
        write(1)
    name.unlink()
    with pytest.raises(IndexDamaged, match=f"{name.name} was deleted or replaced"):
        write(1)


def test_a_file_that_was_cut_during_a_transaction_is_not_written_over(
    sealed: tuple[TamperGuard, Callable[[int], None], Path],
) -> None:
    """A WAL checkpoint would make it long again, with holes."""
    its, write, path = sealed
    with mock.patch.object(seal, "MAX_WAL_BYTES", 0):
        write(100)
        size = path.stat().st_size
        with pytest.raises(IndexDamaged, match=r"2024-12-31.db was truncated"), its.writing():
            its._database.execute_sql("INSERT INTO t VALUES (1)")
            os.truncate(path, PAGE)
    assert path.stat().st_size == PAGE < size


def test_what_is_written_to_the_log_by_others_is_noticed_before_it_is_moved(
    sealed: tuple[TamperGuard, Callable[[int], None], Path],
) -> None:
    its, write, path = sealed
    overwrite(log_of(path), 3 * (PAGE + 24), b"\xaa" * 20)
    with pytest.raises(IndexDamaged, match=r"-wal was written by another process"):
        write(1)
    with pytest.raises(IndexDamaged, match=r"-wal was written by another process"):
        its.close()
    assert its._database.is_closed()


def test_a_transaction_that_fails_leaves_the_seal_whole_also_where_it_did_not_fit_into_memory(
    sealed: tuple[TamperGuard, Callable[[int], None], Path],
) -> None:
    its, write, path = sealed
    its._database.execute_sql("PRAGMA cache_size = 5")
    before = log_of(path).stat().st_size
    with pytest.raises(RuntimeError), its.writing():
        write(500)  # a part of the transaction
        assert log_of(path).stat().st_size > before
        raise RuntimeError
    its.check()
    write(1)
    assert its._database.execute_sql("SELECT COUNT(*) FROM t").fetchone() == (101,)
    assert its._database.execute_sql("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_log_stays_small_and_grows_only_beside_one_who_reads_old_rows(
    sealed: tuple[TamperGuard, Callable[[int], None], Path],
) -> None:
    its, write, path = sealed

    def largest(times: int) -> int:
        sizes = []
        for _ in range(times):
            write(4)
            sizes.append(log_of(path).stat().st_size)
        return max(sizes[times // 2 :])

    with mock.patch.object(seal, "MAX_WAL_BYTES", 50 * PAGE):
        its.__init__(its._database, path)  # type: ignore[misc]
        assert largest(200) < 80 * PAGE
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as reader:
            count = reader.execute("SELECT COUNT(*) FROM t").fetchone()
            assert largest(200) < 80 * PAGE, "a reader who asks nothing now"
            reader.execute("BEGIN")
            reader.execute("SELECT 1 FROM t").fetchone()
            assert largest(200) > 200 * PAGE
            assert reader.execute("SELECT COUNT(*) FROM t").fetchone() > count
            reader.execute("COMMIT")
            assert largest(20) < 80 * PAGE, "one who asked"
        assert largest(200) < 80 * PAGE


def test_a_checkpoint_that_cannot_be_made_now_stops_no_commit(
    sealed: tuple[TamperGuard, Callable[[int], None], Path],
) -> None:
    """Somebody else is making one, or holds the locks."""
    its, write, path = sealed
    with mock.patch.object(seal, "MAX_WAL_BYTES", 0):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT COUNT(*) FROM t").fetchone()
            for _ in range(5):
                write(10)
        write(10)
    its.check()
    assert its._database.execute_sql("SELECT COUNT(*) FROM t").fetchone() == (160,)


# ---- who only reads


# In a process of its own: to close a file here would take from SQLite the locks that this process has on it.
ASKS = """
import shutil, sqlite3, sys
for path in sys.argv[1:]:
    shell = sqlite3.connect(path)
    assert shell.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] > 0
    assert shell.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    shell.backup(sqlite3.connect(":memory:"))
    shell.close()
    shutil.copy2(path, path + ".copy")
"""


def ask(*paths: Path) -> None:
    """A shell with leave to write that only asks, and who makes copies."""
    subprocess.run([sys.executable, "-c", ASKS, *paths], check=True)


def touch(*paths: Path) -> None:
    """What changes the time of change of the name, and not of the content."""
    for path in paths:
        path.chmod(0o600)
        os.utime(path, ns=(1, path.stat().st_mtime_ns))
        path.with_suffix(".link").hardlink_to(path)
        path.with_suffix(".link").unlink()


@pytest.mark.parametrize("read", [ask, touch])
def test_who_only_reads_is_not_taken_for_damage_at_any_state_of_a_file(root: Path, read: Callable[..., None]) -> None:
    """Open, written and closed by turns: one day may be open at once."""
    files = [root / "index/catalog.db", *(root / f"index/daily/{name}.db" for name in NAMES)]
    with mock.patch.object(index, "MAX_OPEN_DAYS", 1), Stepped(reference(root)) as stepped:
        for number in range(12):
            write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE + DAY * (number % 3)})
            stepped.turn()
            read(*files)
    assert not (root / "index/damaged").exists()
    assert indexed(root) == modelled(root)


def test_a_day_that_is_read_while_it_is_closed_may_be_finished_by_who_read_it(root: Path) -> None:
    """The log cannot go while somebody reads; when he closes, he is the last, and moves it into the file."""
    log = log_of(root / "index/daily/2024-12-29.db")
    with mock.patch.object(index, "MAX_OPEN_DAYS", 1), Stepped(reference(root)) as stepped, ExitStack() as shells:
        stepped.turn()
        write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE})
        stepped.turn()
        shell = shells.enter_context(closing(sqlite3.connect(log.with_name(log.name[:-4]), isolation_level=None)))
        shell.execute("BEGIN")
        shell.execute("SELECT COUNT(*) FROM entry").fetchone()
        write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE + DAY})
        stepped.turn()
        assert log.exists()
        stepped.turn()
        shell.execute("COMMIT")
        shells.close()
        assert not log.exists()
        stepped.turn()
        write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE})
        stepped.turn()
    assert indexed(root) == modelled(root)
    before = (root / "index/catalog.db").stat().st_ino
    run_once(reference(root), lambda _: None)
    assert (root / "index/catalog.db").stat().st_ino == before


# ---- a closed day


def flipped(path: Path) -> None:
    at = path.stat().st_size // 2
    overwrite(path, at, bytes(255 - byte for byte in path.read_bytes()[at : at + 3]))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def given_a_log(path: Path) -> None:
    log_of(path).write_bytes(b"of another database")


CHANGES = [flipped, cut, given_a_log, Path.unlink]


@pytest.fixture
def closed(root: Path) -> Iterator[tuple[DayFiles, Path]]:
    """The days of a root, of which the last is open, and the path of one that is closed."""
    with (
        mock.patch.object(index, "MAX_OPEN_DAYS", 1),
        GuardedFolder.open_own(root / "index/daily") as folder,
        closing(DayFiles(folder)) as days,
    ):
        days.roll_back_to_checkpoint(10**9, lambda _: (0, ()))
        days.check()
        yield days, root / "index/daily/2024-12-30.db"


@pytest.mark.parametrize("change", CHANGES)
def test_a_closed_day_that_somebody_else_changed_is_noticed(
    closed: tuple[DayFiles, Path], change: Callable[[Path], None]
) -> None:
    days, path = closed
    change(path)
    with pytest.raises(IndexDamaged, match=path.name):
        days.check()


def log_deleted(path: Path) -> None:
    log_of(path).unlink()


def log_written(path: Path) -> None:
    overwrite(log_of(path), 100, b"noise")


def nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize("change", [flipped, cut, Path.unlink, log_deleted, log_written, nothing])
def test_a_day_that_is_read_while_it_is_closed_is_watched_all_the_same(
    root: Path, change: Callable[[Path], None]
) -> None:
    """What looks otherwise twice is no moving of the log by who read it."""
    path = root / "index/daily/2024-12-29.db"
    with (
        mock.patch.object(index, "MAX_OPEN_DAYS", 1),
        GuardedFolder.open_own(root / "index/daily") as folder,
        closing(DayFiles(folder)) as days,
    ):
        days.roll_back_to_checkpoint(10**9, lambda _: (0, ()))
        first = days._writer(day_number(path.stem))
        first.make_durable(1)
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as reader:
            reader.execute("SELECT COUNT(*) FROM entry").fetchone()
            days._writer(day_number(NAMES[2]))
        assert log_of(path).stat().st_size, "who may only read leaves it"
        days.check()
        change(path)
        with nullcontext() if change is nothing else pytest.raises(IndexDamaged, match=path.name):
            days.check(), days.check()


@pytest.mark.parametrize("change", CHANGES)
def test_a_closed_day_that_somebody_else_changed_is_not_opened_again(
    closed: tuple[DayFiles, Path], change: Callable[[Path], None]
) -> None:
    days, path = closed
    change(path)
    with pytest.raises(IndexDamaged, match=path.name):
        days.requests(LOG, [(day_number(path.stem), 0)]).__next__()


def test_what_changes_after_the_files_were_closed_does_not_pass_for_what_was_left(
    closed: tuple[DayFiles, Path],
) -> None:
    """The catalog is told how the files were left, and what looks otherwise at the next start is checked."""
    days, path = closed
    days.close()
    noted = days.signatures().splitlines()
    assert [index.signature(path.with_name(f"{name}.db")) for name in NAMES] == noted
    flipped(path)
    assert days.signatures().splitlines() == noted
    assert index.signature(path) not in noted


def test_a_day_that_was_replaced_by_its_owner_or_deleted_is_as_it_was_left(closed: tuple[DayFiles, Path]) -> None:
    days, path = closed
    shutil.copy2(path, path.with_name("copy"))
    assert days.replace(day_number(path.stem), days.folder, "copy")
    days.check()
    days.delete(day_number(NAMES[0]))
    days.check()
    assert list(days.requests(LOG, [(day_number(path.stem), 0)])) == []
    days.check()


# ---- when it is looked


def test_the_index_is_looked_at_steadily_though_scans_are_rare_and_the_clock_steps_back(root: Path) -> None:
    path = root / "index/daily/2024-12-30.db"
    settings = reference(root, scan_interval=5.0)
    with mock.patch.object(scans, "MAX_SCAN_SHARE", 1e-9), mock.patch.object(index, "MAX_OPEN_DAYS", 1):
        stepped = Stepped(settings)
        with pytest.raises(IndexDamaged, match=path.name), stepped:
            stepped.turn()
            assert stepped.sidecar._due() <= stepped.now + 5.0
            flipped(path)
            stepped.turn(4.0)
            stepped.turn(-100_000.0)
            stepped.turn(0.9)
            stepped.now += 0.2
            assert stepped.sidecar._due() <= stepped.now
            stepped.turn(0.0)
        assert stepped.sidecar.totals.scans == 1
    run_once(settings, lambda _: None)
    assert everything(root / "index").rows == modelled(root)


def test_damage_that_shows_when_it_stops_is_set_aside_and_not_written_over(root: Path) -> None:
    with Stepped(reference(root)) as stepped:
        stepped.turn()
        flipped(root / "index/daily/2024-12-30.db")
        with pytest.raises(IndexDamaged, match="2024-12-30"):
            stepped.sidecar.close()
    run_once(reference(root), lambda _: None)
    assert indexed(root) == modelled(root)
    with Index(root) as asked:
        assert len(list(asked.timeline())) == 600


@pytest.mark.parametrize("change", [flipped, cut, Path.unlink])
@pytest.mark.parametrize("name", ["catalog.db", "daily/2024-12-30.db"])
def test_what_is_done_to_a_file_while_a_failure_is_waited_out_is_noticed(
    root: Path, name: str, change: Callable[[Path], None]
) -> None:
    with Stepped(reference(root)) as stepped:
        stepped.turn()
        write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE})
        with mock.patch.object(IndexWriter, "write", side_effect=OSError(28, "No space left on device")):
            stepped.turn()
        assert stepped.sidecar.faults.current
        change(root / "index" / name)
        with pytest.raises(IndexDamaged, match=Path(name).name):
            stepped.turn()
    run_once(reference(root), lambda _: None)
    assert indexed(root) == modelled(root)


def test_a_failure_that_is_waited_out_is_no_damage(root: Path) -> None:
    with mock.patch.object(index, "MAX_OPEN_DAYS", 1), Stepped(reference(root)) as stepped:
        for number in range(6):
            write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE + DAY * (number % 3)})
            failing = "checkpoint" if number % 2 else "write"
            with mock.patch.object(IndexWriter, failing, side_effect=OSError(28, "full")):
                stepped.turn()
            ask(*(root / f"index/daily/{name}.db" for name in NAMES))
            stepped.turn()
    assert indexed(root) == modelled(root)


def test_a_file_of_the_ledger_is_closed_whatever_another_says(root: Path) -> None:
    with GuardedFolder.open_own(root / "index/daily") as folder:
        days = DayFiles(folder)
        days.roll_back_to_checkpoint(10**9, lambda _: (0, ()))
        opened: list[DayWriter] = list(days._open.values())
        flipped(opened[0].path)
        flipped(opened[-1].path)
        with pytest.raises(IndexDamaged):
            days.close()
    assert [daily._database.is_closed() for daily in opened] == [True] * 3


@pytest.mark.parametrize("name", ["catalog.db", "daily/2024-12-30.db"])
@pytest.mark.parametrize("is_new", [False, True])
def test_what_is_done_to_a_file_between_the_check_and_the_opening_is_noticed(
    root: Path, name: str, is_new: bool
) -> None:
    """Also where the index has just been made again."""
    if is_new:
        (root / "index/daily/2024-12-29.db").unlink()
    opened = Sidecar.open
    tries = []

    def meddled(sidecar: Sidecar) -> None:
        tries.append(name)
        if len(tries) == 1:
            flipped(root / "index" / name)
        opened(sidecar)

    with mock.patch.object(Sidecar, "open", meddled):
        run_once(reference(root), lambda _: None)
    assert len(tries) == 2
    assert Path(name).name in (root / "index/damaged/why.txt").read_text()
    assert indexed(root) == modelled(root)


def test_the_empty_log_that_a_reader_makes_is_no_damage_and_one_with_something_in_it_is(
    sealed: tuple[TamperGuard, Callable[[int], None], Path],
) -> None:
    """Beside a file that was closed in WAL mode, with nobody else there."""
    its, _, path = sealed
    its._database.close()
    found = states_of([path])[path]
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
        assert reader.execute("SELECT COUNT(*) FROM t").fetchone() == (100,)
    assert log_of(path).stat().st_size == 0
    found.check(path)
    ask(path)
    found.check(path)
    given_a_log(path)
    with pytest.raises(IndexDamaged, match="-wal was put there"):
        found.check(path)
