"""Shares, quantiles and odds. Nothing is sampled, so the same data give the same numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z = 1.96
"""Standard errors to each side of a 95 % interval."""

LEAST_ODDS = 1e-12
"""Odds end here. Less means "never in its history"; how much less, no history can tell."""


def wilson(part: int, whole: int) -> tuple[float, float]:
    """The Wilson 95 % interval of a share, `part` of `whole`: low and high, from 0 to 1.

    >>> [round(end, 3) for end in wilson(9, 10)]
    [0.596, 0.982]
    """
    if not whole:
        return 0.0, 1.0
    share, square = part / whole, Z * Z
    middle = share + square / (2 * whole)
    half = Z * math.sqrt(share * (1 - share) / whole + square / (4 * whole * whole))
    return max(0.0, (middle - half) / (1 + square / whole)), min(1.0, (middle + half) / (1 + square / whole))


def quantile(values: Sequence[float], percent: int) -> float | None:
    """The value below which `percent` of 100 of the sorted `values` lie: one of them, never a mean of two. None if
    there are none.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 50)
    3.0
    """
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else None


def median_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % interval of the median of the sorted `values`, by order statistics: the values of the ranks
    n/2 ± 0.98 √n. Nones if there are no values."""
    count = len(values)
    if not count:
        return None, None
    half = Z / 2 * math.sqrt(count)
    return values[max(0, int(count / 2 - half))], values[min(count - 1, int(count / 2 + half))]


def poisson_tail(least: int, mean: float) -> float:
    """The probability of `least` events or more where `mean` are expected.

    >>> round(poisson_tail(2, 1.0), 4)
    0.2642
    """
    if least <= mean or least <= 0:
        # The tail is large, and its complement has few terms.
        below = (
            sum(math.exp(-mean + n * math.log(mean) - math.lgamma(n + 1)) for n in range(least)) if mean > 0 else 0.0
        )
        return max(0.0, 1.0 - below)
    if mean <= 0:
        return 0.0
    first = -mean + least * math.log(mean) - math.lgamma(least + 1)
    total, term, number = 0.0, 1.0, least
    while term > 1e-16:
        total += term
        number += 1
        term *= mean / number
    return math.exp(first + math.log(total)) if first > -700 else 0.0


def odds(probability: float) -> float:
    """A probability, but not less than `LEAST_ODDS`."""
    return max(LEAST_ODDS, probability)
