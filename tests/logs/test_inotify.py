"""Logs that are written often: every write is told, little is said of it, and nothing is missed in between."""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watchdog.observers.inotify import InotifyWatchGroup
from watchdog.observers.inotify_c import InotifyConstants

from helpers.corpora import BASE
from helpers.support import eventually, everything, indexed, modelled, rebuilt, reference, running, write_lines
from sidecar.logs.inotify import BUFFER_BYTES, MAX_EVENT_BYTES, BatchingReader, merge_events
from sidecar.logs.watcher import Watcher

MODIFIED, CREATED, DELETED = InotifyConstants.IN_MODIFY, InotifyConstants.IN_CREATE, InotifyConstants.IN_DELETE
SESSIONS = "responses/sessions"


def raw(watch: int, mask: int, name: str) -> bytes:
    """An event as the kernel writes it: the name is padded."""
    padded = name.encode().ljust((len(name.encode()) // 16 + 1) * 16, b"\0")
    return struct.pack("iIII", watch, mask, 0, len(padded)) + padded


# ---- what the kernel says, merged


@given(st.lists(st.tuples(st.integers(1, 2), st.sampled_from([MODIFIED, MODIFIED, CREATED]), st.sampled_from("abc"))))
def test_only_what_repeats_is_dropped(events: list[tuple[int, int, str]]) -> None:
    expected: list[tuple[int, int, str]] = []
    since: set[tuple[int, int, str]] = set()
    for event in events:
        if event[1] != MODIFIED:
            since = set()
        elif event in since:
            continue
        since.add(event)
        expected.append(event)
    count, buffer = merge_events(b"".join(raw(*event) for event in events))
    assert count == len(events)
    assert buffer == b"".join(raw(*event) for event in expected)


def test_a_file_that_takes_the_place_of_a_deleted_one_is_reported_again() -> None:
    events = [(1, MODIFIED, "a"), (1, DELETED, "a"), (1, CREATED, "a"), (1, MODIFIED, "a")]
    buffer = b"".join(raw(*event) for event in events)
    assert merge_events(buffer) == (4, buffer)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def test_a_thousand_writes_to_two_files_are_two_events(folder: Path) -> None:
    """This, and what follows, is what `inotify.py` asks of watchdog's inside."""
    marked: list[str] = []
    files = [folder / "a", folder / "b"]
    for file in files:
        file.touch()
    reader = BatchingReader(marked.extend, lambda: None, marked.append)
    reader._is_reading = False  # it has no thread here that would close its descriptors
    group = InotifyWatchGroup(reader, os.fsencode(folder), event_mask=MODIFIED)
    try:
        for _ in range(500):
            for file in files:
                write_lines(file, b".")
        events = reader.read_events(event_buffer_size=32 * 100 + MAX_EVENT_BYTES // 2)
        assert [event.name for event in events] == [b"a", b"b"]
        assert (reader._events, reader._is_full) == (104, True)
        events = reader.read_events(event_buffer_size=BUFFER_BYTES)
        assert [event.name for event in events] == [b"a", b"b"]
        assert (reader._events, reader._is_full) == (896, False)
        reader.dispatch(events)
        assert sorted(marked) == sorted(map(str, files))
    finally:
        group.deactivate()
        reader.close()


class Watched:
    """A watcher on a folder, and what it has hinted so far."""

    def __init__(self, folder: Path) -> None:
        self.watcher = Watcher(folder, [""])
        self._hinted: set[str] = set()
        assert self.watcher.mode == "inotify"
        assert self.watcher.hints.fetch() == (set(), True)

    def tells_of(self, files: Iterable[Path]) -> None:
        """Wait until all of these have been hinted, and forget them."""
        wanted = {str(file) for file in files}

        def told() -> bool:
            self._hinted |= self.watcher.hints.fetch()[0]
            return wanted <= self._hinted

        eventually(told)
        self._hinted = set()

    def close(self) -> None:
        self.watcher.close()


@pytest.fixture
def watched(folder: Path) -> Iterator[Watched]:
    with closing(Watched(folder)) as watched:
        yield watched


def test_the_last_write_of_every_burst_is_reported(folder: Path, watched: Watched) -> None:
    files = [folder / f"log_{number}" for number in range(20)]
    for turn in range(20):
        for number in range(200):
            write_lines(files[number % len(files)], b".\n")
        watched.tells_of(files)
        write_lines(files[turn], b".\n")
        watched.tells_of([files[turn]])


def test_files_that_come_and_go_in_a_burst_are_reported(folder: Path, watched: Watched) -> None:
    busy = folder / "busy"
    for number in range(50):
        new, renamed = folder / f"new_{number}", folder / f"renamed_{number}"
        for _ in range(20):
            write_lines(busy, b".\n")
        new.touch()
        write_lines(busy, b".\n")
        new.rename(renamed)
        write_lines(busy, b".\n")
        watched.tells_of([busy, new, renamed])
        write_lines(busy, b".\n")
        renamed.unlink()
        watched.tells_of([busy, renamed])


def test_a_write_in_a_renamed_folder_is_reported_under_its_new_name(folder: Path, watched: Watched) -> None:
    (folder / "old").mkdir()
    write_lines(folder / "old/log", b".\n")
    watched.tells_of([folder / "old/log"])
    (folder / "old").rename(folder / "new")
    eventually(lambda: watched.watcher.hints.fetch()[1])
    write_lines(folder / "new/log", b".\n")
    watched.tells_of([folder / "new/log"])


# ---- a real sidecar that only events keep fresh


@pytest.fixture
def unscanned(tmp_path: Path) -> Path:
    """A configuration under which a scan comes once an hour, and when an event asks for one."""
    config = tmp_path / "config.yaml"
    config.write_text("scan_interval: 3600\ncheckpoint_interval: 0.05\n")
    return config


def said(number: int) -> dict[str, Any]:
    return {"event": "agent:say", "timestamp": BASE + number, "data": {"agent_id": f"agent_{number % 7}", "n": number}}


class Talk:
    """A daemon that writes in bursts, and does to its files what daemons and people do."""

    def __init__(self, root: Path, seed: int) -> None:
        self.folder = root / SESSIONS
        self.chance = random.Random(seed)
        self.number = 0

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def write(self, file: Path, records: int = 1) -> None:
        write_lines(file, *(said(self.number + one) for one in range(records)))
        self.number += records

    def burst(self, files: list[Path], records: int) -> None:
        for _ in range(records):
            self.write(self.chance.choice(files))

    def disturb(self) -> None:
        """One thing out of the common, between two writes."""
        file = self.chance.choice(self.files())
        what = self.chance.randrange(6)
        if what == 0:
            self.write(self.folder / f"new_{self.number}.jsonl", 3)
        elif what == 1 and len(self.files()) > 5:
            self.write(self.folder / f"gone_{self.number}.jsonl")
            file.unlink()
            self.write(file)
        elif what == 2:
            file.write_bytes(b"")
            self.write(file)
        elif what == 3:
            temporary = self.folder / "other.tmp"
            self.write(temporary, 5)
            temporary.replace(file)
        elif what == 4:
            file.rename(self.folder / f"renamed_{self.number}.jsonl")
            self.write(file)
        else:
            away = self.folder.with_name("away")
            shutil.copytree(self.folder, away)
            shutil.rmtree(self.folder)
            away.rename(self.folder)
            self.write(self.chance.choice(self.files()))


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_missed_in_bursts_pauses_and_mischief(tmp_path: Path, unscanned: Path, seed: int) -> None:
    root = tmp_path / "logs"
    (root / SESSIONS).mkdir(parents=True)
    talk = Talk(root, seed)
    for number in range(10):
        talk.write(root / SESSIONS / f"s{number}.jsonl")
    with running(root, "--config", str(unscanned)):
        for turn in range(20):
            talk.burst(talk.files(), talk.chance.choice([1, 50, 400]))
            if turn % 2:
                talk.disturb()
                talk.burst(talk.files(), talk.chance.choice([1, 100]))
            if turn % 4 == 3:
                eventually(lambda: shown(root) == modelled(root))
                for file in talk.files():  # after a pause, once each
                    talk.write(file)
                eventually(lambda: shown(root) == modelled(root))
    settings = reference(root)
    assert everything(settings.index_folder).rows == rebuilt(settings).rows


def shown(root: Path) -> list[tuple[Any, ...]]:
    """What is indexed of the files that are there: the rows of those that are gone stay."""
    there = {path.relative_to(root).as_posix() for path in (root / SESSIONS).iterdir()}
    return [row for row in indexed(root) if row[4] in there]
