"""`sidecar top` in a real terminal: it shows what comes, quits on q, and leaves the terminal as it was."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from helpers.support import HANG, command, once, reference, running, write_lines

EVIL = "evil\x1b]0;owned\x07\u202e"


def asks(at: float, author: str, addressee: str, text: str = "Please look.") -> dict[str, Any]:
    data = {"agent_id": author, "to_agent": addressee, "prompt": text}
    return {"event": "completion:request", "timestamp": at, "request_id": f"r{at}", "data": data}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    begin = 1_735_500_000.0
    lines = [asks(begin + number, "agent_planner", f"agent_coder_{number % 5}") for number in range(40)]
    write_lines(tmp_path / "responses/sessions/sess_1.jsonl", *lines, asks(begin + 50, EVIL, "agent_planner", EVIL))
    once(reference(tmp_path))
    return tmp_path


class Terminal:
    """A terminal of 80 columns, and what `sidecar top` has written to it."""

    def __init__(self, root: Path, ours: int, theirs: int) -> None:
        self._ours = ours
        self.theirs = theirs
        self.seen = b""
        variables = {**os.environ, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES"):
            variables.pop(name, None)
        words = command("--root", root, "top")
        self.process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=variables)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + HANG
        while text not in self.plain():
            assert time.monotonic() < deadline and self.process.poll() is None, self.plain()
            if select.select([self._ours], [], [], 1.0)[0]:
                self.seen += os.read(self._ours, 65536)

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def end(self) -> int:
        """Its exit status."""
        deadline = time.monotonic() + HANG
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            # What is not read may keep it from ending.
            if select.select([self._ours], [], [], 0.1)[0]:
                with suppress(OSError):
                    self.seen += os.read(self._ours, 65536)
        return self.process.returncode

    def plain(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.seen.decode("utf-8", "replace"))


@contextmanager
def on_a_terminal(root: Path) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    terminal = Terminal(root, ours, theirs)
    try:
        yield terminal
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
        terminal.process.wait()
        os.close(ours)
        os.close(theirs)


def test_it_shows_what_comes_and_q_quits_and_the_terminal_is_as_it_was(root: Path) -> None:
    with running(root), on_a_terminal(root) as terminal:
        before = termios.tcgetattr(terminal.theirs)
        terminal.wait_for("41 pending")
        terminal.wait_for("agent_planner")
        with (root / "responses/sessions/sess_1.jsonl").open("a") as log:
            log.write(json.dumps(asks(time.time(), "agent_planner", "agent_coder_0", "Fresh")) + "\n")
        terminal.wait_for("Fresh")
        terminal.type(b"xyq")
        assert terminal.end() == 0
        assert termios.tcgetattr(terminal.theirs) == before
        # The content of the terminal comes back.
        assert b"\x1b[?1049h" in terminal.seen and b"\x1b[?1049l" in terminal.seen


def test_a_signal_ends_it_too(root: Path) -> None:
    with on_a_terminal(root) as terminal:
        terminal.wait_for("no sidecar is running")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 0
        assert b"\x1b[?1049l" in terminal.seen


def test_names_and_texts_of_strangers_do_nothing_to_the_terminal(root: Path) -> None:
    with on_a_terminal(root) as terminal:
        terminal.wait_for("owned")
        terminal.type(b"q")
        terminal.end()
    assert b"\x1b]" not in terminal.seen and b"\x07" not in terminal.seen
    assert "\u202e" not in terminal.seen.decode()


def top(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("--root", root, "top", *words), capture_output=True, text=True, timeout=HANG, check=False
    )


def test_without_a_terminal_one_picture_is_printed(root: Path) -> None:
    done = top(root)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "who talks to whom" in done.stdout and "41 pending" in done.stdout
    assert len(lines) == 40 and max(map(cell_len, lines)) <= 100
    assert "\x1b" not in done.stdout


def test_as_json_it_is_one_object(root: Path) -> None:
    found = json.loads(top(root, "--json").stdout)
    assert found["schema_version"] == 1 and found["running"] is False
    assert found["matrix"]["agent_planner"] == {f"agent_coder_{number}": 8 for number in range(5)}
    assert found["waiting"] == 41 and len(found["oldest"]) == 20
    assert found["oldest"][0]["agents"] == ["agent_planner", "agent_coder_0"]


def test_without_an_index_it_says_so(tmp_path: Path) -> None:
    done = top(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no index") and "Traceback" not in done.stderr
