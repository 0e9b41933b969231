"""The disk or the kernel refuses: a running sidecar waits, says why, saves nothing ahead, and catches up by itself."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from faults.disks import (
    failing,
    fill,
    given_away,
    limited,
    locked_by_another,
    mounted,
    run,
    small_disk,
    without_privileges,
)
from faults.disturbed import (
    SECONDS,
    SESSIONS,
    expected,
    is_well,
    it_has_everything,
    it_says,
    no_offset_is_ahead,
    said,
    sidecar,
    state,
    within,
)
from helpers.corpora import BASE, DAY
from helpers.support import HANG, command, everything, rebuilt, reference, scratch, with_constants, write_lines
from helpers.tally import Tally
from sidecar.service import heartbeat as beacon
from sidecar.service.supervisor import run_once

Count = Callable[[str], Tally]
Often = Callable[[int, int], int]


def quick(root: Path, **options: str) -> AbstractContextManager[int]:
    """A sidecar that soon tries again to read what could not be read."""
    return sidecar(root, "--config", root.parent / "config.yaml", **options)  # type: ignore[arg-type]


class Logs:
    """A writer that goes on whatever happens to the sidecar: several sessions, several days, event files."""

    def __init__(self, root: Path, seed: int = 0) -> None:
        self.root = root
        self._chance = random.Random(seed)
        self._number = 0

    def write(self, lines: int = 200) -> None:
        """So many lines more."""
        for _ in range(lines):
            self._number += 1
            at = BASE + self._number + DAY * self._chance.randrange(3)
            line = said(self._number, at, text="x" * self._chance.randrange(200))
            write_lines(self.root / SESSIONS / f"s{self._chance.randrange(8)}.jsonl", line)
        event = self.root / f"events/2024-12-29/evt_1735500000.{self._number}_note.json"
        event.parent.mkdir(parents=True, exist_ok=True)
        event.write_bytes(b'{"event": "note"}')


@pytest.fixture
def root() -> Iterator[Path]:
    """A root that everybody may enter, and where a sync takes no time."""
    with scratch() as folder:
        folder.chmod(0o755)
        (folder / "logs").mkdir()
        (folder / "config.yaml").write_text("scan_interval: 1\n")
        yield folder / "logs"


def it_waits_and_catches_up(root: Path, tally: Tally, logs: Logs, words: tuple[str, ...], cause: Callable[[], object],
                            end: Callable[[], object]) -> None:  # fmt: skip
    """Cause a fault, write on, see it reported within ten seconds, end it, and find everything within ten more."""
    cause()
    logs.write()
    it_says(root, *words)
    logs.write()
    end()
    tally.tried += 1
    it_has_everything(root, tally)
    within(SECONDS, lambda: is_well(root))
    no_offset_is_ahead(root)


# ---- a full disk


def test_a_full_disk_is_reported_and_waited_out(tally: Count, often: Often, root: Path) -> None:
    logs = Logs(root)
    it = tally("the index's disk full (ENOSPC), while it follows")
    chance = random.Random(1)
    with small_disk(root / "index", often(8_192, 65_536)) as disk:
        logs.write()
        with quick(root):
            it_has_everything(root, it)
            for leaving in [0, 4_096, *(chance.randrange(100_000) for _ in range(often(1, 60)))]:
                filler = fill(disk, leaving)
                logs.write(1_000)
                # What SQLite gives back, when it gives up, is taken too.
                it_says(root, "full", "no space", "disk I/O", meanwhile=lambda: fill(disk))
                no_offset_is_ahead(root)
                logs.write()
                filler.unlink()
                it.tried += 1
                it_has_everything(root, it)
                within(SECONDS, lambda: is_well(root))
        assert everything(root / "index") == rebuilt(reference(root))


def test_a_disk_that_is_full_while_workers_read_is_waited_out(tally: Count, often: Often, root: Path) -> None:
    """It is full for the readers' parts first, and then for the rows that are made without them."""
    it = tally("the disk full while several read")
    chance = random.Random(2)
    few = with_constants("sidecar.bulk.backlog", START_WORKERS_AT=50, DISPATCH_AT=20, MAX_IN_FLIGHT=400)
    with small_disk(root / "index", often(12_288, 131_072)) as disk:
        Logs(root).write(20)
        with sidecar(root, "--config", root.parent / "config.yaml", python=few):
            it_has_everything(root, it)
            for number in range(often(2, 20)):
                filler = fill(disk, chance.choice([0, 4_096, chance.randrange(400_000)]))
                folder = root / f"events/2025-01-{number + 1:02d}"
                folder.mkdir(parents=True)
                for one in range(900):
                    event = folder / f"evt_{BASE + number * DAY + one}_note.json"
                    event.write_bytes(b'{"event": "note", "data": {"agent_id": "a%d"}}' % one)
                it_says(root, "full", "no space", "disk I/O", meanwhile=lambda: fill(disk))
                no_offset_is_ahead(root)
                filler.unlink()
                it.tried += 1
                it_has_everything(root, it)
                within(SECONDS, lambda: is_well(root))
        assert everything(root / "index") == rebuilt(reference(root))


def test_a_disk_without_room_for_the_status_file_hides_no_error(tally: Count, root: Path) -> None:
    """The disk is full before the sidecar starts, so that it has never said anything; and it waits with a sound index,
    with a damaged one, and with none."""
    logs = Logs(root)
    it = tally("the disk full at the start, with and without an index")
    with small_disk(root / "index", 8_192) as disk:
        logs.write()
        for damage in ("catalog.db", "daily/2024-12-30.db", "", "no index"):
            if damage != "no index":
                run_once(reference(root), lambda _: None)
                logs.write()
            if damage == "no index":
                for path in disk.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            elif damage:
                (disk / damage).write_bytes(b"noise" * 1_000)
            filler = fill(disk)
            with started(root):
                it_says(root, "full", "no space")
                filler.unlink()
                it.tried += 1
                it_has_everything(root, it)
                within(SECONDS, lambda: is_well(root))
        assert everything(root / "index") == rebuilt(reference(root))


@contextmanager
def started(root: Path) -> Iterator[int]:
    """A real sidecar that may never come to watch. It must end only when it is asked to."""
    process = subprocess.Popen(command("--root", root, "run"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process.pid
        assert process.poll() is None, f"it ended by itself: {process.communicate()[1].decode()}"
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0, errors.decode()


def test_a_rebuild_without_room_is_made_when_there_is_room(tally: Count, often: Often, root: Path) -> None:
    """Room for a part of it: it fails while it loads, while it makes indexes, when it swaps, or at the checkpoint."""
    logs = Logs(root)
    it = tally("the disk full while it rebuilds, swaps and checkpoints")
    failed = 0
    tries = often(3, 80)
    with small_disk(root / "index", 4_096) as disk:
        logs.write(3_000)
        run_once(reference(root), lambda _: None)
        before = sum(path.stat().st_size for path in disk.rglob("*"))
        for number in range(tries):
            (disk / "daily/2024-12-30.db").write_bytes(b"noise" * 1_000)
            logs.write(50)
            shutil.rmtree(disk / "damaged", ignore_errors=True)  # to make room, the rebuild would do it
            filler = fill(disk, (number + 1) * before // tries)
            with started(root):
                within(SECONDS, lambda: beacon.read_heartbeat(disk) is not None)
                reasons: list[str] = []

                def has_failed(reasons: list[str] = reasons) -> bool:
                    reasons[:] = state(root).reasons
                    return any(word in one for one in reasons for word in ("full", "no space", "No space", "disk I/O"))

                # It may also say that it is late, which is no failure.
                within(SECONDS, lambda: has_failed() or not reasons)  # noqa: B023
                if reasons:
                    failed += 1
                    assert not (disk / "rebuild").exists(), "what there was room for is kept, and of no use"
                filler.unlink()
                it.tried += 1
                it_has_everything(root, it)
                within(SECONDS, lambda: is_well(root))
            no_offset_is_ahead(root)
        assert failed >= tries // 3
        assert everything(root / "index") == rebuilt(reference(root))


def test_a_reindex_without_room_leaves_the_old_index_and_no_part_of_a_new_one(root: Path) -> None:
    logs = Logs(root)
    with small_disk(root / "index", 4_096) as disk:
        logs.write(2_000)
        run_once(reference(root), lambda _: None)
        before = everything(root / "index")
        fill(disk, 100_000).rename(disk / "full")
        done = subprocess.run(command("--root", root, "reindex"), capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "full" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        assert everything(root / "index") == before
        assert not (disk / "rebuild").exists() and not list(disk.glob("ready-*"))
        (disk / "full").unlink()
        assert not subprocess.run(command("--root", root, "reindex"), capture_output=True, check=False).returncode
        assert everything(root / "index") == before


def test_a_limit_on_file_sizes_is_reported_and_waited_out(tally: Count, root: Path) -> None:
    """As a quota does it, and where no file system can be mounted."""
    logs = Logs(root)
    logs.write()
    it = tally("no file may grow (EFBIG)")
    with quick(root) as pid, ExitStack() as limit:
        it_has_everything(root, it)
        for size in (8_192, 50_000):
            it_waits_and_catches_up(
                *(root, it, logs, ("disk", "full", "file too large")),
                lambda size=size: limit.enter_context(limited(pid, resource.RLIMIT_FSIZE, size)),  # type: ignore[misc]
                limit.close,
            )


# ---- calls that fail


@pytest.mark.parametrize(
    ("calls", "error", "options"),
    [("pwrite64", "EIO", ""), ("fdatasync,fsync", "EIO", ""), ("pwrite64", "EROFS", ""), ("pwrite64", "EIO", "some")],
    ids=lambda value: value or "all",
)
def test_a_disk_that_fails_is_reported_and_waited_out(
    tally: Count, root: Path, calls: str, error: str, options: str
) -> None:
    logs = Logs(root)
    logs.write()
    it = tally(f"writes and syncs of the index fail ({error})")
    with quick(root) as pid, ExitStack() as fault:
        it_has_everything(root, it)
        if options:
            error += ":when=3+7"  # now and then: it goes through some of a commit, or of the way back
        it_waits_and_catches_up(
            *(root, it, logs, ("index:",)),
            lambda: fault.enter_context(failing(pid, calls, error, *of_the_index(root))),
            fault.close,
        )
    assert everything(root / "index") == rebuilt(reference(root))


def of_the_index(root: Path) -> Iterator[str]:
    """What keeps `strace` to the databases."""
    for file in ("catalog.db", *(f"daily/2024-12-{day}.db" for day in (29, 30, 31))):
        for suffix in ("", "-wal", "-journal"):
            yield from ("-P", f"{root}/index/{file}{suffix}")


def test_a_log_that_cannot_be_read_is_reported_and_read_later(tally: Count, root: Path) -> None:
    logs = Logs(root)
    logs.write()
    it = tally("a log cannot be read (EIO)")
    with quick(root) as pid, ExitStack() as fault:
        it_has_everything(root, it)
        it_waits_and_catches_up(
            *(root, it, logs, ("s3.jsonl: input/output",)),
            lambda: fault.enter_context(failing(pid, "pread64", "EIO", "-P", str(root / SESSIONS / "s3.jsonl"))),
            fault.close,
        )


def test_a_sidecar_without_descriptors_waits_for_some(tally: Count, often: Often, root: Path) -> None:
    logs = Logs(root)
    logs.write()
    it = tally("no descriptors left (EMFILE)")
    with quick(root) as pid, ExitStack() as limit:
        it_has_everything(root, it)
        for _ in range(often(1, 20)):
            it_waits_and_catches_up(
                *(root, it, logs, ("too many open files", "unable to open")),
                lambda: limit.enter_context(limited(pid, resource.RLIMIT_NOFILE, 3)),
                limit.close,
            )


# ---- permissions


def test_a_log_that_may_not_be_read_is_reported_and_read_later(tally: Count, often: Often, root: Path) -> None:
    logs = Logs(root)
    logs.write()
    given_away(root)
    it = tally("logs and folders may not be read (EACCES)")
    with quick(root, python=without_privileges()):
        it_has_everything(root, it)
        paths = (root / SESSIONS / "s1.jsonl", root / SESSIONS, root / "responses", root / "events/2024-12-29")
        for path in paths[: often(2, 4)]:
            mode = path.stat().st_mode
            it_waits_and_catches_up(
                *(root, it, logs, ("denied",)),
                lambda path=path: path.chmod(0),  # type: ignore[misc]
                lambda path=path, mode=mode: path.chmod(mode),  # type: ignore[misc]
            )


def test_an_index_folder_that_may_not_be_written_is_reported_and_written_later(tally: Count, root: Path) -> None:
    logs = Logs(root)
    logs.write()
    given_away(root)
    it = tally("the index folder may not be written")
    with quick(root, python=without_privileges()):
        it_has_everything(root, it)
        for folder, mode in (("index", 0), ("index/daily", 0), ("index/daily", 0o555)):
            it_waits_and_catches_up(
                *(root, it, logs, ("denied", "index:")),
                lambda folder=folder, mode=mode: ((root / folder).chmod(mode), new_day(root)),  # type: ignore[misc]
                lambda folder=folder: (root / folder).chmod(0o755),  # type: ignore[misc]
            )


def new_day(root: Path) -> None:
    """A line of a day that has no file yet."""
    new_day.days += 1  # type: ignore[attr-defined]
    day: int = new_day.days  # type: ignore[attr-defined]
    write_lines(root / SESSIONS / "days.jsonl", said(day, BASE + (40 + day) * DAY))


new_day.days = 0  # type: ignore[attr-defined]


def test_a_disk_that_is_mounted_read_only_is_named_at_the_start(root: Path) -> None:
    Logs(root).write()
    with small_disk(root / "index", 8_192) as disk:
        run_once(reference(root), lambda _: None)
        Logs(root, 1).write()
        if why := run("mount", "-o", "remount,ro", disk):
            pytest.skip(f"cannot remount: {why}")
        it_says(root, "read-only")
        done = subprocess.run(command("--root", root, "run"), capture_output=True, text=True, check=False, timeout=HANG)
        assert done.returncode == 1
        assert "read-only" in done.stderr.lower() and "Traceback" not in done.stderr


# ---- somebody else's lock


@pytest.mark.parametrize("file", [pytest.param("catalog.db", marks=pytest.mark.slow), "daily/2024-12-30.db"])
def test_a_database_locked_by_another_process_is_reported_and_waited_for(tally: Count, root: Path, file: str) -> None:
    logs = Logs(root)
    logs.write()
    it = tally("a database locked by somebody else")
    with quick(root), ExitStack() as lock:
        it_has_everything(root, it)
        it_waits_and_catches_up(
            *(root, it, logs, ("locked",)),
            lambda: lock.enter_context(locked_by_another(root / "index" / file)),
            lock.close,
        )


@pytest.mark.slow
def test_at_the_start_too(tally: Count, root: Path) -> None:
    """Then the other one can have it for itself alone."""
    logs = Logs(root)
    logs.write()
    run_once(reference(root), lambda _: None)
    logs.write()
    it = tally("a database locked by somebody else")
    with locked_by_another(root / "index/catalog.db", "EXCLUSIVE") as release, started(root):
        it_says(root, "locked")
        within(SECONDS, lambda: "locked" in str(beacon.read_heartbeat(root / "index")))  # it has given up once
        release()
        it.tried += 1
        it_has_everything(root, it)
        within(SECONDS, lambda: is_well(root))


# ---- folders that go away


def test_folders_that_vanish_and_return_are_waited_for(tally: Count, root: Path) -> None:
    logs = Logs(root)
    logs.write()
    away = root.parent / "away"
    it = tally("a folder vanishes and returns")
    with quick(root):
        it_has_everything(root, it)
        before = expected(root)
        for folder in (root / "responses", root / SESSIONS, root / "events"):
            folder.rename(away)
            within(SECONDS, lambda: state(root).missing > 0)
            write_lines(away / "late.jsonl" if folder.name == "sessions" else root / "x", said(1))
            away.rename(folder)
            it.tried += 1
            logs.write()
            it_has_everything(root, it)
        assert {row[0] for row in before} <= {row[0] for row in expected(root)}
        for _ in range(2):
            (root / "index").rename(away)
            logs.write()
            within(SECONDS, lambda: (root / "index/running.json").exists())  # it has made another
            it.tried += 1
            it_has_everything(root, it)
            shutil.rmtree(root / "index")
            away.rename(root / "index")
            logs.write()
            it.tried += 1
            it_has_everything(root, it)
            within(SECONDS, lambda: is_well(root))


def test_a_root_that_is_unmounted_is_waited_for(tally: Count, often: Often, root: Path) -> None:
    logs = Logs(root.parent / "disk")
    logs.write()
    it = tally("the root unmounted, and mounted again")
    with mounted(root, "--bind", str(root.parent / "disk")), quick(root):
        it_has_everything(root, it)
        for _ in range(often(2, 20)):
            assert not run("umount", "-l", root)
            logs.write()
            it_says(root, "empty")
            assert not list(root.iterdir()), "something was made where nothing is mounted"
            assert not run("mount", "--bind", root.parent / "disk", root)
            it.tried += 1
            logs.write()
            it_has_everything(root, it)
            within(SECONDS, lambda: is_well(root))
            no_offset_is_ahead(root)
        assert not (root / "index/damaged").exists(), "the index was sound all the time"
