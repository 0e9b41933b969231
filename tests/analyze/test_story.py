"""In a week of work, the five planted anomalies are found, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import story
from helpers.story import Story
from helpers.support import once, reference
from sidecar import Index, SidecarError, analyze


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Story]:
    root = tmp_path_factory.mktemp("story")
    told = Story(root)
    once(reference(root))
    return root, told


@pytest.fixture
def index(told: tuple[Path, Story]) -> Iterator[Index]:
    with Index(told[0]) as index:
        yield index


def test_what_is_planted_is_found_and_nothing_else(told: tuple[Path, Story], index: Index) -> None:
    found = analyze.anomalies(index)
    (silent,) = found.silent
    assert silent.agent == story.SILENT
    assert silent.since < told[1].end_of_speech and silent.odds < 1e-3
    (storm,) = found.storms
    assert (storm.agent, storm.requests) == (story.STORM, 30)
    circle, ping_pong = found.loops
    assert (sorted(circle.agents), circle.rounds, circle.messages) == (sorted(story.CIRCLE), 20, 60)
    assert (sorted(ping_pong.agents), ping_pong.rounds) == (story.PING_PONG, 20)
    (duplicate,) = found.duplicates
    assert (duplicate.author, duplicate.addressees, duplicate.messages) == (
        story.DUPLICATE[0],
        (story.DUPLICATE[1],),
        7,
    )


def test_the_ids_of_a_loop_are_those_of_its_messages(index: Index) -> None:
    circle, _ = analyze.anomalies(index).loops
    entries = [index.get(id_) for id_ in circle.ids]
    assert [entry.author for entry in entries] == list(circle.agents) * 20
    assert (entries[0].timestamp, entries[-1].timestamp) == (circle.since, circle.until)


def test_teams_come_in_the_order_in_which_they_were_made_to_answer(index: Index) -> None:
    teams = [team.members for team in analyze.teams(index, until=story.BEGIN + 6 * story.DAY)]
    assert teams == [tuple(sorted(squad)) for squad in story.SQUADS]


def test_an_answer_after_midnight_counts_for_the_day_of_the_request(told: tuple[Path, Story], index: Index) -> None:
    midnight = told[1].last_day
    (row,) = analyze.latency(index, since=midnight - 6, until=midnight)
    assert (row.asker, row.answerer, row.answered, row.p50) == ("lead-ada", "code-bo", 1, 10.0)


def test_a_record_that_is_gone_is_no_duplicate(told: tuple[Path, Story], index: Index) -> None:
    log = told[0] / "responses/sessions/sess_retry.jsonl"
    aside = log.with_suffix(".aside")
    log.rename(aside)
    try:
        assert not [one for one in analyze.duplicates(index) if (one.author, *one.addressees) == story.DUPLICATE]
    finally:
        aside.rename(log)


def test_messages_of_the_same_length_in_other_words_are_no_duplicates(index: Index) -> None:
    found = analyze.duplicates(index)
    circle = [one for one in found if one.author in story.CIRCLE]
    assert {one.messages for one in circle} == {20}
    assert len(found) == len(circle) + 1  # the retries; the hostile agent was asked three times only


def test_a_wrong_argument_is_named(index: Index) -> None:
    with pytest.raises(SidecarError, match="by: 'agents'"):
        analyze.latency(index, by="agents")  # type: ignore[arg-type]
    with pytest.raises(SidecarError, match="by: 'pair'"):
        analyze.teams(index, by="pair")  # type: ignore[arg-type]
