"""`Index` as a library: beside a sidecar or without one, where it may not write, and through rebuilds; and `follow`."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
from peewee import OperationalError

from helpers.corpora import BASE, DAY, write_tree
from helpers.support import HANG, Stepped, eventually, indexed, reference, running, write_lines
from sidecar import Entry, Index, SidecarError
from sidecar.bulk.rebuild import reindex
from sidecar.errors import IndexDamaged, IndexMissing, IndexUnavailable, SchemaMismatch
from sidecar.query import follow as follower_module
from sidecar.query.catalog_reader import CatalogReader
from sidecar.query.day_reader import DayReader
from sidecar.service.supervisor import rebuild, run_once

SESSION = "responses/sessions/s.jsonl"
NOBODY = 65_534


def spawn(n: int, moment: float = BASE, **more: Any) -> dict[str, Any]:
    """The `n`th of some records that can be told apart."""
    return {"event": "agent:spawn", "timestamp": moment + n, "data": {"agent_id": f"agent_{n % 3}", "n": n}, **more}


def index_tree(root: Path) -> None:
    """Index a reference tree, as `sidecar run --once` does."""
    run_once(reference(root), lambda _: None)


def times(root: Path) -> list[float]:
    with Index(root) as index:
        return [entry.timestamp - BASE for entry in index.timeline()]


# ---- where it serves


def test_it_serves_where_no_sidecar_runs(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, spawn(0), spawn(1))
    index_tree(tmp_path)
    assert times(tmp_path) == [0, 1]


def test_it_serves_again_after_it_was_closed(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, spawn(0))
    index_tree(tmp_path)
    index = Index(tmp_path)
    for _ in range(2):
        assert len(list(index.timeline())) == len(list(index.sessions())) == 1
        index.close()


def test_it_sees_what_a_running_sidecar_writes(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, spawn(0))
    with running(tmp_path), Index(tmp_path) as index:
        for n in range(1, 4):
            write_lines(tmp_path / SESSION, spawn(n))
            eventually(lambda n=n: len(list(index.timeline())) == n + 1)
            assert index.read(next(index.timeline(reverse=True)))["data"]["n"] == n


@pytest.fixture
def copied() -> Iterator[Path]:
    """A folder below one that everybody can reach, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


# The interpreter itself may lie where nobody else may read: all is loaded before rights are dropped.
ASK = f"""
import os, sys
from sidecar import Index, SidecarError
if os.getuid() == 0:
    os.setgid({NOBODY})
    os.setuid({NOBODY})
try:
    with Index(sys.argv[1]) as index:
        entries = list(index.timeline())
        list(index.sessions())
        print(len(entries), sum(len(index.read_bytes(one)) for one in entries))
except SidecarError as error:
    print(type(error).__name__, error, error.hint)
"""


def ask_without_rights(root: Path) -> str:
    """What a process of another user sees of an index."""
    ran = subprocess.run([sys.executable, "-c", ASK, root], capture_output=True, text=True, cwd="/")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def ask_as_nobody(root: Path) -> str:
    """What a process sees that may read everything below a root, and write nothing."""
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        return ask_without_rights(root)
    finally:
        for path in (root, *root.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_it_serves_from_a_folder_that_it_cannot_write(copied: Path) -> None:
    write_tree(copied / "logs", 1, sessions=3, lines=50, events=10)
    index_tree(copied / "logs")
    with Index(copied / "logs") as index:
        entries = list(index.timeline())
        expected = f"{len(entries)} {sum(len(index.read_bytes(one)) for one in entries)}"
    before = state_of(copied / "logs")
    assert ask_as_nobody(copied / "logs") == expected
    assert state_of(copied / "logs") == before


def killed(root: Path) -> None:
    """Let a real sidecar index what is there, and kill it."""
    count = len((root / SESSION).read_bytes().splitlines())
    with running(root) as process:
        eventually(lambda: (root / "index" / "daily").exists() and len(indexed(root)) == count)
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_it_serves_after_a_sidecar_was_killed(copied: Path) -> None:
    root = copied / "logs"
    write_lines(root / SESSION, *map(spawn, range(20)))
    killed(root)
    assert list((root / "index" / "daily").glob("*.db-wal"))
    assert times(root) == list(range(20))
    index_tree(root)
    assert times(root) == list(range(20))


def test_it_serves_after_a_kill_from_a_folder_that_it_cannot_write(copied: Path) -> None:
    root = copied / "logs"
    write_lines(root / SESSION, *map(spawn, range(20)))
    killed(root)
    size = sum(len(line) for line in (root / SESSION).read_bytes().splitlines())
    assert ask_as_nobody(root) == f"20 {size}"


def test_a_log_of_sqlite_that_cannot_be_read_without_writing_is_an_error_of_ours(copied: Path) -> None:
    root = copied / "logs"
    write_lines(root / SESSION, spawn(0))
    killed(root)
    for path in (root / "index").rglob("*.db-shm"):
        path.unlink()
    answer = ask_as_nobody(root)
    assert "permissions" in answer


def test_a_daily_folder_copied_elsewhere_answers_without_a_catalog(tmp_path: Path) -> None:
    root, other = tmp_path / "logs", tmp_path / "elsewhere"
    write_tree(root, 2, sessions=4, lines=60, events=10)
    index_tree(root)
    shutil.copytree(root / "index" / "daily", other / "index" / "daily")
    with Index(root) as index, Index(other) as copy:
        entries = list(index.timeline())
        assert list(copy.timeline()) == entries
        assert copy.agents() == index.agents()
        session = entries[50].session_id
        assert copy.get_session_participants(session) == index.get_session_participants(session)
        assert copy.get(f"{entries[9].file_path}:{entries[9].byte_offset}") == entries[9]
        with pytest.raises(IndexMissing):
            list(copy.sessions())
        with pytest.raises(SidecarError):
            copy.read(entries[0])


def state_of(root: Path) -> dict[str, tuple[Any, ...]]:
    """Every file and folder: content, and when it changed; not when it was read."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in (root, *sorted(root.rglob("*"))):
        status = path.stat()
        content = path.read_bytes() if path.is_file() else None
        found[os.fspath(path)] = (status.st_mtime_ns, status.st_size, status.st_ino, content)
    return found


def test_every_question_leaves_every_file_as_it_was(tmp_path: Path) -> None:
    write_tree(tmp_path, 2, sessions=4, lines=60, events=10)
    index_tree(tmp_path)
    before = state_of(tmp_path)
    with Index(tmp_path) as index:
        entries = list(index.timeline())
        during = state_of(tmp_path)
        for entry in entries[::20]:
            index.read(entry)
            index.get(f"{entry.file_path}:{entry.byte_offset}")
        list(index.sessions()), list(index.rejected()), index.agents()
        list(index.conversation("conv_1")), list(index.exchange("c1"))
        index.find_peer_interactions("agent_a", 10**9)
        index.get_agent_role_history("agent_a", entries[0].session_id)
        index.find_pending_requests(None)
        index.get_session_participants(entries[0].session_id)
        ends = iter([False, False, True])
        list(index.follow(stop=lambda: next(ends)))
    assert during == before
    assert state_of(tmp_path) == before


def test_its_connections_refuse_to_write(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, spawn(0))
    index_tree(tmp_path)
    (path,) = (tmp_path / "index" / "daily").glob("*.db")
    with closing(DayReader(path)) as day, pytest.raises(OperationalError, match="readonly"):
        day._database.execute_sql("DELETE FROM entry")


# ---- through a rebuild


def test_a_long_lived_index_sees_the_rows_of_a_rebuild(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, spawn(0), spawn(1, BASE + DAY))
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        before = list(index.timeline())
        assert len(list(index.sessions())) == 1
        write_lines(tmp_path / SESSION, spawn(2), spawn(3, BASE + DAY), spawn(4, BASE + 2 * DAY))
        write_lines(tmp_path / "responses/sessions/t.jsonl", spawn(5))
        rebuild(reference(tmp_path), 1, lambda _: None)
        after = list(index.timeline())
        assert [index.read(entry)["data"]["n"] for entry in after] == [0, 2, 5, 1, 3, 4]
        assert [index.read_bytes(entry) for entry in before]
        assert len(list(index.sessions())) == 2


def test_a_timeline_begun_before_a_rebuild_goes_on_in_the_new_index(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, *map(spawn, range(1_000)))
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        timeline = index.timeline()
        found = [next(timeline)]
        rebuild(reference(tmp_path), 1, lambda _: None)
        found += timeline
    assert [entry.timestamp - BASE for entry in found] == list(range(1_000))


def test_an_index_is_served_while_it_is_swapped_whatever_has_been_moved_yet(tmp_path: Path) -> None:
    from sidecar.store import layout as swap

    write_lines(tmp_path / SESSION, spawn(0), spawn(1, BASE + DAY))
    index_tree(tmp_path)
    index_folder = tmp_path / "index"
    with Index(tmp_path) as index:
        assert len(list(index.timeline())) == 2
        write_lines(tmp_path / SESSION, spawn(2), spawn(3, BASE + DAY))
        # A rebuild whose swap was decided and then killed: see swap.py.
        settle, swap.finish_swap = swap.finish_swap, lambda _: None
        try:
            reindex(reference(tmp_path), 1)
        finally:
            swap.finish_swap = settle
        (rebuilt,) = index_folder.glob("ready-*")
        assert (index_folder / "swap.json").exists()
        days = sorted(path.name for path in (rebuilt / "daily").glob("*.db"))
        for moved in (None, f"daily/{days[0]}", f"daily/{days[1]}", "catalog.db"):
            if moved is not None:
                (rebuilt / moved).replace(index_folder / moved)
            with Index(tmp_path) as fresh:
                assert len(list(fresh.timeline())) == 4
                assert len(list(fresh.sessions())) == 1
        assert len(list(index.timeline())) == 4
        swap.finish_swap(index_folder)
        assert len(list(index.timeline())) == 4


# ---- follow


class Following:
    """A thread that follows, with an `Index` of its own."""

    def __init__(self, root: Path, **wanted: Any) -> None:
        self._stop = threading.Event()
        self._came: Queue[Entry | BaseException] = Queue()
        ready = threading.Event()

        def work() -> None:
            try:
                with Index(root) as index:
                    entries = index.follow(**wanted, stop=self._stop.is_set)
                    ready.set()
                    for entry in entries:
                        self._came.put(entry)
            except BaseException as error:
                ready.set()
                self._came.put(error)

        self._thread = threading.Thread(target=work)
        self._thread.start()
        assert ready.wait(HANG)

    def next(self, count: int) -> list[float]:
        """Seconds after BASE of the next entries."""
        found = []
        for _ in range(count):
            came = self._came.get(timeout=HANG)
            if isinstance(came, BaseException):
                raise came
            found.append(came.timestamp - BASE)
        return found

    def nothing_more(self, seconds: float = 0.4) -> None:
        """Nothing else comes for a while, in which it looks several times."""
        with pytest.raises(Empty):
            came = self._came.get(timeout=seconds)
            raise AssertionError(f"came again: {came}")

    def end(self) -> None:
        self._stop.set()
        self._thread.join(HANG)
        assert not self._thread.is_alive()


@contextmanager
def following(root: Path, **wanted: Any) -> Iterator[Following]:
    follower = Following(root, **wanted)
    try:
        yield follower
    finally:
        follower.end()


def test_follow_gives_what_comes_and_not_what_was_there(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, spawn(0))
    with Stepped(reference(tmp_path)) as sidecar:
        sidecar.turn()
        with following(tmp_path) as follower:
            for n in range(1, 6):
                write_lines(tmp_path / SESSION, spawn(n))
                sidecar.turn()
                assert follower.next(1) == [n]
            follower.nothing_more()


def test_follow_gives_commits_that_come_within_one_tick_of_the_clock(tmp_path: Path) -> None:
    with Stepped(reference(tmp_path)) as sidecar, following(tmp_path) as follower:
        for n in range(200):
            write_lines(tmp_path / SESSION, spawn(n))
            sidecar.turn()
        assert follower.next(200) == list(range(200))


def test_a_day_that_changed_a_moment_ago_may_change_again_without_a_sign_of_it(tmp_path: Path) -> None:
    path = tmp_path / "2024-12-29.db"
    path.write_bytes(b"")
    assert follower_module._stats_of(path) is None
    os.utime(path, (BASE, BASE))
    assert follower_module._stats_of(path) is not None


def test_follow_goes_over_to_new_days_and_back(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, spawn(0))
    with Stepped(reference(tmp_path)) as sidecar:
        sidecar.turn()
        with following(tmp_path) as follower:
            for moment in (DAY, 0, 30 * DAY, DAY, 2):
                write_lines(tmp_path / SESSION, {"event": "agent:spawn", "timestamp": BASE + moment})
                sidecar.turn()
                assert follower.next(1) == [moment]
            follower.nothing_more()


def test_follow_gives_only_what_is_asked_for(tmp_path: Path) -> None:
    with Stepped(reference(tmp_path)) as sidecar:
        sidecar.turn()
        with (
            following(tmp_path, agent="agent_1") as by_agent,
            following(tmp_path, conversation="s") as by_conversation,
            following(tmp_path, correlation="c", event_type="late") as by_both,
        ):
            write_lines(tmp_path / SESSION, *map(spawn, range(6)))
            sidecar.turn()
            write_lines(tmp_path / SESSION, {"event": "late", "timestamp": BASE + 9, "correlation_id": "c"})
            sidecar.turn()
            assert by_agent.next(2) == [1, 4]
            assert by_conversation.next(7) == [0, 1, 2, 3, 4, 5, 9]
            assert by_both.next(1) == [9]
            by_agent.nothing_more()


def test_follow_waits_for_an_index_that_is_not_there_yet(tmp_path: Path) -> None:
    with following(tmp_path) as follower:
        write_lines(tmp_path / SESSION, spawn(0))
        index_tree(tmp_path)
        assert follower.next(1) == [0]


def test_follow_gives_each_entry_once_through_restarts_and_a_rebuild(tmp_path: Path) -> None:
    settings = reference(tmp_path)
    write_lines(tmp_path / SESSION, spawn(0), spawn(0, BASE + DAY))
    index_tree(tmp_path)
    with following(tmp_path) as follower:
        for start in (1, 4):
            for n in range(start, start + 3):
                write_lines(tmp_path / SESSION, spawn(n), spawn(n, BASE + DAY))
                index_tree(tmp_path)
                assert sorted(follower.next(2)) == [n, n + DAY]  # each day has a commit of its own
            rebuild(settings, 1, lambda _: None)
            follower.nothing_more()
        # What a rebuild finds first is news like any other.
        write_lines(tmp_path / SESSION, spawn(7), spawn(7, BASE + 2 * DAY))
        write_lines(tmp_path / "responses/sessions/another.jsonl", spawn(8))
        rebuild(settings, 1, lambda _: None)
        assert sorted(follower.next(3)) == [7, 8, 7 + 2 * DAY]
        follower.nothing_more()


def test_follow_misses_nothing_that_was_committed_just_before_a_rebuild(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, spawn(0))
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        looks = iter(range(100))
        entries = index.follow(stop=lambda: next(looks) == 99, poll=0.002)
        write_lines(tmp_path / SESSION, spawn(1))
        index_tree(tmp_path)
        rebuild(reference(tmp_path), 1, lambda _: None)
        assert [entry.timestamp - BASE for entry in entries] == [1]


def test_follow_gives_each_entry_once_though_a_killed_sidecar_writes_its_last_rows_anew(tmp_path: Path) -> None:
    first = Stepped(reference(tmp_path, checkpoint_interval=10**9))
    first.sidecar.open()
    write_lines(tmp_path / SESSION, spawn(0))
    first.turn()
    with following(tmp_path) as follower:
        write_lines(tmp_path / SESSION, spawn(1), spawn(2))
        first.turn()
        assert follower.next(2) == [1, 2]
        with closing(CatalogReader(tmp_path / "index" / "catalog.db")) as catalog:
            assert catalog.sources()[0][-1] == 1, "a checkpoint covers these rows: nothing will be written anew"
        first.sidecar.abandon()
        write_lines(tmp_path / SESSION, spawn(3))
        index_tree(tmp_path)
        assert follower.next(1) == [3]
        follower.nothing_more()


def test_follow_gives_what_stands_in_a_file_that_was_written_anew(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, *map(spawn, range(3)))
    with Stepped(reference(tmp_path)) as sidecar:
        sidecar.turn()
        with following(tmp_path) as follower:
            (tmp_path / SESSION).unlink()
            write_lines(tmp_path / SESSION, spawn(10), spawn(11))
            sidecar.turn()
            assert follower.next(2) == [10, 11]
            follower.nothing_more()


def test_follow_gives_what_stands_in_a_file_that_was_written_anew_after_a_rebuild(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, *map(spawn, range(3)))
    index_tree(tmp_path)
    with following(tmp_path) as follower:
        rebuild(reference(tmp_path), 1, lambda _: None)
        follower.nothing_more()
        (tmp_path / SESSION).unlink()
        write_lines(tmp_path / SESSION, spawn(10), spawn(11))
        index_tree(tmp_path)
        assert follower.next(2) == [10, 11]
        follower.nothing_more()


def test_follow_goes_on_after_a_damaged_index_was_set_aside_and_made_again(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, spawn(0))
    index_tree(tmp_path)
    with following(tmp_path) as follower:
        write_lines(tmp_path / SESSION, spawn(1))
        index_tree(tmp_path)
        assert follower.next(1) == [1]
        (path,) = (tmp_path / "index" / "daily").glob("*.db")
        path.write_bytes(b"no database" * 1_000)
        write_lines(tmp_path / SESSION, spawn(2))
        index_tree(tmp_path)
        assert follower.next(1) == [2]
        follower.nothing_more()


def test_follow_beside_a_real_sidecar_gives_each_entry_once_through_its_restart(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, spawn(0))
    with running(tmp_path):
        eventually(lambda: len(indexed(tmp_path)) == 1)
        follower = Following(tmp_path)
        write_lines(tmp_path / SESSION, *map(spawn, range(1, 50)))
        assert follower.next(49) == list(range(1, 50))
    try:
        with running(tmp_path):
            write_lines(tmp_path / SESSION, *map(spawn, range(50, 60)))
            assert follower.next(10) == list(range(50, 60))
        follower.nothing_more()
    finally:
        follower.end()


def test_a_follow_that_nobody_reads_leaves_nothing_open(tmp_path: Path) -> None:
    # conftest fails a test that leaves descriptors open
    write_lines(tmp_path / SESSION, spawn(0))
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        index.follow()


# ---- what an import costs

HEAVY = ("watchdog", "rich", "click", "yaml", "msgspec", "hypothesis")


@pytest.mark.parametrize(
    ("statement", "but"),
    [
        ("import sidecar", ("peewee", "orjson")),
        ("from sidecar import SidecarError", ("peewee", "orjson")),
        ("from sidecar import Index, Entry", ()),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement: str, but: tuple[str, ...]) -> None:
    program = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = set(subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert "sidecar" in loaded
    assert not loaded & {*HEAVY, *but}


def test_names_are_handed_out_and_unknown_ones_are_refused() -> None:
    import sidecar

    assert sidecar.Index is Index
    assert sidecar.SidecarError is SidecarError
    assert {"Index", "Entry", "SidecarError"} <= set(dir(sidecar))
    with pytest.raises(AttributeError, match="no attribute 'Indexx'"):
        sidecar.Indexx  # noqa: B018


# ---- what is wrong with an index


def test_where_there_is_no_index_it_is_said_what_makes_one(tmp_path: Path) -> None:
    with Index(tmp_path) as index:
        for ask in (
            lambda: next(index.timeline()),
            lambda: list(index.sessions()),
            lambda: index.get("s:0"),
            index.agents,
            index.find_pending_requests,
            lambda: index.get_session_participants("s"),
        ):
            with pytest.raises(IndexMissing, match=tmp_path.name) as caught:
                ask()
            assert "sidecar run --once" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def one_day(tmp_path: Path) -> Path:
    write_lines(tmp_path / SESSION, *map(spawn, range(500)))
    index_tree(tmp_path)
    return tmp_path


def day_file(root: Path) -> Path:
    (path,) = (root / "index" / "daily").glob("*.db")
    return path


def test_a_file_that_is_no_database_is_damage(one_day: Path) -> None:
    day_file(one_day).write_bytes(b"no database at all" * 1_000)
    with Index(one_day) as index, pytest.raises(IndexDamaged, match=r"2024-12-29\.db") as caught:
        list(index.timeline())
    assert "sidecar reindex" in caught.value.hint


def test_a_file_cut_short_is_damage(one_day: Path) -> None:
    os.truncate(day_file(one_day), 12_288)
    with Index(one_day) as index, pytest.raises(IndexDamaged):
        list(index.timeline())


def test_a_database_of_somebody_elses_is_damage(one_day: Path) -> None:
    for path in (day_file(one_day), one_day / "index" / "catalog.db"):
        path.unlink()
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE entry (id INTEGER)")
    with Index(one_day) as index:
        with pytest.raises(IndexDamaged, match="not one of the sidecar's"):
            list(index.timeline())
        with pytest.raises(IndexDamaged):
            list(index.sessions())


def test_an_empty_file_is_a_missing_index(one_day: Path) -> None:
    day_file(one_day).write_bytes(b"")
    with Index(one_day) as index, pytest.raises(IndexUnavailable, match="empty"):
        list(index.timeline())


def test_an_index_of_another_version_is_refused_with_both_versions(one_day: Path) -> None:
    for path in (day_file(one_day), one_day / "index" / "catalog.db"):
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 99")
    with Index(one_day) as index:
        for ask in (lambda: list(index.timeline()), lambda: list(index.sessions())):
            with pytest.raises(SchemaMismatch, match=r"version 99; this sidecar reads version \d+") as caught:
                ask()
            assert "reindex" in caught.value.hint


def test_an_index_that_may_not_be_read_is_an_error_that_says_so(copied: Path) -> None:
    write_lines(copied / "logs" / SESSION, spawn(0))
    index_tree(copied / "logs")
    for path in (copied / "logs/index", copied / "logs/index/daily", day_file(copied / "logs")):
        path.chmod(0)
        answer = ask_without_rights(copied / "logs")
        path.chmod(0o755)
        assert path.name in answer
        assert "readable" in answer or "permissions" in answer


# ---- threads


def test_threads_with_an_index_each_see_the_same(tmp_path: Path) -> None:
    write_tree(tmp_path, 4, sessions=6, lines=150, events=20)
    index_tree(tmp_path)
    answers: list[list[Entry]] = []

    def work() -> None:
        with Index(tmp_path) as index:
            entries = list(index.timeline())
            assert all(index.get(f"{one.file_path}:{one.byte_offset}") == one for one in entries[::100])
            answers.append(entries)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0]) == len(indexed(tmp_path)) > 500
