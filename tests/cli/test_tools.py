"""What agents and their tools say to each other can be left out; conversations leave it out unless asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from helpers.support import write_lines
from sidecar.cli.app import cli
from sidecar.config.settings import load_settings
from sidecar.service.supervisor import run_once

HOME = Path(__file__).parent.parent / "samples" / "home"
CONVERSATION = "5f0c1d2e-7a61-4c0b-9d53-1b2c3d4e5f60"
WITHOUT_LIMITS = ("timeline", "pending", "agents")


@pytest.fixture(scope="module")
def index_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "claude-code"
    run_once(load_settings(root=HOME / ".claude" / "projects", preset="claude-code", index=folder), lambda _: None)
    return folder


@pytest.fixture
def ask(index_folder: Path) -> Any:
    def ask(*words: str) -> Result:
        place = ("--preset", "claude-code", "--root", str(HOME / ".claude" / "projects"), "--index", str(index_folder))
        done = CliRunner().invoke(cli, [*place, *words], prog_name="sidecar")
        assert done.exit_code == 0, done.output
        return done

    return ask


def objects(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("query", ["timeline", "pending"])
def test_entries_between_agents_and_tools_can_be_left_out(ask: Any, query: str) -> None:
    everything, without = objects(ask("query", query, "--json")), objects(ask("query", query, "--no-tools", "--json"))
    assert any(one["pattern_type"] == "tool" for one in everything)
    assert [one["id"] for one in without] == [one["id"] for one in everything if one["pattern_type"] != "tool"]
    assert objects(ask("query", query, "--no-tools", "--limit", "2", "--json"))[-1]["id"] == without[1]["id"]


@pytest.mark.parametrize("words", [("agents",), ("agents", "--since", "2020-01-01"), ("participants", CONVERSATION)])
def test_tools_can_be_left_out_of_the_agents(ask: Any, words: tuple[str, ...]) -> None:
    everything, without = (
        {one["agent"] for one in objects(ask("query", *words, *more, "--json"))} for more in ((), ("--no-tools",))
    )
    assert "tool:Bash" in everything
    assert without == {name for name in everything if not name.startswith("tool:")}


def test_a_conversation_is_what_was_said_without_tools_and_records(ask: Any) -> None:
    shown = ask("query", "conversation", CONVERSATION).stdout
    said = "The checkout test fails", "Commit 4f1 turned the totals", "Only the tests of the totals", "Bob knows."
    assert [text for text in said if text not in shown] == []
    assert "{" not in shown.replace('{"success":true}', ""), "no raw records"
    assert "tool:" not in shown and "thinking" not in shown


def test_a_conversation_shows_tools_when_asked(ask: Any) -> None:
    shown = ask("query", "conversation", CONVERSATION, "--tools").stdout
    assert "→ tool:Bash" in shown and "pytest tests/test_checkout.py" in shown and "12 passed" in shown


def test_a_conversation_as_json_has_everything_that_was_chosen(ask: Any) -> None:
    some = objects(ask("query", "conversation", CONVERSATION, "--json"))
    everything = objects(ask("query", "conversation", CONVERSATION, "--tools", "--json"))
    assert [one["id"] for one in some] == [one["id"] for one in everything if one["pattern_type"] != "tool"]
    assert len(some) < len(everything) and all("record" in one and "text" in one for one in everything)


def test_without_places_of_texts_a_record_that_says_nothing_is_shown_as_it_is(tmp_path: Path) -> None:
    write_lines(tmp_path / "responses" / "sessions" / "s.jsonl", {"event": "note", "data": {"level": 5}})
    run_once(load_settings(root=tmp_path), lambda _: None)
    shown = CliRunner().invoke(cli, ["--root", str(tmp_path), "query", "conversation", "s"]).stdout
    assert '{"level": 5}' in shown
