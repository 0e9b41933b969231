"""Each number of the analysis is what a plain computation over `Index.timeline` says, on generated logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.support import once, reference
from helpers.trees import tree
from sidecar import Entry, Index, analyze


@pytest.fixture(scope="module", params=[1, 2])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    tree(root, request.param, sessions=5, lines=60, events=10)
    once(reference(root))
    return root


@pytest.fixture
def index(root: Path) -> Iterator[Index]:
    with Index(root) as index:
        yield index


def spans(index: Index) -> list[tuple[float | None, float | None]]:
    times = [entry.timestamp for entry in index.timeline()]
    return [(None, None), (times[len(times) // 3], None), (times[len(times) // 4], times[len(times) * 3 // 4])]


def entries(index: Index, since: float | None, until: float | None) -> list[Entry]:
    return [
        entry
        for entry in index.timeline()
        if (since is None or entry.timestamp >= since) and (until is None or entry.timestamp < until)
    ]


def test_an_edge_counts_what_an_author_said_to_an_addressee(index: Index) -> None:
    for span in spans(index):
        plain: dict[tuple[str, str], Counter[str]] = {}
        for entry in entries(index, *span):
            for other in entry.addressees if entry.author is not None else ():
                sums = plain.setdefault((str(entry.author), other), Counter())
                sums["count"] += 1
                if entry.requests_response:
                    sums["asked"] += 1
                    sums["answered" if entry.has_response else "pending"] += 1
        found = analyze.graph(index, *span)
        assert {
            (edge.author, edge.addressee): Counter(
                count=edge.count, asked=edge.asked, answered=edge.answered, pending=edge.pending
            )
            for edge in found.edges
        } == plain
        assert plain


def test_latency_of_a_pair_is_that_of_its_requests(index: Index) -> None:
    for span in spans(index):
        plain: dict[tuple[str, str], list[Entry]] = {}
        for entry in entries(index, *span):
            if entry.requests_response and entry.author is not None:
                for other in entry.addressees:
                    plain.setdefault((entry.author, other), []).append(entry)
        rows = {(row.asker, row.answerer): row for row in analyze.latency(index, *span)}
        assert rows.keys() == plain.keys()
        for pair, asked in plain.items():
            row = rows[pair]
            times = sorted(entry.answered_after for entry in asked if entry.answered_after is not None)
            assert row.asked == len(asked)
            assert row.answered == sum(entry.has_response for entry in asked)
            assert row.p50 == (times[len(times) // 2] if times else None)
            assert row.p99 == (times[len(times) * 99 // 100] if times else None)
            assert row.low <= row.share <= row.high
