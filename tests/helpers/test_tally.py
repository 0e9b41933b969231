"""The table of results: a row that is lost, doubled or wrong is counted, and fails the test that compares."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.tally import Tallies


def row(offset: int, event: str = "a") -> tuple[Any, ...]:
    return (f"s:{offset}", 1.0, event, "s", "s.jsonl", 1, offset)


@pytest.mark.parametrize(
    ("found", "counts"),
    [([row(0)], (1, 0, 0)), ([row(0), row(9), row(9)], (0, 1, 0)), ([row(0), row(9, "b")], (0, 0, 1)),
     ([row(0), row(9), row(20)], (0, 0, 1))],
)  # fmt: skip
def test_what_is_lost_doubled_or_wrong_fails_and_is_counted(
    found: list[tuple[Any, ...]], counts: tuple[int, int, int]
) -> None:
    tally = Tallies().of("none")
    with pytest.raises(AssertionError):
        tally.compare(found, [row(0), row(9)])
    assert (tally.lost, tally.doubled, tally.wrong) == counts


def test_what_is_equal_counts_its_rows() -> None:
    tally = Tallies().of("none")
    tally.compare([row(9), row(0)], [row(0), row(9)])
    assert (tally.rows, tally.lost, tally.doubled, tally.wrong) == (2, 0, 0, 0)


def test_what_several_processes_count_is_added_up() -> None:
    sums, other = Tallies(), Tallies()
    for one, seconds in ((sums, 1.0), (other, 2.0)):
        one.of("a").compare([row(0)], [row(0)])
        one.of("a").took(seconds)
    other.of("b").tried = 3
    sums.add(other.as_data())
    assert (sums.of("a").rows, sums.of("a").slowest, sums.of("b").tried) == (2, 2.0, 3)
