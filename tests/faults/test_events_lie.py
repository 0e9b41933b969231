"""Events are hints, and hints fail: whatever the kernel or its reader withholds, the index has it in ten seconds."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import watchdog

from faults.disturbed import (
    SECONDS,
    SESSIONS,
    expected,
    it_has_everything,
    it_says,
    said,
    sidecar,
    state,
    stopped,
    within,
)
from helpers.corpora import BASE
from helpers.support import Stepped, everything, indexed, rebuilt, reference, scratch, write_lines
from helpers.tally import Tally
from sidecar.logs import scanner as scans
from sidecar.logs import watcher as watch
from sidecar.service.daemon import Sidecar

Count = Callable[[str], Tally]
Often = Callable[[int, int], int]


def logs(root: Path, count: int, first: int = 0) -> None:
    """Append one line to each of some sessions."""
    for number in range(count):
        write_lines(root / SESSIONS / f"s{number}.jsonl", said(first + number))


def event_files(root: Path, count: int, a_folder: int = 20_000, first: int = 0) -> None:
    """Event files, made as fast as they can be."""
    folder = root
    for number in range(first, first + count):
        if number % a_folder == 0:
            folder = root / f"events/2024-12-{1 + number // a_folder:02d}"
            folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / f"evt_{BASE:.0f}{number:06d}_note.json", os.O_WRONLY | os.O_CREAT)
        os.write(file, b'{"event":"note","timestamp":%d,"data":{"agent_id":"a%d"}}' % (BASE + number, number % 97))
        os.close(file)


def it_has_as_many(root: Path, count: int) -> None:
    """Wait for this many entries, just by counting them: reading and modelling them takes longer than indexing them."""

    def counted() -> bool:
        found = 0
        for day in (root / "index/daily").glob("*.db"):
            with closing(sqlite3.connect(f"file:{day}?mode=ro", uri=True)) as database:
                found += database.execute("SELECT COUNT(*) FROM entry").fetchone()[0]
        return found == count

    within(SECONDS, lambda: bool(time.sleep(0.2)) or counted())


# ---- the queue of the kernel


def queue_length() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def test_events_that_the_kernel_dropped_cost_no_row(tally: Count) -> None:
    """The reader is stopped while more happens than the kernel's queue holds."""
    with scratch() as folder:
        root = folder / "logs"
        (folder / "config.yaml").write_text("scan_interval: 3600\n")
        (root / "events/2024-12-01").mkdir(parents=True)
        logs(root, 20)
        it = tally("more events than the kernel keeps, the reader standing still")
        with sidecar(root, "--config", folder / "config.yaml") as pid:
            it_has_everything(root, it)
            with stopped(pid):
                event_files(root, 2_000)
                for number in range(queue_length() // 20):  # of one file they would be one event
                    logs(root, 20, number * 20)
                shutil.copytree(root / "events/2024-12-01", root / "events/2024-12-02")
            it.tried += 1
            it_has_everything(root, it)


@pytest.mark.slow
def test_two_hundred_thousand_files_made_at_once_are_all_found(tally: Count) -> None:
    with scratch() as folder:
        root = folder / "logs"
        (root / "events").mkdir(parents=True)
        it = tally("200,000 files made at once")
        with sidecar(root) as pid:
            with stopped(pid):
                event_files(root, 100_000)
            event_files(root, 100_000, first=100_000)
            it.tried += 1
            began = time.monotonic()
            it_has_as_many(root, 200_000)
            print(f"\n200,000 files: complete {time.monotonic() - began:.1f} s after the last was written")
            it_has_everything(root, it)


def test_a_scan_that_is_asked_for_during_a_scan_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has passed already may be just what was lost."""
    monkeypatch.setattr(scans, "FILES_PER_TURN", 1)
    monkeypatch.setattr(scans, "MAX_SCAN_SHARE", 1e-9)
    logs(tmp_path, 5)
    it = Sidecar(reference(tmp_path))
    it.open()
    try:
        now = 1e9
        while it.step(now):
            pass
        now = it._scans.due
        it.step(now)
        assert it._scans.is_on
        logs(tmp_path, 5, 10)  # one of them it has passed
        assert it._watcher is not None
        hints, heard = it._watcher.hints, set[str]()
        # The only one who was told forgets it.
        within(SECONDS, lambda: heard.update(hints.fetch()[0]) or len(heard) == 5)
        hints.ask_for_scan()
        while it.step(now):
            pass
        it.step(now + 1)
        while it.step(now + 1):
            pass
    finally:
        it.close()
    assert len(everything(tmp_path / "index").rows) == 10


# ---- watches that cannot be set


def allowing(**limits: int) -> tuple[str, ...]:
    """A command that starts another one with these limits on inotify. Skips the test if that is impossible."""
    wanted = "; ".join(f"echo {value} > /proc/sys/user/max_inotify_{name}" for name, value in limits.items())
    through = ("unshare", "-Ur", "sh", "-c", f'{wanted}; exec "$@"', "sh")
    if shutil.which("unshare") is None:
        pytest.skip("there is no `unshare` to lower a limit for one process alone")
    tried = subprocess.run([*through, "true"], capture_output=True, text=True, check=False)
    if tried.returncode or tried.stderr:
        pytest.skip(f"a limit cannot be lowered for one process alone: {tried.stderr.strip()}")
    return through


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "limit",
    [
        {"instances": 0},
        {"watches": 3},
        pytest.param({"watches": 0}, marks=SLOW),
        pytest.param({"watches": 5}, marks=SLOW),
    ],
    ids=str,
)
def test_a_sidecar_that_gets_no_more_watches_polls_and_says_so(
    tally: Count, tmp_path: Path, limit: dict[str, int]
) -> None:
    """At its start or later: a folder that comes then is not watched, which watchdog tells nobody."""
    through = allowing(**limit)
    root = tmp_path / "logs"
    logs(root, 3)
    event_files(root, 10)
    it = tally("no more watches granted")
    with sidecar(root, through=through):
        it_has_everything(root, it)
        for number in range(4):
            event_files(root, 20 + 20 * number, a_folder=20)  # each has a folder more
            it.tried += 1
            it_has_everything(root, it)
        within(SECONDS, lambda: state(root).watching == "polling")
        with (root / "events/2024-12-04" / "evt_1735500000.5_late.json").open("w") as file:
            file.write('{"event": "late"}')
        logs(root, 3, 50)
        it_has_everything(root, it)


def test_inotify_is_tried_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "RETRY_INOTIFY_AFTER", 0.0)
    logs(tmp_path, 1)
    watcher = watch.Watcher(tmp_path, [SESSIONS])
    try:
        watcher.hints.fail("no reason")
        watcher.check()
        assert (watcher.mode, watcher.why_polling) == ("polling", "inotify: no reason")
        assert watcher.hints.fetch()[1]
        watcher.check()
        assert watcher.mode == "inotify"
        logs(tmp_path, 1)
        within(SECONDS, lambda: bool(watcher.hints.fetch()[0]))
    finally:
        watcher.close()


# ---- threads that die

DYING = """
import os, threading
import {module} as module
threading.excepthook = lambda _: None
real = module.{function}
def dying(self, *arguments, **options):
    if os.path.exists({flag!r}) and not os.path.exists({flag!r} + str(threading.get_ident())):
        open({flag!r} + str(threading.get_ident()), "w").close()
        raise RuntimeError("killed by a test")
    return real(self, *arguments, **options)
module.{function} = dying
"""
THREADS = {
    "the reader": ("watchdog.observers.inotify_c", "InotifyFD.read_events"),
    "the reader at an event": ("watchdog.observers.inotify", "InotifyWatchGroup.on_event"),
    "an emitter": ("watchdog.observers.inotify", "InotifyEmitter.build_and_queue_event"),
    "the dispatcher": ("sidecar.logs.watcher", "Hints.dispatch"),
}


@pytest.mark.parametrize("thread", THREADS)
def test_a_watcher_whose_thread_has_died_is_replaced(tally: Count, tmp_path: Path, thread: str) -> None:
    root, flag = tmp_path / "logs", tmp_path / "die"
    logs(root, 3)
    (root / "events").mkdir()
    module, function = THREADS[thread]
    (tmp_path / "config.yaml").write_text("scan_interval: 3600\n")
    dying = DYING.format(module=module, function=function, flag=str(flag))
    it = tally("a thread of the watcher dies")
    with sidecar(root, "--config", tmp_path / "config.yaml", python=dying):
        it_has_everything(root, it)
        flag.touch()
        for number in range(3):
            event_files(root, 20 * number + 1, a_folder=20)  # what concerns a folder goes through all of them
            logs(root, 3, 100 * number)
            it.tried += 1
            it_has_everything(root, it)
        assert list(tmp_path.glob("die?*")), "no thread has died"
        if thread != "an emitter":  # which is replaced at once
            assert state(root).watching == "polling"


# ---- a watchdog that is made otherwise inside


@pytest.mark.parametrize("name", ["InotifyFD", "_build_event_source_path", "_watch_for_wd", "inotify_fd"])
@pytest.mark.parametrize("swallows", [False, pytest.param(True, marks=SLOW)], ids=["", "and events are swallowed"])
def test_a_watchdog_with_other_private_names_is_used_by_its_public_observer(
    tally: Count, tmp_path: Path, name: str, *, swallows: bool
) -> None:
    """And the sidecar polls beside it, because nobody would say what that observer loses."""
    root = tmp_path / "logs"
    logs(root, 3)
    (tmp_path / "config.yaml").write_text("scan_interval: 3600\n")
    assert watchdog.__file__
    shutil.copytree(Path(watchdog.__file__).parent, tmp_path / "site/watchdog")
    for file in (tmp_path / "site/watchdog/observers").glob("inotify*.py"):
        file.write_text(re.sub(rf"\b{name}\b", "renamed", file.read_text()))
    python = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})"
    if swallows:
        python += "\nfrom sidecar.logs.watcher import Hints; Hints.dispatch = lambda hints, event: None"
    it = tally("a private name of watchdog is another")
    with sidecar(root, "--config", tmp_path / "config.yaml", python=python):
        for number in range(3):
            it.tried += 1
            it_has_everything(root, it)
            logs(root, 3, 100 * number)
        it_has_everything(root, it)
        found = state(root)
        assert (found.healthy, found.watching) == (True, "polling")
        assert "using its public observer" in found.why_polling
    doctor = [
        sys.executable,
        "-c",
        f"{python}\nfrom sidecar.cli import main\nmain()",
        "--root",
        root,
        "doctor",
        "--json",
    ]
    told = subprocess.run(doctor, capture_output=True, text=True, check=False).stdout
    assert "using its public observer" in told and "watchdog==7.1.*" in told


# ---- folders that move


def test_folders_that_are_moved_in_and_out_are_followed(tally: Count, tmp_path: Path) -> None:
    root = tmp_path / "logs"
    (tmp_path / "config.yaml").write_text("scan_interval: 3600\n")
    logs(root, 3)
    event_files(root, 10)
    it = tally("folders moved in, out, deleted and made again")
    with sidecar(root, "--config", tmp_path / "config.yaml"):
        it_has_everything(root, it)
        for number in range(3):
            event_files(tmp_path / "outside", 10)
            day = root / f"events/2025-01-0{number + 1}"
            (tmp_path / "outside/events/2024-12-01").rename(day)
            it.tried += 1
            it_has_everything(root, it)
            (day / "evt_1735500000.5_late.json").write_bytes(b'{"event": "late"}')
            it_has_everything(root, it)
            away = tmp_path / f"away{number}"
            (root / SESSIONS).rename(away)
            if number != 1:
                logs(root, 2, 10 * number)  # another folder of this name
                it_has_everything(root, it)
                shutil.rmtree(root / SESSIONS)
            away.rename(root / SESSIONS)
            logs(root, 3, 30 * number)
            it.tried += 1
            it_has_everything(root, it)
            shutil.rmtree(root / SESSIONS)
            logs(root, 4, 50 * number)
            it.tried += 1
            it_has_everything(root, it)
            logs(root, 4, 70 * number)
            it_has_everything(root, it)


def test_a_root_that_is_renamed_and_created_again_is_indexed(tally: Count, often: Often, tmp_path: Path) -> None:
    root = tmp_path / "logs"
    (tmp_path / "config.yaml").write_text("scan_interval: 3600\n")
    logs(root, 3)
    it = tally("the root renamed, made again, and put back")
    with sidecar(root, "--config", tmp_path / "config.yaml") as pid:
        it_has_everything(root, it)
        for number in range(often(1, 10)):
            root.rename(tmp_path / "old")
            it_says(root, "does not exist")
            root.mkdir()
            it_says(root, "empty")
            logs(root, 2, 10 + number)
            it.tried += 1
            it_has_everything(root, it)
            logs(root, 3, 20 + number)
            it_has_everything(root, it)
            within(SECONDS, lambda: state(root).running == pid and state(root).healthy)
            # And back: that index is behind, and its own.
            root.rename(tmp_path / f"new{number}")
            logs(tmp_path / "old", 4, 30 + number)
            (tmp_path / "old").rename(root)
            it.tried += 1
            it_has_everything(root, it)
            within(SECONDS, lambda: state(root).running == pid and state(root).healthy)


def test_an_index_that_took_the_place_of_another_is_left_alone(tmp_path: Path) -> None:
    """SQLite, asked to close in good order, deletes the log of whatever file has the name now."""
    root, other = tmp_path / "logs", tmp_path / "other"
    logs(root, 3)
    logs(other, 3, 10)
    with Stepped(reference(other)) as killed:
        killed.turn()
        logs(other, 3, 20)
        killed.turn()
        shutil.copytree(other, tmp_path / "copy", copy_function=shutil.copy2)
    assert list((tmp_path / "copy/index").rglob("*-wal")), "it was not killed"
    with Stepped(reference(root)) as stepped:
        stepped.turn()
        root.rename(tmp_path / "away")
        (tmp_path / "copy").rename(root)
        before = sorted(path.name for path in (root / "index").rglob("*-wal"))
        rows = indexed(root)
        stepped.sidecar.abandon()
        assert sorted(path.name for path in (root / "index").rglob("*-wal")) == before
        assert indexed(root) == rows


def test_a_file_that_could_not_be_read_is_tried_soon_however_rare_scans_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "MAX_SCAN_SHARE", 1e-9)
    log = tmp_path / SESSIONS / "s0.jsonl"
    logs(tmp_path, 1)
    with Stepped(reference(tmp_path)) as stepped:
        stepped.turn()
        log.unlink()
        os.mkfifo(log)
        stepped.sidecar._queue[f"{SESSIONS}/s0.jsonl"] = None  # as an event would
        stepped.turn(0)
        assert stepped.sidecar.faults.current
        log.unlink()
        logs(tmp_path, 1, 5)
        stepped.turn(stepped.settings.scan_interval + 1)
        assert stepped.rows == expected(tmp_path)
        assert not stepped.sidecar.faults.current


# ---- the clock


@pytest.mark.parametrize("back", [1.5, 3_600.0, 400 * 86_400.0])
def test_a_clock_that_steps_back_delays_nothing(tally: Count, tmp_path: Path, back: float) -> None:
    it = tally("the clock steps back")
    with Stepped(reference(tmp_path)) as stepped:
        logs(tmp_path, 3)
        unfinished = tmp_path / "events/2024-12-29/evt_1735500000.5_torn.json"
        unfinished.parent.mkdir(parents=True)
        unfinished.write_bytes(b'{"event": ')
        stepped.turn(0)
        for number in range(1, 4):
            stepped.now -= back
            stepped.turn(0)
            logs(tmp_path, 3, 10 * number)
            stepped.turn(stepped.settings.scan_interval + 1)
            it.tried += 1
            it.compare(stepped.rows, expected(tmp_path))
        stepped.turn(6)
        stepped.turn(6)
        live = everything(tmp_path / "index")
        assert [one.reason for one in live.rejected] == ["not-json"]
        assert live == rebuilt(reference(tmp_path))


def test_after_a_clock_that_stepped_back_a_failure_is_tried_again_in_time(tmp_path: Path) -> None:
    with Stepped(reference(tmp_path)) as stepped:
        stepped.turn()
        logs(tmp_path, 1)
        daily = tmp_path / "index/daily"
        daily.rename(tmp_path / "index/away")
        daily.write_bytes(b"")
        stepped.turn()
        assert stepped.sidecar.faults.current
        daily.unlink()
        (tmp_path / "index/away").rename(daily)
        stepped.now -= 3_600
        stepped.turn(0)
        stepped.turn(2)
        assert len(stepped.rows) == 1
