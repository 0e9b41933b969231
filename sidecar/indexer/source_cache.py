"""Source states in memory, so that the next lines of a busy log need nothing from the catalog."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from sidecar.ingest.source import SourceState

MIN_CACHED_SOURCES = 512
"""Up to this many sources the limit is `MAX_COST_OF_FEW`; for more of them it is `MAX_COST`."""

MAX_COST = 100_000
"""The largest cost of all cached states together, if there are many."""

MAX_COST_OF_FEW = 500_000
"""The largest cost of all cached states together, if there are few. One state alone may cost more."""

SOURCE_COST = 20
"""The cost of an empty state. A request or a role costs 1 (`SourceState.cost`)."""


class SourceCache:
    """The states of the sources that were used last, within a limit on their cost. The indexing thread owns it.

    States leave only in `trim`, which is called when all changes are saved: what leaves can be loaded again.
    """

    def __init__(self) -> None:
        self._states: OrderedDict[str, SourceState] = OrderedDict()
        """Least recently used first."""
        self._costs: dict[str, int] = {}
        """What each state cost when it came, or when it was last saved."""
        self._total_cost = 0

    def __contains__(self, path: str) -> bool:
        """Whether the state of a source is in memory."""
        return path in self._states

    def get(self, path: str) -> SourceState | None:
        """The state of a source, which is now the one used last; None if it is not in memory."""
        state = self._states.get(path)
        if state is not None:
            self._states.move_to_end(path)
        return state

    def add(self, state: SourceState) -> None:
        """Keep a state, as the one used last."""
        self._states[state.path] = state
        self._measure(state)

    def discard(self, path: str) -> None:
        """Drop the state of a source, if it is there."""
        if self._states.pop(path, None) is not None:
            self._total_cost -= self._costs.pop(path)

    def trim(self, saved: Iterable[SourceState]) -> None:
        """Drop the states used least recently until the rest is within the limit. `saved` have changed since the last
        call, and are saved; so is every other state."""
        for state in saved:
            if state.path in self._states:
                self._measure(state)
        while len(self._states) > 1 and self._total_cost > self._limit:
            self.discard(next(iter(self._states)))

    @property
    def _limit(self) -> int:
        return MAX_COST if len(self._states) > MIN_CACHED_SOURCES else MAX_COST_OF_FEW

    def _measure(self, state: SourceState) -> None:
        cost = SOURCE_COST + state.cost
        self._total_cost += cost - self._costs.get(state.path, 0)
        self._costs[state.path] = cost
