"""The attacks on the promises. Each has a short form, which is part of every run, and some have a long one as well.

`pytest tests/faults` runs the short forms, `pytest tests/faults -m ''` all of them; both print a table of the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from faults.disturbed import TOLD_AFTER
from helpers.tally import TALLIES, Tally


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Callable[[str], Tally]:
    """`tally("what is done to it")` returns the line of the table to which a test adds its counts."""
    return pytestconfig.stash[TALLIES].of


@pytest.fixture(params=["short", pytest.param("long", marks=pytest.mark.slow)])
def often(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`often(short, long)` returns how often a test tries, in the form that is being run."""
    return lambda short, long: long if request.param == "long" else short


@pytest.fixture(autouse=True, scope="session")
def status_reports(pytestconfig: pytest.Config) -> Iterator[None]:
    """How long `status` took to report each fault, for the end of the run."""
    yield
    pytestconfig.stash[TALLIES].reported_after = TOLD_AFTER
