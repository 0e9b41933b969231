"""The model against cases worked by hand, and against what must hold of any file whatever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.corpora import event_files, random_log, records, session_files, write_tree
from oracle.cases import CASES, MTIME, Case
from oracle.model import FIELDS, ModelFile, model_file
from oracle.rules import FIRST, SECOND, Rules


def read(case: Case) -> ModelFile:
    return model_file(
        case.content,
        path=case.path,
        layout=case.layout,
        mtime=case.mtime,
        max_line_bytes=case.max_line_bytes,
        settled=True,
    )


def check_whole(content: bytes, result: ModelFile) -> None:
    """What holds of every file: the sum of P3, and that each place is where its bytes are."""
    assert sum(result.bytes.values()) == len(content)
    places = [(row["byte_offset"], row["byte_length"], row["line_number"]) for row in result.rows]
    places += [(offset, length, number) for number, offset, length, _ in result.rejected]
    end = 0
    for offset, length, number in sorted(places):
        assert offset >= end
        assert not content[end:offset].removeprefix(b"" if end else b"\xef\xbb\xbf").strip(b" \t\r\n\0")
        assert number == content[:offset].count(b"\n") + 1
        end = offset + length
        assert b"\n" not in content[offset:end] or offset == 0
    for row in result.rows:
        assert tuple(row) == (*FIELDS, "day", "byte_length")
        assert set(row["agent_roles"]) <= set(row["participating_agents"])
        assert row["has_response"] <= row["is_request"]
        assert len(row["day"]) == 10


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_model_gives_the_rows_worked_by_hand(case: Case) -> None:
    result = read(case)

    assert [subset(row, wanted) for row, wanted in zip(result.rows, case.expected, strict=True)] == list(case.expected)
    assert result.rejected == list(case.rejected)
    assert result.completed_sessions == case.completed
    check_whole(case.content, result)


def subset(row: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    return {column: row[column] for column in wanted}


def test_no_two_cases_have_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_an_event_file_is_read_alike_with_and_without_a_last_lf() -> None:
    case = next(case for case in CASES if case.name == "what an event file says goes before its name")
    without = model_file(case.content[:-1], path=case.path, layout="file", mtime=MTIME)

    assert case.content.endswith(b"\n")
    assert without.rows == read(case).rows


def test_an_empty_event_file_is_rejected() -> None:
    result = model_file(b"", path="events/2024-12-29/evt_1_x.json", layout="file", mtime=MTIME)

    assert result.rejected == [(1, 0, 0, "not-json")]


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="layout"):
        model_file(b"", path="x.jsonl", layout="lines", mtime=MTIME)


@given(session_files(), st.sampled_from(["session", "stream"]), st.sampled_from([100, 2_048, 16 * 2**20]))
@settings(max_examples=30)
def test_every_byte_of_any_file_of_lines_is_accounted_for(content: bytes, layout: str, limit: int) -> None:
    result = model_file(content, path="responses/sessions/s.jsonl", layout=layout, mtime=MTIME, max_line_bytes=limit)

    check_whole(content, result)


@given(event_files())
@settings(max_examples=30)
def test_every_byte_of_any_event_file_is_accounted_for(event: tuple[str, bytes]) -> None:
    name, content = event
    result = model_file(content, path=f"events/2024-12-29/{name}", layout="file", mtime=MTIME)

    check_whole(content, result)
    assert len(result.rows) + len(result.rejected) == 1


@given(session_files(max_lines=12), session_files(max_lines=12))
@settings(max_examples=30)
def test_what_follows_changes_nothing_of_a_row_but_its_answer(first: bytes, second: bytes) -> None:
    first += b"\n"

    def read_session(content: bytes) -> ModelFile:
        return model_file(content, path="responses/sessions/s.jsonl", layout="session", mtime=MTIME)

    before, after = read_session(first), read_session(first + second)

    for early, late in zip(before.rows, after.rows, strict=False):
        assert late["has_response"] >= early["has_response"]
        assert early["correlation_id"] in (None, late["correlation_id"])
        assert early["answered_after"] in (None, late["answered_after"])
        changing = ("has_response", "correlation_id", "answered_after")
        assert {k: v for k, v in early.items() if k not in changing} == {
            k: v for k, v in late.items() if k not in changing
        }


@given(records())
@settings(max_examples=30)
def test_a_drawn_record_always_has_a_place_for_its_event(record: dict[str, Any]) -> None:
    assert "event" in record


def test_a_seed_gives_the_same_log_and_another_seed_another() -> None:
    assert random_log(1, 200) == random_log(1, 200) != random_log(2, 200)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rules", [FIRST, SECOND])
def test_a_random_log_has_every_kind_of_line(seed: int, rules: Rules) -> None:
    content = random_log(seed, 3_000)
    result = model_file(
        content, path="responses/sessions/s.jsonl", layout="session", mtime=MTIME, max_line_bytes=2_048, rules=rules
    )

    check_whole(content, result)
    reasons = {"not-json", "not-object", "no-event-type", "too-long"} | ({"torn"} if rules.glued else set())
    assert {reason for *_, reason in result.rejected} == reasons
    assert (result.repaired > 0) == rules.lenient
    assert result.bytes["blank"]
    assert {row["pattern_type"] for row in result.rows} >= {"broadcast", "team", "peer_to_peer", "swarm", "general"}
    assert {row["has_response"] for row in result.rows if row["is_request"]} == {0, 1}
    assert len({row["day"] for row in result.rows}) > 3


def test_a_tree_is_the_same_wherever_it_is_written(tmp_path: Path) -> None:
    trees = []
    for name in ("one", "other"):
        write_tree(tmp_path / name, seed=7, sessions=3, lines=50, events=20)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        trees.append(
            [(path.relative_to(tmp_path / name), path.read_bytes(), path.stat().st_mtime_ns) for path in files]
        )

    assert trees[0] == trees[1]
    assert len(trees[0]) == 23
