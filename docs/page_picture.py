"""Takes docs/page.png: the page in a browser, over a day that is made up here. Needs chromium."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PICTURE = Path(__file__).parent / "page.png"
BEGIN = 1_748_563_200.0
"""2025-05-30, midnight UTC."""
CREW = {
    "coordinator": ("lead-ada", "lead-grace"),
    "planner": ("plan-nia", "plan-otto"),
    "coder": ("code-bo", "code-cy", "code-di", "code-fay", "code-hal"),
    "reviewer": ("rev-jo", "rev-kai"),
    "tester": ("test-ned", "test-pia", "test-quin"),
    "researcher": ("res-ray", "res-uma"),
    "ops": ("ops-vic",),
}
ROLE = {agent: role for role, agents in CREW.items() for agent in agents}
SPEED = {"coordinator": 9, "planner": 12, "coder": 70, "reviewer": 35, "tester": 50, "researcher": 80, "ops": 15}
"""Seconds to an answer, about."""
WORDS = ["the", "export", "rotation", "of", "search", "ranking", "login", "limits", "and", "backup", "uploads"]
SILENT_SINCE = 13 * 3600
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


class Day:
    """A day of a crew, and what goes wrong in it."""

    def __init__(self) -> None:
        self.records: dict[str, list[dict[str, object]]] = {}
        self._random = random.Random(7)
        self._requests = 0

    def put(self, session: str, moment: float, event: str, agent: str, **data: object) -> None:
        """Write a record."""
        top = {"request_id": data.pop("request")} if "request" in data else {}
        record = {"event": event, "timestamp": BEGIN + round(moment, 3), **top}
        self.records.setdefault(session, []).append({**record, "data": {"agent_id": agent, **data}})

    def ask(self, session: str, moment: float, who: str, whom: str, text: str, answer: str | None = "Done.") -> float:
        """Write a request, and its answer if there is one. Returns when it is over."""
        self._requests += 1
        request, where = f"req_{self._requests:05d}", {"conversation_id": session}
        self.put(session, moment, "completion:request", who, to_agent=whom, prompt=text, request=request, **where)
        after = self._random.lognormvariate(0, 0.6) * SPEED[ROLE[whom]]
        is_silent = whom == "test-quin" and moment + after > SILENT_SINCE
        if answer is not None and not is_silent and self._random.random() < 0.96:
            self.put(session, moment + after, "completion:result", whom, response=answer, request=request, **where)
        return moment + after

    def tasks(self) -> None:
        """Ninety small tasks, most of them in the afternoon."""
        for number in range(90):
            moment = min(82_000.0, max(1_500.0, self._random.gauss(48_000, 15_000)))
            crew = [self._random.choice(CREW["coordinator"])]
            crew += self._random.sample([agent for agent in ROLE if ROLE[agent] not in ("coordinator", "ops")], 3)
            name = f"task_{number:03d}"
            for agent in crew:
                moment += 2
                if agent == "test-quin" and moment > SILENT_SINCE:
                    continue
                self.put(name, moment, "agent:role_change", agent, new_role=ROLE[agent], conversation_id=name)
            for _ in range(self._random.randint(6, 18)):
                who, whom = crew[0], self._random.choice(crew[1:])
                if self._random.random() < 0.35:
                    who, whom = self._random.sample(crew, 2)
                if who == "test-quin" and moment > SILENT_SINCE:
                    continue
                words = " ".join(self._random.choices(WORDS, k=self._random.randint(6, 40)))
                moment = self.ask(name, moment, who, whom, f"Please look at {words}.") + self._random.expovariate(
                    1 / 40
                )

    def trouble(self) -> None:
        """A game of ping-pong, a flood of requests, and a tester that says nothing any more."""
        moment = 37_800.0
        for number in range(48):
            who, whom = ("code-di", "rev-kai") if number % 2 == 0 else ("rev-kai", "code-di")
            moment = self.ask("task_review", moment, who, whom, f"Thank you, number {number}! Anything else?") + 5
        moment = 63_000.0
        for number in range(34):
            moment += 12
            text = f"The rollout is stuck{', again' * number}."
            self.ask("task_rollout", moment, "lead-ada", "ops-vic", text, None)
        for number in range(9):
            moment = SILENT_SINCE + 900.0 * number + 600
            self.ask("task_flaky", moment, "lead-grace", "test-quin", f"Are you there{'?' * (number + 1)}", None)

    def write(self, root: Path) -> None:
        """Write the logs."""
        folder = root / "responses" / "sessions"
        folder.mkdir(parents=True)
        for session, records in self.records.items():
            records.sort(key=lambda record: float(str(record["timestamp"])))
            (folder / f"{session}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def draw(root: Path) -> None:
    """Index the logs, serve the page, and take its picture."""
    from playwright.sync_api import sync_playwright

    sidecar = [sys.executable, "-m", "sidecar", "--root", str(root)]
    subprocess.run([*sidecar, "run", "--once"], check=True)
    with subprocess.Popen([*sidecar, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = server.stderr.readline().partition(" at ")[2].partition(";")[0]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
            page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="dark")
            page.goto(address)
            page.wait_for_selector("canvas[data-drawn]")
            page.wait_for_selector("section[aria-label='Waiting longest'] td")
            page.wait_for_timeout(500)
            page.screenshot(path=PICTURE)
            browser.close()
        server.terminate()


if __name__ == "__main__":
    day = Day()
    day.tasks()
    day.trouble()
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder, "logs")
        day.write(logs)
        draw(logs)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")
