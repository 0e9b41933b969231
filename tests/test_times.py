"""Times as people give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from math import inf, nan
from time import tzset

import pytest

from sidecar.errors import BadTime
from sidecar.times import day_of, duration, moment_of, seconds_of

NOON = 1_735_473_600.0  # 2024-12-29T12:00:00Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("30s", 30), ("5m", 300), ("2h", 7_200), ("7d", 604_800), ("1w", 604_800), ("500ms", 0.5), ("1.5 H", 5_400)),
        *(("30min", 1_800), ("10 sec", 10), ("1h30m", 5_400), ("1d 2h 3min", 93_780), ("1m500ms", 60.5)),
    ],
)
def test_an_age_is_numbers_with_units_from_the_largest_to_the_smallest(text: str, seconds: float) -> None:
    assert seconds_of(text) == duration(text) == seconds
    assert moment_of(text, NOON) == NOON - seconds


@pytest.mark.parametrize(
    "text", ["", "h", "2", "2 hours", "-2h", "30m2h", "2h2h", "2h30", "1m 5min", "1e3s", "1.s", "٢x", "٢h"]
)
def test_anything_else_is_no_age(text: str) -> None:
    assert seconds_of(text) is None


def test_a_length_of_time_may_be_a_plain_number_also_as_text() -> None:
    assert duration(300) == duration(300.0) == duration("300") == duration(" 300.0 ") == 300


@pytest.mark.parametrize("value", ["", "soon", "-5", "nan", "inf", "1e3", nan, True, None, [5]])
def test_what_is_no_length_of_time_is_refused(value: object) -> None:
    with pytest.raises(BadTime, match="not a length of time: "):
        duration(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        int(NOON),
        "1735473600",
        "1735473600.0",
        datetime(2024, 12, 29, 12, tzinfo=UTC),
        datetime(2024, 12, 29, 12),
        datetime(2024, 12, 29, 14, tzinfo=timezone(timedelta(hours=2))),
        "2024-12-29T12:00:00Z",
        "2024-12-29T12:00:00",
        "2024-12-29 12:00",
        " 2024-12-29T13:30:00+01:30 ",
        "0s",
    ],
)
def test_a_moment_may_be_given_in_many_ways(value: float | str | datetime) -> None:
    assert moment_of(value, NOON) == NOON


def test_a_date_is_its_first_moment_in_utc() -> None:
    assert moment_of("2024-12-29", NOON) == NOON - 43_200


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOON),
        ("today", NOON - 43_200),
        ("Yesterday", NOON - 43_200 - 86_400),
        ("09:35", NOON - 8_700),
        ("9:35", NOON - 8_700),
        ("12:00:00", NOON),
        ("19:35", NOON + 27_300 - 86_400),  # it has not been 19:35 yet today
        ("11:59:59.5", NOON - 0.5),
    ],
)
def test_a_moment_may_be_told_by_the_day_and_the_clock(text: str, moment: float) -> None:
    assert moment_of(text, NOON) == moment


def test_what_names_no_zone_may_be_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")  # 5:30 before UTC
    tzset()
    try:
        assert moment_of("2024-12-29 17:30", NOON, local=True) == NOON
        assert moment_of("17:29", NOON, local=True) == NOON - 60
        assert moment_of("today", NOON, local=True) == NOON - 17.5 * 3600
        assert moment_of("2024-12-29T12:00:00Z", NOON, local=True) == NOON
        assert moment_of("2h", NOON, local=True) == NOON - 7_200
    finally:
        monkeypatch.undo()
        tzset()


@pytest.mark.parametrize(
    "value",
    ["25:00", "19:5", "1935", "today 19:35", "", "soon", "2024-02-30", "12", nan, True, None, [NOON], "nan", "2h ago"],
)
def test_what_is_no_moment_is_refused_and_told_what_would_be(value: object) -> None:
    with pytest.raises(BadTime, match="not a time: ") as caught:
        moment_of(value, NOON)  # type: ignore[arg-type]
    assert "ISO 8601" in caught.value.hint
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (0.0, "1970-01-01"),
        (NOON, "2024-12-29"),
        (1_735_516_799.9999998, "2024-12-29"),  # which a datetime rounds to the next day
        (1_735_516_800.0, "2024-12-30"),
        (253_402_300_799.9999, "9999-12-31"),
        (-5.0, "1970-01-01"),
        (1e300, "9999-12-31"),
        (inf, "9999-12-31"),
        (-inf, "1970-01-01"),
    ],
)
def test_a_moment_lies_on_a_day_of_utc(moment: float, day: str) -> None:
    assert day_of(moment) == day
