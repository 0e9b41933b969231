"""Where a process may die: the steps that it takes in an index, counted and named from inside the process.

A step is anything after which the index folder may look different, seen just before it is done: a statement that SQLite
is about to run (reading ones left out), a file that is opened, made, renamed, removed or given a time, a sync. These
are found by what Python tells of every program, so they hold whatever the functions are called. On top of them come the
stages between the read of a chunk and the end of a checkpoint, by name: each is a step before it begins and another
after it.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import random
import re
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

# Stage, and where it is called by what name. In the order in which a line goes through them.
STAGES = {
    "an interrupted swap is settled": "service.repair:layout.finish_swap",
    "a database file is made": "indexer.catalog_writer:create indexer.day_writer:create",
    "what no checkpoint covers is taken back": "indexer.day_files:DayFiles.roll_back_to_checkpoint",
    "a chunk is read and derived": "service.daemon:read_next",
    "a changed file is noted": "indexer.catalog_writer:CatalogWriter.mark_resetting",
    "the rows of a changed file go": "indexer.day_files:DayFiles.delete_rows",
    "rows of a file go from a day": "indexer.day_writer:DayWriter.delete_rows",
    "batches are committed, day by day": "indexer.index_writer:IndexWriter.write",
    "rows of a file go into a day": "indexer.day_writer:DayWriter.write",
    "a checkpoint": "indexer.index_writer:IndexWriter.checkpoint",
    "a day is made durable": "indexer.day_writer:DayWriter.make_durable",
    "a day is summed up": "indexer.day_writer:DayWriter.summary",
    "the catalog is saved": "indexer.catalog_writer:CatalogWriter.save",
    "a source is saved": "indexer.catalog_writer:CatalogWriter._save",
    "a write-ahead log is moved into its file": "indexer.tamper:TamperGuard._checkpoint_log",
    "the index is closed": "indexer.index_writer:IndexWriter.close",
    "a day is closed": "indexer.day_writer:DayWriter.close",
    "the files are noted": "indexer.catalog_writer:CatalogWriter.note",
    "the catalog is closed": "indexer.catalog_writer:CatalogWriter.close",
}

_PRCTL = ctypes.CDLL(None).prctl
_DIE_WITH_PARENT = 1

_FILES = {
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.utime"),
    "shutil.rmtree",
}
_WHAT = r"\s*((?:INSERT(?: OR \w+)? INTO|DELETE FROM|UPDATE|CREATE \w+|PRAGMA) \w+|\w+)"
_READING = ("SELECT", "WITH", "EXPLAIN", "PRAGMA user_version", "PRAGMA application_id")


def of_files(folder: Path, at: Callable[[str], None]) -> None:
    """From now on until this process ends, call `at` with the name of each step below a folder."""
    within, me = os.fspath(folder), os.getpid()
    connect, sync = sqlite3.connect, os.fsync

    def tell(event: str, arguments: tuple[Any, ...]) -> None:
        if os.getpid() != me:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes) and is_below(os.fsdecode(path)) and flags & (os.O_WRONLY | os.O_RDWR):
                at("a file is opened to be written")
        elif event in _FILES and any(is_below(os.fsdecode(one)) for one in arguments if isinstance(one, str | bytes)):
            at(event)

    def is_below(path: str) -> bool:
        # A name alone is one in a folder that is open: for those that are opened so, Python does not tell which.
        return within in path or "/" not in path

    def connected(database: Any, *arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(database, *arguments, **named)
        if within in str(database) and "mode=ro" not in str(database):
            connection.set_trace_callback(_teller(database, at))
        return connection

    def fsync(fd: Any) -> None:
        at("os.fsync")
        sync(fd)

    sys.addaudithook(tell)
    sqlite3.connect = connected
    os.fsync = fsync


# The stages that only rotated logs go through.
ROTATION_STAGES = {
    "files have other names": "indexer.catalog_writer:CatalogWriter.begin_move",
    "the rows of a day follow them": "indexer.day_writer:DayWriter.move",
    "all rows have followed": "indexer.catalog_writer:CatalogWriter.end_move",
}


def of_stages(at: Callable[[str], None], stages: dict[str, str] = STAGES) -> None:
    """Like `of_files`, for the stages, by name."""
    for stage, places in stages.items():
        for place in places.split():
            module, _, name = place.partition(":")
            owner: Any = importlib.import_module(f"sidecar.{module}")
            *above, last = name.split(".")
            for one in above:
                owner = getattr(owner, one)
            setattr(owner, last, _around(getattr(owner, last), stage, at))


def _around(function: Callable[..., Any], stage: str, at: Callable[[str], None]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        at(f"before: {stage}")
        result = function(*arguments, **named)
        at(f"after: {stage}")
        return result

    return wrapped


def _teller(path: str, at: Callable[[str], None]) -> Callable[[str], None]:
    name = Path(path).name
    kind = "catalog" if name.startswith("catalog") else "day"
    kind = f"new {kind}" if name.endswith(".new") else kind

    def tell(sql: str) -> None:
        if not sql.startswith(_READING):
            at(f"{kind}: {_brief(sql)}")

    return tell


def _brief(sql: str) -> str:
    """The statement without its values."""
    found = re.match(_WHAT, sql.replace('"', ""))
    return found[1] if found else sql


class Log:
    """The steps that children have taken, kept where their death does not destroy them."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("steps")

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def add(self, name: str) -> None:
        """A step is about to be taken."""
        os.write(self._fd, f"{name}\n".encode())

    def steps(self) -> list[str]:
        """The steps, in the order in which they were taken."""
        return os.pread(self._fd, os.fstat(self._fd).st_size, 0).decode().splitlines()


class Death:
    """Kills this process at the n-th step."""

    def __init__(self, number: int) -> None:
        self._left = number

    def at(self, _: str) -> None:
        """A step is about to be taken."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Fate:
    """Kills this process at a step at which no more than this many have died before it."""

    def __init__(self, kills: Counter[str], enough: int, likely: float, chance: random.Random, log: Log) -> None:
        self._kills = kills
        self._enough = enough
        self._likely = likely
        self._chance = chance
        self._log = log

    def at(self, name: str) -> None:
        """A step is about to be taken. A quarter of the deaths comes a moment later, by the kernel's timer, wherever
        the process is then: in SQLite's own code, between two system calls of a commit."""
        if self._kills[name] > self._enough or self._chance.random() > self._likely:
            return
        self._log.add(name)
        self._likely = -1.0
        if self._chance.random() < 0.25:
            signal.setitimer(signal.ITIMER_REAL, self._chance.choice([0.0001, 0.0005, 0.002]))
        else:
            os.kill(os.getpid(), signal.SIGKILL)


def in_a_child(work: Callable[[], object]) -> int:
    """Begin some work in a child of this process, which does not outlive it. Returns the child's process id."""
    child = os.fork()
    if child:
        return child
    try:
        _PRCTL(_DIE_WITH_PARENT, signal.SIGKILL)
        work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def died(child: int) -> bool:
    """Wait for a child. Returns true if it was killed, and false if it came to its end."""
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL, signal.SIGALRM), f"a child ended with {status}, of its own accord"
    return status != 0


def dies_at(number: int, folder: Path, work: Callable[[], object]) -> bool:
    """Do some work in a child that dies before its n-th step below a folder. Returns false if it does not get there."""

    def doomed() -> None:
        of_files(folder, Death(number).at)
        work()

    return died(in_a_child(doomed))


def steps_of(folder: Path, work: Callable[[], object]) -> list[str]:
    """Every step that some work takes below a folder. The work is done in a child."""
    with Log() as log:

        def telling() -> None:
            of_files(folder, log.add)
            work()

        assert not died(in_a_child(telling))
        return log.steps()


def children(process: int) -> list[int]:
    """Processes that another one has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == process:
                found.append(int(stat.parent.name))
    return found
