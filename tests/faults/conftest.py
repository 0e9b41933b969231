"""The attacks on the promises: each has a short form, which every run takes, and where it helps a long one.

`pytest tests/faults` takes the short forms, `pytest tests/faults -m ''` all; both print the table of what was found.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from faults.disturbed import TOLD_AFTER
from helpers.tally import Tallies, Tally

_TALLIES = pytest.StashKey[Tallies]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TALLIES] = Tallies()


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Callable[[str], Tally]:
    """`tally("what is done to it")` is the line of the table in which a test counts."""
    return pytestconfig.stash[_TALLIES].of


@pytest.fixture(params=["short", pytest.param("long", marks=pytest.mark.slow)])
def often(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`often(short, long)` is how often a test tries, in the form that is run."""
    return lambda short, long: long if request.param == "long" else short


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if table := config.stash[_TALLIES].table():
        terminalreporter.section("faults")
        for line in table:
            terminalreporter.write_line(line)
        if TOLD_AFTER:
            terminalreporter.write_line(
                f"`status` told of trouble {len(TOLD_AFTER)} times, after {max(TOLD_AFTER):.1f} s at most"
            )
