"""Names and ids as people type them, and as a shell completes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from helpers.support import command, write_lines
from sidecar.cli import cli
from sidecar.query.names import nearest

UUID = "52f25b26-1a5b-4070-ac28-469e6893d8fd"
ASK = {"event": "completion:request", "timestamp": 1_735_473_600, "correlation_id": "req_abc_1"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of three sessions, one of them without a name that a person would type, and of an event file."""
    monkeypatch.chdir(tmp_path)
    logs = tmp_path / "logs"
    data = {"agent_id": "analyzer", "to_agent": "planner", "team_id": "team_north_sea", "new_role": "lead"}
    for name, count in ((UUID, 1), ("sess_one", 12), ("sess_two", 2)):
        write_lines(logs / f"responses/sessions/{name}.jsonl", *[{**ASK, "data": data}] * count)
    event = logs / "events/2024-12-29/evt_1735473600_note.json"
    event.parent.mkdir(parents=True)
    event.write_text(json.dumps({"event": "agent:note", "timestamp": 1_735_473_600, "data": {}}))
    assert asked(logs, "run", "--once").exit_code == 0
    return logs


def asked(root: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--root", str(root), *words], prog_name="sidecar")


@pytest.mark.parametrize(
    ("words", "told", "hint"),
    [
        ("query peers analyser", "no agent is named 'analyser'", "did you mean `analyzer`?"),
        ("query timeline --agent PLANNER", "no agent is named 'PLANNER'", "did you mean `planner`?"),
        ("query timeline --agent zzz", "no agent is named 'zzz'", "`sidecar query agents` lists them"),
        ("query roles analyzr sess_one", "no agent is named 'analyzr'", "did you mean `analyzer`?"),
        ("query roles analyzer ses_one", "no session has the id 'ses_one'", "did you mean `sess_one` or `sess_two`?"),
        ("query participants one", "no session has the id 'one'", "did you mean `sess_one`?"),
        ("query conversation team_north_see", "no conversation has the id", "did you mean `team_north_sea`?"),
        ("query timeline --correlation req_abd_1", "no entry has the correlation", "did you mean `req_abc_1`?"),
        (
            "query timeline --event completion:reqest",
            "no entry has the event type",
            "did you mean `completion:request`",
        ),
        ("query timeline --pattern teams", "no entry has the pattern", "did you mean `team`?"),
        ("show sess_onn:0", "no entry has the id 'sess_onn:0'", "did you mean `sess_one:0`"),
    ],
)
def test_a_name_that_is_nowhere_in_the_index_exits_with_1_and_suggests_the_nearest(
    root: Path, words: str, told: str, hint: str
) -> None:
    for options in ([], ["--json"]):
        done = asked(root, *words.split(), *options)
        assert (done.exit_code, done.stdout) == (1, "")
        assert f"error: {told}" in done.stderr and f"hint: {hint}" in done.stderr


def test_a_known_name_without_entries_in_a_time_is_no_mistake(root: Path) -> None:
    done = asked(root, "query", "peers", "analyzer", "--since", "1h")
    assert (done.exit_code, done.stderr) == (0, "no entry found\n")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("query participants 52f2", f"session {UUID}"),
        ("query roles analyzer sess_o", "session sess_one"),
        ("query conversation team_n", "conversation team_north_sea"),
        ("query timeline --session sess_t", "session sess_two"),
        ("query timeline --correlation req", "correlation req_abc_1"),
        (f"query participants {UUID[:6]}…{UUID[-4:]}", f"session {UUID}"),
        ("query timeline --agent an…er", "agent analyzer"),
    ],
)
def test_as_much_of_an_id_is_enough_as_no_other_has(root: Path, words: str, meant: str) -> None:
    done = asked(root, *words.split())
    assert done.exit_code == 0 and len(done.stdout.splitlines()) > 1
    assert done.stderr.splitlines()[0] == meant


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (UUID[:8], f"{UUID}:0"),
        (f"{UUID[:6]}…{UUID[-4:]}:0", f"{UUID}:0"),
        ("sess_o:0", "sess_one:0"),
        ("sess_t…:0", "sess_two:0"),
        ("evt_17", "evt_1735473600_note:0"),
        ("sess_two:1", "sess_two:180"),
    ],
)
def test_an_entry_is_found_by_a_part_of_its_id(root: Path, text: str, found: str) -> None:
    done = asked(root, "show", text, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["entry"]["id"] == found
    assert done.stderr == f"entry {found}\n"


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        ("query participants sess_", "sess_one, sess_two"),
        ("show sess_", "sess_one:0"),
        ("show sess_one:", "sess_one:0"),
        ("show sess_…:0", "sess_one:0, sess_two:0"),
    ],
)
def test_a_part_of_several_ids_is_refused_with_some_of_them(root: Path, words: str, listed: str) -> None:
    done = asked(root, *words.split())
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"is part of the ids {listed}" in done.stderr and "hint: give more of it" in done.stderr


def test_the_beginning_of_an_agents_name_is_not_taken_for_it(root: Path) -> None:
    assert "did you mean `analyzer`?" in asked(root, "query", "peers", "analyze").stderr


def test_the_whole_name_wins_over_those_that_begin_with_it(root: Path) -> None:
    write_lines(root / "responses/sessions/sess_one_more.jsonl", {**ASK, "data": {"agent_id": "x"}})
    assert asked(root, "run", "--once").exit_code == 0
    done = asked(root, "query", "participants", "sess_one")
    assert (done.exit_code, done.stderr) == (0, "2 participants\n")


def test_an_index_without_entries_says_so(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    assert asked(tmp_path / "logs", "run", "--once").exit_code == 0
    done = asked(tmp_path / "logs", "query", "peers", "a")
    assert done.exit_code == 1 and "the index has no entries" in done.stderr


def test_the_nearest_are_those_of_similar_letters_then_those_around_it() -> None:
    names = ["a_coder", "coder", "Codex", "reviewer"]
    assert nearest("code", names) == ["Codex", "coder", "a_coder"]
    assert nearest("view", names) == ["reviewer"]
    assert nearest("zzz", names) == nearest("x", []) == []


# --- what a shell completes -------------------------------------------------------------------------------------------


def completed(root: Path, *words: str) -> list[str]:
    """What bash would offer for the last word."""
    typed = {"COMP_WORDS": " ".join(["sidecar", "--root", str(root), *words]), "COMP_CWORD": str(len(words) + 2)}
    environment = {**os.environ, "_SIDECAR_COMPLETE": "bash_complete", **typed}
    code = "from sidecar.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return [line.removeprefix("plain,") for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["query", "peers", "a"], ["analyzer"]),
        (["query", "roles", "analyzer", "sess_"], ["sess_one", "sess_two"]),
        (["query", "conversation", "team"], ["team_north_sea"]),
        (["query", "timeline", "--event", "comp"], ["completion:request"]),
        (["show", "evt"], ["evt_1735473600_note:0"]),
        (["--preset", "k"], ["ksi-daemon"]),
        (["query", "sessions", "--status", "a"], ["active"]),
        (["follow", "--session", "52"], [UUID]),
    ],
)
def test_a_shell_completes_names_and_ids(root: Path, words: list[str], offered: list[str]) -> None:
    assert completed(root, *words) == offered


def test_a_shell_completes_the_values_of_the_root_that_is_named_behind_the_command(root: Path, tmp_path: Path) -> None:
    assert completed(tmp_path / "nowhere", "query", "peers", "--root", str(root), "a") == ["analyzer"]


def test_no_name_that_means_something_to_a_shell_is_completed(root: Path) -> None:
    for number, name in enumerate(("a$(reboot)", "a;reboot", "a b", "a\nb", "a`x`", "a…", "a\x1b[2J", "a'b", "a*")):
        write_lines(root / f"responses/sessions/evil_{number}.jsonl", {**ASK, "data": {"agent_id": name}})
    assert asked(root, "run", "--once").exit_code == 0
    assert completed(root, "query", "peers", "a") == ["analyzer"]


def test_without_an_index_a_shell_gets_no_values_and_no_message(tmp_path: Path) -> None:
    assert completed(tmp_path, "query", "peers", "a") == []


def test_a_name_of_strange_letters_is_told_without_moving_the_terminal(root: Path) -> None:
    words = command("--root", root, "query", "peers", "\x1b[2Janalyzer")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "\x1b" not in done.stderr and "did you mean `analyzer`?" in done.stderr
