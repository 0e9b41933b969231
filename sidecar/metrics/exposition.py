"""The numbers as Prometheus reads them. The only module that imports `prometheus_client` (extra `metrics`).

No session, conversation or agent is a label, because there may be any number of them; agents are if they are asked for,
up to a number.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sidecar import __version__

from .keeper import Keeper, Numbers
from .numbers import BOUNDS, WATCH_MODES, EntrySums, HealthNumbers, IndexNumbers

NOT_COUNTED = "nothing could be counted: the logs or the index do not answer"


class Exposition:
    """Answers scrapes from a keeper's numbers."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def answer(self, accept: str) -> tuple[str, bytes] | None:
        """The content type and the body of an answer to a scrape, whose `Accept` header is given; None if there are no
        numbers to show. May wait: see `Keeper.numbers`."""
        numbers = self._keeper.numbers()
        if numbers is None:
            return None
        encode, content_type = choose_encoder(accept)
        return content_type, encode(_Collected(families(numbers, by_agent=self._keeper.agents > 0)))


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """The metrics."""
        return self._metrics


def families(numbers: Numbers, *, by_agent: bool = False) -> Iterator[Metric]:
    """The metrics, in the order in which docs/operations.md lists them."""
    yield InfoMetricFamily("sidecar_build", "The version of the sidecar.", {"version": __version__})
    yield from _of_health(numbers.health)
    sums = numbers.sums
    if numbers.health.index is not None:
        yield from _of_index(numbers.health.index, None if sums is None or not by_agent else sums.said)
    if sums is not None:
        yield from _of_sums(sums, by_agent)
    if numbers.anomalies is not None:
        text = "What needs somebody now, by kind: agents, storms, loops, and groups of duplicates."
        yield _labelled("sidecar_anomalies", text, "kind", numbers.anomalies)


def _of_health(health: HealthNumbers) -> Iterator[Metric]:
    yield GaugeMetricFamily("sidecar_healthy", "1 if `sidecar status` finds nothing wrong.", int(health.is_healthy))
    text = "Age of the oldest log lines that readers do not see yet."
    yield GaugeMetricFamily("sidecar_lag_seconds", text, health.lag)
    yield _labelled("sidecar_log_bytes", "Where the bytes of the logs went.", "state", health.log_bytes)
    yield _labelled("sidecar_sources", "Logs, by state.", "status", health.sources)
    modes = {mode: int(mode == health.watching) for mode in WATCH_MODES}
    yield _labelled("sidecar_watch_mode", "1 for the way in which a running sidecar watches.", "mode", modes)


def _of_index(index: IndexNumbers, said: Mapping[str, int] | None) -> Iterator[Metric]:
    labels = None if said is None else ["agent"]
    entries = CounterMetricFamily("sidecar_entries", "Entries in the index.", labels=labels)
    for agent, count in {None: index.entries}.items() if said is None else said.items():
        entries.add_metric(() if agent is None else (agent,), count)
    yield entries
    rejected = CounterMetricFamily("sidecar_rejected_lines", "Lines that are no records.", labels=["reason"])
    for reason, count in index.rejected.items():
        rejected.add_metric((reason,), count)
    yield rejected
    yield GaugeMetricFamily("sidecar_days", "Days with entries.", index.days)
    yield GaugeMetricFamily("sidecar_index_bytes", "Size of the index on disk.", index.size)


def _of_sums(sums: EntrySums, by_agent: bool) -> Iterator[Metric]:
    text = "Requests that wait for a response."
    if by_agent:
        yield _labelled("sidecar_pending_requests", text, "agent", sums.asked)
    else:
        yield GaugeMetricFamily("sidecar_pending_requests", text, sums.pending)
    age = 0.0 if sums.oldest is None else max(0.0, time.time() - sums.oldest)
    text = "Age of the oldest request that waits; 0 if none does."
    yield GaugeMetricFamily("sidecar_oldest_pending_age_seconds", text, age)
    bounds = [*(str(float(bound)) for bound in BOUNDS), "+Inf"]
    yield HistogramMetricFamily(
        "sidecar_answer_seconds",
        "Time from a request to its first answer.",
        buckets=list(zip(bounds, sums.cumulated, strict=True)),
        sum_value=sums.seconds,
    )


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric((value,), number)
    return family
