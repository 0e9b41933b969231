"""Logs in the reference layout with every oddity that the law names: as hypothesis strategies, and random from a seed.

Both draw from the same pools. The alphabets of agents and correlations are small, so that collisions are the rule.
Plain values stand first in each pool: hypothesis shrinks towards them.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import strategies as st

from helpers.oddities import odd_line, without_a_whole_end

BASE = 1_735_500_000  # 2024-12-29T19:20:00Z; the next day begins at BASE + 16,800
DAY = 86_400

AGENTS = ["agent_a", "agent_b", "agent_c", "agent_d", "7", 'quo"te\\', "агент", "100%_x", 7]
CORRELATIONS = ["c1", "c2", "c3", "c4", "4", 4]
SESSIONS = ["s1", "s2", "9", 9]
CONVERSATIONS = ["conv_1", "conv_2", 3]
TEAMS = ["team_1", "team_2", 11]
ROLES = ["lead", "peer", "analyst", 5]
PATTERNS = ["peer_to_peer", "team_formation", "peer_discovery", 6]
NOT_AN_ID = [None, "", True, False, 1.5, 7.0, -3, 0, 2**63, 2**64, 2**70, [], ["agent_a"], {}, {"x": "agent_a"}]
NAME_LISTS = [
    ["agent_b"],
    ["agent_b", "agent_c"],
    ["agent_a", "agent_a"],
    [],
    ["", None, 7, True, 1.5, ["agent_d"], {"a": 1}, "agent_c"],
]
FLAGS = [True, False, "true", 1, 0, None, []]

REQUESTS = ["completion:request", "agent:request", "request"]
ANSWERS = ["completion:result", "tool:response", "completion:error", "completion:cancelled", "error"]
OTHERS = ["agent:spawn", "message:publish", "completion:progress", "request:sent", "completion", "completion:", "a::b"]
EVENTS = REQUESTS[:1] * 5 + ANSWERS[:1] * 4 + REQUESTS[1:] + ANSWERS[1:] + OTHERS
NO_EVENTS = ["", None, 5, True, 1.5, [], {}, ["completion:request"]]

ODD_TIMES: list[Any] = [
    BASE * 1_000 + 123,
    BASE * 1_000_000 + 123_456,
    BASE * 1_000_000_000 + 123_456_789,
    (BASE + DAY) * 1_000.0,
    "2024-12-29T19:20:00.123456",
    "2024-12-29T19:20:00Z",
    "2024-12-30T01:20:00+06:00",
    "2024-12-30 19:20",
    "2024-12-30",
    "2024-12-31T23:59:59.999999-00:30",
    "2024-12-29 19:20:00,25",
    "2024-12-29 19:20:00 UTC",
    "2024-12-29T19:20:00,5 GMT",
    "Sun, 29 Dec 2024 19:20:00 GMT",
    "Mon, 30 Dec 2024 01:20:00 +0600",
    "30 Dec 2024 01:20:00 +0000",
    str(BASE),
    f"{BASE}.5",
    f"{BASE}123",
    f"{BASE}123456789",
    "99999999",
    f"{BASE},5",
    f"-{BASE}",
    BASE + 16_799.9999998,  # a quarter of a microsecond before midnight
    BASE + 16_800,
    BASE + 3 * DAY,
    BASE - 2 * DAY,
    0,
    0.5,
    -1,
    -0.5,
    -BASE * 1_000,
    99_999_999_999,
    10**11,
    10**14,
    10**17,
    253_402_300_799 * 1_000_000_000,
    253_402_300_800 * 1_000_000_000,
    2**70,
    1e300,
    "1969-12-31T23:59:59Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-01:00",
    "10000-01-01T00:00:00Z",
    "2024-02-30T00:00:00Z",
    "12345678901234567890",
    "30 Dec 2024 14:20:00 EST",
    "Sun, 29 Feb 2023 19:20:00 +0000",
    "yesterday",
    "NaN",
    "Infinity",
    "",
    str(BASE),
    True,
    False,
    None,
    [BASE],
    {"seconds": BASE},
]
STEPS = [0.25, 1, 1, 1, 1.5, 10, 60, 0, -5, -0.125, 3_600, DAY, -DAY, 3 * DAY, -3 * DAY]


def _placed(weight: int, paths: str, *pools: list[Any]) -> list[tuple[tuple[str, ...], Any]]:
    """(path, value) for each of these paths and values, repeated `weight` times."""
    return [
        (tuple(path.split(".")), value)
        for _ in range(weight)
        for path in paths.split()
        for pool in pools
        for value in pool
    ]


# A record is an event and a few of these. How often each stands here is how often it is drawn.
FIELDS = [
    *_placed(6, "data.agent_id", AGENTS),
    *_placed(2, "metadata.agent_id agent_id", AGENTS),
    *_placed(1, "data.agent_id metadata.agent_id agent_id", NOT_AN_ID),
    *_placed(3, "data.to_agent", AGENTS, NAME_LISTS),
    *_placed(1, "data.to_agents data.routing.to_agent data.routing.to_agents", AGENTS, NAME_LISTS, NAME_LISTS),
    *_placed(1, "data.to_agent data.routing.to_agents", NOT_AN_ID),
    *_placed(2, "data.participants", NAME_LISTS, NAME_LISTS, ["agent_b", None, 7, {"agent_a": 1}]),
    *_placed(6, "correlation_id", CORRELATIONS),
    *_placed(2, "data.correlation_id metadata.correlation_id request_id", CORRELATIONS),
    *_placed(2, "data.request_id metadata.request_id", CORRELATIONS),
    *_placed(1, "correlation_id data.correlation_id request_id metadata.request_id", NOT_AN_ID),
    *_placed(2, "data.pattern metadata.pattern", PATTERNS),
    *_placed(1, "data.pattern metadata.pattern", [None, "", True, 1.5, [], {}]),
    *_placed(2, "data.conversation_id metadata.conversation_id", CONVERSATIONS),
    *_placed(2, "data.team_id metadata.team_id", TEAMS),
    *_placed(1, "data.conversation_id data.team_id metadata.team_id", [None, "", False, 1.5, [], {}]),
    *_placed(3, "data.context.role_transition.to data.new_role data.role", ROLES),
    *_placed(1, "data.context.role_transition.to data.new_role data.role", [None, "", True, 1.5, [], {}]),
    *_placed(2, "data.broadcast", FLAGS, [True, True]),
    *_placed(2, "data.requests_response data.expects_response", FLAGS),
    *_placed(2, "data.session_id metadata.session_id session_id", SESSIONS),
    *_placed(1, "data.session_id metadata.session_id session_id", [None, "", True, 1.5, []]),
    *_placed(1, "status data.status metadata.status", ["completed", "completed", "active", True, ["completed"]]),
    *_placed(3, "data", [None, "text", [], [{"agent_id": "agent_a"}], 5, True]),
    *_placed(2, "metadata", [None, "text", [], 5]),
    *_placed(1, "data.context data.context.role_transition data.routing", [None, "lead", [], 5]),
    *_placed(1, "data.prompt", ["Any agents?", "ключ ☃ 🙂", 'a "quoted"\nline\r\n', "x" * 3_000, " \u2028\x7f"]),
    *_placed(1, "data.usage", [{"tokens": 2**53 + 1}, {"tokens": 10**30}, 1e-320, [[[]]]]),
]


def _nested(depth: int) -> bytes:
    return b'{"event":"completion:request","data":' + b"[" * depth + b"]" * depth + b"}"


# Lines as they stand, without LF. The first are blank, then come no records, then records in odd clothes.
BLANK_LINES = [b"", b"\r", b" ", b" \t ", b"  \r"]
BROKEN_LINES = [
    b"{",
    b"not json",
    b"null",
    b"true",
    b"42",
    b'"completion:request"',
    b"[]",
    b'[{"event":"completion:request"}]',
    b"{}",
    b'{"data":{"event":"completion:request"}}',
    b'{"event":"completion:request",}',
    b'{"event":"completion:request"',
    b'{"event":"completion:req{"event":"completion:request","data":{"agent_id":"agent_a"}}',
    b'{"event":"agent:spawn"}{"event":"agent:spawn"}',
    b'{"event":"agent:spawn"}\r{"event":"agent:spawn"}',
    b'{"event":"completion:request","timestamp":NaN}',
    b'{"event":"completion:request","timestamp":-Infinity}',
    b'{"event":"completion:request","timestamp":1e400}',
    b'{"event":"completion:request","data":{"prompt":"\\ud800"}}',
    b'{"event":"completion:request","data":{"agent_id":"\xff\xfe"}}',
    b"\xff\xfe\x00",
    b"\x00\x00\x00\x00",
    b'\xef\xbb\xbf{"event":"agent:spawn"}',
    b"x" * 3_000,
    _nested(1_025),
    _nested(3_000),
]
ODD_RECORDS = [
    b'{"event":"completion:request"}\r',
    b'{"event":"completion:request"}\r\r',
    b' \t{ "event" : "completion:result" , "correlation_id" : "c1" } ',
    b'{"event":"agent:spawn","event":"completion:request","data":1,"data":{"agent_id":"agent_d"}}',
    b'{"event":"completion:request","data":{"prompt":"\\ud83d\\ude42 \\u0000","agent_id":"\\u0061gent_a"}}',
    b'{"event":"completion:result","correlation_id":18446744073709551615,"timestamp":18446744073709551615}',
    b'{"event":"completion:request","correlation_id":184467440737095516150,"data":{"agent_id":9223372036854775807}}',
    b'{"event":"completion:request","timestamp":1.7355e9,"data":{"agent_id":1e2}}',
    b'{"event":"completion:request","timestamp":-0.0}',
    _nested(900),
]
RAW_LINES = BLANK_LINES + BROKEN_LINES + ODD_RECORDS


def build_record(event: Any, fields: list[tuple[tuple[str, ...], Any]], timestamp: Any = None) -> dict[str, Any]:
    """A record with each field at its path. A field is left out if something on its path is not an object."""
    record: dict[str, Any] = {"event": event}
    made = {id(record)}  # only objects made here are filled, never one out of a pool
    for path, value in fields:
        place = record
        for key in path[:-1]:
            if key not in place:
                place[key] = {}
                made.add(id(place[key]))
            if id(place[key]) not in made:
                break
            place = place[key]
        else:
            place[path[-1]] = value
    if timestamp is not None:
        record["timestamp"] = timestamp
    return record


def encode(record: Any) -> bytes:
    """A record as a line without LF."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


# --- strategies -------------------------------------------------------------------------------------------------------


def timestamps() -> st.SearchStrategy[Any]:
    """What may be the value of `timestamp`; None stands for a record without one."""
    near = st.integers(0, 300).map(lambda n: BASE + n)
    exact = st.integers(-2 * 10**9, 2 * 10**9).map(lambda n: BASE + n / 10**4)  # two days and more to either side
    return st.one_of(near, near, exact, st.none(), st.sampled_from(ODD_TIMES))


def records() -> st.SearchStrategy[dict[str, Any]]:
    """A record, nearly always with an event type."""
    events = st.sampled_from(EVENTS)
    return st.builds(
        build_record,
        st.one_of(events, events, events, events, st.sampled_from(EVENTS + NO_EVENTS)),
        st.lists(st.sampled_from(FIELDS), max_size=7),
        timestamps(),
    )


def lines() -> st.SearchStrategy[bytes]:
    """One line without its LF: mostly a record, at times anything else."""
    record = records().map(encode)
    ascii_record = records().map(lambda r: json.dumps(r).encode())
    with_cr = record.map(lambda line: line + b"\r")
    return st.one_of(record, record, record, record, ascii_record, with_cr, st.sampled_from(RAW_LINES))


@st.composite
def session_files(draw: st.DrawFn, max_lines: int = 40) -> bytes:
    """A whole file of lines, for the layouts session and stream; the last line may be torn, or whole and without LF."""
    content = b"".join(line + b"\n" for line in draw(st.lists(lines(), max_size=max_lines)))
    if draw(st.integers(0, 4)) == 4:
        last = draw(lines())
        content += last[: draw(st.integers(0, len(last)))]
    return content


EVENT_TYPES_OF_NAMES = ["agent_spawn", "state_change", "team:formation", "completion:request", "completion:result", "5"]
ODD_EVENT_NAMES = [
    "evt_agent_spawn.json",
    "evt_soon_agent_spawn.json",
    "evt_1735500000.123.json",
    "evt_.json",
    "evt_1_2_x.y_.json",
]


@st.composite
def event_names(draw: st.DrawFn) -> str:
    if draw(st.integers(0, 9)) == 9:
        return draw(st.sampled_from(ODD_EVENT_NAMES))
    seconds = draw(st.sampled_from([str(BASE), f"{BASE}.123", f"{BASE + DAY}.5", f"{BASE - 3 * DAY}", "0", "99.25"]))
    return f"evt_{seconds}_{draw(st.sampled_from(EVENT_TYPES_OF_NAMES))}.json"


@st.composite
def event_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """(name, content) of an event file: pretty-printed or not, with or without a last LF, sometimes not a record."""
    record = records()
    content = draw(
        st.one_of(
            record.map(encode),
            record.map(lambda r: {k: v for k, v in r.items() if k != "event"}).map(encode),
            record.map(lambda r: json.dumps(r, indent=2).encode()),
            record.map(lambda r: json.dumps(r, indent=2).replace("\n", "\r\n").encode()),
            st.sampled_from(BROKEN_LINES + ODD_RECORDS),
            lines().flatmap(lambda line: st.integers(0, len(line)).map(lambda n: line[:n])),
        )
    )
    return draw(event_names()), content + draw(st.sampled_from([b"", b"\n", b"\r\n", b"\n\n"]))


# --- at random from a seed --------------------------------------------------------------------------------------------


def random_log(seed: int, lines: int) -> bytes:
    """`lines` lines and, for some seeds, a torn one at the end. The same seed gives the same bytes everywhere.

    Where every record bears a correlation, early answers pile up; where few do, answers go by the order of requests.
    """
    random = Random(f"log {seed}")
    correlated = random.choice([0.1, 0.35, 1.0])
    now = float(BASE + random.randrange(DAY))
    parts = []
    for n in range(lines):
        now = _next_time(random, now)
        parts.append(_random_line(random, now, n, correlated))
        parts.append(b"\n")
    if random.random() < 0.2:
        torn = _random_line(random, now, lines, correlated)
        parts.append(without_a_whole_end(torn, random))
    return b"".join(parts)


def write_tree(root: Path, seed: int, sessions: int, lines: int, events: int) -> None:
    """A reference tree under `root`: `sessions` session files of `lines` lines each, and `events` event files.

    Modification times are part of what the seed decides, since a record may have no other time.
    """
    random = Random(f"tree {seed}")
    for n in range(sessions):
        content = random_log(random.getrandbits(64), lines)
        _write(root / "responses" / "sessions" / f"sess_{seed}_{n:05}.jsonl", content, BASE + random.randrange(3 * DAY))
    now = float(BASE)
    for n in range(events):
        now += random.choice([0.25, 1, 60, 3_600])
        if now > BASE + 5 * DAY:
            now -= 6 * DAY
        day = datetime.fromtimestamp(now, UTC).date() + timedelta(days=random.choice([0] * 9 + [1]))
        name = f"evt_{int(now)}.{n:06}_{random.choice(EVENT_TYPES_OF_NAMES).replace(':', '_')}.json"
        _write(root / "events" / day.isoformat() / name, _random_event(random, now), int(now))


def _next_time(random: Random, now: float) -> float:
    """Mostly a little later; jumps of days and steps back; never more than four days from BASE."""
    now += random.choice(STEPS[:6]) if random.random() < 0.97 else random.choice(STEPS)
    return now if abs(now - BASE) < 4 * DAY else float(BASE)


def _random_record(random: Random, now: float, n: int, correlated: float) -> dict[str, Any]:
    event = random.choice(EVENTS) if random.random() < 0.98 else random.choice(NO_EVENTS)
    fields = [random.choice(FIELDS) for _ in range(random.randint(0, 7))]
    if random.random() < correlated:
        fields.append((("correlation_id",), _fresh_correlation(random, n)))
    chance = random.random()
    timestamp = now if chance < 0.85 else None if chance < 0.95 else random.choice(ODD_TIMES)
    return build_record(event, fields, timestamp)


def _fresh_correlation(random: Random, n: int) -> str:
    """One that few lines around line `n` use, or sometimes an old one, which the limits have dropped by then."""
    if random.random() < 0.05:
        return f"r{random.randint(0, n)}"
    return f"r{max(0, n + random.randint(-4, 4))}"


def _random_line(random: Random, now: float, n: int, correlated: float) -> bytes:
    chance = random.random()
    if chance < 0.04:
        return random.choice(RAW_LINES)
    if chance < 0.08:
        return odd_line(random, lambda: encode(_random_record(random, now, n, correlated)))
    line = encode(_random_record(random, now, n, correlated))
    return line + b"\r" if chance < 0.1 else line


def _random_event(random: Random, now: float) -> bytes:
    chance = random.random()
    if chance < 0.05:
        return random.choice(BROKEN_LINES)
    record = _random_record(random, now, 0, 0.1)
    if chance < 0.4:
        record.pop("event")
    content = json.dumps(record, indent=2).encode() if random.random() < 0.3 else encode(record)
    return content + random.choice([b"", b"\n"])


def _write(path: Path, content: bytes, mtime: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(mtime * 10**9, mtime * 10**9))
