"""Log files that are cut, replaced, deleted, linked and written in any order, beside a real sidecar and real readers.

Whatever happens to a file, its rows become those of its bytes; of a file that is gone they stay; and a reader gets the
bytes that were indexed or an error that says why not, at every moment.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from faults.disturbed import (
    SECONDS,
    SESSIONS,
    Row,
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
from helpers.support import HANG, Stepped, everything, indexed, rebuilt, reference, scratch
from helpers.tally import Tally
from sidecar.errors import SourceChanged
from sidecar.fs import to_text
from sidecar.query.index import Index

Count = Callable[[str], Tally]
Often = Callable[[int, int], int]

NAMED = {"SourceChanged", "SourceMissing", "EntryNotFound", "SourceError", "NotAFile"}
"""What may be said of a pointer whose bytes are others now."""


ANYWHERE = {"do_make_what_is_no_log", "do_become_something_else", "do_empty_file"}
"""What may be done to a name whatever bears it."""


class Misbehaving:
    """Logs to which anything is done. All lines differ, so that no two states of a file look alike."""

    def __init__(self, root: Path, seed: int, names: list[bytes]) -> None:
        self.root = root
        self.chance = random.Random(seed)
        self.folder = root / SESSIONS
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logs = [Path(os.fsdecode(os.fsencode(self.folder) + b"/" + name + b".jsonl")) for name in names]
        self.aside = root.parent / "aside"
        self.aside.mkdir(exist_ok=True)
        (self.aside / "outside").write_bytes(said(0) * 100)
        self.done: Counter[str] = Counter()
        self._number = 0

    def lines(self, count: int | None = None) -> bytes:
        """Lines that were never written before."""
        made = b""
        for _ in range(self.chance.choice([1, 3, 30]) if count is None else count):
            self._number += 1
            at = BASE + self._number + DAY * self.chance.randrange(3)
            made += said(self._number, at, text="x" * self.chance.choice([0, 10, 300, 2_000]))
        return made

    def disturb(self) -> None:
        """Do one thing to one log."""
        what = self.chance.choice([name for name in dir(self) if name.startswith("do_")])
        log = self.chance.choice(self.logs)
        # A link is never written through: what it leads to may be anybody's.
        if what in ANYWHERE or not os.path.lexists(log) or stat.S_ISREG(log.lstat().st_mode):
            with suppress(FileNotFoundError):
                getattr(self, what)(log)
                self.done[what.removeprefix("do_")] += 1

    def do_append(self, log: Path) -> None:
        self._write(log, self.lines())

    def do_append_torn(self, log: Path) -> None:
        line = self.lines()
        cut = self.chance.randrange(len(line))
        self._write(log, line[:cut])
        self._write(log, line[cut:])

    def do_leave_half(self, log: Path) -> None:
        self._write(log, self.lines(1)[: self.chance.randrange(1, 20)])

    def do_truncate(self, log: Path) -> None:
        os.truncate(log, 0)

    def do_cut(self, log: Path) -> None:
        """Anywhere; what is appended later goes on behind the cut."""
        os.truncate(log, self.chance.randrange(log.stat().st_size + 1))

    def do_truncate_and_grow_past(self, log: Path) -> None:
        """Within a moment, and further than it was."""
        size = log.stat().st_size
        with self._open(log, os.O_TRUNC) as file:
            while file.tell() <= size:
                file.write(self.lines(10))

    def do_copytruncate(self, log: Path) -> None:
        shutil.copyfile(log, self.aside / "copy")
        os.truncate(log, 0)
        self._write(log, self.lines())

    def do_replace(self, log: Path) -> None:
        other = self.aside / "other"
        other.write_bytes(self.lines())
        other.replace(log)

    def do_replace_with_its_own_copy(self, log: Path) -> None:
        """Another inode, the same bytes and more."""
        other = self.aside / "other"
        other.write_bytes(log.read_bytes() + self.lines())
        other.replace(log)

    def do_delete_and_begin_again(self, log: Path) -> None:
        """Often in the same inode, which is free again."""
        log.unlink()
        self._write(log, self.lines())

    def do_rewrite_in_place(self, log: Path) -> None:
        """Its first line, as long as it was before."""
        with log.open("r+b", buffering=0) as file:
            line = file.readline(4_096)
            new = self.lines(1)
            if line.endswith(b"\n") and len(line) > len(new) and len(line) < 1_000:
                file.seek(0)
                file.write(new[:-1].ljust(len(line) - 1) + b"\n")

    def do_go_and_come_back(self, log: Path) -> None:
        log.rename(self.aside / "away")
        if self.chance.random() < 0.5:
            with (self.aside / "away").open("ab") as file:
                file.write(self.lines())
        (self.aside / "away").rename(log)

    def do_change_places(self, log: Path) -> None:
        """Two logs exchange their names, and so their inodes."""
        other = self.chance.choice(self.logs)
        if is_log(other) and is_log(log):
            log.rename(self.aside / "one")
            other.rename(log) if other != log else None
            (self.aside / "one").rename(other)

    def do_become_a_hard_link(self, log: Path) -> None:
        """Of another log: both are logs, and what is appended to one is appended to both."""
        other = self.chance.choice(self.logs)
        if other != log and is_log(other):
            self._remove(log)
            os.link(other, log)

    def do_become_something_else(self, log: Path) -> None:
        """And a log again."""
        self._remove(log)
        kind = self.chance.randrange(5)
        if kind == 0:
            os.mkfifo(log)
        elif kind == 1:
            another = self.chance.choice(self.logs).name
            log.symlink_to(self.chance.choice([self.aside / "outside", "nowhere", log.name, another]))
        elif kind == 2:
            log.mkdir()
        elif kind == 3 and len(os.fsencode(log)) < 100:
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(str(log))
        if self.chance.random() < 0.8:
            self._remove(log)
            self._write(log, self.lines())

    def do_replace_with_another_middle(self, log: Path) -> None:
        """The same beginning and end in another inode; only in memory, where no free inode is taken again at once."""
        lines = log.read_bytes().split(b"\n")
        size = sum(map(len, lines)) + len(lines) - 1
        at = 0
        for number, line in enumerate(lines):
            new = self.lines(1)[:-1]
            if at > 2_000 and at + len(line) < size - 5_000 and len(new) <= len(line) and b"\0" not in line:
                lines[number] = new.ljust(len(line))
                break
            at += len(line) + 1
        if self.folder.is_relative_to("/dev/shm"):
            (self.aside / "other").write_bytes(b"\n".join(lines))
            (self.aside / "other").replace(log)

    def do_make_what_is_no_log(self, _: Path) -> None:
        """Links and pipes under names that never were a log's."""
        for number, leads_to in enumerate((self.aside / "outside", self.chance.choice(self.logs).name, "nowhere")):
            link = self.folder / f"link{number}.jsonl"
            link.unlink(missing_ok=True)
            link.symlink_to(leads_to)
        pipe = self.folder / "pipe.jsonl"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)

    def do_leave_a_hole(self, log: Path) -> None:
        """As a writer does that goes on where it was, after a truncation."""
        size = log.stat().st_size
        with log.open("r+b", buffering=0) as file:
            file.truncate(size + self.chance.choice([10, 70_000, 3_000_000]))
            file.seek(0, os.SEEK_END)
            file.write(b"\n" + self.lines())

    def do_empty_file(self, log: Path) -> None:
        self._remove(log)
        log.touch()

    def settle(self) -> None:
        """Make every name a log, and end its last line."""
        for log in self.logs:
            if not is_log(log):
                self._remove(log)
            self._write(log, b"\n" + self.lines(1))

    def _write(self, log: Path, data: bytes) -> None:
        with self._open(log) as file:
            file.write(data)

    @contextmanager
    def _open(self, log: Path, flags: int = 0) -> Iterator[object]:
        flags |= os.O_NOFOLLOW
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | flags, 0o644), "ab", buffering=0) as file:
            yield file

    def _remove(self, log: Path) -> None:
        if log.is_dir() and not log.is_symlink():
            log.rmdir()
        else:
            log.unlink(missing_ok=True)


def is_log(path: Path) -> bool:
    """Whether this is a regular file, and not a link to one."""
    return path.is_file() and not path.is_symlink()


@contextmanager
def readers(root: Path, count: int) -> Iterator[Counter[str]]:
    """Processes that read all the time. Yields the counts of what they met, filled at the end. Fails on wrong bytes."""
    seen: Counter[str] = Counter()
    script = Path(__file__).with_name("reading.py")
    processes = [
        subprocess.Popen(
            [sys.executable, script, root, str(number)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for number in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "begun\n"
        yield seen
    finally:
        for process in processes:
            process.terminate()
        ended = [(process, *process.communicate(timeout=HANG)) for process in processes]
    for process, told, errors in ended:
        assert process.returncode == 0, errors
        seen.update(json.loads(told))


NAMES = [b"s0", b"s1", b"s2", b"new\nline", b"caf\xe9", b"x" * 249, b"a b%41", "имя".encode()]


def misbehave(root: Path, it: Tally, seed: int, rounds: int, acts: int, watching: str) -> Counter[str]:
    """Rounds of acts; after each the index has the rows of the bytes that are there, and at the end of a rebuild."""
    (root.parent / "config.yaml").write_text(f"scan_interval: 1\npolling: {watching}\n")
    files = Misbehaving(root, seed, NAMES)
    files.settle()
    with sidecar(root, "--config", root.parent / "config.yaml"), readers(root, 2) as seen:
        for _ in range(rounds):
            for _ in range(acts):
                files.disturb()
                it.tried += 1
            it_has_everything(root, it)
            no_offset_is_ahead(root)
        files.settle()
        it_has_everything(root, it)
        within(SECONDS, lambda: is_well(root))
    assert everything(root / "index") == rebuilt(reference(root))
    strangers = {row[4] for row in indexed(root)} - {to_text(log.relative_to(root).as_posix()) for log in files.logs}
    assert not strangers, "what is no log was read"
    assert set(files.done) == {name.removeprefix("do_") for name in dir(files) if name.startswith("do_")}
    return seen


@pytest.mark.parametrize("watching", ["false", "true"], ids=["by events", "by polling"])
def test_whatever_is_done_to_a_log_its_rows_are_those_of_its_bytes(tally: Count, often: Often, watching: str) -> None:
    it = tally("logs cut, replaced, deleted, linked, regrown, in any order")
    for seed in range(often(1, 10)):
        with scratch() as folder:
            (folder / "logs").mkdir()
            seen = misbehave(folder / "logs", it, seed, often(4, 40), 60, watching)
        assert seen["read"] > 100
        strange = {name for name in seen if name not in NAMED and not name.startswith("index:") and name != "read"}
        assert not strange, seen
        tally("records read meanwhile: the right bytes, or a named error").tried += sum(seen.values())
        tally("records read meanwhile: the right bytes, or a named error").rows += seen["read"]


def test_rows_of_a_file_that_is_gone_stay_and_go_when_another_takes_its_name(tally: Count, tmp_path: Path) -> None:
    root = tmp_path / "logs"
    files = Misbehaving(root, 1, NAMES)
    files.settle()
    it = tally("logs deleted, and others put in their place")
    (tmp_path / "config.yaml").write_text("scan_interval: 1\n")
    with sidecar(root, "--config", tmp_path / "config.yaml"):
        it_has_everything(root, it)
        before = indexed(root)
        for log in files.logs:
            log.unlink()
        within(SECONDS, lambda: missing(root) == len(NAMES))
        it.compare(indexed(root), before)
        for log in files.logs:
            log.write_bytes(files.lines(2))
            it.tried += 1
        within(SECONDS, lambda: missing(root) == 0)
        it_has_everything(root, it)
        it.compare(indexed(root), expected(root))


def missing(root: Path) -> int:
    """The sources that are known to be gone."""
    return state(root).missing


def test_an_entry_kept_from_before_its_place_was_written_anew_does_not_give_the_new_bytes(tmp_path: Path) -> None:
    """Not even where the index has been told, and points there again."""
    log = tmp_path / SESSIONS / "s.jsonl"
    log.parent.mkdir(parents=True)
    with Stepped(reference(tmp_path)) as stepped, Index(tmp_path) as index:
        log.write_bytes(said(1, text="old"))
        stepped.turn()
        (kept,) = index.timeline()
        log.write_bytes(said(1, text="new"))
        stepped.turn()
        with pytest.raises(SourceChanged):
            index.read_bytes(kept)
        (fresh,) = index.timeline()
        assert index.read(fresh)["data"]["text"] == "new"
        assert kept == fresh, "what is compared are the columns"


# ---- files that change while they are read


CHURN = """
import os, sys, time
path, size = sys.argv[1], int(sys.argv[2])
number = 0
def lines(count):
    global number
    made = b""
    for _ in range(count):
        number += 1
        made += b'{"event": "agent:say", "timestamp": %d, "correlation_id": "c%d", "data": {"text": "%s"}}\\n' % (
            1735500000 + number, number, b"x" * (number * 37 % 200))
    return made
print("begun", flush=True)
until = time.monotonic() + float(sys.argv[3])
while time.monotonic() < until:
    what = number % 4
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    if what == 0:
        os.ftruncate(fd, 0)  # and grown again before anybody looks
    elif what == 1:
        os.ftruncate(fd, os.fstat(fd).st_size * 2 // 3)
    os.lseek(fd, 0, os.SEEK_END)
    os.write(fd, lines(size + number % 7))
    if what == 2:
        os.ftruncate(fd, max(0, os.fstat(fd).st_size - 1000))
        os.lseek(fd, 0, os.SEEK_END)
        os.write(fd, b"\\n" + lines(5))
    os.close(fd)
fd = os.open(path, os.O_WRONLY | os.O_APPEND)
os.write(fd, b"\\n" + lines(1))
"""


def test_a_file_that_grows_and_shrinks_while_it_is_read_ends_as_its_bytes(tally: Count, often: Often) -> None:
    """As fast as another process can: between the look at its size and the reading, between two reads."""
    it = tally("files that grow and shrink while they are read")
    with scratch() as folder:
        root = folder / "logs"
        (root / SESSIONS).mkdir(parents=True)
        churn = folder / "churn.py"
        churn.write_text(CHURN)
        with sidecar(root), readers(root, 1) as seen:
            for _ in range(often(1, 20)):
                processes = [
                    subprocess.Popen([sys.executable, churn, root / SESSIONS / f"s{size}.jsonl", str(size), "2"])
                    for size in (3, 400)
                ]
                for process in processes:
                    assert process.wait(HANG) == 0
                it.tried += 1
                it_has_everything(root, it)
        assert everything(root / "index") == rebuilt(reference(root))
        assert seen["read"] > 0
        tally("records read meanwhile: the right bytes, or a named error").tried += sum(seen.values())
        tally("records read meanwhile: the right bytes, or a named error").rows += seen["read"]


# ---- event files


def test_event_files_that_are_replaced_and_torn_give_the_rows_of_their_bytes(tally: Count, often: Often) -> None:
    it = tally("event files replaced, torn, deleted, linked")
    with scratch() as folder:
        root = folder / "logs"
        day = root / "events/2024-12-29"
        day.mkdir(parents=True)
        chance = random.Random(5)
        (folder / "config.yaml").write_text("scan_interval: 1\n")
        number = 0
        with sidecar(root, "--config", folder / "config.yaml"), readers(root, 1) as seen:
            for _ in range(often(3, 40)):
                for _ in range(150):
                    number += 1
                    it.tried += 1
                    path = day / f"evt_1735500000.{chance.randrange(60)}_note.json"
                    line = said(number, BASE + number + DAY * chance.randrange(2))
                    what = chance.randrange(7)
                    if path.is_symlink() or (path.exists() and not path.is_file()):
                        path.unlink()
                    if what == 0:
                        path.unlink(missing_ok=True)
                    elif what == 1:
                        (folder / "new").write_bytes(line)
                        (folder / "new").replace(path)
                    elif what == 2:
                        path.write_bytes(line[:40])
                        with path.open("ab") as file:
                            file.write(line[40:])
                    elif what == 3:
                        path.unlink(missing_ok=True)
                        path.symlink_to(chance.choice([day, folder / "new", path]))
                    elif what == 4:
                        path.unlink(missing_ok=True)
                        os.mkfifo(path)
                    elif what == 5:
                        path.write_bytes(b"\xff" * chance.randrange(3) + line)
                    else:
                        path.write_bytes(line)
                it_has_everything(root, it)
        live = everything(root / "index")
        anew = rebuilt(reference(root))
        there = {to_text(path.relative_to(root).as_posix()) for path in day.iterdir() if path.is_file()}
        assert of(there, live.rows) == anew.rows
        assert seen["read"] > 0


def of(there: set[str], rows: list[Row]) -> list[Row]:
    """Rows of these files."""
    return [row for row in rows if row[4] in there]


def test_an_error_of_a_file_whose_name_is_not_utf8_is_reported_like_any_other(tmp_path: Path) -> None:
    log = Path(os.fsdecode(os.fsencode(tmp_path / "logs" / SESSIONS) + b"/caf\xe9.jsonl"))
    log.parent.mkdir(parents=True)
    log.with_name("s.jsonl").write_bytes(said(1))
    log.write_bytes(said(2))
    with sidecar(tmp_path / "logs"):
        within(SECONDS, lambda: len(indexed(tmp_path / "logs")) == 2)
        log.unlink()
        os.mkfifo(log)
        it_says(tmp_path / "logs", "not a regular file")
        log.unlink()
        within(SECONDS, lambda: is_well(tmp_path / "logs"))
