"""Where times came from, and what is odd about them: told, and never replaced in silence."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from helpers.support import Stepped, once, reference, write_lines
from sidecar.health import dates
from sidecar.health.dates import TimeCounts, UnreadableTimes, times_of
from sidecar.health.doctor import run_checks
from sidecar.health.status import status_of
from sidecar.query.catalog_reader import open_catalog
from sidecar.service.supervisor import rebuild

DAY = 86_400
NOTHING = object()


def at(moment: Any = NOTHING) -> dict[str, Any]:
    record: dict[str, Any] = {"event": "agent:spawn", "data": {"agent_id": "a"}}
    if moment is not NOTHING:
        record["timestamp"] = moment
    return record


def session(root: Path, name: str = "s") -> Path:
    return root / f"responses/sessions/{name}.jsonl"


def counted(root: Path) -> TimeCounts:
    """The counts, which are the same in a rebuilt index."""
    settings = reference(root)
    once(settings)
    found = times_of(root / "index")
    rebuild(settings, 1, lambda _: None)
    assert times_of(root / "index") == found
    assert sum((found.counts.own, found.counts.inherited, found.counts.file)) == status_of(settings).entries
    return found.counts


def test_each_entry_names_its_time_or_has_that_of_the_one_before_or_of_the_file(tmp_path: Path) -> None:
    write_lines(session(tmp_path), at(), at(), at(1_735_500_000), at(None), b"no record\n", at("1735500001"))
    write_lines(tmp_path / "events/2024-12-29/evt_1735500000.5_agent:spawn.json", at())
    write_lines(tmp_path / "events/2024-12-29/evt_1735500001.5_agent:spawn.json", at(5.5))
    assert counted(tmp_path) == TimeCounts(own=3, inherited=2, file=2)


def test_the_counts_go_on_after_a_restart_and_begin_anew_with_another_file(tmp_path: Path) -> None:
    log = session(tmp_path)
    write_lines(log, at())
    once(reference(tmp_path))
    write_lines(log, at(), at(5))
    assert counted(tmp_path) == TimeCounts(own=1, inherited=1, file=1)
    log.unlink()
    write_lines(log, at(5), at(6), at())
    assert counted(tmp_path) == TimeCounts(own=2, inherited=1, file=0)


def test_the_counts_are_the_same_however_the_log_was_cut_into_chunks(tmp_path: Path) -> None:
    log = session(tmp_path)
    with Stepped(reference(tmp_path)) as stepped:
        for moment in (NOTHING, NOTHING, 5, "soon", NOTHING):
            write_lines(log, at(moment))
            stepped.turn()
    assert counted(tmp_path) == TimeCounts(own=1, inherited=3, file=1)
    assert times_of(tmp_path / "index").unreadable == UnreadableTimes(1, ("responses/sessions/s.jsonl",))


@pytest.mark.parametrize("value", ["soon", "12.3.2024", True, [5], {"seconds": 5}, -1, 1e300])
def test_a_time_that_cannot_be_read_is_told_by_status_with_its_log(tmp_path: Path, value: Any) -> None:
    write_lines(session(tmp_path, "good"), at(5), at(), at(None), at(""))
    write_lines(session(tmp_path, "bad"), at(5), orjson.dumps(at(value)) + b"\n")
    once(reference(tmp_path))
    found = status_of(reference(tmp_path), sources=True)
    assert found.healthy
    assert found.times == TimeCounts(own=2, inherited=4, file=0)
    assert [one.times for one in found.source_list] == [TimeCounts(1, 1, 0), TimeCounts(1, 3, 0)]
    assert found.unreadable_times == UnreadableTimes(1, ("responses/sessions/bad.jsonl",))
    (sentence,) = found.odd_times
    assert "1 time cannot be read, in responses/sessions/bad.jsonl" in sentence


def test_a_place_that_holds_no_time_is_no_loss_where_another_one_does(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "formats: {two: {extends: reference, timestamp: [timestamp, at]}}\n"
        "sources: [{name: all, glob: '*.jsonl', layout: session, format: two}]\n"
    )
    from sidecar.config.settings import load_settings

    root = tmp_path / "logs"
    write_lines(root / "s.jsonl", {**at("soon"), "at": 5.0}, {**at("soon"), "at": "never"})
    settings = load_settings(config, root=root)
    once(settings)
    found = times_of(root / "index")
    assert (found.counts, found.unreadable.entries) == (TimeCounts(1, 1, 0), 1)


def test_entries_in_the_future_are_told(tmp_path: Path) -> None:
    now = time.time()
    write_lines(session(tmp_path), at(now - 60), at(now + 20))
    once(reference(tmp_path))
    assert not times_of(tmp_path / "index").odd
    write_lines(session(tmp_path, "far"), at(now + 4000), at("9999-12-31T23:59:59Z"), at(4_294_967_295))
    once(reference(tmp_path))
    (sentence,) = status_of(reference(tmp_path)).odd_times
    assert sentence == "3 entries lie in the future, up to 9999-12-31, the last in responses/sessions/far.jsonl"
    warned = [result for result in run_checks(reference(tmp_path)) if result.check == "times"]
    assert [(result.status, result.message) for result in warned] == [("warning", sentence)]
    assert "time_zone" in warned[0].advice


def test_a_log_that_touches_very_many_days_is_told_by_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dates, "VERY_MANY_DAYS", 6)
    write_lines(session(tmp_path, "odd"), *(at(5 + 30 * DAY * day) for day in range(6)))
    write_lines(session(tmp_path, "even"), *(at(5 + 30 * DAY * day) for day in range(5)), at(6))
    once(reference(tmp_path))
    (warned,) = (result for result in run_checks(reference(tmp_path)) if result.check == "days")
    assert warned.status == "warning"
    assert "odd.jsonl: 6 entries on 6 days" in warned.message
    assert "even.jsonl" not in warned.message


def test_without_an_index_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert times_of(tmp_path / "index") == dates.Times()
    assert not list(dates.date_checks(tmp_path / "index"))


def test_the_catalog_has_the_counts_of_each_source(tmp_path: Path) -> None:
    write_lines(session(tmp_path), at(), at("soon"), at(5))
    once(reference(tmp_path))
    with closing(open_catalog(tmp_path / "index")) as catalog:
        assert catalog.times() == {"responses/sessions/s.jsonl": (1, 1, 1, 1)}
