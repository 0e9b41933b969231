"""For the tests of the page: a small log in which something happens, a real server beside it, and plain HTTP."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from helpers.support import HANG, command, reference
from sidecar.service.supervisor import run_once

BEGIN = 1_748_600_000.0
"""Of the story: 2025-05-30, 10:13:20 UTC."""
HOSTILE = "<img src=x onerror=alert(1)>"
HOSTILE_TEXT = "<script>document.title='owned'</script>\u202e\x00\x1b[31m <b>bold</b> </pre><script>alert(2)</script>"
ROUNDS = 16


def story() -> dict[str, list[dict[str, Any]]]:
    """The records of each session. Two agents go round in circles, one has stopped answering, and one has a name that
    is markup."""
    sessions: dict[str, list[dict[str, Any]]] = {}
    numbers = iter(range(10_000))

    def put(session: str, moment: float, event: str, agent: str, **data: Any) -> None:
        top = {"request_id": data.pop("request")} if "request" in data else {}
        record = {"event": event, "timestamp": BEGIN + moment, **top, "data": {"agent_id": agent, **data}}
        sessions.setdefault(session, []).append(record)

    def ask(
        session: str, moment: float, who: str, whom: str, text: str, after: float | None, answer: str = "Done."
    ) -> None:
        request, where = f"req_{next(numbers):05d}", {"conversation_id": session}
        put(session, moment, "completion:request", who, to_agent=whom, prompt=text, request=request, **where)
        if after is not None:
            put(session, moment + after, "completion:result", whom, response=answer, request=request, **where)

    for n in range(10):
        team, at = f"team_{n:02d}", n * 300.0
        for who, role in (("lead-ada", "coordinator"), ("code-bo", "coder"), ("test-pia", "tester")):
            put(team, at, "agent:role_change", who, new_role=role, conversation_id=team)
        ask(team, at + 5, "lead-ada", "code-bo", "Please implement the next step of the night export.", 20.0 + n)
        ask(team, at + 60, "lead-ada", "test-pia", "Which of the tests are flaky?", 30.0)
        ask(team, at + 120, "code-bo", "test-pia", "Run the whole suite.", None if n > 7 else 40.0)
    for n in range(2 * ROUNDS):
        who, whom = ("code-bo", "rev-kai") if n % 2 == 0 else ("rev-kai", "code-bo")
        ask("pingpong", 1_000 + n * 10, who, whom, "Thank you! Is there anything else?", 4.0, "No, and on your side?")
    ask("hostile", 2_800, "lead-ada", HOSTILE, HOSTILE_TEXT, 5.0, HOSTILE_TEXT)
    return sessions


def write_story(root: Path) -> None:
    """Write the story below a root."""
    folder = root / "responses" / "sessions"
    folder.mkdir(parents=True)
    for session, records in story().items():
        records.sort(key=lambda record: record["timestamp"])
        (folder / f"{session}.jsonl").write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))


def indexed_story(root: Path) -> Path:
    """Write the story below a root, and index it."""
    write_story(root)
    run_once(reference(root), lambda _report: None)
    return root


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client(NamedTuple):
    """A server under test."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def base(self) -> str:
        """Where its page is, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET", body: bytes | None = None
    ) -> Answer:
        """Ask over HTTP."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=HANG)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def api(self, path: str) -> Any:
        """The answer of a route, which has to be 200."""
        answer = self.get(f"/api/{path}")
        assert answer.status == 200, answer.body
        return answer.json


@contextmanager
def serving(root: Path, *arguments: str) -> Iterator[Client]:
    """A real `sidecar serve` on a root, on a free port. It is stopped at the end, and has to end well."""
    process = subprocess.Popen(command("--root", root, "serve", "--port", "0", *arguments), stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        line = process.stderr.readline().decode()
        assert "; press ctrl-C to stop" in line, line + process.stderr.read().decode()
        yield Client(process, int(line.partition("; press")[0].rpartition(":")[2].strip("/")))
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=HANG)
    assert (process.returncode, rest) == (0, b"")
