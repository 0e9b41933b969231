"""Attacks on `sidecar archive`: kills at every step, a full disk, logs that change meanwhile, archives that are lost.

Whatever is done to it, each record is read as before or says by name why not, and the next run ends the work.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from helpers.archives import (
    AT_ONCE,
    COMPLETED,
    aged,
    archived,
    event,
    files,
    known,
    logs,
    same,
    session,
    take_in,
    where,
)
from helpers.corpora import BASE
from helpers.support import command, eventually, everything, rebuilt, reference, running, write_lines
from helpers.tally import Tally
from sidecar import Index, SidecarError
from sidecar.archive.job import archive
from sidecar.bulk.rebuild import reindex
from sidecar.config.settings import Settings
from sidecar.errors import ArchiveDamaged, ArchiveMissing, SourceError
from sidecar.health.doctor import run_checks
from sidecar.health.status import status_of
from sidecar.health.verify import compare
from sidecar.service.supervisor import run_once

LOG = "responses/sessions/s.jsonl"
ENTRY = {"event": "agent:say", "data": {"agent_id": "agent_9"}, "timestamp": BASE + 100}
_STEPS = {
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.scandir", "os.listdir", "os.link"),
    *("fcntl.fcntl", "fcntl.flock", "sqlite3.connect"),
}

Tallier = Callable[[str], Tally]
Often = Callable[[int, int], int]


def made(root: Path) -> Settings:
    """Sessions, one of which continues after it was archived, and a folder of events. All are indexed. Two have no line
    end behind their last record."""
    settings = reference(root)
    session(root, "s", lines=6)
    without_line_end(session(root, "again", lines=4))
    take_in(settings)
    archived(settings)
    write_lines(root / "responses/sessions/again.jsonl", ENTRY)
    without_line_end(session(root, "t", lines=6))
    for number in range(3):
        event(root, number)
    aged(root / "responses")
    take_in(settings)
    return settings


def without_line_end(log: Path) -> None:
    """The last line of a log loses its LF, and the log looks as old as before."""
    status = log.stat()
    os.truncate(log, status.st_size - 1)
    os.utime(log, ns=(status.st_atime_ns, status.st_mtime_ns))


def dies_at_step(number: int, settings: Settings, work: Callable[[], object]) -> bool:
    """Do some work in a child that kills itself before its n-th look at or change of logs, archive or index.

    False where the work was done before it came to that.
    """
    child = os.fork()
    if child:
        _, how = os.waitpid(child, 0)
        assert how in (0, signal.SIGKILL), f"the child ended with {how}"
        return how == signal.SIGKILL
    try:
        left = number
        within = os.fspath(settings.root.parent)

        def count(what: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            paths = [os.fsdecode(one) for one in arguments if isinstance(one, str | bytes | os.PathLike)]
            # A name alone is one in a folder that is open.
            is_within = any(within in path or "/" not in path for path in paths)
            if what in _STEPS and (what.startswith("fcntl") or is_within):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


# ---- killed


def test_archive_may_be_killed_at_every_step(folder: Path, tally: Tallier, often: Often) -> None:
    line = tally("archive: killed at every step")
    every = often(9, 1)
    before = known(made(folder / "first/logs"))
    for step in range(Random(every).randrange(every), 10_000, every):
        settings = made(folder / "copy/logs")
        if not dies_at_step(step, settings, lambda settings=settings: archive(settings, AT_ONCE)):
            break
        line.tried += 1
        left = known(settings)  # every record is read, wherever it is
        assert left.records == before.records, step
        line.compare(left.index.rows, before.index.rows)
        if step % 2:
            shutil.rmtree(settings.index_folder)  # logs and archives alone say the same at this moment too
            take_in(settings)
            line.compare(known(settings).index.rows, before.index.rows)
        done = archived(settings)
        assert not done.kept and logs(settings.root) == [], step
        after = known(settings)
        assert same(after, before), step
        line.compare(rebuilt(settings).rows, before.index.rows)
        assert not list(settings.archive.rglob("*.part")), step
        assert not (settings.index_folder / "going").exists(), step
        shutil.rmtree(folder / "copy")
    assert line.tried > 15


def test_archive_may_be_killed_again_and_again(folder: Path, tally: Tallier, often: Often) -> None:
    line = tally("archive: killed again and again")
    chance = Random(7)
    for _ in range(often(1, 12)):
        settings = made(folder / "copy/logs")
        before = known(settings)
        while dies_at_step(chance.randrange(40, 250), settings, lambda settings=settings: archive(settings, AT_ONCE)):
            line.tried += 1
            line.compare(known(settings).index.rows, before.index.rows)
        archived(settings)
        assert logs(settings.root) == [] and same(known(settings), before)
        line.compare(rebuilt(settings).rows, before.index.rows)
        shutil.rmtree(folder / "copy")


def test_archive_and_the_sidecar_beside_it_may_both_be_killed(folder: Path, tally: Tallier, often: Often) -> None:
    line = tally("archive: it and the sidecar beside it killed")
    chance = Random(3)
    settings = made(folder / "logs")
    before = known(settings)
    tries = often(3, 40)
    for number in range(tries):
        with running(settings.root, "--preset", "reference") as sidecar:
            arguments = ("--root", settings.root, "--preset", "reference", "archive", "--older-than", "0")
            process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                process.communicate(timeout=0.25 + chance.random() * 0.5)
            except subprocess.TimeoutExpired:
                (process if number % 2 else sidecar).kill()
                (sidecar if number % 2 else process).kill()
                process.communicate()
        line.tried += 1
        line.compare(known(settings).index.rows, before.index.rows)
        if logs(settings.root) == []:
            break
    take_in(settings)
    archived(settings)
    assert logs(settings.root) == [] and same(known(settings), before)
    line.compare(rebuilt(settings).rows, before.index.rows)


# ---- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own for the archive, with room for little."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_disk_that_fills_costs_nothing_but_the_archive(folder: Path, small_disk: Path, tally: Tallier) -> None:
    line = tally("archive: the disk of the archive is full")
    settings = replace(reference(folder / "logs"), archive=small_disk / "archive")
    noise = Random(1)
    session(settings.root, "a", lines=5)
    write_lines(
        settings.root / "responses/sessions/b.jsonl",
        *[{**ENTRY, "text": noise.randbytes(20_000).hex()} for _ in range(40)],
        COMPLETED,
    )
    event(settings.root, 1)
    aged(settings.root)
    take_in(settings)
    before = known(settings)
    line.tried += 1
    with pytest.raises(SidecarError, match=r"b\.jsonl\.zst: No space left") as caught:
        archived(settings)
    assert "make room" in caught.value.hint
    assert (settings.root / "responses/sessions/b.jsonl").exists()
    assert not list(settings.archive.rglob("*.part"))
    assert same(known(settings), before) and status_of(settings).healthy
    line.compare(rebuilt(settings).rows, before.index.rows)
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    archived(settings)
    assert logs(settings.root) == [] and same(known(settings), before)
    line.compare(rebuilt(settings).rows, before.index.rows)


# ---- logs that change meanwhile


def change_when(
    happens: str, within: str, times: int, change: Callable[[], None], work: Callable[[], Any]
) -> list[Any]:
    """Do some work in a child; when it does something to a path for the n-th time, change something."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            left = times

            def watch(what: str, arguments: tuple[object, ...]) -> None:
                nonlocal left
                paths = [os.fsdecode(one) for one in arguments if isinstance(one, str | bytes | os.PathLike)]
                if what == happens and any(within in path for path in paths):
                    left -= 1
                    if left == 0:
                        change()

            sys.addaudithook(watch)
            found = work()
            assert left <= 0, "it never came to that"
            os.write(write, repr([tuple(one) for one in found.kept]).encode())
        except BaseException as error:
            os.write(write, repr([repr(error)]).encode())
        with suppress(ChildProcessError):
            os.wait()
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    result: list[Any] = eval(said)
    return result


MOMENTS = [
    ("open", "s.jsonl.zst.part", 1, "while it is packed"),
    ("open", "s.jsonl.zst.part", 2, "while it is compared"),
    ("os.rename", "s.jsonl.zst", 1, "when it is packed and compared"),
    ("sqlite3.connect", "catalog.db", 1, "before anything is done"),
    ("os.link", "s.jsonl", 1, "when it is about to be deleted"),
]


@pytest.mark.parametrize(("happens", "within", "times"), [one[:3] for one in MOMENTS], ids=[one[3] for one in MOMENTS])
@pytest.mark.parametrize("how", ["appended to", "written anew", "replaced"])
def test_a_log_that_changes_stays(
    folder: Path, tally: Tallier, happens: str, within: str, times: int, how: str
) -> None:
    line = tally("archive: the log changes meanwhile")
    root = folder / "logs"
    log = session(root)
    settings = reference(root)
    take_in(settings)

    def change() -> None:
        if happens == "os.link" and how != "replaced":
            # Whoever opens the log now waits for the kernel's lease, which this very process has: so another does it.
            if os.fork() == 0:
                really_change()
                os._exit(0)
            eventually(lambda: "BREAKING" in Path("/proc/locks").read_text())
        else:
            really_change()

    def really_change() -> None:
        if how == "appended to":
            write_lines(log, ENTRY)
        elif how == "written anew":
            content = log.read_bytes().replace(b"agent_0", b"agent_X")
            log.write_bytes(content)
        else:
            other = log.with_name("other")
            write_lines(other, ENTRY, COMPLETED)
            other.replace(log)

    kept = change_when(happens, within, times, change, lambda: archive(settings, AT_ONCE))
    line.tried += 1
    if happens == "open":
        assert files(settings) == []  # nothing of it stays that would have to be explained
    if (happens, how) != ("os.link", "replaced"):  # there another file has the name, and it is no part of the work
        assert [path for path, _ in kept] == [LOG]
    content = log.read_bytes()
    for _ in range(2):
        take_in(settings)
    with Index(root) as index:
        # Nothing that was written to the file since is missing, and everything that is there is read.
        records = [index.read_bytes(one) for one in index.timeline()]
    assert set(content.splitlines()) <= set(records)
    line.compare(everything(settings.index_folder).rows, rebuilt(settings).rows)
    aged(log)
    take_in(settings)
    before = known(settings)
    archived(settings)
    assert logs(root) == [] and same(known(settings), before)
    line.compare(rebuilt(settings).rows, before.index.rows)


def test_a_log_that_changes_but_keeps_its_modification_time_is_not_archived(folder: Path) -> None:
    """Its size and time are as before; only its bytes say that it is another one between two looks at it."""
    root = folder / "logs"
    log = session(root)
    settings = reference(root)
    take_in(settings)
    status_ = log.stat()

    def change() -> None:
        log.write_bytes(log.read_bytes().replace(b"agent_0", b"agent_X"))
        os.utime(log, ns=(status_.st_atime_ns, status_.st_mtime_ns))

    kept = change_when("open", "s.jsonl.zst.part", 1, change, lambda: archive(settings, AT_ONCE))
    assert kept == [(LOG, "it changed while it was archived")]
    assert log.exists() and files(settings) == []


def test_an_archive_that_does_not_contain_what_was_written_costs_no_log(folder: Path, tally: Tallier) -> None:
    """Somebody, or the disk, changes it between the writing and the comparing."""
    line = tally("archive: damaged before it is compared")
    root = folder / "logs"
    log = session(root, lines=200)
    content = log.read_bytes()
    settings = reference(root)
    take_in(settings)
    before = known(settings)
    opened = 0

    def watch(what: str, arguments: tuple[object, ...]) -> None:
        nonlocal opened
        if what == "open" and str(arguments[0]).endswith(".zst.part"):
            opened += 1
            if opened == 2:  # made, filled and synced; now it is read
                flipped(next(settings.archive.rglob(str(arguments[0]))), 0.5)

    child = os.fork()
    if child == 0:
        sys.addaudithook(watch)
        try:
            archived(settings)
        except ArchiveDamaged:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    line.tried += 1
    assert log.read_bytes() == content and files(settings) == [] and not list(settings.archive.rglob("*.part"))
    archived(settings)
    assert logs(root) == [] and same(known(settings), before)
    line.compare(rebuilt(settings).rows, before.index.rows)


def test_a_daemon_that_opens_a_log_while_it_is_deleted_loses_no_line(folder: Path, tally: Tallier) -> None:
    """It opens, appends and closes for each line, without a lock, as fast as it can."""
    line = tally("archive: a daemon appends without a lock")
    root = folder / "logs"
    settings = reference(root)
    daemon = os.fork()
    if daemon == 0:
        number = 0
        while True:
            write_lines(root / LOG, {**COMPLETED, "n": number})
            with open(folder / "said", "w") as said:
                said.write(str(number))
            number += 1
    try:
        eventually(lambda: (folder / "said").exists() and (folder / "said").read_text() not in ("", "0"))
        for _ in range(6):
            take_in(settings)
            archived(settings)
            line.tried += 1
    finally:
        os.kill(daemon, signal.SIGKILL)
        os.waitpid(daemon, 0)
    take_in(settings)
    written = int((folder / "said").read_text() or 0)
    with Index(root) as index:
        numbers = [index.read(one)["n"] for one in index.timeline()]
    assert numbers[: written + 1] == list(range(written + 1))
    line.compare(everything(settings.index_folder).rows, rebuilt(settings).rows)


# ---- archives that are damaged or gone


def flipped(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    place = int(len(data) * at)
    data[place : place + 8] = bytes(one ^ 0xFF for one in data[place : place + 8])
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped in its note": lambda path: flipped(path, 0.001),
    "flipped in the middle": lambda path: flipped(path, 0.6),
    "flipped in its table": lambda path: flipped(path, 0.999),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "noise": lambda path: path.write_bytes(Random(1).randbytes(5_000)),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "deleted": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_archive_that_is_damaged_says_so_and_the_rest_is_served(folder: Path, tally: Tallier, damage: str) -> None:
    line = tally("archive: damaged later")
    root = folder / "logs"
    session(root, "bad", lines=300, size=900)
    session(root, "good", lines=20)
    event(root, 1)
    settings = reference(root)
    take_in(settings)
    before = known(settings)
    archived(settings)
    bad = settings.archive / "sessions/2024-12-29/bad.jsonl.zst"
    DAMAGES[damage](bad)
    line.tried += 1
    wrong = 0
    with Index(root) as index:
        for one in index.timeline():
            place = (one.file_path, one.byte_offset)
            try:
                assert index.read_bytes(one) == before.records[place]
            except SourceError as error:
                assert isinstance(error, ArchiveDamaged | ArchiveMissing) and "bad.jsonl" in str(error)
                assert place[0].endswith("bad.jsonl")
                wrong += 1
    line.compare(everything(settings.index_folder).rows, before.index.rows)
    assert [one.check for one in run_checks(settings) if one.status == "error"] == (
        ["archive"] if damage not in ("flipped in the middle", "flipped in its table", "cut in half") else []
    )
    found = compare(settings)
    if damage != "flipped in its note":  # there all that the index points to is read as before
        assert wrong and not found.holds and "bad.jsonl" in found.differences[0]
    if damage == "deleted":
        assert "bad.jsonl" in status_of(settings).reasons[0]
    # A rebuild keeps what can be read, tells what cannot, and is no obstacle to the next.
    for _ in range(2):
        made = reindex(settings, 1)
        assert bool(made.unreadable) == bool(wrong)
        with Index(root) as index:
            entries = list(index.timeline())
        rest = [one for one in entries if not one.file_path.endswith("bad.jsonl")]
        assert len(rest) == sum(not place[0].endswith("bad.jsonl") for place in before.records)
        with Index(root) as index:
            assert all(index.read_bytes(one) == before.records[one.file_path, one.byte_offset] for one in rest)
    run_once(settings, lambda _: None)


def test_an_archive_that_is_not_mounted_is_named_and_no_rebuild_drops_what_is_in_it(
    folder: Path, tally: Tallier
) -> None:
    line = tally("archive: not mounted")
    root = folder / "logs"
    session(root)
    event(root, 1)
    session(root, "hot", completed=False)
    settings = reference(root)
    take_in(settings)
    before = known(settings)
    archived(settings)
    elsewhere = folder / "elsewhere"
    settings.archive.rename(elsewhere)
    for is_a_mount_point in (False, True):
        if is_a_mount_point:
            settings.archive.mkdir()
        line.tried += 1
        with Index(root) as index:
            for one in index.timeline():
                if one.session_id == "hot":
                    assert index.read_bytes(one) == before.records[one.file_path, one.byte_offset]
                else:
                    with pytest.raises(ArchiveMissing, match="archive"):
                        index.read_bytes(one)
        said = status_of(settings)
        assert not said.healthy and "archive" in said.reasons[0]
        assert not compare(settings).holds
        with pytest.raises(ArchiveMissing, match="is not the archive of"):
            reindex(settings, 1)
        (settings.index_folder / "daily/2024-12-29.db").write_bytes(b"noise")
        with pytest.raises(ArchiveMissing, match="is not the archive of"):  # nor does one that heals
            run_once(settings, lambda _: None)
        if is_a_mount_point:
            settings.archive.rmdir()
        elsewhere.rename(settings.archive)
        take_in(settings)
        assert same(known(settings), before) and status_of(settings).healthy
        line.compare(everything(settings.index_folder).rows, before.index.rows)
        settings.archive.rename(elsewhere)
    assert where(before.index).rows


def test_a_running_sidecar_whose_archive_goes_away_goes_on_with_the_logs(folder: Path) -> None:
    root = folder / "logs"
    session(root)
    settings = reference(root)
    take_in(settings)
    archived(settings)
    settings.archive.rename(folder / "elsewhere")
    with running(root, "--preset", "reference"):
        write_lines(root / "responses/sessions/new.jsonl", ENTRY)
        write_lines(root / LOG, ENTRY)  # the archived session goes on: that needs nothing of the archive

        def count() -> int:
            with Index(root) as index:
                return sum(1 for _ in index.timeline())

        eventually(lambda: count() == 34 + 2)
    (folder / "elsewhere").rename(settings.archive)
    assert everything(settings.index_folder).rows == rebuilt(settings).rows
    assert len(files(settings)) == 1
