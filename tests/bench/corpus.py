"""The logs that the figures are measured on: the reference layout, made from a seed, kept for the next run.

A session has an owner and four peers. They send each other requests with correlation and addressee, results answer
most of them (some after the next request), now and then somebody takes a new role or speaks to the team. A record is
830 bytes on average; what it says is drawn from a pool of texts.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson

VERSION = 4
"""Of what is made here; another one makes every corpus anew."""

FIRST_DAY = 1_735_689_600
"""2025-01-01, in seconds."""

SESSION_HOURS = 6
AGENTS = [f"agent_{word}_{number:02}" for word in ("analyst", "coder", "critic", "lead", "viz") for number in range(40)]
ROLES = ("coordinator", "peer", "reviewer", "visualizer", "pipeline_orchestrator")
WORDS = [
    "the",
    "request",
    "timeline",
    "shows",
    "that",
    "most",
    "of",
    "the",
    "sessions",
    "end",
    "before",
    "a",
    "second",
    "agent",
    "answers,",
    "so",
    "we",
    "look",
    "at",
    "latency",
    "first,",
    "then",
    "at",
    "the",
    "share",
    "of",
    "results",
    "without",
    "correlation;",
    "see",
    "table",
    '\\"daily\\"',
    "and",
    "the",
    "note",
    "below\\n",
]


class Corpus:
    """A log folder with so many records, sessions and days."""

    def __init__(self, folder: Path, records: int, sessions: int, days: int, seed: int = 7) -> None:
        self.root = folder / f"sessions-{records}-{sessions}-{days}"
        self.records = records
        self.sessions = sessions
        self.days = days
        self._seed = seed
        self._stamp = {"version": VERSION, "seed": seed, "records": records, "sessions": sessions, "days": days}
        self.bytes = _kept(self.root, self._stamp) or self._make()

    @property
    def end(self) -> float:
        """The end of the last day."""
        return FIRST_DAY + self.days * 86400.0

    @property
    def glob(self) -> str:
        """All its files, as DuckDB and shells have it."""
        return f"{self.root}/responses/sessions/*.jsonl"

    def files(self) -> list[Path]:
        """All its files, in the order of their names."""
        return sorted((self.root / "responses" / "sessions").iterdir())

    def drop_index(self) -> None:
        """Leave the logs alone."""
        shutil.rmtree(self.root / "index", ignore_errors=True)

    def _make(self) -> int:
        shutil.rmtree(self.root, ignore_errors=True)
        folder = self.root / "responses" / "sessions"
        folder.mkdir(parents=True)
        draw = random.Random(self._seed)
        texts = list(_texts(draw))
        step = (self.days * 86400 - SESSION_HOURS * 3600) / self.sessions
        total = left = 0
        for number in range(self.sessions):
            count = (self.records - left) // (self.sessions - number)
            left += count
            name = f"sess_{draw.getrandbits(48):012x}"
            content = "".join(session(draw, texts, name, FIRST_DAY + number * step, count)).encode()
            (folder / f"{name}.jsonl").write_bytes(content)
            total += len(content)
        return _keep(self.root, self._stamp, total)


def session(draw: random.Random, texts: list[str], name: str, begin: float, count: int) -> Iterator[str]:
    """The lines of one session, `count` of them."""
    crew = draw.sample(AGENTS, 5)
    team = f"team_{draw.getrandbits(32):08x}"
    gap = SESSION_HOURS * 3600 / count
    now = begin
    owed: list[tuple[str, str]] = []
    """Results that are still to come: who gives them, to which request."""
    for number in range(count):
        now += gap * draw.uniform(0.2, 1.8)
        what = draw.random()
        text = draw.choice(texts)
        if owed and (len(owed) > 1 or what < 0.8):
            yield result(now, name, *owed.pop(0), text)
        elif number and what > 0.97:
            yield new_role(now, name, draw.choice(crew), draw.choice(ROLES), text)
        elif number and what > 0.92:
            yield to_team(now, name, draw.choice(crew), crew[1:4], team, text)
        else:
            author, addressee = (crew[0], draw.choice(crew[1:])) if draw.random() < 0.7 else draw.sample(crew, 2)
            correlation = f"req_{draw.getrandbits(48):012x}"
            yield request(now, name, author, addressee, correlation, text)
            if draw.random() < 0.95:
                owed.append((addressee, correlation))


# ---- records, as lines


def request(at: float, name: str, author: str, addressee: str, correlation: str, text: str) -> str:
    return (
        f'{{"event":"completion:request","timestamp":{at:.6f},"request_id":"{correlation}","data":{{"session_id":"{name}",'
        f'"agent_id":"{author}","to_agent":"{addressee}","pattern":"peer_to_peer","prompt":"{text}","params":'
        '{"model":"sonnet","temperature":0.7,"max_tokens":4096,"stop":null}},"metadata":{"origin":"daemon","priority":5}}\n'
    )


def result(at: float, name: str, author: str, correlation: str, text: str) -> str:
    return (
        f'{{"event":"completion:result","timestamp":{at:.6f},"request_id":"{correlation}","data":{{"session_id":"{name}",'
        f'"agent_id":"{author}","response":"{text}","usage":{{"input_tokens":1187,"output_tokens":{len(text)},"cost_usd":0.0125}},'
        '"duration_ms":7103,"stop_reason":"end_turn"},"metadata":{"origin":"provider","cached":false}}\n'
    )


def new_role(at: float, name: str, author: str, role: str, text: str) -> str:
    return (
        f'{{"event":"agent:role_change","timestamp":{at:.6f},"data":{{"session_id":"{name}","agent_id":"{author}",'
        f'"context":{{"role_transition":{{"to":"{role}","why":"{text}"}}}}}}}}\n'
    )


def to_team(at: float, name: str, author: str, addressees: list[str], team: str, text: str) -> str:
    listed = ",".join(f'"{agent}"' for agent in addressees)
    return (
        f'{{"event":"message:sent","timestamp":{at:.6f},"data":{{"session_id":"{name}","agent_id":"{author}",'
        f'"to_agents":[{listed}],"team_id":"{team}","content":"{text}"}}}}\n'
    )


def _texts(draw: random.Random) -> Iterator[str]:
    for _ in range(2000):
        size = draw.randint(160, 842)
        words = draw.choices(WORDS, k=size // 4)
        yield " ".join(words)[:size].rstrip("\\")


# ---- folders of many files


def many_sessions(folder: Path, count: int) -> Path:
    """A root with so many sessions of one record, all of one day."""
    return _many(folder / f"idle-{count}", count, "responses/sessions", lambda number: f"sess_{number:06}.jsonl")


def many_events(folder: Path, count: int) -> Path:
    """A root with so many event files, all in one folder."""
    day = "events/2025-01-01"
    return _many(folder / f"events-{count}", count, day, lambda number: f"evt_{FIRST_DAY + number * 0.5:.3f}_note.json")


def _many(root: Path, count: int, below: str, name_of: object) -> Path:
    assert callable(name_of)
    stamp = {"version": VERSION, "count": count}
    if not _kept(root, stamp):
        shutil.rmtree(root, ignore_errors=True)
        (root / below).mkdir(parents=True)
        draw = random.Random(11)
        for number in range(count):
            pair = draw.sample(AGENTS, 2)
            name = f"sess_{number:06}"
            line = request(FIRST_DAY + number * 0.5, name, *pair, f"req_{number:012x}", "See the note.")
            (root / below / name_of(number)).write_bytes(line.encode())
        _keep(root, stamp, count)
    return root


def _kept(root: Path, stamp: dict[str, int]) -> int:
    """Bytes of what was made before with this stamp; 0 where it was not."""
    try:
        made = orjson.loads((root / "corpus.json").read_bytes())
    except (OSError, ValueError):
        return 0
    return int(made.pop("bytes")) if made == stamp | {"bytes": made.get("bytes")} else 0


def _keep(root: Path, stamp: dict[str, int], total: int) -> int:
    (root / "corpus.json").write_bytes(orjson.dumps(stamp | {"bytes": total}))
    return total
