"""The command as a person or a program meets it: real processes over real files."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from helpers.support import HANG, on_a_terminal, unprivileged
from sidecar.cli import cli

COMMAND = [sys.executable, "-m", "sidecar"]
COLUMNS = (
    *("id", "timestamp", "event_type", "session_id", "file_path", "line_number", "byte_offset", "initiating_agent"),
    *("participating_agents", "agent_roles", "pattern_type", "conversation_id", "correlation_id"),
    *("is_completion", "is_request", "has_response", "requests_response", "author", "addressees", "answered_after"),
)


def record(event: str, at: float, **data: object) -> dict[str, object]:
    return {"event": event, "timestamp": 1705314600.0 + at, "data": data}


EVIL = "[bold]Join[/bold] \x1b[2J\u202e"
UNFINISHED = '{"event": "half'
TALK = [
    record("completion:request", 0, prompt="Any agents?", agent_id="explorer", pattern="peer_discovery"),
    {**record("completion:result", 10, response="I am one", agent_id="analyzer"), "correlation_id": "req_1"},
    record("completion:request", 20, prompt=EVIL, agent_id="explorer", to_agent="analyzer"),
    record("completion:request", 86400, prompt="Leading", agent_id="explorer", new_role="lead"),
]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four records of one session, a line that is none, and an unfinished one; no config.yaml in the working folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "logs"
    sessions = folder / "responses/sessions"
    sessions.mkdir(parents=True)
    lines = [json.dumps(one, ensure_ascii=False) for one in TALK]
    (sessions / "sess_1.jsonl").write_text("\n".join([*lines, "no json", UNFINISHED]))
    return folder


@pytest.fixture
def indexed(root: Path) -> Path:
    assert asked(root, "run", "--once").exit_code == 0
    return root


def asked(root: Path, *arguments: str) -> Result:
    """Run a command to its end, where a process of its own would add nothing."""
    return CliRunner().invoke(cli, ["--root", str(root), *arguments], prog_name="sidecar")


def sidecar(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [*COMMAND, "--root", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)


def objects(root: Path, *arguments: str) -> list[dict[str, Any]]:
    """What a command prints with --json."""
    done = asked(root, *arguments, "--json")
    assert done.exit_code == 0, done.output
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(one.pop("schema_version") == 1 for one in found)
    return found


@contextmanager
def running(root: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command under way; killed at the end, if it has not come to its own."""
    command = [*COMMAND, "--root", str(root), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str], beginning: str) -> str:
    """The next line on stderr that begins so."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(beginning):
            return line
    raise AssertionError(f"no line begins with {beginning!r}")


def append(root: Path, **changed: object) -> None:
    with (root / "responses/sessions/sess_2.jsonl").open("a") as file:
        file.write(json.dumps({**record("completion:request", 30, agent_id="late"), **changed}) + "\n")


# --- help and wrong use -----------------------------------------------------------------------------------------------


def every_command() -> list[tuple[str, ...]]:
    names: list[tuple[str, ...]] = []
    for name, command in cli.commands.items():
        names.append((name,))
        names += [(name, below) for below in getattr(command, "commands", ())]
    return names


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli, [*words, "--help"])
    assert shown.exit_code == 0
    assert f"Usage: cli {' '.join(words)}" in shown.output


@pytest.mark.parametrize("words", [(), *every_command()], ids=" ".join)
def test_a_help_fits_on_80_columns_and_lists_no_arguments_as_options(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli, [*words, "--help"], terminal_width=80)
    assert [line for line in shown.output.splitlines() if len(line) > 80] == []
    assert [line for line in shown.output.splitlines() if re.fullmatch(r"  [A-Z]+", line)] == []


@pytest.mark.parametrize("words", [(), ("query",), ("analyze",)], ids=" ".join)
def test_a_group_alone_prints_its_help_and_cuts_no_summary(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli, words, terminal_width=80)
    assert shown.exit_code == 0
    assert shown.stdout.startswith("Usage: ") and shown.stderr == ""
    assert "..." not in shown.stdout.replace("[ARGS]...", "")


def test_the_commands_are_those_of_the_design() -> None:
    assert [" ".join(words) for words in every_command()] == [
        *("run", "query", "query timeline", "query peers", "query roles", "query pending", "query participants"),
        *("query conversation", "query sessions", "query agents", "query rejected"),
        *("query graph", "query latency", "query teams", "query process", "query loops", "query silent"),
        *("query storms", "query duplicates", "query search"),
        *(
            "analyze",
            "analyze anomalies",
            "analyze roles",
            "analyze keep",
            "analyze graph",
            "analyze latency",
            "analyze teams",
        ),
        *("analyze process", "analyze loops", "analyze silent", "analyze storms", "analyze duplicates"),
        *("show", "follow", "serve", "mcp", "top", "demo"),
        *("archive", "reindex", "status", "verify", "doctor", "completion"),
        *("export", "datasette-metadata"),
        *("push", "hub", "hub init", "hub status", "hub verify", "hub drop", "hub forget"),
    ]


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, sidecar.cli; print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"rich", "pyzstd", "peewee", "watchdog", "orjson", "yaml", "sqlite3", "multiprocessing"}
    assert not heavy & set(modules)
    assert not {"sidecar.terminal", "sidecar.records"} & set(modules)  # what prints an answer is loaded with it


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["query", "timeline", "--since", "tomorrow"], "error: not a time: 'tomorrow'"),
        (["query", "peers", "a", "--since", "soon"], "error: not a time: 'soon'"),
        (["query", "timeline", "--limit", "-1"], "Invalid value for '--limit'"),
        (["--preset", "nonsense", "status"], "error: unknown preset `nonsense`"),
        (["--config", "nowhere.yaml", "status"], "error: nowhere.yaml: cannot be read"),
    ],
)
def test_wrong_use_exits_with_2_and_says_what_is_wrong(root: Path, arguments: list[str], told: str) -> None:
    done = sidecar(root, *arguments)
    assert done.returncode == 2
    assert told in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_wrong_configuration_exits_with_2_and_names_the_line(root: Path) -> None:
    (root.parent / "config.yaml").write_text("root: logs\nscan_intervall: 5s\n")
    done = sidecar(root, "query", "timeline")
    assert done.returncode == 2
    assert done.stderr.startswith("error: config.yaml:2: scan_intervall: unknown key `scan_intervall`")


def test_an_error_has_a_hint(root: Path) -> None:
    done = sidecar(root, "query", "timeline")
    assert done.returncode == 1
    assert re.fullmatch(r"error: there is no index.*\nhint: run `sidecar run --once`.*\n", done.stderr)


def test_a_root_of_strange_bytes_breaks_no_message(tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"\xff\x1b[31m")
    for arguments in (["query", "agents"], ["status"], ["doctor"], ["doctor", "--json"]):
        done = sidecar(strange, *arguments)
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "--root logs --json query agents",
        "--json query --root logs agents",
        "query --json agents --root logs",
        "--root nowhere query agents --json --root logs",
    ],
)
@pytest.mark.usefixtures("indexed")
def test_the_options_of_every_command_stand_before_or_behind_it(line: str) -> None:
    done = CliRunner().invoke(cli, line.split())
    assert done.exit_code == 0, done.output
    assert [json.loads(one)["agent"] for one in done.stdout.splitlines()] == ["analyzer", "explorer"]


def test_the_preset_and_the_settings_are_chosen_behind_a_command_as_well(indexed: Path) -> None:
    (indexed.parent / "other.yaml").write_text("root: logs\n")
    assert CliRunner().invoke(cli, ["query", "agents", "--config", "other.yaml"]).exit_code == 0
    doctor = CliRunner().invoke(cli, ["doctor", "--root", "logs", "--preset", "ksi-daemon"])
    assert "preset ksi-daemon" in doctor.stdout


def test_the_environment_names_the_root_where_no_option_does(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (indexed.parent / "config.yaml").write_text("root: nowhere\n")
    monkeypatch.setenv("SIDECAR_ROOT", "logs")
    assert CliRunner().invoke(cli, ["query", "agents"]).exit_code == 0
    assert CliRunner().invoke(cli, ["query", "agents", "--root", "elsewhere"]).exit_code == 1
    assert CliRunner().invoke(cli, ["--root", "elsewhere", "query", "agents"]).exit_code == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    shown = CliRunner().invoke(cli, ["completion", shell])
    assert shown.exit_code == 0
    assert f"_SIDECAR_COMPLETE={shell}_complete" in shown.output


def test_a_shell_completes_commands() -> None:
    typed = {"COMP_WORDS": "sidecar query p", "COMP_CWORD": "2"}
    environment = {**os.environ, "_SIDECAR_COMPLETE": "bash_complete", **typed}
    code = "from sidecar.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["plain,peers", "plain,pending", "plain,participants", "plain,process"]


# --- what stands in the way -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", ["run", "run --once", "reindex", "query agents", "show a:0", "verify", "archive", "follow"]
)
def test_a_root_that_does_not_exist_exits_with_1_and_is_named(tmp_path: Path, words: str) -> None:
    root = tmp_path / "later/logs"
    done = sidecar(root, *words.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: the root {root} does not exist\nhint: start the daemon")


def test_a_root_that_is_a_file_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words in ("run", "reindex"):
        done = sidecar(tmp_path / "file", words)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: the root {tmp_path}/file is not a directory\nhint: ")


def as_nobody_special(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as a user whom permissions bind."""
    words = unprivileged(*COMMAND, "--root", root, *arguments)
    return subprocess.run(words, capture_output=True, text=True, timeout=HANG, check=False)


@contextmanager
def forbidden(path: Path, mode: int = 0) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        yield
    finally:
        path.chmod(before)


def test_a_root_that_cannot_be_written_is_named_with_a_way_out(root: Path) -> None:
    with forbidden(root, 0o555):
        for words in ("run", "reindex"):
            done = as_nobody_special(root, words)
            assert done.returncode == 1
            assert done.stderr.startswith(f"error: {root}/index: Permission denied\nhint: run `sidecar doctor`")
        assert as_nobody_special(root, "doctor").returncode == 1


def test_a_root_that_cannot_be_read_is_told_by_status_and_doctor(indexed: Path) -> None:
    with forbidden(indexed):
        for words in ("status", "doctor"):
            done = as_nobody_special(indexed, words)
            assert done.returncode == 1 and "ermission denied" in done.stdout


def test_an_index_file_that_cannot_be_read_is_named(indexed: Path) -> None:
    day = indexed / "index/daily/2024-01-15.db"
    append(indexed)
    with forbidden(day):
        for words in (["run", "--once"], ["query", "timeline"]):
            done = as_nobody_special(indexed, *words)
            assert done.returncode == 1 and str(day) in done.stderr
        done = as_nobody_special(indexed, "status")
        assert done.returncode == 1 and f"{day}: Permission denied" in done.stdout


def test_verify_says_which_logs_this_user_may_not_read(indexed: Path) -> None:
    append(indexed)
    assert asked(indexed, "run", "--once").exit_code == 0
    with forbidden(indexed / "responses/sessions/sess_2.jsonl"):
        done = as_nobody_special(indexed, "verify")
        assert done.returncode == 1
        assert "this user may not read 1 log" in done.stdout and "sess_2.jsonl" in done.stdout
        assert "in the index, but not in the log" not in done.stdout and "reindex" not in done.stdout
        found = json.loads(as_nobody_special(indexed, "verify", "--json").stdout)
        assert (found["holds"], found["differences"], found["entries"]) == (False, [], 4)
        assert found["unreadable"] == ["responses/sessions/sess_2.jsonl"]
        shown = as_nobody_special(indexed, "show", "sess_2:0").stderr
        assert shown.count("sess_2.jsonl") == 1 and "Errno" not in shown
    with forbidden(indexed / "responses"):
        found = json.loads(as_nobody_special(indexed, "verify", "--json").stdout)
        assert (len(found["unreadable"]), found["missing_sources"]) == (2, 0)


# --- run, reindex, status, verify -------------------------------------------------------------------------------------


def test_run_once_indexes_what_is_there(root: Path) -> None:
    size = (root / "responses/sessions/sess_1.jsonl").stat().st_size
    summary = {"entries": 4, "bytes": size - len(UNFINISHED), "dropped": 0, "skipped_paths": 1}
    assert objects(root, "run", "--once") == [summary]
    done = sidecar(root, "run", "--once")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "0 entries indexed, 0 B read, 1 path or glob passed over (`sidecar doctor` names them)\n"


def test_run_follows_until_it_is_told_to_stop(root: Path) -> None:
    with running(root, "run", "--json") as process:
        line_of(process, "caught up, 4 entries indexed; following by ")
        append(root)
        wait_for(lambda: len(objects(root, "query", "timeline")) == 5)
        assert objects(root, "status")[0]["running"] == process.pid
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=HANG)
    assert process.returncode == 0
    assert json.loads(out)["entries"] == 5
    assert objects(root, "status")[0]["running"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_idle_run_stops(root: Path, number: signal.Signals) -> None:
    with running(root, "run") as process:
        line_of(process, "caught up")
        process.send_signal(number)
        assert process.wait(HANG) == 0


def test_a_run_that_is_stopped_in_a_rebuild_leaves_it_and_the_next_one_makes_it(root: Path) -> None:
    # It stands still in the rebuild, before what it has read is loaded, until the signal has come.
    stands_still = """
import os, signal, sidecar.bulk.rebuild as module
real = module.load
def load(*values, **options):
    module.load = real
    os.kill(os.getpid(), signal.SIGTERM)
    return real(*values, **options)
module.load = load
from sidecar.cli import main
main()
"""
    words = [sys.executable, "-c", stands_still, "--root", str(root), "run"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr and "caught up" not in done.stderr
    assert done.stderr.endswith("stopped during a rebuild of the index; the next run starts it over\n")
    assert "4 entries indexed" in sidecar(root, "run", "--once").stderr


def test_the_holder_of_the_lock_is_told_whatever_the_lock_says(indexed: Path) -> None:
    """As where the lock names a process of another container, whose ids mean nothing here."""
    lock = indexed / "index/sidecar.lock"
    with lock.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for content, told in (
            (b'{"pid": 999999999, "job": "run", "since": 0}', "; the lock names `sidecar run`, process 999999999"),
            (b"", ""),
        ):
            file.seek(0)
            file.truncate()
            file.write(content)
            file.flush()
            done = sidecar(indexed, "run", "--once")
            assert done.returncode == 3
            whole = rf"is held by process {os.getpid()} \([^)]*\){re.escape(told)}$"
            assert re.search(whole, done.stderr, re.MULTILINE)


def test_a_second_sidecar_exits_with_3_and_names_the_first(root: Path) -> None:
    with running(root, "run") as process:
        line_of(process, "caught up")
        for arguments in (["run"], ["run", "--once"], ["reindex"]):
            second = sidecar(root, *arguments)
            assert second.returncode == 3
            assert f"process {process.pid}" in second.stderr and "indexing" not in second.stderr
        assert sidecar(root, "query", "timeline").returncode == 0


def test_reindex_tells_what_it_made(indexed: Path) -> None:
    (made,) = objects(indexed, "reindex", "--workers", "1")
    assert (made["entries"], made["sources"], made["unreadable"]) == (4, 1, [])
    told = sidecar(indexed, "reindex")
    assert re.match(r"4 entries from 1 file, \d+ B, in \d+m?s \(.*/s\)\n", told.stderr)


def test_the_status_accounts_for_every_byte(indexed: Path) -> None:
    (status,) = objects(indexed, "status")
    sums = status["bytes"]
    assert sums["total"] == (indexed / "responses/sessions/sess_1.jsonl").stat().st_size
    assert sums["total"] == sum(count for name, count in sums.items() if name != "total")
    assert (sums["rejected"], sums["waiting"]) == (len("no json\n"), len(UNFINISHED))
    assert (status["healthy"], status["reasons"], status["running"]) == (True, [], None)
    assert [status[key] for key in ("sources", "entries", "rejected", "days")] == [1, 4, 1, 2]
    assert status["watching"] in ("inotify", "polling")
    assert "source_list" not in status
    (with_sources,) = objects(indexed, "status", "--sources")
    assert [source["path"] for source in with_sources["source_list"]] == ["responses/sessions/sess_1.jsonl"]


def test_a_status_that_is_not_healthy_exits_with_1(indexed: Path) -> None:
    assert asked(indexed, "status").exit_code == 0
    append(indexed)
    for options in ([], ["--json"], ["--sources"]):
        done = asked(indexed, "status", *options)
        assert done.exit_code == 1 and "no sidecar is running" in done.stdout


@pytest.mark.parametrize(
    ("line", "told"), [("no json", "every line of the source sessions is rejected"), (None, "no file")]
)
def test_a_run_that_nothing_comes_of_says_so(root: Path, line: str | None, told: str) -> None:
    (root / "responses/sessions/sess_1.jsonl").unlink()
    if line:
        (root / "responses/sessions/sess_1.jsonl").write_text(line + "\n")
    done = sidecar(root, "run", "--once")
    assert done.returncode == 0
    assert told in done.stderr and done.stderr.endswith("hint: `sidecar doctor` says what to do\n")
    with running(root, "run") as process:
        line_of(process, told)
    assert sidecar(root, "doctor").returncode == 1


def test_verify_holds_on_a_sound_index_and_exits_with_1_on_another(indexed: Path) -> None:
    (verified,) = objects(indexed, "verify")
    counts = {"entries": 4, "pointers": 4, "differences": [], "missing_sources": 0, "unreadable": []}
    assert verified == {"holds": True, **counts}
    with closing(sqlite3.connect(indexed / "index/daily/2024-01-15.db")) as day, day:
        day.execute("UPDATE entry SET line_number = 7 WHERE byte_offset = 0")
    done = sidecar(indexed, "verify")
    assert done.returncode == 1
    assert "does not hold" in done.stdout and "line_number is 7, should be 1" in done.stdout
    as_json = sidecar(indexed, "verify", "--json")
    assert as_json.returncode == 1 and json.loads(as_json.stdout)["holds"] is False


def test_doctor_exits_with_1_where_something_is_in_the_way(indexed: Path) -> None:
    assert sidecar(indexed, "doctor").returncode == 0
    done = sidecar(indexed.parent / "nowhere", "doctor")
    assert done.returncode == 1
    assert "✗ root" in done.stdout


# --- queries ----------------------------------------------------------------------------------------------------------


def test_a_timeline_has_all_of_an_entry(indexed: Path) -> None:
    entries = objects(indexed, "query", "timeline")
    assert [tuple(one) for one in entries] == [COLUMNS] * 4
    assert [one["timestamp"] for one in entries] == [one["timestamp"] for one in TALK]
    assert entries[2]["participating_agents"] == ["explorer", "analyzer"]
    assert entries[3]["agent_roles"] == {"explorer": "lead"}
    assert entries[3]["has_response"] is False


@pytest.mark.parametrize(
    ("options", "offsets"),
    [
        (["--since", "2024-01-15T10:30:10Z"], [1, 2, 3]),
        (["--since", "1705314610.0", "--until", "2024-01-16"], [1, 2]),
        (["--since", "2h"], []),
        (["--agent", "analyzer"], [1, 2]),
        (["--event", "completion:result"], [1]),
        (["--pattern", "peer_to_peer"], [2]),
        (["--session", "sess_1", "--limit", "2"], [0, 1]),
        (["--conversation", "sess_1", "--reverse", "--limit", "1"], [3]),
        (["--correlation", "req_1"], [0, 1]),
        (["--limit", "0"], []),
    ],
    ids=str,
)
def test_a_timeline_is_filtered(indexed: Path, options: list[str], offsets: list[int]) -> None:
    found = [one["timestamp"] for one in objects(indexed, "query", "timeline", *options)]
    assert found == [TALK[i]["timestamp"] for i in offsets]


def test_peers_roles_pending_and_participants_answer_the_reference_questions(indexed: Path) -> None:
    (peer,) = objects(indexed, "query", "peers", "analyzer")
    assert peer["participating_agents"] == ["explorer", "analyzer"]
    assert objects(indexed, "query", "peers", "analyzer", "--since", "1h") == []
    at = TALK[3]["timestamp"]
    (held,) = objects(indexed, "query", "roles", "explorer", "sess_1")
    assert (held["timestamp"], held["role"]) == (at, "lead")
    assert asked(indexed, "show", held["id"]).exit_code == 0
    waiting = objects(indexed, "query", "pending")
    assert [one["timestamp"] for one in waiting] == [TALK[2]["timestamp"], at]
    assert all(one["age_seconds"] > 0 for one in waiting)
    assert objects(indexed, "query", "pending", "--since", "5m") == []
    assert len(objects(indexed, "query", "pending", "--limit", "1")) == 1
    analyzer, explorer = objects(indexed, "query", "participants", "sess_1")
    first, last = TALK[0]["timestamp"], TALK[3]["timestamp"]
    assert explorer == {
        "agent": "explorer",
        "role": "lead",
        "entries": 4,
        "first_timestamp": first,
        "last_timestamp": last,
    }
    assert (analyzer["agent"], analyzer["role"], analyzer["entries"]) == ("analyzer", None, 2)


def test_an_entry_as_json_is_whole_whichever_query_gives_it(indexed: Path) -> None:
    queries = (["timeline"], ["peers", "explorer"], ["roles", "explorer", "sess_1"], ["pending"])
    for words in (*queries, ["conversation", "sess_1"]):
        for one in objects(indexed, "query", *words):
            assert tuple(one)[: len(COLUMNS)] == COLUMNS


SECOND_DAY = "2024-01-16"


@pytest.mark.parametrize(
    ("words", "first_day", "second_day"),
    [
        ("timeline", 3, 1),
        ("peers explorer", 1, 0),
        ("roles explorer sess_1", 0, 1),
        ("pending", 1, 1),
        ("participants sess_1", 2, 1),
        ("conversation sess_1", 3, 1),
        ("sessions", 1, 0),
        ("agents", 2, 1),
        ("rejected", 0, 1),
    ],
)
def test_every_query_takes_a_time_and_a_limit(indexed: Path, words: str, first_day: int, second_day: int) -> None:
    def count(*options: str) -> int:
        return len(objects(indexed, "query", *words.split(), *options))

    assert (count("--until", SECOND_DAY), count("--since", SECOND_DAY)) == (first_day, second_day)
    assert (count("--since", "1h"), count("--limit", "0")) == (0, 0)
    assert count("--limit", "1") == 1
    table = asked(indexed, "query", *words.split(), "--since", "2024-01-15", "--limit", "1")
    assert table.exit_code == 0
    # A transcript has a day and a text beside each message.
    assert len(table.stdout.splitlines()) == (4 if "conversation" in words else 2)


def test_agents_of_a_time_are_those_of_its_entries(indexed: Path) -> None:
    (lead,) = objects(indexed, "query", "agents", "--since", SECOND_DAY)
    at = TALK[3]["timestamp"]
    assert lead == {"agent": "explorer", "entries": 1, "first_timestamp": at, "last_timestamp": at}


def test_a_line_before_any_record_is_rejected_at_the_time_of_its_file(indexed: Path) -> None:
    log = indexed / "responses/sessions/none.jsonl"
    log.write_text("no json\n")
    os.utime(log, (1705314600.0, 1705314600.0))
    assert asked(indexed, "run", "--once").exit_code == 0
    before = objects(indexed, "query", "rejected", "--until", SECOND_DAY)
    assert [one["file_path"] for one in before] == ["responses/sessions/none.jsonl"]
    assert len(objects(indexed, "query", "rejected", "--since", "2024-01-15")) == 2


def test_local_time_is_shown_and_read(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")  # 5:30 before UTC
    shown = sidecar(indexed, "query", "timeline", "--since", "2024-01-15 16:00:10", "--limit", "1", "--local")
    assert "time (local)" in shown.stdout and "2024-01-15 16:00:10" in shown.stdout
    assert "2024-01-15 16:00:00 local" in sidecar(indexed, "show", "sess_1:0", "--local").stdout
    assert "2024-01-15 10:30:00 UTC" in sidecar(indexed, "show", "sess_1:0").stdout


def test_sessions_agents_and_rejected_are_listed(indexed: Path) -> None:
    (session,) = objects(indexed, "query", "sessions")
    assert (session["session_id"], session["initiating_agent"], session["status"]) == ("sess_1", "explorer", "active")
    assert objects(indexed, "query", "sessions", "--status", "completed") == []
    assert [(one["agent"], one["entries"]) for one in objects(indexed, "query", "agents")] == [
        *(("analyzer", 2), ("explorer", 4)),
    ]
    (refused,) = objects(indexed, "query", "rejected")
    assert (refused["reason"], refused["line_number"]) == ("not-json", 5)


def test_a_conversation_as_json_has_the_records(indexed: Path) -> None:
    said = objects(indexed, "query", "conversation", "sess_1")
    assert [one["record"] for one in said] == TALK
    (indexed / "responses/sessions/sess_1.jsonl").unlink()
    (gone, *_) = objects(indexed, "query", "conversation", "sess_1")
    assert gone["record"] is None and "gone" in gone["error"]


@pytest.mark.parametrize(
    "words",
    [
        *("query timeline", "query peers explorer", "query roles explorer sess_1", "query pending"),
        *("query participants sess_1", "query conversation sess_1", "query sessions", "query agents"),
        *("query graph", "query graph --agents", "query latency", "query latency --by role", "query roles"),
        *(
            "query search e",
            "query process",
            "query rejected",
            "show sess_1:0",
            "status",
            "status --sources",
            "verify",
            "doctor",
        ),
    ],
)
def test_every_answer_has_a_screen_for_people(indexed: Path, words: str) -> None:
    done = asked(indexed, *words.split())
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) > 1
    assert "\x1b" not in done.stdout


def test_show_gives_the_record_behind_an_entry(indexed: Path) -> None:
    (shown,) = objects(indexed, "show", "sess_1:0")
    assert shown["record"] == TALK[0]
    assert tuple(shown["entry"]) == COLUMNS
    evil = objects(indexed, "query", "peers", "explorer")[0]["id"]
    text = asked(indexed, "show", evil).stdout
    assert "[bold]Join[/bold]" in text and r"\u202e" in text


def test_show_of_an_unknown_id_exits_with_1(indexed: Path) -> None:
    done = sidecar(indexed, "show", "sess_1:7")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no entry has the id 'sess_1:7'" in done.stderr


def test_an_id_that_two_files_have_is_told_apart_by_the_path(root: Path) -> None:
    other = root / "chat/sess_1.jsonl"
    other.parent.mkdir()
    shutil.copy(root / "responses/sessions/sess_1.jsonl", other)
    (root.parent / "config.yaml").write_text(
        'sources: [{name: chat, glob: "chat/*.jsonl", layout: session, format: reference}]\n'
    )
    assert asked(root, "run", "--once").exit_code == 0
    assert "chat/sess_1.jsonl" in asked(root, "show", "sess_1:0").stderr
    assert objects(root, "show", "chat/sess_1.jsonl:0")[0]["entry"]["file_path"] == "chat/sess_1.jsonl"
    table = asked(root, "query", "pending")
    assert table.exit_code == 0 and len(table.stdout.splitlines()) == 5


def test_json_is_pure_ascii_whatever_a_log_holds(indexed: Path) -> None:
    out = sidecar(indexed, "query", "conversation", "sess_1", "--json").stdout
    assert out.isascii()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f]", out)


# --- follow, pipes, terminals -----------------------------------------------------------------------------------------


def test_follow_prints_entries_as_they_come_until_ctrl_c(root: Path) -> None:
    with running(root, "run") as daemon:
        line_of(daemon, "caught up")
        with running(root, "follow", "--agent", "late", "--json") as follower:
            # It says nothing before the first entry, so entries come until it has seen one.
            assert follower.stdout is not None
            deadline = time.monotonic() + HANG
            while not select.select([follower.stdout], [], [], 0.1)[0]:
                assert time.monotonic() < deadline
                append(root)
            first = json.loads(follower.stdout.readline())
            assert (first["schema_version"], first["participating_agents"]) == (1, ["late"])
            follower.send_signal(signal.SIGINT)
            _, err = follower.communicate(timeout=HANG)
        assert (follower.returncode, err) == (130, "")


def test_follow_says_when_no_sidecar_runs_and_when_one_does_again(indexed: Path) -> None:
    with running(indexed, "follow") as follower:
        line_of(follower, "no sidecar is running")
        with running(indexed, "run") as daemon:
            line_of(daemon, "caught up")
            line_of(follower, "a sidecar is running again")
        line_of(follower, "no sidecar is running")


def test_follow_waits_for_a_name_that_is_not_known_yet_and_suggests_one_that_is(indexed: Path) -> None:
    with running(indexed, "run") as daemon:
        line_of(daemon, "caught up")
        with running(indexed, "follow", "--agent", "lat", "--text", "--json") as follower:
            told = line_of(follower, "no agent is named 'lat' yet")
            assert "waiting for it" in told
            line = json.dumps({**record("completion:request", 30, agent_id="lat", prompt="Is it late?")}) + "\n"
            assert follower.stdout is not None
            deadline = time.monotonic() + HANG
            while not select.select([follower.stdout], [], [], 0.1)[0]:
                assert time.monotonic() < deadline
                with (indexed / "responses/sessions/sess_3.jsonl").open("a") as log:
                    log.write(line)
            said = json.loads(follower.stdout.readline())
            assert (said["participating_agents"], said["text"]) == (["lat"], "Is it late?")


def test_follow_with_text_prints_what_was_said_below_each_entry(root: Path) -> None:
    with running(root, "run") as daemon:
        line_of(daemon, "caught up")
        with running(root, "follow", "--text") as follower:
            assert follower.stdout is not None
            deadline = time.monotonic() + HANG
            while not select.select([follower.stdout], [], [], 0.1)[0]:
                assert time.monotonic() < deadline
                append(root, data={"agent_id": "late", "prompt": EVIL})
            assert "completion:request" in follower.stdout.readline()
            assert follower.stdout.readline() == r"          [bold]Join[/bold] \x1b[2J\u202e" + "\n"


def test_a_reader_that_leaves_ends_it_quietly(indexed: Path) -> None:
    with running(indexed, "query", "timeline", "--json") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(HANG) == 141
        assert process.stderr.read() == ""


def test_a_full_disk_behind_stdout_is_an_error(indexed: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [*COMMAND, "--root", str(indexed), "query", "timeline", "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "error: No space left on device" in done.stderr and "Traceback" not in done.stderr


def test_a_terminal_gets_colours_and_nothing_else_that_moves_it(indexed: Path) -> None:
    status, seen = on_a_terminal("--root", indexed, "query", "conversation", "sess_1")
    assert status == 0
    assert "\x1b[" in seen
    assert re.sub(r"\x1b\[[0-9;]*m", "", seen).find("\x1b") < 0
    assert r"[bold]Join[/bold] \x1b[2J\u202e" in re.sub(r"\x1b\[[0-9;]*m", "", seen)


def test_colours_can_be_switched_off(indexed: Path) -> None:
    status, seen = on_a_terminal("--root", indexed, "query", "timeline", NO_COLOR="1")
    assert status == 0 and not re.search(r"\x1b\[(3|9)[0-7]m", seen)


def wait_for(holds: Any, seconds: float = HANG) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
