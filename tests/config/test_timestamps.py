"""Which values are a time, and which."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.timestamps import timestamp_of
from sidecar.times import YEAR_10000

T = datetime(2024, 1, 15, 9, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1735500001", 1735500001.0),
        ("1735500001.25", 1735500001.25),
        ("1735500002000", 1735500002.0),
        ("1735500002000000", 1735500002.0),
        ("1735500003123456789", 1735500003123456789 / 10**9),
        ("100000000", 1e8),
        ("0" * 5000 + "1735500001", 1735500001.0),
        # Python would take these for a date, a separator, and an hour.
        ("20240115100", 20240115100.0),
        ("202401151123456.5", 202401151123456.5 / 10**6),
    ],
)
def test_a_string_of_nine_digits_or_more_counts_like_the_number(text: str, seconds: float) -> None:
    assert timestamp_of(text) == seconds
    assert timestamp_of(text, ZoneInfo("Asia/Tokyo")) == seconds


@given(st.integers(10**8, 10**22))
def test_a_number_is_the_same_time_whether_it_is_quoted_or_not(number: int) -> None:
    assert timestamp_of(str(number)) == timestamp_of(orjson.loads(str(number)))


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-15 09:30:00 UTC",
        "2024-01-15T09:30:00 GMT",
        "2024-01-15T09:30:00,000 UTC",
        "2024-01-15T09:30:00Z",
        "Mon, 15 Jan 2024 09:30:00 GMT",
        "Mon, 15 Jan 2024 10:30:00 +0100",
        "Mon, 15 Jan 2024 10:30:00 +0100 (CET)",
        "15 Jan 2024 09:30 -0000",
        "mon,15 jan 24 04:30:00 EST",
        "Mon, 15 Jan 2024 09:30:00 UT",
    ],
)
def test_a_zone_in_the_text_goes_before_that_of_the_format(text: str) -> None:
    assert timestamp_of(text) == timestamp_of(text, ZoneInfo("Asia/Tokyo")) == T


@pytest.mark.parametrize("text", ["2024-01-15 09:30:00,250", "20240115T093000.25", "2024-01-15T09:30:00.250999999"])
@pytest.mark.parametrize("zone", [UTC, ZoneInfo("Asia/Tokyo")])
def test_without_a_zone_the_time_is_in_that_of_the_format(text: str, zone: tzinfo) -> None:
    behind = 9 * 3600 if zone is not UTC else 0
    assert timestamp_of(text, zone) == pytest.approx(T + 0.25 - behind, abs=0.001)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "12345678",
        "1735500001,5",
        "1735500001.",
        "1735500001 ",
        "-1735500001",
        "+1735500001",
        "1_735_500_001",
        "1735500001.5e3",
        "٣" * 10,
        "9" * 5000,
        "2024-01-15 09:30:00 CET",
        "2024-01-15 09:30:00+02:00 UTC",
        "2024-01-15 09:30:00 utc",
        " UTC",
        "1735500001 UTC",
        "Mon, 15 Jan 2024 09:30:00",
        "Mon, 15 Jan 2024 09:30:00 CET",
        "Mon, 32 Jan 2024 09:30:00 GMT",
        "Mon, 15 Jan 2024 25:30:00 GMT",
        "Mon, 15 Jan 2024 09:30:00 +0160",
        "Fri, 15 Jan 1965 09:30:00 GMT",
        "Monday, 15 Jan 2024 09:30:00 GMT",
        "Jan 15 2024 09:30:00",
        "9999-12-31T23:59:59-05:00",
        "\ud800",
    ],
)
def test_other_texts_are_no_time(text: str) -> None:
    assert timestamp_of(text) is None


@given(st.one_of(st.text(max_size=40), st.floats(), st.integers(), st.from_regex(r"[0-9 :,.TZ+A-J-]{1,30}")))
def test_whatever_it_is_the_time_is_in_the_calendar_or_none(value: object) -> None:
    seconds = timestamp_of(value)
    assert seconds is None or 0 <= seconds < YEAR_10000
