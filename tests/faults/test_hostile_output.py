"""What strangers name, no command prints raw: agents, events, sessions, files, folders, settings and arguments."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from helpers.corpora import BASE, DAY
from helpers.support import HANG, command, reference, scratch, with_constants, write_lines
from helpers.tally import Tally
from sidecar import Index
from sidecar.cli import cli
from sidecar.service.supervisor import run_once

FAULT = "hostile names in what is printed"

EVIL = "e\x1b[2J\x1b]0;own\x07\r\n\x9b31m\u202edaeh\u2066\u2028\x7f\x00\u200f\ufeff\U000e0041"
NAME = EVIL.replace("\x00", "").replace("/", "")
FORBIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """An indexed root whose every name is hostile, in a folder that is."""
    with scratch() as folder:
        root = folder / f"logs{NAME}"
        record = {
            "event": f"completion:{EVIL}:request", "timestamp": BASE, "correlation_id": f"c{EVIL}",
            "data": {"agent_id": f"a{EVIL}", "to_agent": [f"b{EVIL}", f"c{EVIL}"], "role": f"r{EVIL}",
                     "pattern": f"p{EVIL}", "conversation_id": f"v{EVIL}", "prompt": f"{EVIL}\n{EVIL}", EVIL: EVIL},
        }  # fmt: skip
        plain = {**record, "data": {"agent_id": f"a{EVIL}", "to_agent": EVIL}, "timestamp": BASE + DAY}
        sessions = root / "responses/sessions"
        raw = Path(os.fsdecode(os.fsencode(sessions) + b"/raw\xff\x9b\x1b.jsonl"))
        for log in (sessions / f"s{NAME}.jsonl", raw):
            write_lines(log, record, plain, b"no \x1b[2J record\n", b'{"half')
        write_lines(root / f"events/{NAME}/evt_1.5_{NAME}.json", {"data": {"agent_id": EVIL, "session_id": f"x{EVIL}"}})
        (sessions / f"link{NAME}.jsonl").symlink_to(root)
        run_once(reference(root), lambda _: None)
        (root / f"index/daily/{NAME}.db").mkdir()
        yield root


def commands(root: Path) -> list[list[str]]:
    with Index(root) as index:
        ids = [entry.id for entry in index.timeline()]
        sessions = [one.session_id for one in index.sessions()]
    return [
        *(["query", "timeline", *more] for more in ([], ["--reverse"], ["--agent", f"a{EVIL}"], ["--since", EVIL])),
        ["query", "peers", f"a{EVIL}"],
        *(["query", what, *more] for session in sessions for what, more in (
            ("roles", [f"a{EVIL}", session]), ("participants", [session]), ("conversation", [session, "--full"]))),
        ["query", "conversation", f"v{EVIL}", "--full"],
        *(["query", what] for what in ("pending", "sessions", "agents", "rejected")),
        *(["show", one] for one in [*ids, f"nobody{EVIL}:5"]),
        ["status", "--sources"], ["verify"], ["doctor"], ["reindex"], ["run", "--once"],
        # arguments of strangers, as a script hands them on
        ["query", "timeline", f"--{EVIL}"], ["query", "timeline", f"-{EVIL}"], ["query", EVIL], [EVIL],
        ["query", "timeline", "--limit", EVIL], ["query", "sessions", "--status", EVIL], ["query", "agents", EVIL],
        ["query", "roles", f"--{EVIL}", "x"], ["completion", EVIL], ["demo", "--agents", EVIL],
        ["demo", "--seconds", "0.1", f"--see{EVIL}=1"],
    ]  # fmt: skip


def is_clean(said: str) -> bool:
    return not FORBIDDEN.search(said)


def test_no_command_prints_a_control_character(
    root: Path, monkeypatch: pytest.MonkeyPatch, tally: Callable[[str], Tally]
) -> None:
    monkeypatch.chdir(root.parent)
    for words in commands(root):
        for arguments in (words, [*words, "--json"]):
            done = CliRunner().invoke(cli, ["--root", str(root), *arguments], prog_name="sidecar")
            assert done.exception is None or isinstance(done.exception, SystemExit), f"{words}: {done.exception!r}"
            assert is_clean(done.output), f"{words}: {FORBIDDEN.findall(done.output)}"
            if arguments[-1] == "--json" and not done.exit_code:
                assert all(isinstance(json.loads(line), dict) for line in done.stdout.splitlines())
            tally(FAULT).tried += 1


CONFIGS = [
    'root: "{e}"', '"{e}": 1', 'preset: "{e}"', 'sources: [{{name: "{e}"}}]', 'sources: "{e}"', "!<{e}> x", "'",
    'sources: [{{name: "{e}", glob: "../{e}", layout: "{e}", format: "{e}"}}]', "a: &{e} [*{e}]",
    'scan_interval: "{e}"', 'formats: {{"{e}": {{"{e}": 1}}}}', 'formats: {{"{e}": {{extends: "{e}"}}}}',
    'formats: {{x: {{author: ["{e}.."]}}}}', 'formats: {{x: {{requests: ["{e}"], answers: ["{e}"]}}}}',
    'formats: {{x: {{shapes: [{{when: {{path: a, is: [1]}}}}]}}}}',
]  # fmt: skip
SAFE_EVIL = r"e\x1b[2J\x9b\u202e\u2028\n"


@pytest.mark.parametrize("content", CONFIGS)
def test_no_setting_reaches_the_terminal_raw(content: str, tmp_path: Path, root: Path) -> None:
    config = tmp_path / f"config{NAME}.yaml"
    for evil in (SAFE_EVIL, "e\x1b[2J\x9b", "e\x85\u2028\u202e"):
        config.write_text(content.format(e=evil))
        for words in (["status"], ["doctor"], ["run", "--once"]):
            arguments = ["--config", str(config), "--root", str(root / "nowhere"), *words]
            done = CliRunner().invoke(cli, arguments, prog_name="sidecar")
            assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
            assert is_clean(done.output), FORBIDDEN.findall(done.output)


WITHOUT_A_BAR = f"{with_constants('sidecar.progress', BAR_AFTER=1e9)}; from sidecar.cli import main; main()"
"""The progress bar moves the cursor by right, and a slow machine draws one."""


def on_a_terminal(*arguments: str) -> str:
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    program = [sys.executable, "-c", WITHOUT_A_BAR, *arguments]
    with subprocess.Popen(program, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        seen = b""
        with suppress(OSError), open(ours, "rb", buffering=0) as terminal:
            while chunk := terminal.read(65536):
                seen += chunk
        process.wait(HANG)
    return seen.decode()


@pytest.mark.parametrize("words", ["query timeline", "query sessions", "doctor", "status --sources", "verify"])
def test_a_terminal_is_not_moved_by_names(root: Path, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    seen = COLOURS.sub("", on_a_terminal("--root", str(root), *words.split())).replace("\r\n", "\n")
    assert "\\x1b" in seen or words == "verify"
    assert is_clean(seen), FORBIDDEN.findall(seen)


def test_neither_a_running_sidecar_nor_follow_prints_a_control_character(root: Path) -> None:
    both = [
        subprocess.Popen(command("--root", root, what), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for what in ("run", "follow")
    ]
    run, follow = both
    try:
        assert run.stderr is not None and follow.stdout is not None
        said = run.stderr.readline() + run.stderr.readline()
        while b"caught up" not in said:
            line = run.stderr.readline()
            assert line, said
            said += line
        log = root / f"responses/sessions/new{NAME}.jsonl"
        seen = b""
        number = 0
        deadline = time.monotonic() + HANG
        os.set_blocking(follow.stdout.fileno(), False)
        while b"follow" not in seen:  # it may not have begun yet
            number += 1
            write_lines(log, {"event": f"follow{EVIL}", "data": {"agent_id": EVIL}, "timestamp": BASE + number})
            select.select([follow.stdout], [], [], 0.1)
            seen += follow.stdout.read() or b""
            assert time.monotonic() < deadline
    finally:
        for process in both:
            process.terminate()
        rest = b"".join(process.communicate()[1] for process in both)
    assert is_clean((said + rest).decode()) and is_clean(seen.decode())


def test_the_demo_prints_its_folder_escaped(tmp_path: Path) -> None:
    folder = tmp_path / f"demo{NAME}"
    done = subprocess.run(
        command("--root", folder, "demo", "--seconds", "0.2", "--rate", "20"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert is_clean(done.stdout + done.stderr), FORBIDDEN.findall(done.stdout + done.stderr)


@pytest.mark.parametrize("words", ["query timeline", "status", "doctor"])
def test_a_terminal_with_few_characters_gets_escapes_and_no_traceback(root: Path, words: str) -> None:
    done = subprocess.run(
        command("--root", root, *words.split()),
        capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert (done.stdout + done.stderr).isascii()


# ---- what a name may say in SQL or in Python

WORDS = [
    "'; DROP TABLE entry; --", '"); DROP TABLE name; --', "%", "_", "?", "?1", "%s", "{}", "{0.__class__}",
    "' OR 1=1 --", "__import__('os').system('true')", '"""', "\'\'\'", "\\", "\\'", "$(true)", "`true`", "\x00",
    "a\x00b", "\ud7ff", "\uffff",
]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_no_name_is_taken_for_a_command(word: str, tmp_path: Path) -> None:
    """Event types, agents and whatever else strangers name are found again by themselves, and nothing else is."""
    with scratch() as root:
        log = root / "responses/sessions/s.jsonl"
        said = {"event": word, "timestamp": BASE, "correlation_id": word}
        write_lines(log, {**said, "data": {"agent_id": word, "role": word, "pattern": word, "conversation_id": word}})
        write_lines(log, {"event": "other", "timestamp": BASE, "data": {"agent_id": "else"}})
        run_once(reference(root), lambda _: None)
        with Index(root) as index:
            for filter_ in ("agent", "event_type", "pattern", "conversation", "correlation"):
                assert [entry.byte_offset for entry in index.timeline(**{filter_: word})] == [0], filter_  # type: ignore[arg-type]
            assert [entry.byte_offset for entry in index.timeline()] != [0]
            assert index.get_agent_role_history(word, "s") == [{"timestamp": BASE, "role": word}]
            assert list(index.timeline(session=word)) == []
        config = tmp_path / "config.yaml"
        name = orjson.dumps(word).decode()
        shape = f"{{when: {{path: [{name}], is: {name}}}}}"
        config.write_text(
            f"preset: none\nsources: [{{name: {name}, glob: 'responses/**', layout: stream, format: mine}}]\n"
            f"formats: {{mine: {{event_type: [[{name}]], author: [[data, {name}]], requests: [{name}],"
            f" set: {{event_type: {name}, pattern: {name}}}, shapes: [{shape}]}}}}\n"
        )
        done = CliRunner().invoke(cli, ["--root", str(root), "--config", str(config), "run", "--once"])
        assert isinstance(done.exception, SystemExit | None) and done.exit_code in (0, 2), done.output
        if not done.exit_code:
            with Index(root) as index:
                assert {entry.event_type for entry in index.timeline()} == {word}


# ---- settings that are too much

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
HEAVY = {
    "a bomb of aliases": BOMB,
    "a bomb where sources stand": BOMB + "sources: *a59\n",
    "an alias within itself": "sources: &s [*s]\n",
    "a format within itself": "formats: &f {x: *f}\n",
    "nesting": "sources: " + "[" * 5_000 + "]" * 5_000,
    "a number of many digits": "max_line_bytes: " + "9" * 50_000,
    "a float that is none": "scan_interval: 1e99999",
    "an age of many digits": "scan_interval: '" + "9" * 50_000 + "d'",
    "merges": "a: &a {<<: {b: 1}}\nsources: [{<<: *a}]\n",
    "many formats": "formats: {" + ", ".join(f"f{n}: {{extends: f{n + 1}}}" for n in range(2_000)) + ", f2000: {}}\n",
    "many keys in a path": "formats: {x: {author: ['" + ".".join("a" * 60) + "']}}",
    "tags": "root: !!python/object/apply:os.system ['true']\n",
    "a binary": "root: !!binary aGFsbG8=\n",
    "a second document": "root: a\n---\nroot: b\n",
    "a directive": "%YAML 9.9\n---\nroot: a\n",
}  # fmt: skip
GLOBS = [
    "*a" * 200 + "*.jsonl",
    "**/" * 200 + "*.jsonl",
    "[a-z]" * 500,
    "[!" * 300,
    "?" * 2_000,
    "**/*a*/**/*b*/**/*c*.x",
]


@pytest.mark.parametrize("name", HEAVY)
def test_excessive_settings_are_refused_in_words(name: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(HEAVY[name])
    (tmp_path / "logs").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "--config", config, "--root", tmp_path / "logs", "run", "--once"],
        capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr[-2_000:]
    assert done.returncode in (0, 2)


@pytest.mark.parametrize("glob", GLOBS)
def test_no_glob_takes_forever_not_to_match(glob: str, tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "/".join(["aab"] * 40)
    folder.mkdir(parents=True)
    for number in range(3):
        for where in (folder, tmp_path / "logs"):
            (where / ("a" * (240 + number) + ".jsonl_")).touch()
    config = tmp_path / "config.yaml"
    source = {"name": "g", "glob": glob, "layout": "session", "format": "reference"}
    config.write_text(orjson.dumps({"preset": "none", "sources": [source]}).decode())
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "--config", config, "--root", tmp_path / "logs", "run", "--once"],
        capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr and done.returncode in (0, 2), done.stderr[-2_000:]
