"""A week of a small shop of agents, with five anomalies planted on its last day, and hostile names.

Squads of agents work on tasks: a lead asks, most requests are answered, roles change. Everything is drawn from a seed.
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

from .support import write_lines

BEGIN = 1_735_689_600.0
"""2025-01-01, in seconds."""
DAYS = 7
DAY = 86400.0
HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[31m"
SQUADS = (("lead", "coder", "coder", "tester"), ("lead", "coder", "reviewer"), ("lead", "researcher", "researcher"))
RELIABLE = (0.98, 0.9, 0.8)
"""How likely an answer is in each squad."""
AGENTS = {
    "lead": ["lead-ada", "lead-grace"],
    "coder": ["code-bo", "code-cy", "code-di", "code-ed"],
    "reviewer": ["rev-jo", "rev-kai"],
    "tester": ["test-ned", "test-quin"],
    "researcher": ["res-ray", "res-sue", "res-uma"],
}

SILENT = "test-quin"
PING_PONG = ["code-di", "rev-kai"]
CIRCLE = ["res-ray", "lead-ada", "res-uma"]
STORM = "code-ed"
DUPLICATE = ("lead-grace", "code-bo")
"""What is planted."""


class Story:
    """Writes the logs of the story below a root."""

    def __init__(self, root: Path, tasks_a_day: int = 40, seed: int = 1) -> None:
        self._draw = random.Random(seed)
        self._lines: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._requests = 0
        self.last_day = BEGIN + (DAYS - 1) * DAY
        self.end_of_speech = self.last_day + 13 * 3600.0
        """When the silent agent falls silent."""
        for day in range(DAYS):
            for task in range(tasks_a_day):
                self._task(f"{day}_{task:03}", BEGIN + day * DAY + 3600.0 + 80000.0 * task / tasks_a_day)
        self._plant()
        for name, lines in self._lines.items():
            said = [line for line in lines if not self._is_missing(line)]
            said.sort(key=lambda line: line["timestamp"])
            write_lines(root / f"responses/sessions/sess_{name}.jsonl", *said)

    def _is_missing(self, line: dict[str, Any]) -> bool:
        return line["data"]["agent_id"] == SILENT and line["timestamp"] > self.end_of_speech

    def _put(self, session: str, event: str, at: float, author: str, **data: Any) -> None:
        record: dict[str, Any] = {"event": event, "timestamp": round(at, 3), "data": {"agent_id": author, **data}}
        if "request_id" in data:
            record["request_id"] = record["data"].pop("request_id")
        record["data"].setdefault("conversation_id", f"task_{session}")
        self._lines[session].append(record)

    def _ask(self, session: str, at: float, author: str, addressee: str, text: str = "") -> str:
        self._requests += 1
        number = f"req_{self._requests:07}"
        text = text or "Please look at this. " + "x" * self._draw.randrange(400)
        self._put(session, "completion:request", at, author, to_agent=addressee, prompt=text, request_id=number)
        return number

    def _answer(self, session: str, at: float, author: str, number: str) -> None:
        self._put(session, "completion:result", at, author, response="Done.", request_id=number)

    def _task(self, name: str, at: float) -> None:
        squad = self._draw.choices(range(len(SQUADS)), (5, 3, 2))[0]
        crew: list[str] = []
        for role in SQUADS[squad]:
            crew.append(self._draw.choice([agent for agent in AGENTS[role] if agent not in crew]))
            self._put(name, "agent:role_change", at, crew[-1], new_role=role)
        for _ in range(self._draw.randint(4, 9)):
            at += self._draw.uniform(20, 200)
            author, addressee = (crew[0], self._draw.choice(crew[1:]))
            if self._draw.random() < 0.3:
                author, addressee = self._draw.sample(crew, 2)
            number = self._ask(name, at, author, addressee)
            if self._draw.random() < RELIABLE[squad]:
                self._answer(name, at + self._draw.uniform(2, 15), addressee, number)

    def _plant(self) -> None:
        at = self.last_day + 10 * 3600.0
        for number in range(40):
            author, addressee = PING_PONG[number % 2], PING_PONG[1 - number % 2]
            request = self._ask("pingpong", at + 60 * number, author, addressee)
            self._answer("pingpong", at + 60 * number + 20, addressee, request)
        at = self.last_day + 15 * 3600.0
        for number in range(60):
            author, addressee = CIRCLE[number % 3], CIRCLE[(number + 1) % 3]
            self._put("circle", "message:sent", at + 30 * number, author, to_agent=addressee, content="No change yet.")
        at = self.last_day + 17 * 3600.0
        for number in range(30):
            author = self._draw.choice(["lead-ada", "code-cy", "test-ned"])
            self._ask("storm", at + 12 * number, author, STORM)
        at = self.last_day + 12 * 3600.0
        for number in range(7):
            self._ask("retry", at + 400 * number, *DUPLICATE, text="Please implement the next step of ranking.")
        at = self.last_day + 18 * 3600.0
        for number in range(3):
            request = self._ask("hostile", at + 20 * number, "lead-ada", HOSTILE, "<script>alert(2)</script>\u0000")
            self._answer("hostile", at + 20 * number + 5, HOSTILE, request)
        # Asked just before midnight, answered just after.
        request = self._ask("midnight", self.last_day - 5, "lead-ada", "code-bo")
        self._answer("midnight", self.last_day + 5, "code-bo", request)
