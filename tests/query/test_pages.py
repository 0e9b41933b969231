"""What a question holds in memory is bounded by the question, not by how long the lists in the log are."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from helpers.support import once, reference, write_lines
from sidecar.query import agents, pages
from sidecar.query.day_reader import DayReader
from sidecar.query.filters import Filter
from sidecar.query.follow import Follower
from sidecar.query.index import Index
from sidecar.records import AgentSummary
from sidecar.store import layout

BASE = 1735500000.0
CROWDS = 80
AGENTS = 1100


@pytest.fixture(scope="module")
def crowds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of which every record names very many agents."""
    root = tmp_path_factory.mktemp("crowds")
    crowd = [f"{number:0900d}" for number in range(AGENTS)]
    write_lines(
        root / "responses/sessions/s.jsonl",
        *(
            {"event": "e", "timestamp": BASE + n, "data": {"agent_id": f"a{n}", "role": "lead", "to_agents": crowd}}
            for n in range(CROWDS)
        ),
    )
    few = [f"few{number}" for number in range(300)]
    write_lines(
        root / "responses/sessions/t.jsonl",
        *(
            {"event": "f", "timestamp": BASE + n / 10, "data": {"agent_id": f"b{n}", "to_agents": few}}
            for n in range(600)
        ),
    )
    once(reference(root))
    return root


PEAK = """
import resource, sys
from sidecar import Index
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Index(sys.argv[1]) as index:
    {question}
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    "question",
    [
        "next(index.timeline(limit=1))",
        "next(index.timeline(reverse=True))",
        "assert sum(1 for _ in index.timeline()) == 680",
        "next(index.timeline(agent='7'.zfill(900)))",
        "index.get('s:0')",
    ],
)
def test_a_question_takes_no_more_memory_than_its_largest_entries(crowds: Path, question: str) -> None:
    script = PEAK.format(question=question)
    done = subprocess.run([sys.executable, "-c", script, crowds], capture_output=True, text=True, check=True)
    # One entry takes about 3 MB, all of them 240.
    assert int(done.stdout) < 40


def test_every_entry_comes_once_and_in_order_though_pages_end_early(crowds: Path) -> None:
    with Index(crowds) as index:
        entries = list(index.timeline())
        assert [entry.id for entry in reversed(entries)] == [entry.id for entry in index.timeline(reverse=True)]
    assert len({entry.id for entry in entries}) == CROWDS + 600
    assert [entry.timestamp for entry in entries] == sorted(entry.timestamp for entry in entries)
    assert {len(entry.addressees) for entry in entries if entry.event_type == "e"} == {AGENTS}
    assert {entry.agent_roles == {entry.author: "lead"} for entry in entries if entry.event_type == "e"} == {True}


def test_who_follows_is_given_each_entry_once_though_pages_end_early(crowds: Path) -> None:
    with closing(DayReader(layout.daily_paths(crowds / "index")[0])) as day:
        last, found = 0, []
        while True:
            now, entries = day.news(Filter(event_type="e"), last, 4)
            assert len(entries) <= 1
            found += entries
            if now == last:
                break
            last = now
    assert [entry.author for entry in found] == [f"a{n}" for n in range(CROWDS)]
    with closing(Follower(crowds / "index")) as follower:
        assert list(follower.news(Filter())) == []


def test_a_page_of_many_short_lists_is_bounded_too(crowds: Path) -> None:
    with closing(DayReader(layout.daily_paths(crowds / "index")[0])) as day:
        page = day.page(Filter(event_type="f"), None, 600, reverse=False)
    taken = sum(len(name) for entry in page.entries for name in entry.participating_agents)
    assert not page.is_whole
    assert 0 < taken <= pages.PAGE_CHARACTERS


def test_the_times_of_very_many_agents_are_not_looked_up_one_by_one(
    crowds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lookup(*asked: object) -> tuple[float, float]:
        raise AssertionError(asked)

    monkeypatch.setattr(DayReader, "moments", lookup)
    with Index(crowds) as index:
        found = index.agents()
    assert [one.agent for one in found] == sorted(one.agent for one in found)
    assert AgentSummary("7".zfill(900), CROWDS, BASE, BASE + CROWDS - 1) in found
    assert AgentSummary("few7", 600, BASE, BASE + 59.9) in found


def test_many_agents_have_the_times_that_few_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [
        {"event": "e", "timestamp": BASE + 9_000.5 * n, "data": {"agent_id": f"a{n % 7}", "to_agent": f"a{n % 5}"}}
        for n in range(60)
    ]
    write_lines(tmp_path / "responses/sessions/s.jsonl", *records)
    once(reference(tmp_path))
    with Index(tmp_path) as index:
        few = index.agents()
        monkeypatch.setattr(agents, "MAX_LOOKED_UP", 0)
        assert index.agents() == few
