"""Source states in memory: what was used last stays, within a limit on what all of them hold."""

from __future__ import annotations

import orjson
import pytest

from helpers.support import any_source
from sidecar.indexer import source_cache
from sidecar.indexer.source_cache import SourceCache
from sidecar.ingest.source import SourceState
from sidecar.records import Line


def state(name: str, requests: int = 0) -> SourceState:
    """The state of a source with so many open requests."""
    made = SourceState(1, f"{name}.jsonl", any_source("session"), 0.0)
    add_requests(made, requests)
    return made


def add_requests(to: SourceState, count: int) -> None:
    asked = {"event": "completion:request", "timestamp": 1_735_500_000}
    first = to.state.requests.cost
    to.ingest(
        Line(number * 1_000, number, orjson.dumps({**asked, "correlation_id": f"c{number}"}))
        for number in range(first, first + count)
    )


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> SourceCache:
    """A cache for 1,000 requests."""
    monkeypatch.setattr(source_cache, "MAX_COST_OF_FEW", 1_000)
    monkeypatch.setattr(source_cache, "SOURCE_COST", 0)
    return SourceCache()


def held(cache: SourceCache, *names: str) -> str:
    return "".join(name for name in names if f"{name}.jsonl" in cache)


def test_what_was_used_least_recently_leaves_first(cache: SourceCache) -> None:
    for name in "abcd":
        cache.add(state(name, 400))
    assert cache.get("a.jsonl") is not None
    assert held(cache, *"abcd") == "abcd"  # until what changed is saved
    cache.trim([])
    assert held(cache, *"abcd") == "ad"


def test_a_state_that_grows_is_measured_when_it_is_saved(cache: SourceCache) -> None:
    small, grows = state("a", 100), state("b", 100)
    cache.add(small)
    cache.add(grows)
    cache.trim([small, grows])
    assert held(cache, *"ab") == "ab"
    add_requests(grows, 1_000)
    cache.trim([grows])
    assert held(cache, *"ab") == "b"  # alone, it may cost more than the limit


def test_a_state_that_shrinks_makes_room(cache: SourceCache) -> None:
    shrinks = state("a", 900)
    cache.add(shrinks)
    cache.trim([])
    shrinks.begin_again()
    cache.trim([shrinks])
    cache.add(state("b", 900))
    cache.trim([])
    assert held(cache, *"ab") == "ab"


def test_states_discarded_a_thousand_times_push_no_other_out(cache: SourceCache) -> None:
    stays = state("a", 100)
    cache.add(stays)
    for number in range(1_000):
        other = state(f"b{number % 10}", 10)
        cache.add(other)
        cache.trim([other])
        cache.discard(other.path)
        cache.discard(other.path)
    cache.add(state("c", 890))
    cache.trim([])
    assert held(cache, *"ac") == "ac"


def test_of_many_states_less_is_kept_than_of_few(cache: SourceCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_cache, "MIN_CACHED_SOURCES", 3)
    monkeypatch.setattr(source_cache, "MAX_COST", 100)
    for name in "abcde":
        cache.add(state(name, 200))
    cache.trim([])
    assert held(cache, *"abcde") == "cde"
