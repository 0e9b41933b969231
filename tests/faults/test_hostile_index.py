"""What others put into the index folder while it is repaired, swapped, reported on or rebuilt: nothing of it leads the
sidecar elsewhere, and what is theirs alone stays as it is."""

from __future__ import annotations

import os
import pickle
import sqlite3
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from helpers.corpora import BASE, write_tree
from helpers.support import HANG, Stepped, command, indexed, modelled, reference, scratch, write_lines
from sidecar.bulk import backlog
from sidecar.errors import ConfigError, ForeignFile, IndexDamaged, RootLocked
from sidecar.guarded import GuardedFolder
from sidecar.service.heartbeat import HEARTBEAT_FILE, Heartbeat, read_heartbeat
from sidecar.service.lock import LOCK_FILE, RootLock
from sidecar.service.repair import quarantine
from sidecar.service.supervisor import rebuild, run_once
from sidecar.store import layout

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
NOBODY = 65534


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    write_tree(folder, 1, sessions=3, lines=10, events=3)
    index_once(folder)
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder that nothing may touch, with names that the sidecar would delete or replace in a folder of its own."""
    folder = tmp_path / "outside"
    for name in ("catalog.db", "daily/2024-12-29.db", "2024-12-29.db", "1999-01-01.db", "swap.json", "victim"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("precious")
    before = _looks(folder)
    yield folder
    assert _looks(folder) == before


def _looks(folder: Path) -> dict[str, tuple[int, int, int, str]]:
    return {
        str(path): (status.st_ino, status.st_mode, status.st_mtime_ns, path.read_text() if path.is_file() else "")
        for path in sorted((folder, *folder.rglob("*")))
        for status in (path.lstat(),)
    }


def index_once(root: Path) -> None:
    run_once(reference(root), lambda _: None)


def link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "victim")


def link_to_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def second_name(path: Path, outside: Path) -> None:
    os.link(outside / "victim", path)


def pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, _: Path) -> None:
    (path / "full").mkdir(parents=True)


def sparse(path: Path, _: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)


Plant = Callable[[Path, Path], None]
PLANTS = [link, link_to_folder, second_name, pipe, folder, sparse]


# ---- the folders of the index


JOBS: dict[str, Callable[[Path], object]] = {
    "start": index_once,
    "reindex": lambda root: rebuild(reference(root), 1, lambda _: None),
    "quarantine": lambda root: quarantine(root / "index", "for the test"),
}


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("name", ["daily", "rebuild", "ready-evil", "damaged", "incoming", "requests"])
def test_a_link_for_a_folder_of_the_index_leads_nothing_elsewhere(
    logs: Path, outside: Path, name: str, job: str
) -> None:
    if (logs / "index" / name).exists():
        (logs / "index" / name).rename(logs / "index" / "old")
    (logs / "index" / name).symlink_to(outside)
    JOBS[job](logs)
    index_once(logs)
    assert indexed(logs) == modelled(logs)


@pytest.mark.parametrize("job", JOBS)
def test_a_folder_that_becomes_a_link_after_it_was_opened_leads_nothing_elsewhere(
    logs: Path, outside: Path, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = GuardedFolder.names
    swapped: list[str] = []

    def names_then_swap(self: GuardedFolder) -> list[str]:
        found = names(self)
        if self.path.name == "daily" and len(swapped) < 2:
            swapped.append("daily")
            self.path.rename(logs / "index" / f"old-{len(swapped)}")
            self.path.symlink_to(outside)
        return found

    monkeypatch.setattr(GuardedFolder, "names", names_then_swap)
    with suppress(ForeignFile, OSError):
        JOBS[job](logs)
    assert swapped
    monkeypatch.undo()
    index_once(logs)
    assert indexed(logs) == modelled(logs)


@pytest.mark.parametrize("plant", PLANTS)
def test_whatever_is_in_the_place_of_swap_json_the_next_start_repairs_it(
    logs: Path, outside: Path, plant: Plant
) -> None:
    plant(logs / "index" / layout.MANIFEST, outside)
    plant(logs / "index" / f"{layout.MANIFEST}.tmp", outside)
    index_once(logs)
    rebuild(reference(logs), 1, lambda _: None)
    assert indexed(logs) == modelled(logs)


def test_a_tree_deeper_than_the_stack_is_deleted(logs: Path) -> None:
    deep = os.open(logs / "index", os.O_RDONLY)
    for name in ["rebuild", *["d"] * 2_000]:
        os.mkdir(name, dir_fd=deep)
        below = os.open(name, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    index_once(logs)
    assert not (logs / "index" / "rebuild").exists()


# ---- the report of a running sidecar


@pytest.mark.parametrize("plant", PLANTS)
def test_a_status_file_replaces_whatever_is_in_its_place(logs: Path, outside: Path, plant: Plant) -> None:
    index = logs / "index"
    plant(index / HEARTBEAT_FILE, outside)
    read_heartbeat(index)
    heartbeat = Heartbeat(index)
    heartbeat.report("polling", "why", ["trouble"])
    written = read_heartbeat(index)
    assert written is not None and written.trouble == ("trouble",)
    (index / HEARTBEAT_FILE).unlink()
    plant(index / HEARTBEAT_FILE, outside)
    heartbeat.report("polling", "why", ["other trouble"])
    written = read_heartbeat(index)
    assert written is not None and written.trouble == ("other trouble",)
    heartbeat.clear()
    assert not os.path.lexists(index / HEARTBEAT_FILE)


# ---- the lock


@pytest.mark.parametrize("plant", PLANTS)
def test_a_lock_file_replaces_whatever_is_in_its_place(tmp_path: Path, outside: Path, plant: Plant) -> None:
    index = tmp_path / "index"
    index.mkdir()
    plant(index / LOCK_FILE, outside)
    first, second = RootLock(index), RootLock(index)
    first.acquire("run")
    try:
        assert stat.S_ISREG((index / LOCK_FILE).lstat().st_mode)
        with pytest.raises(RootLocked, match=f"process {os.getpid()}"):
            second.acquire("run")
        assert first.stands()
    finally:
        first.release()
    second.acquire("run")
    second.release()


# ---- the folder itself


def test_files_with_names_of_their_own_are_neither_deleted_nor_restricted(logs: Path, outside: Path) -> None:
    index = logs / "index"
    (index / "mine").symlink_to(outside)
    (index / "notes").write_text("mine")
    (index / "notes").chmod(0o666)
    (index / "photos").mkdir(mode=0o777)
    (index / "photos").chmod(0o777)
    (index / "photos" / "link").symlink_to(outside)
    for job in JOBS.values():
        job(logs)
    assert (index / "mine").is_symlink() and (index / "photos/link").is_symlink()
    assert stat.S_IMODE((index / "notes").stat().st_mode) == 0o666
    assert stat.S_IMODE((index / "photos").stat().st_mode) == 0o777


def test_a_folder_that_all_users_share_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    write_tree(root, 1, sessions=1, lines=1, events=0)
    (root / "index").mkdir()
    (root / "index").chmod(0o1777)
    with pytest.raises(ConfigError, match="for everybody"):
        index_once(root)
    assert list((root / "index").iterdir()) == []
    assert stat.S_IMODE((root / "index").stat().st_mode) == 0o1777


@pytest.fixture
def shared() -> Iterator[Path]:
    """A root that every user can reach."""
    with scratch() as folder:
        folder.chmod(0o755)
        write_tree(folder / "logs", 1, sessions=1, lines=3, events=0)
        yield folder / "logs"


@AS_ROOT
def test_the_index_folder_of_another_user_is_refused_by_name_with_a_way_out(shared: Path) -> None:
    index_once(shared)
    before = _looks_of_names(shared / "index")
    os.chown(shared / "index", NOBODY, NOBODY)
    done = subprocess.run(command("--root", shared, "run", "--once"), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{shared / 'index'} belongs to user {NOBODY}" in done.stderr
    assert "chown" in done.stderr
    assert _looks_of_names(shared / "index") == before
    # To read it is another matter.
    for words in (["query", "timeline"], ["status"], ["verify"]):
        subprocess.run(command("--root", shared, *words), capture_output=True, check=True)


def _looks_of_names(folder: Path) -> dict[str, Any]:
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@AS_ROOT
def test_a_link_of_another_user_does_not_lead_to_a_folder_that_is_not_theirs(shared: Path, outside: Path) -> None:
    (shared / "index").symlink_to(outside)
    os.lchown(shared / "index", NOBODY, NOBODY)
    with pytest.raises(ForeignFile, match=f"link of user {NOBODY}"):
        index_once(shared)
    os.lchown(shared / "index", 0, 0)  # the owner's own choice
    other = outside.parent / "elsewhere"
    other.mkdir()
    (shared / "index").unlink()
    (shared / "index").symlink_to(other)
    index_once(shared)
    assert indexed(shared) == modelled(shared)


@AS_ROOT
@pytest.mark.parametrize("name", ["swap.json", "running.json"])
def test_what_another_user_owns_in_the_index_folder_is_not_taken_for_ours(shared: Path, name: str) -> None:
    index_once(shared)
    path = shared / "index" / name
    path.write_bytes(orjson.dumps({"folder": "ready-1", "daily": []}))
    os.chown(path, NOBODY, NOBODY)
    index_once(shared)
    assert indexed(shared) == modelled(shared)
    heartbeat = Heartbeat(shared / "index")
    heartbeat.report("polling", "", [])
    assert not path.exists() or path.stat().st_uid == 0
    heartbeat.clear()


# ---- what SQLite opens by its path


def journal_that_names(victim: Path, database: Path) -> bytes:
    """A rollback journal with nothing to undo, whose super-journal, which SQLite deletes at the end, is the victim."""
    magic = bytes.fromhex("d9d505f920a163d7")
    page = int.from_bytes(database.read_bytes()[16:18], "big")
    name = os.fsencode(victim)
    header = magic + struct.pack(">IIIII", 0, 1, database.stat().st_size // page, 512, page)
    end = struct.pack(">I", (1 << 30) // page + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    return header.ljust(512, b"\0") + end


@pytest.mark.parametrize("name", ["catalog.db", "daily/2024-12-29.db"])
def test_a_planted_journal_has_sqlite_delete_no_file_elsewhere(logs: Path, outside: Path, name: str) -> None:
    database = logs / "index" / name
    planted = journal_that_names(outside / "victim", database)
    copy = outside.parent / "copy.db"
    (outside.parent / "bait").write_text("x")
    copy.write_bytes(database.read_bytes())
    Path(f"{copy}-journal").write_bytes(journal_that_names(outside.parent / "bait", copy))
    with closing(sqlite3.connect(copy)) as opened:
        opened.execute("PRAGMA user_version").fetchone()
    assert not (outside.parent / "bait").exists()  # so the attack is one
    journal = Path(f"{database}-journal")
    for words in (["query", "timeline"], ["status"], ["verify"], ["archive", "--older-than", "0s"], ["run", "--once"]):
        journal.write_bytes(planted)
        subprocess.run(command("--root", logs, *words), capture_output=True, check=False, stdin=subprocess.DEVNULL)
    journal.unlink(missing_ok=True)
    index_once(logs)
    assert indexed(logs) == modelled(logs)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal", ".new"])
@pytest.mark.parametrize("name", ["catalog.db", "daily/2024-12-29.db"])
@pytest.mark.parametrize("plant", [link, second_name, pipe])
def test_a_planted_file_beside_a_database_is_not_written_to(
    logs: Path, outside: Path, name: str, suffix: str, plant: Plant
) -> None:
    plant(logs / "index" / f"{name}{suffix}", outside)
    write_lines(logs / "responses/sessions/new.jsonl", {"event": "x", "timestamp": BASE})
    index_once(logs)
    assert indexed(logs) == modelled(logs)


@pytest.mark.parametrize("name", ["catalog.db", "daily/2024-12-29.db"])
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_file_in_the_place_of_a_database_is_not_written_to(
    logs: Path, outside: Path, name: str, plant: Plant
) -> None:
    (logs / "index" / name).unlink()
    plant(logs / "index" / name, outside)
    index_once(logs)
    assert indexed(logs) == modelled(logs)


def test_a_folder_that_is_swapped_while_the_sidecar_runs_is_not_written_to(logs: Path, outside: Path) -> None:
    with Stepped(reference(logs)) as stepped:
        stepped.turn()
        (logs / "index/daily").rename(logs / "index/old")
        (logs / "index/daily").symlink_to(outside)
        write_lines(logs / "responses/sessions/new.jsonl", {"event": "x", "timestamp": 1_000})
        with pytest.raises(IndexDamaged, match="daily was replaced"):
            stepped.turn()
        stepped.sidecar.abandon()
        (logs / "index/daily").unlink()
        (logs / "index/old").rename(logs / "index/daily")
    index_once(logs)
    assert indexed(logs) == modelled(logs)


@pytest.mark.parametrize("plant", [link_to_folder, link, pipe])
def test_whatever_is_in_the_place_of_the_backlog_folder_stops_nothing(
    logs: Path, outside: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "START_WORKERS_AT", 10)
    monkeypatch.setattr(backlog, "DISPATCH_AT", 5)
    for number in range(30):
        write_lines(logs / f"responses/sessions/n{number}.jsonl", {"event": "x", "timestamp": BASE + number})
    with Stepped(reference(logs)) as stepped:
        plant(logs / "index" / backlog.BACKLOG_FOLDER, outside)
        stepped.turn()
        assert stepped.rows == modelled(logs)


def test_a_folder_that_is_replaced_on_its_way_to_another_process_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with GuardedFolder.open_own(tmp_path / "a") as folder:
        with pickle.loads(pickle.dumps(folder)) as again:
            assert os.path.samestat(os.fstat(again.fd), os.fstat(folder.fd))
        packed = pickle.dumps(folder)
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a").mkdir()
        with pytest.raises(ForeignFile, match="was replaced"):
            pickle.loads(packed)


@AS_ROOT
@pytest.mark.parametrize("name", ["daily/*.db", "catalog.db"])
def test_a_database_of_another_user_is_rebuilt(shared: Path, name: str) -> None:
    index_once(shared)
    path = next((shared / "index").glob(name))
    os.chown(path, NOBODY, NOBODY)
    index_once(shared)
    assert indexed(shared) == modelled(shared)
    assert path.stat().st_uid == 0


@AS_ROOT
def test_the_days_of_another_user_are_refused_by_name(shared: Path) -> None:
    index_once(shared)
    os.chown(shared / "index/daily", NOBODY, NOBODY)
    with pytest.raises(ForeignFile, match=f"daily is the folder of user {NOBODY}"):
        index_once(shared)


# ---- what SQLite would run

FOR_EVER = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r)"
DAY_FILE = "daily/2024-12-29.db"
PROGRAMS = {
    "a trigger that fills the disk": (
        DAY_FILE,
        "CREATE TABLE junk (x);"
        f"CREATE TRIGGER t AFTER INSERT ON entry BEGIN INSERT INTO junk {FOR_EVER} SELECT randomblob(999) FROM r; END",
    ),
    "a table that never ends": (
        DAY_FILE,
        f"ALTER TABLE source RENAME TO other; CREATE VIEW source AS SELECT * FROM other, ({FOR_EVER} SELECT x FROM r)",
    ),
    "the view that never ends": (
        DAY_FILE,
        f"DROP VIEW ksi_index; CREATE VIEW ksi_index AS {FOR_EVER}"
        " SELECT x AS id, 'x' AS file_path, x AS byte_offset FROM r",
    ),
    "an index that takes all memory": (DAY_FILE, "CREATE INDEX i ON entry (hex(zeroblob(400000000 + timestamp)))"),
    "facts that never end": (
        "catalog.db",
        f"ALTER TABLE meta RENAME TO other; CREATE VIEW meta AS SELECT o.* FROM other o, ({FOR_EVER} SELECT x FROM r)",
    ),
    "sources that never end": (
        "catalog.db",
        "ALTER TABLE source RENAME TO other;"
        f"CREATE VIEW source AS SELECT o.* FROM other o, ({FOR_EVER} SELECT x FROM r)",
    ),
    "a trigger in the catalog": (
        "catalog.db",
        f"CREATE TRIGGER t AFTER INSERT ON source BEGIN INSERT INTO meta {FOR_EVER} SELECT x, x FROM r; END",
    ),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_nothing_that_is_stored_in_a_database_runs(logs: Path, program: str) -> None:
    name, sql = PROGRAMS[program]
    with closing(sqlite3.connect(logs / "index" / name)) as database:
        database.execute("PRAGMA legacy_alter_table = on")
        if "zeroblob" in sql:  # an empty table takes such an index, and then rows
            database.execute("CREATE TABLE kept AS SELECT * FROM entry")
            database.execute("DELETE FROM entry")
        database.executescript(sql)
    write_lines(logs / "responses/sessions/new.jsonl", {"event": "x", "timestamp": BASE})
    for words in (["query", "timeline"], ["query", "rejected"], ["status"], ["verify"]):
        done = subprocess.run(
            command("--root", logs, *words), capture_output=True, text=True, check=False, timeout=HANG
        )
        assert "Traceback" not in done.stderr
    index_once(logs)
    assert indexed(logs) == modelled(logs)


def test_tables_and_views_of_your_own_may_be_in_a_database(logs: Path) -> None:
    with closing(sqlite3.connect(logs / "index" / DAY_FILE)) as database:
        database.executescript("CREATE TABLE mine (x); CREATE VIEW latest AS SELECT * FROM ksi_index LIMIT 1")
    inode = (logs / "index" / DAY_FILE).stat().st_ino
    index_once(logs)
    assert indexed(logs) == modelled(logs)
    assert (logs / "index" / DAY_FILE).stat().st_ino == inode
