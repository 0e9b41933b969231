"""The law of derivation, held against an independent reading of it, and against cases worked by hand."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.corpora import event_files, random_log, session_files
from helpers.support import rows_of
from oracle.cases import CASES, Case
from oracle.model import model_file
from oracle.odd import odd_files

SESSION = "responses/sessions/s.jsonl"
EVENT = "events/2024-12-29/evt_1735500000.5_agent_spawn.json"
MTIME = 1_700_000_000.25


def held(content: bytes, path: str, layout: str) -> None:
    """Rows, rejected lines and counts are the model's, of a file that has not changed for long."""
    model = model_file(content, path=path, layout=layout, mtime=MTIME, settled=True)
    derived = rows_of(content, path, layout, MTIME)
    assert derived.rows == model.rows
    assert derived.rejected == model.rejected
    assert derived.times == model.times
    assert derived.bytes == {key: value for key, value in model.bytes.items() if key != "waiting"}


@given(session_files())
@settings(max_examples=300)
def test_a_session_file_gives_the_rows_of_the_law(content: bytes) -> None:
    held(content, SESSION, "session")


@given(session_files())
@settings(max_examples=200)
def test_a_stream_file_gives_the_rows_of_the_law(content: bytes) -> None:
    held(content, "events/all.jsonl", "stream")


@given(odd_files(), st.sampled_from([(SESSION, "session"), ("events/all.jsonl", "stream"), (EVENT, "file")]))
@settings(max_examples=300)
def test_a_file_with_everything_that_parsers_dislike_gives_the_rows_of_the_law(
    content: bytes, where: tuple[str, str]
) -> None:
    held(content, *where)


@given(event_files())
@settings(max_examples=200)
def test_an_event_file_gives_the_row_of_the_law(file: tuple[str, bytes]) -> None:
    name, content = file
    held(content, f"events/2024-01-15/{name}", "file")


@pytest.mark.parametrize("seed", range(6))
def test_a_long_log_with_every_oddity_gives_the_rows_of_the_law(seed: int) -> None:
    held(random_log(seed, 3_000), SESSION, "session")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_worked_by_hand_comes_out_as_expected(case: Case) -> None:
    derived = rows_of(case.content, case.path, case.layout, case.mtime, case.max_line_bytes)
    assert derived.rejected == list(case.rejected)
    assert derived.completed_sessions == set(case.completed)
    assert len(derived.rows) == len(case.expected)
    for row, expected in zip(derived.rows, case.expected, strict=True):
        assert {key: row[key] for key in expected} == expected


@pytest.mark.parametrize("length", [64, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("letter", ["x", "é", "🜚"])
def test_no_id_or_name_is_longer_than_the_law_allows_wherever_it_stands(length: int, letter: str) -> None:
    def named(kind: str) -> str:
        return (kind + letter * length)[:length]

    asked = {
        "event": named("e") + ":request",
        "timestamp": MTIME,
        "correlation_id": named("c"),
        "data": {
            "agent_id": named("a"),
            "role": named("r"),
            "session_id": named("s"),
            "conversation_id": named("v"),
            "pattern": named("p"),
            "to_agents": [named("t"), named("u"), named("t")],
            "participants": [named("m"), int("9" * 19)],
        },
    }
    answered = {"event": "x:result", "correlation_id": named("c"), "data": {"agent_id": named("t")}}
    content = orjson.dumps(asked) + b"\n" + orjson.dumps(answered) + b"\n"
    for layout in ("session", "stream"):
        held(content, SESSION, layout)
        first, second = rows_of(content, SESSION, layout, MTIME).rows
        assert second["correlation_id"] == first["correlation_id"]
        names = [first["correlation_id"], *first["participating_agents"], *first["agent_roles"].values()]
        assert all(len(name) == (97 if length > 1024 else length) for name in names if name[0] in "catumr")
