"""The results of the attacks: how often each fault was tried, and how many rows were compared, lost, doubled or wrong.

The counts of a run are printed at its end as the table of `docs/testing.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pytest

Row = tuple[Any, ...]
"""A row of the view `ksi_index`."""

_FILE, _OFFSET = 4, 6


@dataclass(slots=True)
class Tally:
    """One line of the table."""

    fault: str
    tried: int = 0
    rows: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    slowest: float = 0.0
    """Seconds from the end of a cause until every row was there; 0 where that is not waited for."""

    def took(self, seconds: float) -> None:
        """Note how long it took until everything was right again."""
        self.slowest = max(self.slowest, seconds)

    def compare(self, found: Iterable[Row], expected: Iterable[Row]) -> None:
        """Compare the rows with those that should be there, and count the differences. Fails if there are any."""
        here, there = list(found), list(expected)
        places = Counter((row[_FILE], row[_OFFSET]) for row in here)
        known = {(row[_FILE], row[_OFFSET]): row for row in there}
        lost = [place for place in known if place not in places]
        doubled = [place for place, times in places.items() if times > 1]
        wrong = [row for row in here if known.get((row[_FILE], row[_OFFSET])) != row]
        self.rows += len(there)
        self.lost += len(lost)
        self.doubled += len(doubled)
        self.wrong += len(wrong)
        assert not lost, f"{len(lost)} of {len(there)} rows lost, first {lost[0]}"
        assert not doubled, f"{len(doubled)} of {len(there)} rows doubled, first {doubled[0]}"
        for row in wrong[:1]:
            raise AssertionError(f"{len(wrong)} rows wrong: {row} should be {known.get((row[_FILE], row[_OFFSET]))}")


class Tallies:
    """All lines of one run."""

    def __init__(self) -> None:
        self._lines: dict[str, Tally] = {}
        self.reported_after: list[float] = []
        """Seconds from each cause until `status` named it."""

    def of(self, fault: str) -> Tally:
        """The line of a fault, which several tests may share."""
        return self._lines.setdefault(fault, Tally(fault))

    def as_data(self) -> dict[str, Any]:
        """Plain values, for another process to `add`."""
        return {"lines": [asdict(line) for line in self._lines.values()], "reported_after": self.reported_after}

    def add(self, data: dict[str, Any]) -> None:
        """Add what another process has counted."""
        for values in data["lines"]:
            line = self.of(values["fault"])
            for name in ("tried", "rows", "lost", "doubled", "wrong"):
                setattr(line, name, getattr(line, name) + values[name])
            line.took(values["slowest"])
        self.reported_after += data["reported_after"]

    def table(self) -> list[str]:
        """As Markdown."""
        columns = ("fault", "tried", "rows compared", "lost", "doubled", "wrong", "all good after")
        lines = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
        for one in self._lines.values():
            counts = [f"{count:,}" for count in (one.tried, one.rows, one.lost, one.doubled, one.wrong)]
            lines.append(f"| {' | '.join([one.fault, *counts, f'{one.slowest:.1f} s' if one.slowest else ''])} |")
        return lines if self._lines else []


TALLIES = pytest.StashKey[Tallies]()
"""Where pytest keeps those of the run."""
