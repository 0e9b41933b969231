"""The attacks on the promises: each has a short form, which every run takes, and where it helps a long one.

`pytest tests/faults` takes the short forms, `pytest tests/faults -m ''` all; both print the table of what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from faults.disturbed import TOLD_AFTER
from helpers.tally import TALLIES, Tally


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Callable[[str], Tally]:
    """`tally("what is done to it")` is the line of the table in which a test counts."""
    return pytestconfig.stash[TALLIES].of


@pytest.fixture(params=["short", pytest.param("long", marks=pytest.mark.slow)])
def often(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`often(short, long)` is how often a test tries, in the form that is run."""
    return lambda short, long: long if request.param == "long" else short


@pytest.fixture(autouse=True, scope="session")
def status_reports(pytestconfig: pytest.Config) -> Iterator[None]:
    """How long `status` took to name each trouble, for the end of the run."""
    yield
    pytestconfig.stash[TALLIES].reported_after = TOLD_AFTER
