"""The demo: a world that is pure, a picture that fits, and real processes that all end."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from helpers.support import HANG, command, eventually, running
from sidecar import Index
from sidecar.board.stats import BoardStats
from sidecar.board.view import Picture, WaitingRequest, frame
from sidecar.config.settings import load_settings
from sidecar.demo.world import NAMES, SILENT, Act, Begin, End, Happen, Say, World
from sidecar.health.verify import compare
from sidecar.records import Entry

BRIEFLY = ("--seconds", "2", "--rate", "150")


def acts(count: int, agents: int = 8, seed: int = 7) -> list[Act]:
    return list(islice(World(agents, seed).acts(), count))


def demo(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    words = command(*arguments)
    return subprocess.run(
        words, capture_output=True, text=True, timeout=HANG, check=False, env={**os.environ, **environment}
    )


def processes_about(root: Path) -> list[str]:
    """Command lines of the processes that were told of a folder."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = one.read_bytes()
        except OSError:
            continue
        if str(root).encode() in line:
            found.append(line.decode("utf-8", "replace"))
    return found


# --- the world --------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_messages() -> None:
    assert acts(2000) == acts(2000)
    assert acts(2000) != acts(2000, seed=8)


@pytest.mark.parametrize("agents", [4, 5, 8, 24])
def test_each_session_begins_once_speaks_and_ends_at_most_once(agents: int) -> None:
    begun: set[str] = set()
    ended: set[str] = set()
    for act in acts(5000, agents):
        if isinstance(act, Begin):
            assert act.session not in begun
            begun.add(act.session)
        elif isinstance(act, Say | End):
            assert act.session in begun - ended
            if isinstance(act, End):
                ended.add(act.session)
    assert len(ended) > 50


def test_every_request_has_one_id_and_the_silent_one_never_speaks() -> None:
    asked: list[str] = []
    for act in acts(5000):
        if isinstance(act, Say) and act.record["event"] == "completion:request":
            asked.append(act.record["correlation_id"])
        if isinstance(act, Say):
            assert act.record["data"]["agent_id"] != SILENT
    assert len(asked) == len(set(asked))


def test_all_kinds_of_scene_are_among_the_first_acts() -> None:
    kinds = {act.session.split("_")[1] for act in acts(60) if isinstance(act, Begin)}
    assert kinds == {"discovery", "team", "call", "riddle", "lost"}


def test_roles_are_taken_and_given_back() -> None:
    changes = [
        (act.session, act.record["data"]["agent_id"], *act.record["data"]["context"]["role_transition"].values())
        for act in acts(2000)
        if isinstance(act, Say) and "context" in act.record["data"]
    ]
    taken = {(session, agent, after, before) for session, agent, before, after in changes}
    assert sum((session, agent, before, after) in taken for session, agent, before, after in changes) > 20


def test_a_closing_world_comes_to_its_end_with_every_answer_given() -> None:
    world = World(8, 3)
    open_requests: dict[str, Any] = {}
    for count, act in enumerate(world.acts()):
        world.is_closing = count >= 500
        if isinstance(act, Say):
            data = act.record["data"]
            if act.record["event"] == "completion:request":
                open_requests[act.record["correlation_id"]] = data
            else:
                open_requests.pop(act.record.get("correlation_id", ""), None)
    assert 500 < count < 800
    assert isinstance(act, Happen) and act.record["event"] == "agent:terminate"
    assert open_requests
    for one in open_requests.values():
        assert one.get("to_agent") == SILENT or not one.keys() & {"to_agent", "broadcast"}


def test_no_two_agents_are_cut_to_the_same_name() -> None:
    assert len({name[:3] for name in (*NAMES, SILENT)}) == len(NAMES) + 1


# --- the picture ------------------------------------------------------------------------------------------------------


def entry(number: int, author: str, *others: str, role: str = "", event: str = "completion:request") -> Entry:
    roles = {author: role} if role else {}
    place = (f"s:{number}", 1000.0 + number, event, "s", "responses/sessions/s.jsonl", number, number, author)
    return Entry(*place, (author, *others), roles, "team", "c", None, True, True, False, True, author, others)


def test_what_was_seen_is_counted_by_author_and_addressee() -> None:
    seen = BoardStats(1000.0)
    seen.take(entry(-1, "early", "coder"), 1000.0)
    seen.take(entry(1, "coder", "critic", "writer"), 1001.5)
    seen.take(entry(2, "critic", "coder"), 1002.25)
    seen.take(entry(3, "critic", "coder"), 1003.25)
    assert seen.total == 3
    assert seen.by_author() == {"coder": {"critic": 1, "writer": 1}, "critic": {"coder": 2}}
    assert seen.table(2) == (["coder", "critic"], 1)
    lag = seen.lag()
    assert lag is not None and (lag.p50, lag.worst) == (0.25, 0.5)
    recent = seen.lag(since=1002.0)
    assert recent is not None and recent.worst == 0.25
    assert seen.rate(1003.75) == 1.0
    assert seen.bars(1004.0, 4) == [1, 0, 1, 0]


def test_a_role_that_came_back_is_the_one_to_ask_about() -> None:
    seen = BoardStats(0.0)
    for number, role in enumerate(["tester", "tester", "arbiter", "tester"]):
        seen.take(entry(number, "coder", role=role), 1005.0)
    seen.take(entry(9, "writer", role="scribe"), 1010.0)
    assert [(one.before, one.after) for one in seen.changes] == [
        *(("", "tester"), ("tester", "arbiter"), ("arbiter", "tester"), ("", "scribe")),
    ]
    found = seen.returned()
    assert found is not None and (found.agent, found.after) == ("coder", "tester")


@pytest.mark.parametrize("size", [(100, 32), (80, 24), (40, 12), (200, 60)])
@pytest.mark.parametrize("agents", [0, 4, 24])
def test_the_picture_fills_the_terminal_and_no_more(size: tuple[int, int], agents: int) -> None:
    seen = BoardStats(1000.0)
    names = [f"{number:02}_agent_with_a_long_name" for number in range(agents)]
    for number in range(agents * 50):
        author, other = names[number % agents], names[number * 7 % agents]
        seen.take(entry(number % 90, author, other, "\x1b[2J[red]", role=f"role {number}"), 1000.0 + number)
    waiting = [WaitingRequest(float(age), ("coder",), "long " * 50) for age in range(70, 0, -1)]
    said = [(("coder", "critic", "writer"), "[bold]no markup\x1b[2J\n") for _ in range(70)]
    picture = Picture(seen, "about " * 50, 30.0, waiting, 1234, said)
    console = Console(width=size[0], height=size[1], record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(frame(picture, 1050.0, *size), end="")
    lines = console.export_text(styles=False).splitlines()
    assert len(lines) <= size[1]
    assert all(len(line) <= size[0] for line in lines)
    text = "\n".join(lines)
    assert "\x1b" not in text
    if size[0] >= 80:
        assert "1,234 pending" in text and "[bold]no markup" in text


# --- the processes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of a short demo in a folder of its own, which is below a folder for temporary files."""
    temporary = tmp_path_factory.mktemp("temporary")
    done = demo("demo", *BRIEFLY, "--json", TMPDIR=str(temporary))
    assert (done.returncode, done.stderr) == (0, "")
    summary: dict[str, Any] = json.loads(done.stdout)
    assert Path(summary["root"]).parent == temporary
    return summary


def test_all_that_was_written_is_indexed(played: dict[str, Any]) -> None:
    assert played["schema_version"] == 1
    assert played["written"] == played["indexed"] > 200
    assert 0 < played["lag_seconds"]["p50"] < 1
    with Index(played["root"]) as index:
        assert sum(1 for _ in index.timeline()) == played["indexed"]
        assert not list(index.rejected())
        assert sum(one.status == "completed" for one in index.sessions()) == played["sessions"]["completed"]
        assert len(list(index.sessions())) == sum(played["sessions"].values())
    assert compare(load_settings(root=Path(played["root"]), preset="reference"), lambda _: None).holds


def test_the_messages_in_the_logs_are_those_of_the_seed(played: dict[str, Any]) -> None:
    world = World(played["agents"], played["seed"])
    said = [act for act in islice(world.acts(), 150) if isinstance(act, Say)]
    for session in {act.session for act in said}:
        log = Path(played["root"], "responses", "sessions", f"{session}.jsonl").read_text()
        written = [json.loads(line)["data"] for line in log.splitlines()]
        expected = [act.record["data"] for act in said if act.session == session]
        assert written[1 : 1 + len(expected)] == expected


def test_who_never_gets_an_answer_is_in_the_pending_list(played: dict[str, Any]) -> None:
    assert played["pending"]
    to_the_silent = 0
    with Index(played["root"]) as index:
        for one in played["pending"]:
            waiting = index.get(one["id"])
            assert waiting.participating_agents[1:] in ((SILENT,), ())
            to_the_silent += SILENT in waiting.participating_agents
    assert to_the_silent
    assert SILENT not in played["matrix"]
    assert sum(row.get(SILENT, 0) for row in played["matrix"].values()) == to_the_silent


def test_the_printed_commands_work_in_any_folder(
    played: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "bin" / "sidecar"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command())} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    assert len(played["commands"]) == 3
    for line in played["commands"]:
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=HANG, check=False)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) > 2, line
    roles = subprocess.run(f"{played['commands'][1]} --json", shell=True, capture_output=True, text=True, check=True)
    assert len({json.loads(line)["role"] for line in roles.stdout.splitlines()}) > 1


def test_without_a_terminal_there_is_a_line_a_second_and_a_summary(tmp_path: Path) -> None:
    done = demo("--root", tmp_path / "logs", "demo", *BRIEFLY, "--agents", "5", "--seed", "4")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(r"^ +0:0\d +[\d,]+ entries +\d+/s  ", done.stdout, re.MULTILINE)) >= 3
    assert "\x1b" not in done.stdout
    written, indexed = re.findall(r"([\d,]+) records written, ([\d,]+) indexed", done.stdout)[0]
    assert written == indexed
    assert f"stay in {tmp_path}/logs. Try next:" in done.stdout
    commands = [line for line in done.stdout.splitlines() if f"--root {tmp_path}/logs query" in line]
    assert len(commands) == 3
    assert processes_about(tmp_path) == []


def test_a_second_demo_in_the_same_root_has_sessions_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    first = json.loads(demo("--root", root, "demo", "--seconds", "1", "--json").stdout)
    second = json.loads(demo("--root", root, "demo", "--seconds", "1", "--json").stdout)
    assert first["written"] == first["indexed"] and second["written"] == second["indexed"]
    assert {one["id"].split("_")[0] for one in second["pending"]} == {"demo2"}


FOREIGN = ["responses/sessions/sess_1.jsonl", "responses/bus.jsonl", "notes.txt"]


@pytest.mark.parametrize("path", [*FOREIGN, "events/2024-12-29/evt_1_x.json"])
def test_a_root_with_logs_of_others_is_refused_and_left_as_it_is(tmp_path: Path, path: str) -> None:
    is_refused(tmp_path / "logs", path)


@pytest.mark.parametrize("path", FOREIGN)
def test_a_root_with_logs_of_others_beside_those_of_a_demo_is_refused(tmp_path: Path, path: str) -> None:
    own = tmp_path / "logs/responses/sessions/demo_team_001.jsonl"
    own.parent.mkdir(parents=True)
    own.write_text("")
    is_refused(tmp_path / "logs", path)


def is_refused(root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("")
    before = sorted(root.rglob("*"))
    done = demo("--root", root, "demo", "--seconds", "1")
    assert done.returncode == 2
    assert f"and {root} has " in done.stderr and "leave out --root" in done.stderr
    assert sorted(root.rglob("*")) == before


def test_the_users_own_logs_are_not_touched_unless_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "var" / "logs").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text("root: var/logs\npreset: none\n")
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    done = demo("demo", "--seconds", "0.5", "--json", TMPDIR=str(tmp_path / "temporary"))
    assert json.loads(done.stdout)["indexed"] > 0
    assert list((tmp_path / "var" / "logs").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_early_with_everything_indexed_and_no_process_left(tmp_path: Path, number: int) -> None:
    root = tmp_path / "logs"
    words = command("--root", root, "demo", "--seconds", "3600", "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        eventually(lambda: any(root.glob("responses/sessions/*.jsonl")))
        eventually(lambda: len(processes_about(root)) == 3)
        process.send_signal(number)
        out, err = process.communicate(timeout=HANG)
    assert (process.returncode, err) == (0, b"")
    summary = json.loads(out)
    assert summary["written"] == summary["indexed"] > 0
    assert summary["seconds"] < 3600
    assert processes_about(root) == []


def test_an_impatient_second_signal_leaves_no_process_either(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    # So slow and so many that the scenes at play take their time to end.
    words = command("--root", root, "demo", "--seconds", "3600", "--agents", "24")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        eventually(lambda: any(root.glob("responses/sessions/*.jsonl")))
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=HANG)
    assert process.returncode in (0, 130)
    assert processes_about(root) == []


def test_agents_that_die_are_told_and_leave_no_process(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    words = command("--root", root, "demo", "--seconds", "3600")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: any(root.glob("responses/sessions/*.jsonl")))
        kill(lambda line: "sidecar.demo.agents" in line and str(root) in line)
        _, err = process.communicate(timeout=HANG)
    assert process.returncode == 1
    assert err.startswith("error: the agents: ") and "Traceback" not in err
    assert processes_about(root) == []


def kill(is_meant: Callable[[str], bool]) -> None:
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            if is_meant(one.read_bytes().decode("utf-8", "replace")):
                found.append(int(one.parent.name))
    (pid,) = found
    os.kill(pid, signal.SIGKILL)


def test_a_root_that_another_sidecar_holds_is_told_with_its_exit_status(tmp_path: Path) -> None:
    with running(tmp_path):
        done = demo("--root", tmp_path, "demo", "--seconds", "1")
    assert done.returncode == 3
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("responses/sessions/*"))


def test_another_preset_is_refused(tmp_path: Path) -> None:
    done = demo("--root", tmp_path, "--preset", "ksi-daemon", "demo")
    assert done.returncode == 2
    assert "'ksi-daemon'" in done.stderr


def test_a_wrong_configuration_is_told_with_its_exit_status(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("scan_intervall: 5s\n")
    done = demo("--config", tmp_path / "wrong.yaml", "--root", tmp_path / "logs", "demo")
    assert done.returncode == 2
    assert "scan_intervall: unknown key" in done.stderr and "Traceback" not in done.stderr


def test_on_a_terminal_the_picture_is_drawn_and_taken_away_again(tmp_path: Path) -> None:
    main_end, terminal = pty.openpty()
    words = command("--root", tmp_path / "logs", "demo", *BRIEFLY)
    size = {"COLUMNS": "100", "LINES": "32", "TERM": "xterm-256color"}
    with closing(os.fdopen(main_end, "rb", buffering=0)) as screen:
        process = subprocess.Popen(words, stdout=terminal, stderr=terminal, env={**os.environ, **size})
        os.close(terminal)
        printed = b""
        try:
            while chunk := screen.read(65536):
                printed += chunk
        except OSError:
            pass  # the terminal is closed
        assert process.wait(HANG) == 0
    shown = printed.decode()
    assert "who talks to whom" in shown and "waiting for an answer" in shown
    assert shown.index("\x1b[?1049h") < shown.index("said last") < shown.index("\x1b[?1049l") < shown.index("Try next:")
