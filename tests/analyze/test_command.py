"""What `sidecar query graph` and its sisters print, as JSON, for people, and for programs that draw."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from helpers.support import once, reference, write_lines
from sidecar import SidecarError, analyze
from sidecar.cli.app import cli
from sidecar.hub.reader import HubIndex

EVIL = 'a"]; <img src=x onerror=alert(1)> \x1b[31m\u202e\n\\N --> b&lt;'
KEYS = {
    "graph": {"from", "to", "count", "asked", "answered", "pending"},
    "latency": {"from", "to", "asked", "answered", "share", "low", "high", "p50", "p90", "p95", "p99"},
    "loops": {"agents", "rounds", "messages", "since", "until", "conversation"},
    "silent": {"agent", "requests", "since", "odds"},
    "storms": {"agent", "requests", "since", "until", "odds"},
    "duplicates": {"from", "to", "messages", "since", "until"},
    "teams": {
        *("team", "conversations", "asked", "answered", "share", "low", "high", "median", "median_low", "median_high"),
    },
}


def asks(at: float, number: int, author: str, addressee: str) -> dict[str, Any]:
    data = {"agent_id": author, "to_agent": addressee, "prompt": "Please look at this."}
    return {"event": "completion:request", "timestamp": at, "request_id": f"req_{number:06}", "data": data}


def answers(at: float, number: int, author: str) -> dict[str, Any]:
    data = {"agent_id": author, "response": "Done."}
    return {"event": "completion:result", "timestamp": at, "request_id": f"req_{number:06}", "data": data}


def takes(at: float, author: str, role: str) -> dict[str, Any]:
    return {"event": "agent:role_change", "timestamp": at, "data": {"agent_id": author, "new_role": role}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve conversations of a lead and a coder whose name is hostile; then the coder is asked over and over."""
    root = tmp_path_factory.mktemp("root")
    begin = 1_735_500_000.0
    for session in range(12):
        at = begin + session * 1000
        records = [takes(at, "lead", "coordinator"), takes(at + 1, EVIL, "coder")]
        for number in range(session * 2, session * 2 + 2):
            records += [asks(at + 10, number, "lead", EVIL), answers(at + 13, number, EVIL)]
        write_lines(root / f"responses/sessions/sess_{session:02}.jsonl", *records)
    again = [asks(begin + 90_000 + 10 * number, 900 + number, "lead", EVIL) for number in range(14)]
    talk = [
        {"event": "message:sent", "timestamp": begin + 90_000 + at, "data": {"agent_id": one, "to_agent": other}}
        for at in range(0, 20, 2)
        for at, one, other in ((at, "x", "y"), (at + 1, "y", "x"))
    ]
    write_lines(root / "responses/sessions/sess_again.jsonl", *again)
    write_lines(root / "responses/sessions/sess_talk.jsonl", *talk)
    once(reference(root))
    return root


def ask(root: Path, *words: str) -> Result:
    done = CliRunner().invoke(cli, ["--root", str(root), *words], prog_name="sidecar")
    assert done.exit_code == 0, done.output
    return done


def objects(root: Path, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ask(root, *words, "--json").stdout.splitlines()]


@pytest.mark.parametrize("name", KEYS)
def test_every_object_has_its_keys_and_the_version_of_the_schema(root: Path, name: str) -> None:
    found = objects(root, "query", name)
    assert found
    assert all({*KEYS[name], "schema_version"} <= set(one) for one in found)
    assert objects(root, "query", name, "--limit", "1") == found[:1]
    assert objects(root, "query", name, "--until", "2000-01-01") == []
    assert objects(root, "analyze", name) == found


@pytest.mark.parametrize("name", [*KEYS, "roles", "process"])
def test_a_table_is_for_people_and_moves_no_cursor(root: Path, name: str) -> None:
    shown = ask(root, "query", name)
    assert len(shown.stdout.splitlines()) > 1
    assert not set(shown.stdout) & set("\x1b\u202e\r")


def test_what_is_planted_is_printed(root: Path) -> None:
    (silent,) = objects(root, "query", "silent")
    assert (silent["agent"], silent["requests"], silent["odds"]) == (EVIL, 14, 1e-12)
    assert "never in its history" in ask(root, "query", "silent").stdout
    (loop,) = objects(root, "query", "loops")
    assert (loop["agents"], loop["rounds"], loop["messages"]) == (["x", "y"], 10, 20)
    (team,) = objects(root, "query", "teams")
    assert (team["team"], team["conversations"], team["asked"], team["median"]) == (["coder", "coordinator"], 13, 38, 3)
    (pair,) = objects(root, "query", "latency")
    assert (pair["from"], pair["to"], pair["asked"], pair["answered"]) == ("lead", EVIL, 38, 24)
    assert {one["kind"] for one in objects(root, "analyze", "anomalies")} == {"silent", "storm", "loop", "duplicate"}


def test_teams_are_told_apart_by_names_too(root: Path) -> None:
    (team,) = objects(root, "query", "teams", "--by", "agents")
    assert team["team"] == sorted(["lead", EVIL])


def test_latency_is_asked_by_agent_and_by_role(root: Path) -> None:
    (agent,) = objects(root, "query", "latency", "--by", "agent")
    assert (agent["from"], agent["to"], agent["asked"]) == (None, EVIL, 38)
    roles = {one["to"]: one["asked"] for one in objects(root, "query", "latency", "--by", "role")}
    assert roles == {"coder": 24, None: 14}


def test_the_history_of_a_role_is_asked_as_before(root: Path) -> None:
    held = objects(root, "query", "roles", "lead", "sess_03")
    assert {one["role"] for one in held} == {"coordinator"} and "event_type" in held[0]
    done = CliRunner().invoke(cli, ["--root", str(root), "query", "roles", "lead"])
    assert done.exit_code == 2 and "SESSION" in done.output


def test_hostile_names_stay_labels_in_drawings(root: Path) -> None:
    dot, mermaid = (ask(root, "query", "graph", form).stdout for form in ("--dot", "--mermaid"))
    assert not set(dot + mermaid) & set("\x1b\u202e\r")
    # Nothing but the labels contains anything of the name, and a label has no end within it.
    assert [line for line in mermaid.splitlines() if "alert" in line] == [
        line for line in mermaid.splitlines() if line.startswith("  a") and line.endswith('"]') and line.count('"') == 2
    ][1:2]
    assert "<" not in mermaid
    if shutil.which("dot") is not None:
        drawn = subprocess.run(["dot", "-Tsvg"], input=dot.encode(), capture_output=True, check=True).stdout
        assert b"<img" not in drawn


def test_ways_to_draw_exclude_other_output(root: Path) -> None:
    done = CliRunner().invoke(cli, ["--root", str(root), "query", "graph", "--dot", "--json"])
    assert done.exit_code == 2


def test_without_networkx_one_line_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "networkx", None)
    assert objects(root, "query", "graph")
    done = CliRunner().invoke(cli, ["--root", str(root), "query", "graph", "--agents"])
    assert done.exit_code == 2
    assert done.stderr == "error: this needs networkx: pip install 'agent-sidecar[analyze]'\n"


def test_a_hub_is_refused_with_one_line() -> None:
    hub = object.__new__(HubIndex)
    for question in (analyze.graph, analyze.latency, analyze.anomalies, analyze.keep_sums):
        with pytest.raises(SidecarError, match="a hub has none"):
            question(hub)  # type: ignore[operator]
