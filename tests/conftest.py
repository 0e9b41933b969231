"""Fixtures for many tests. Whatever a test leaves behind fails it: threads, descriptors, and warnings."""

from __future__ import annotations

import gc
import signal
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from helpers.support import HANG, Stepped, reference, scratch, use_memory_for_temporary_files
from helpers.tally import TALLIES, Tallies

# How long an example takes says something about the machine's load, not about what is tested.
hypothesis_settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("any load")

use_memory_for_temporary_files()

# Python starts a process of its own for those that are spawned, once, and keeps a pipe to it.
resource_tracker.ensure_running()

# A shell starts background jobs with SIGINT ignored, which children inherit: the tests that interrupt one need it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# watchdog keeps one reader thread for the whole process, whoever watches.
_SHARED = {"InotifyFD"}

_HAS_FAILED = pytest.StashKey[bool]()


# ---- leaks


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_HAS_FAILED] = True
    return report


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if type(thread).__name__ not in _SHARED}


def _descriptors() -> Counter[str]:
    """What is open in this process, by name."""
    found: Counter[str] = Counter()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor by which the folder is read
            found[str(link.readlink())] += 1
    return found


@pytest.fixture(autouse=True)
def nothing_is_leaked(request: pytest.FixtureRequest) -> Iterator[None]:
    threads, descriptors = _threads(), _descriptors()
    yield
    if request.node.stash.get(_HAS_FAILED, False):
        return  # its traceback keeps its variables, and with them what is open: one failure is enough
    for thread in _threads() - threads:
        thread.join(HANG)  # one that has been told to end may have to wait for a processor
    assert not _threads() - threads, "threads were left running"
    # Its three descriptors, and what it had no time to close of the test before.
    allowed = 5 if any(type(thread).__name__ in _SHARED for thread in threading.enumerate()) else 0
    now = _descriptors()
    if now.total() > descriptors.total():
        gc.collect()  # what is held by a cycle only; not after each test, which would cost a tenth of the run
        now = _descriptors()
    assert now.total() <= descriptors.total() + allowed, f"left open: {now - descriptors}"


# ---- folders and a sidecar; a module whose tests begin with more has a `root` of its own


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is fast: what a process has written survives its death in the kernel, synced or not."""
    with scratch() as folder:
        yield folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty log folder. `tmp_path` itself is for what has to be outside."""
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


@pytest.fixture
def stepped(root: Path) -> Iterator[Stepped]:
    """A sidecar on `root` that gets the time as an argument."""
    with Stepped(reference(root)) as one:
        yield one


# ---- the longest first, so that none of them is left over at the end for one process alone

_LONGEST = [
    "test_archive_faults.py",
    "test_index_damage.py",
    "test_power_loss.py",
    "test_kill_rebuild.py",
    "test_disk_says_no.py",
    "test_kill_backlog.py",
    "test_kill_steps.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: (order.get(item.path.name, len(order)), "faults" not in item.path.parts))


def pytest_collection_finish() -> None:
    # The collected tests stay to the end: no collection of garbage needs to look at them again.
    gc.collect()
    gc.freeze()


# ---- the table of faults: each process of a run counts for itself, and the one that prints has the sum


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLIES] = Tallies()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tallies"] = session.config.stash[TALLIES].as_data()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    if output := getattr(node, "workeroutput", None):  # one that crashed has none
        node.config.stash[TALLIES].add(output["tallies"])  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if table := config.stash[TALLIES].table():
        terminalreporter.section("faults")
        for line in table:
            terminalreporter.write_line(line)
        if after := config.stash[TALLIES].reported_after:
            terminalreporter.write_line(
                f"`status` told of trouble {len(after)} times, after {max(after):.1f} s at most"
            )
