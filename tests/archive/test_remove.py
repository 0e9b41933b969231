"""A log is deleted when nobody needs it, and is as it was before where somebody does."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.support import scratch
from sidecar.archive.remove import GOING_FOLDER, InUse, delete_leftovers, remove_log, why_in_use, writer_of
from sidecar.fs import FileStat
from sidecar.writer import SessionWriter


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as folder:
        (folder / "index").mkdir()
        yield folder


@pytest.fixture
def log(folder: Path) -> Path:
    log = folder / "s.jsonl"
    log.write_bytes(b'{"event": "x"}\n')
    return log


def looks(log: Path) -> FileStat:
    return FileStat.of(log.stat())


def take_away(log: Path, as_it_was: FileStat | None = None) -> None:
    remove_log(log.parent, log.name, as_it_was or looks(log), log.parent / "index")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_log_goes_with_its_lock_and_leaves_no_second_name(folder: Path, log: Path) -> None:
    (folder / "s.jsonl.lock").write_text("{}")
    take_away(log)
    assert names(folder) == ["index"] and not list((folder / "index" / GOING_FOLDER).iterdir())


def test_one_that_looks_otherwise_stays(folder: Path, log: Path) -> None:
    before = looks(log)
    log.write_bytes(b"more")
    with pytest.raises(InUse, match="has changed"):
        take_away(log, before)
    assert log.read_bytes() == b"more" and names(folder) == ["index", "s.jsonl"]


def test_one_whose_lock_is_held_stays_even_if_nobody_has_it_open(folder: Path, log: Path) -> None:
    with (folder / "s.jsonl.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InUse, match="its writer holds it"):
            take_away(log)
    assert names(folder) == ["index", "s.jsonl", "s.jsonl.lock"]


def test_one_that_is_open_for_writing_stays(folder: Path, log: Path) -> None:
    with log.open("ab"):
        assert why_in_use(log) == "somebody has it open for writing"
        with pytest.raises(InUse, match="open for writing"):
            take_away(log)
    assert why_in_use(log) is None and names(folder) == ["index", "s.jsonl"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_one_of_another_user_stays_because_nobody_can_tell_who_writes_to_it(folder: Path, log: Path) -> None:
    for path in (folder, log, folder / "index"):
        path.chmod(0o777)
    child = os.fork()
    if child == 0:
        os.setuid(65_534)
        try:
            take_away(log)
        except InUse as error:
            os._exit(0 if "another user" in str(error) and log.exists() else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert names(folder) == ["index", "s.jsonl"]


def test_one_that_is_read_goes(folder: Path, log: Path) -> None:
    with log.open("rb") as reader:
        take_away(log)
        assert reader.read() == b'{"event": "x"}\n'
    assert names(folder) == ["index"]


def test_a_link_of_its_name_stays(folder: Path, log: Path) -> None:
    other = folder / "other"
    before = looks(log)
    log.rename(other)
    log.symlink_to(other)
    with pytest.raises(OSError):
        take_away(log, before)
    assert names(folder) == ["index", "other", "s.jsonl"]


def test_who_waits_for_a_lock_that_is_deleted_gets_one_that_counts(folder: Path) -> None:
    root = folder / "logs"
    with SessionWriter(root, "s", "first") as writer:
        writer.append({"event": "x"})
    log = root / "responses/sessions/s.jsonl"
    lock = log.with_name("s.jsonl.lock")
    fd = os.open(lock, os.O_RDWR)  # as a writer has it that is about to lock it
    (root / "index").mkdir()
    remove_log(root, log.relative_to(root).as_posix(), looks(log), root / "index")
    assert not lock.exists()
    with SessionWriter(root, "s", "second"):
        assert "second" in (writer_of(lock) or "")
    os.close(fd)


def test_who_holds_a_lock_is_told_without_touching_it(folder: Path) -> None:
    lock = folder / "s.jsonl.lock"
    assert writer_of(lock) is None
    lock.write_text("somebody\n")
    assert writer_of(lock) is None
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert writer_of(lock) == "somebody"


def test_what_a_killed_run_left_is_swept(folder: Path, log: Path) -> None:
    going = folder / "index" / GOING_FOLDER
    going.mkdir()
    os.link(log, going / "left")
    delete_leftovers(folder / "index")
    assert not going.exists() and log.exists()
