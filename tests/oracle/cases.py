"""Cases of the law of derivation (`docs/derivation.md`) worked by hand. Whatever reads logs by that
law must give these rows.

`expected` has one dict a row, with the columns that the case is about; `{}` is a row of which only the presence counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

MTIME = 1_735_603_200.0  # 2024-12-31T00:00:00Z
T = 1_735_500_000  # 2024-12-29T19:20:00Z

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A file and what the law makes of it. A dict is a line of JSON, bytes stand as they are; each gets its LF."""

    name: str
    lines: Sequence[dict[str, Any] | bytes]
    expected: Sequence[Row]
    rejected: Sequence[tuple[int, int, int, str]] = ()
    completed: frozenset[str] = frozenset()
    tail: bytes = b""
    path: str = "responses/sessions/sess_1.jsonl"
    layout: str = "session"
    mtime: float = MTIME
    max_line_bytes: int = 16 * 2**20

    @property
    def content(self) -> bytes:
        lines = [line if isinstance(line, bytes) else orjson.dumps(line) for line in self.lines]
        return b"".join(line + b"\n" for line in lines) + self.tail


def ask(agent: str | None = None, correlation: str | None = None, **data: Any) -> dict[str, Any]:
    return _record("completion:request", agent, correlation, data)


def answer(agent: str | None = None, correlation: str | None = None, **data: Any) -> dict[str, Any]:
    return _record("completion:result", agent, correlation, data)


def _record(event: str, agent: str | None, correlation: str | None, data: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = {"event": event, "data": data, "timestamp": T}
    if agent is not None:
        data["agent_id"] = agent
    if correlation is not None:
        record["correlation_id"] = correlation
    return record


def at(timestamp: Any, event: str = "agent:spawn") -> dict[str, Any]:
    return {"event": event, "timestamp": timestamp}


ANSWERED = {"has_response": 1}
PENDING = {"has_response": 0}


# --- the examples of the reference document ---------------------------------------------------------------------------

SESSION_EXAMPLE = [
    b'{"event": "completion:request", "data": {"prompt": "Any agents interested in data analysis?", '
    b'"pattern": "peer_discovery", "session_id": "sess_abc123", "agent_id": "agent_explorer"}, '
    b'"timestamp": 1735500000.123}',
    b'{"event": "completion:result", "data": {"response": "I have data analysis capabilities", '
    b'"agent_id": "agent_analyzer", "model": "claude-3-opus", "usage": {}}, "correlation_id": "req_123", '
    b'"timestamp": 1735500010.456}',
    b'{"event": "completion:request", "data": {"prompt": "Let\'s collaborate on this dataset", '
    b'"pattern": "peer_to_peer", "to_agent": "agent_analyzer"}, "timestamp": 1735500020.789}',
    b'{"event": "completion:result", "data": {"response": "Agreed, I\'ll start with statistical analysis", '
    b'"agent_id": "agent_explorer"}, "correlation_id": "req_124", "timestamp": 1735500030.123}',
]

PEER_DISCOVERY = [
    b'{"event": "completion:request", "data": {"prompt": "Looking for agents with NLP capabilities", '
    b'"pattern": "peer_discovery", "broadcast": true}, '
    b'"metadata": {"session_id": "sess_discovery_123", "agent_id": "agent_researcher"}}',
    b'{"event": "completion:result", "data": {"response": "I have NLP capabilities: sentiment analysis, entity '
    b'extraction", "agent_id": "agent_nlp_1", "capabilities": ["sentiment", "ner"]}}',
    b'{"event": "completion:result", "data": {"response": "I specialize in text generation and summarization", '
    b'"agent_id": "agent_nlp_2", "capabilities": ["generation", "summary"]}}',
]

TEAM_FORMATION = [
    b'{"event": "completion:request", "data": {"prompt": "Forming team for customer analysis project", '
    b'"pattern": "team_formation", "team_id": "team_customer_analysis"}, "metadata": {"session_id": "sess_team_456"}}',
    b'{"event": "completion:result", "data": {"response": "Joining as data analyst", "agent_id": "agent_analyst", '
    b'"role": "data_analyst", "team_id": "team_customer_analysis"}}',
    b'{"event": "completion:result", "data": {"response": "I\'ll handle visualization", "agent_id": "agent_viz", '
    b'"role": "visualizer", "team_id": "team_customer_analysis"}}',
    b'{"event": "completion:request", "data": {"prompt": "I\'ll coordinate the first phase", '
    b'"pattern": "role_assumption", "previous_role": "peer", "new_role": "phase_coordinator"}, '
    b'"metadata": {"agent_id": "agent_analyst", "team_id": "team_customer_analysis"}}',
]

ROLE_TRANSITIONS = [
    b'{"event": "completion:request", "data": {"prompt": "Taking lead on data pipeline", "context": '
    b'{"role_transition": {"from": "contributor", "to": "pipeline_orchestrator", "duration": "task_scoped"}}}}',
    b'{"event": "completion:request", "data": {"prompt": "Pipeline complete, returning to peer role", "context": '
    b'{"role_transition": {"from": "pipeline_orchestrator", "to": "peer"}}}}',
]

REFERENCE = [
    Case(
        "the reference's session file",
        SESSION_EXAMPLE,
        [
            {
                "id": "sess_abc123:0",
                "timestamp": 1735500000.123,
                "event_type": "completion:request",
                "session_id": "sess_abc123",
                "file_path": "responses/sessions/sess_abc123.jsonl",
                "line_number": 1,
                "byte_offset": 0,
                "initiating_agent": "agent_explorer",
                "participating_agents": ["agent_explorer"],
                "agent_roles": {},
                "pattern_type": "peer_discovery",
                "conversation_id": "sess_abc123",
                "correlation_id": "req_123",
                "is_completion": 1,
                "is_request": 1,
                "has_response": 1,
                "requests_response": 1,
                "day": "2024-12-29",
                "byte_length": 211,
            },
            {
                "id": "sess_abc123:212",
                "timestamp": 1735500010.456,
                "event_type": "completion:result",
                "session_id": "sess_abc123",
                "file_path": "responses/sessions/sess_abc123.jsonl",
                "line_number": 2,
                "byte_offset": 212,
                "initiating_agent": "agent_explorer",
                "participating_agents": ["agent_analyzer", "agent_explorer"],
                "agent_roles": {},
                "pattern_type": "peer_discovery",
                "conversation_id": "sess_abc123",
                "correlation_id": "req_123",
                "is_completion": 1,
                "is_request": 0,
                "has_response": 0,
                "requests_response": 0,
                "day": "2024-12-29",
                "byte_length": 216,
            },
            {
                "id": "sess_abc123:429",
                "timestamp": 1735500020.789,
                "event_type": "completion:request",
                "line_number": 3,
                "byte_offset": 429,
                "initiating_agent": "agent_explorer",
                "participating_agents": ["agent_explorer", "agent_analyzer"],
                "pattern_type": "peer_to_peer",
                "conversation_id": "sess_abc123",
                "correlation_id": "req_124",
                "is_request": 1,
                "has_response": 1,
                "requests_response": 1,
                "byte_length": 174,
            },
            {
                "id": "sess_abc123:604",
                "timestamp": 1735500030.123,
                "line_number": 4,
                "byte_offset": 604,
                "initiating_agent": "agent_explorer",
                "participating_agents": ["agent_explorer"],
                "agent_roles": {},
                "pattern_type": "peer_to_peer",
                "conversation_id": "sess_abc123",
                "correlation_id": "req_124",
                "is_request": 0,
                "has_response": 0,
                "byte_length": 188,
            },
        ],
        path="responses/sessions/sess_abc123.jsonl",
    ),
    Case(
        "the reference's peer discovery",
        PEER_DISCOVERY,
        [
            {
                "timestamp": MTIME,
                "day": "2024-12-31",
                "session_id": "sess_discovery_123",
                "initiating_agent": "agent_researcher",
                "participating_agents": ["agent_researcher"],
                "agent_roles": {},
                "pattern_type": "peer_discovery",
                "conversation_id": "sess_discovery_123",
                "correlation_id": None,
                "is_request": 1,
                "has_response": 1,
                "requests_response": 1,
            },
            {
                "timestamp": MTIME,
                "initiating_agent": "agent_researcher",
                "participating_agents": ["agent_nlp_1", "agent_researcher"],
                "pattern_type": "peer_discovery",
                "conversation_id": "sess_discovery_123",
                "correlation_id": None,
                "is_request": 0,
                "requests_response": 0,
            },
            {
                "timestamp": MTIME,
                "initiating_agent": "agent_researcher",
                "participating_agents": ["agent_nlp_2", "agent_researcher"],
                "pattern_type": "peer_discovery",
                "conversation_id": "sess_discovery_123",
                "correlation_id": None,
            },
        ],
        path="responses/sessions/sess_discovery_123.jsonl",
    ),
    Case(
        "the reference's team formation",
        TEAM_FORMATION,
        [
            {
                "initiating_agent": "unknown",
                "participating_agents": [],
                "agent_roles": {},
                "pattern_type": "team_formation",
                "conversation_id": "team_customer_analysis",
                "has_response": 1,
            },
            {
                "initiating_agent": "unknown",
                "participating_agents": ["agent_analyst"],
                "agent_roles": {"agent_analyst": "data_analyst"},
                "pattern_type": "team_formation",
                "conversation_id": "team_customer_analysis",
            },
            {
                "initiating_agent": "unknown",
                "participating_agents": ["agent_viz"],
                "agent_roles": {"agent_viz": "visualizer"},
                "pattern_type": "team_formation",
                "conversation_id": "team_customer_analysis",
            },
            {
                "initiating_agent": "agent_analyst",
                "participating_agents": ["agent_analyst"],
                "agent_roles": {"agent_analyst": "phase_coordinator"},
                "pattern_type": "role_assumption",
                "conversation_id": "team_customer_analysis",
                "has_response": 0,
                "requests_response": 1,
            },
        ],
        path="responses/sessions/sess_team_456.jsonl",
    ),
    Case(
        "the reference's role transitions, which name nobody",
        ROLE_TRANSITIONS,
        [
            {
                "initiating_agent": "unknown",
                "participating_agents": [],
                "agent_roles": {},
                "pattern_type": "general",
                "conversation_id": "sess_1",
                "has_response": 0,
                "requests_response": 1,
            }
        ]
        * 2,
    ),
]


# --- linking ----------------------------------------------------------------------------------------------------------

LINKING = [
    Case(
        "an answer with a correlation belongs to the newest open request that bears it",
        [ask("a", "c"), ask("b", "c"), ask("d", "e"), answer("x", "c")],
        [PENDING, ANSWERED, PENDING, {"participating_agents": ["x", "b"], "has_response": 0}],
    ),
    Case(
        "answers of one correlation go from the newest open request to the oldest, then to the newest of all",
        [ask("a", "c"), ask("b", "c"), answer("x", "c"), answer("x", "c"), answer("x", "c")],
        [
            ANSWERED,
            ANSWERED,
            {"participating_agents": ["x", "b"]},
            {"participating_agents": ["x", "a"]},
            {"participating_agents": ["x", "b"]},
        ],
    ),
    Case(
        "a late answer of a reused correlation belongs to the newest request that bore it",
        [ask("a", "c"), answer("x", "c"), ask("b", "c"), answer("x", "c"), answer("x", "c")],
        [ANSWERED, {}, ANSWERED, {"participating_agents": ["x", "b"]}, {"participating_agents": ["x", "b"]}],
    ),
    Case(
        "a correlation used again after its answer opens anew",
        [ask("a", "c"), answer("x", "c"), ask("b", "c"), answer("y", "c")],
        [ANSWERED, {"participating_agents": ["x", "a"]}, ANSWERED, {"participating_agents": ["y", "b"]}],
    ),
    Case(
        "a correlation used again and not answered again is pending",
        [ask("a", "c"), answer("x", "c"), ask("b", "c")],
        [ANSWERED, {}, PENDING],
    ),
    Case(
        "an answer with a correlation prefers an open request that bears it to those that bear none",
        [ask("a"), ask("b", "c", to_agent="y"), ask("d", to_agent="x"), answer("x", "c")],
        [PENDING, ANSWERED, PENDING, {"participating_agents": ["x", "b"]}],
    ),
    Case(
        "an answer with a correlation prefers an answered request that bears it to an open one that bears none",
        [ask("a", "c"), answer("x", "c"), ask("b"), answer("x", "c")],
        [ANSWERED, {}, {"has_response": 0, "correlation_id": None}, {"participating_agents": ["x", "a"]}],
    ),
    Case(
        "a request without correlation takes that of its answer, and later answers find it by that",
        [ask("a"), answer("x", "c"), ask("b"), answer("y", "c")],
        [
            {"correlation_id": "c", "has_response": 1},
            {"correlation_id": "c", "participating_agents": ["x", "a"]},
            {"correlation_id": None, "has_response": 0},
            {"correlation_id": "c", "participating_agents": ["y", "a"]},
        ],
    ),
    Case(
        "a request that bears another correlation does not take the answer's",
        [ask("a", "d"), answer("x", "c")],
        [
            {"correlation_id": "d", "has_response": 0},
            {"correlation_id": "c", "participating_agents": ["x"], "conversation_id": "sess_1"},
        ],
    ),
    Case(
        "an answer without correlation belongs to the oldest request addressed to its author",
        [ask("a"), ask("a", to_agent="y"), ask("a", to_agents=["z", "x"]), ask("a", to_agent="x"), answer("x")],
        [PENDING, PENDING, ANSWERED, PENDING, {"participating_agents": ["x", "a"]}],
    ),
    Case(
        "else to the oldest request without addressees",
        [ask("a", to_agent="y"), ask("b"), ask("d"), answer("x")],
        [PENDING, ANSWERED, PENDING, {"participating_agents": ["x", "b"]}],
    ),
    Case(
        "else to the oldest request",
        [ask("a", to_agent="y"), ask("b", to_agent="z"), answer("x")],
        [ANSWERED, PENDING, {"participating_agents": ["x", "a"]}],
    ),
    Case(
        "members are no addressees",
        [ask("a", to_agent="y"), ask("b", participants=["y"]), ask("d", participants=["x"]), answer("x")],
        [PENDING, ANSWERED, PENDING, {"participating_agents": ["x", "b"]}],
    ),
    Case(
        "an answer without author belongs to the oldest request without addressees",
        [ask("a", to_agent="a"), ask("b"), answer()],
        [PENDING, ANSWERED, {"participating_agents": ["b"]}],
    ),
    Case(
        "an answer without correlation may belong to a request that bears one, and shows it",
        [ask("a", "c", conversation_id="talk"), answer("x")],
        [ANSWERED, {"correlation_id": "c", "conversation_id": "talk", "participating_agents": ["x", "a"]}],
    ),
    Case(
        "an answer without correlation and with nothing open belongs to the request answered last",
        [ask("a", "c"), ask("b", "d"), answer("x", "d"), answer("x", "c"), answer("y")],
        [ANSWERED, ANSWERED, {}, {}, {"correlation_id": "c", "participating_agents": ["y", "a"]}],
    ),
    Case(
        "a second answer makes its request the one answered last",
        [ask("a", "c"), ask("b", "d"), answer("x", "c"), answer("x", "d"), answer("x", "c"), answer("y")],
        [ANSWERED, ANSWERED, {}, {}, {}, {"correlation_id": "c", "participating_agents": ["y", "a"]}],
    ),
    Case(
        "an answer before any request belongs to none",
        [answer("x"), ask("a"), answer("y")],
        [
            {"initiating_agent": "unknown", "participating_agents": ["x"], "pattern_type": "general"},
            ANSWERED,
            {"participating_agents": ["y", "a"]},
        ],
    ),
    Case(
        "a request whose answer came first is born answered",
        [answer("x", "c"), ask("a", "c")],
        [{"participating_agents": ["x"], "correlation_id": "c"}, {"has_response": 1, "correlation_id": "c"}],
    ),
    Case(
        "an early answer is used up by the request that it answers, however often it came",
        [answer("x", "c"), answer("y", "c"), ask("a", "c"), ask("b", "c")],
        [{}, {}, ANSWERED, PENDING],
    ),
    Case(
        "a late answer goes to the request that found no early answer left",
        [answer("x", "c"), ask("a", "c"), ask("b", "c"), answer("y", "c"), answer("z", "c")],
        [{}, ANSWERED, ANSWERED, {"participating_agents": ["y", "b"]}, {"participating_agents": ["z", "b"]}],
    ),
    Case(
        "an answer whose request was born answered is kept as early no more",
        [answer("x", "c"), ask("a", "c"), answer("y", "c"), ask("b", "c")],
        [{}, ANSWERED, {"participating_agents": ["y", "a"]}, PENDING],
    ),
    Case(
        "a request born answered is the one answered last",
        [ask("a", "d"), answer("x", "d"), answer("x", "c"), ask("b", "c"), answer("y")],
        [ANSWERED, {}, {"participating_agents": ["x"]}, ANSWERED, {"participating_agents": ["y", "b"]}],
    ),
    Case(
        "a late second answer belongs to the answered request and changes no other",
        [ask("a", "c"), answer("x", "c"), ask("b", "d"), answer("y", "c"), answer("z", "d")],
        [ANSWERED, {}, ANSWERED, {"participating_agents": ["y", "a"]}, {"participating_agents": ["z", "b"]}],
    ),
    Case(
        "a request that expects no response is left out by the choice and found by its correlation",
        [
            ask("a", "c", to_agent="x", expects_response=False),
            ask("b", to_agent="x", requests_response=False),
            ask("d"),
            answer("x"),
            answer("x", "c"),
        ],
        [
            {"requests_response": 0, "has_response": 1},
            {"requests_response": 0, "has_response": 0},
            {"requests_response": 1, "has_response": 1},
            {"participating_agents": ["x", "d"]},
            {"participating_agents": ["x", "a"]},
        ],
    ),
    Case(
        "a request that expects no response takes no correlation",
        [ask("a", expects_response=False), answer("x", "c"), ask("b", "c")],
        [{"correlation_id": None, "has_response": 0}, {"participating_agents": ["x"]}, ANSWERED],
    ),
    Case(
        "requests_response goes before expects_response, and neither counts unless it is a boolean",
        [
            ask("a", requests_response=False, expects_response=True),
            ask("a", requests_response="no", expects_response=False),
            ask("a", requests_response=0, expects_response=None),
            _record("agent:spawn", "a", None, {"expects_response": True}),
        ],
        [{"requests_response": n} for n in (0, 0, 1, 1)],
    ),
    Case(
        "what is no request is never answered, whatever it expects",
        [_record("agent:spawn", "a", "c", {"expects_response": True}), answer("x", "c")],
        [{"requests_response": 1, "has_response": 0}, {"participating_agents": ["x"]}],
    ),
    Case(
        "the last segment tells requests and answers from the rest",
        [
            at(T, "request"),
            at(T, "tool:call:request"),
            at(T, "request:sent"),
            at(T, "tool:error"),
            at(T, "a:response"),
            at(T, "x:cancelled"),
            at(T, "completion:progress"),
            at(T, "completion"),
        ],
        [
            {"is_request": 1, "is_completion": 0, "has_response": 1},
            {"is_request": 1, "is_completion": 0, "has_response": 1},
            {"is_request": 0, "requests_response": 0},
            {"is_request": 0, "is_completion": 0},
            {"is_request": 0},
            {"is_request": 0},
            {"is_request": 0, "is_completion": 1},
            {"is_request": 0, "is_completion": 0},
        ],
    ),
    Case(
        "an answer takes over its request's pattern, derived or not, unless it has its own",
        [
            ask("a", "c", to_agent="x"),
            answer("x", "c", to_agents=["a", "b"], team_id="t"),
            answer("x", "c", pattern="swarm", broadcast=True),
            answer("x", "other", to_agents=["a", "b"]),
        ],
        [
            {"pattern_type": "peer_to_peer", "conversation_id": "sess_1"},
            {"pattern_type": "peer_to_peer", "conversation_id": "t", "participating_agents": ["x", "a", "b"]},
            {"pattern_type": "swarm", "conversation_id": "sess_1"},
            {"pattern_type": "swarm", "participating_agents": ["x", "a", "b"]},
        ],
    ),
]


# --- limits -----------------------------------------------------------------------------------------------------------

_KEPT = 1_024

LIMITS = [
    Case(
        "the last 1,024 answered requests are found by a late answer, and none before them",
        [record for n in range(_KEPT + 1) for record in (ask("a", f"c{n}", pattern=f"p{n}"), answer("x", f"c{n}"))]
        + [answer("y", "c1"), answer("y", "c0"), ask("b", "c0")],
        [ANSWERED, {}] * (_KEPT + 1)
        + [
            {"participating_agents": ["y", "a"], "pattern_type": "p1"},
            {"participating_agents": ["y"], "pattern_type": "general"},
            ANSWERED,
        ],
    ),
    Case(
        "a request answered again is kept longer",
        [ask("a", f"c{n}") for n in range(_KEPT + 1)]
        + [answer("x", f"c{n}") for n in range(_KEPT)]
        + [answer("x", "c0"), answer("x", f"c{_KEPT}"), answer("y", "c0"), answer("y", "c1"), answer("y", "c2")],
        [ANSWERED] * (_KEPT + 1)
        + [{}] * (_KEPT + 2)
        + [
            {"participating_agents": ["y", "a"]},
            {"participating_agents": ["y"]},
            {"participating_agents": ["y", "a"]},
        ],
    ),
    Case(
        "the last 1,024 early correlations are kept, and none before them",
        [answer("x", f"e{n}") for n in range(_KEPT + 1)] + [ask("a", "e0"), ask("a", "e1"), ask("a", f"e{_KEPT}")],
        [{}] * (_KEPT + 1) + [PENDING, ANSWERED, ANSWERED],
    ),
    Case(
        "an early correlation that comes again is kept longer",
        [answer("x", f"e{n}") for n in range(_KEPT)]
        + [answer("x", "e0"), answer("x", "new"), ask("a", "e1"), ask("a", "e0"), ask("a", "e2")],
        [{}] * (_KEPT + 2) + [PENDING, ANSWERED, ANSWERED],
    ),
    Case(
        "a request born answered pushes the oldest answered one out",
        [answer("x", "early")]
        + [record for n in range(_KEPT) for record in (ask("a", f"c{n}"), answer("x", f"c{n}"))]
        + [ask("b", "early"), answer("y", "c0"), answer("y", "c1")],
        [{}]
        + [ANSWERED, {}] * _KEPT
        + [ANSWERED, {"participating_agents": ["y"]}, {"participating_agents": ["y", "a"]}],
    ),
    Case(
        "open requests are kept without limit",
        [ask(f"a{n}") for n in range(2 * _KEPT + 1)] + [answer("x")],
        [ANSWERED] + [PENDING] * (2 * _KEPT) + [{"participating_agents": ["x", "a0"]}],
    ),
]


# --- rows -------------------------------------------------------------------------------------------------------------

_DAY_START = 1_735_516_800  # 2024-12-30T00:00:00Z

ROWS = [
    Case(
        "a timestamp is read in seconds, milliseconds, microseconds, nanoseconds or ISO 8601",
        [
            at(T),
            at(T + 0.5),
            at(T * 1_000 + 250),
            at(T * 1_000_000 + 250_000),
            at(T * 1_000_000_000 + 250_000_000),
            at("2024-12-29T19:20:00.250"),
            at("2024-12-29T19:20:00.250Z"),
            at("2024-12-30T01:20:00+06:00"),
            at("2024-12-30"),
            at(0),
            at(99_999_999_999),
            at(100_000_000_000),
            at(99_999_999_999_999),
            at(100_000_000_000_000),
            at(99_999_999_999_999_999),
            at(100_000_000_000_000_000),
            at("9999-12-31T23:59:59Z"),
        ],
        [
            {"timestamp": float(T), "day": "2024-12-29"},
            {"timestamp": T + 0.5},
            {"timestamp": T + 0.25},
            {"timestamp": T + 0.25},
            {"timestamp": T + 0.25},
            {"timestamp": T + 0.25},
            {"timestamp": T + 0.25},
            {"timestamp": float(T), "day": "2024-12-29"},
            {"timestamp": float(_DAY_START), "day": "2024-12-30"},
            {"timestamp": 0.0, "day": "1970-01-01"},
            {"timestamp": 99_999_999_999.0, "day": "5138-11-16"},
            {"timestamp": 100_000_000.0, "day": "1973-03-03"},
            {"timestamp": 99_999_999_999.999, "day": "5138-11-16"},
            {"timestamp": 100_000_000.0, "day": "1973-03-03"},
            {"timestamp": 100_000_000_000.0, "day": "5138-11-16"},
            {"timestamp": 100_000_000.0, "day": "1973-03-03"},
            {"timestamp": 253_402_300_799.0, "day": "9999-12-31"},
        ],
    ),
    Case(
        "a time that is none gives way to that of the record before",
        [at(T)]
        + [
            at(value)
            for value in (
                -1,
                True,
                None,
                "yesterday",
                "",
                "1969-12-31T23:59:59Z",
                str(T),
                [T],
                {"s": T},
                2.534023008e20,
            )
        ]
        + [at("9999-12-31T23:59:59-01:00"), {"event": "agent:spawn"}, at(T - 86_400), {"event": "agent:spawn"}],
        [{"timestamp": float(T)}] * 13 + [{"timestamp": T - 86_400.0, "day": "2024-12-28"}] * 2,
    ),
    Case(
        "without a time before it a record has that of the file",
        [{"event": "agent:spawn"}, b"no record", at("soon"), at(T), {"event": "agent:spawn"}],
        [{"timestamp": MTIME}, {"timestamp": MTIME}, {"timestamp": float(T)}, {"timestamp": float(T)}],
        rejected=[(2, 24, 9, "not-json")],
    ),
    Case(
        "a day ends at midnight and not a moment before",
        [at(_DAY_START - 0.0000002), at(_DAY_START)],
        [{"day": "2024-12-29"}, {"day": "2024-12-30"}],
    ),
    Case(
        "the first author of what is no answer owns the session and stays its owner",
        [at(T), answer("x"), at(T, "agent:spawn") | {"agent_id": "a"}, ask("b"), ask(), answer()],
        [
            {"initiating_agent": "unknown", "participating_agents": []},
            {"initiating_agent": "unknown", "participating_agents": ["x"]},
            {"initiating_agent": "a", "participating_agents": ["a"]},
            {"initiating_agent": "a", "participating_agents": ["b"], "has_response": 1},
            {"initiating_agent": "a", "participating_agents": ["a"], "has_response": 0},
            {"initiating_agent": "a", "participating_agents": ["b"]},
        ],
    ),
    Case(
        "who is answered before anybody asks owns the session, as who had asked",
        [answer("x", "c"), answer("y", to_agents=["a", "b"]), answer("z", to_agent="d"), ask("e"), ask()],
        [
            {"initiating_agent": "unknown"},
            {"initiating_agent": "a", "author": "y"},
            {"initiating_agent": "a"},
            {"initiating_agent": "a", "author": "e"},
            {"initiating_agent": "a", "author": "a"},
        ],
    ),
    Case(
        "an event file that answers somebody is of who was answered",
        [answer("x", "c", to_agent="a")],
        [{"initiating_agent": "a", "author": "x"}],
        path="events/2024-12-29/evt_1735500000.5_completion:result.json",
        layout="file",
    ),
    Case(
        "in a stream nobody becomes an owner by an answer",
        [answer("x", "c", to_agent="a"), ask()],
        [{"initiating_agent": "unknown"}, {"initiating_agent": "unknown", "author": None}],
        path="events/all.jsonl",
        layout="stream",
    ),
    Case(
        "the author stands in data, else in metadata, else at the top, and is a string or an integer",
        [
            {"event": "e", "data": {"agent_id": "d"}, "metadata": {"agent_id": "m"}, "agent_id": "t"},
            {"event": "e", "data": {"agent_id": ""}, "metadata": {"agent_id": "m"}, "agent_id": "t"},
            {"event": "e", "data": {"agent_id": 1.5}, "metadata": {"agent_id": True}, "agent_id": "t"},
            {"event": "e", "data": {"agent_id": ["x"]}, "metadata": {"agent_id": 42}, "agent_id": "t"},
            {"event": "e", "data": [], "metadata": "m", "agent_id": 0},
        ],
        [{"participating_agents": [name]} for name in ("d", "m", "t", "42", "0")],
    ),
    Case(
        "addressees stand in four places, members in one, and nobody takes part twice",
        [
            {
                "event": "completion:request",
                "agent_id": "a",
                "data": {
                    "to_agent": "b",
                    "to_agents": ["c", "b", "", None, 7, True, 1.5, ["z"]],
                    "routing": {"to_agent": ["d"], "to_agents": "e"},
                    "participants": ["f", "a", 8],
                },
            },
            ask("a", participants="g"),
            ask("a", to_agent=9),
            ask("a", to_agent=["b", "b"]),
        ],
        [
            {"participating_agents": ["a", "b", "c", "7", "d", "e", "f", "8"], "pattern_type": "swarm"},
            {"participating_agents": ["a"], "pattern_type": "general"},
            {"participating_agents": ["a", "9"], "pattern_type": "peer_to_peer"},
            {"participating_agents": ["a", "b"], "pattern_type": "peer_to_peer"},
        ],
    ),
    Case(
        "a pattern is the record's own, else broadcast, team, peer_to_peer, swarm, general",
        [
            ask("a", pattern="mine", broadcast=True),
            ask("a", pattern="") | {"metadata": {"pattern": 5}},
            ask("a", broadcast=True, team_id="t", to_agent="b"),
            ask("a", broadcast="true", team_id="t", to_agent="b"),
            ask("a", broadcast=1, to_agent="b"),
            ask("a", team_id="", to_agents=["b", "c"]),
            ask("a") | {"metadata": {"team_id": 3}},
            ask("a"),
        ],
        [
            {"pattern_type": name}
            for name in ("mine", "5", "broadcast", "team", "peer_to_peer", "swarm", "team", "general")
        ],
    ),
    Case(
        "a conversation goes before a team, and either before the session",
        [
            ask("a", conversation_id="d", team_id="t") | {"metadata": {"conversation_id": "m"}},
            ask("a", team_id="t") | {"metadata": {"conversation_id": "m"}},
            ask("a", team_id="t") | {"metadata": {"team_id": "u"}},
            ask("a", session_id="elsewhere"),
        ],
        [
            {"conversation_id": "d"},
            {"conversation_id": "m"},
            {"conversation_id": "t"},
            {"conversation_id": "sess_1", "session_id": "sess_1"},
        ],
    ),
    Case(
        "a correlation stands in six places",
        [
            {"event": "e", "correlation_id": "1", "data": {"correlation_id": "2"}},
            {"event": "e", "correlation_id": False, "data": {"correlation_id": "2"}, "metadata": {"correlation_id": 3}},
            {"event": "e", "metadata": {"correlation_id": 3}, "request_id": "4"},
            {"event": "e", "request_id": "4", "data": {"request_id": "5"}},
            {"event": "e", "request_id": "", "data": {"request_id": "5"}, "metadata": {"request_id": "6"}},
            {"event": "e", "metadata": {"request_id": "6"}},
            {"event": "e"},
        ],
        [{"correlation_id": c} for c in ("1", "2", "3", "4", "5", "6", None)],
    ),
    Case(
        "roles change in three ways, carry on through the file, and show for each who takes part",
        [
            ask("a", role="peer"),
            ask("a", to_agent="b"),
            answer("b", role="analyst"),
            ask("a", to_agent="b", new_role="lead", role="ignored"),
            ask(context={"role_transition": {"to": "guide"}}, new_role="ignored"),
            ask("d", to_agent="e", role=""),
            ask("d", participants=["b", "a"]),
        ],
        [
            {"agent_roles": {"a": "peer"}},
            {"agent_roles": {"a": "peer"}},
            {"agent_roles": {"b": "analyst", "a": "peer"}, "participating_agents": ["b", "a"]},
            {"agent_roles": {"a": "lead", "b": "analyst"}},
            {"agent_roles": {"a": "guide"}, "participating_agents": ["a"]},
            {"agent_roles": {}},
            {"agent_roles": {"b": "analyst", "a": "guide"}},
        ],
    ),
    Case(
        "an answer without author changes no role",
        [ask("a"), answer(role="lead"), ask("a")],
        [{"agent_roles": {}}] * 3,
    ),
    Case(
        "a session is completed where a record says so at its top, in data or in metadata",
        [ask("a"), answer("x") | {"metadata": {"status": "completed"}}],
        [{}, {}],
        completed=frozenset({"sess_1"}),
    ),
    Case(
        "no other status completes a session",
        [ask("a", status="active"), ask("a", status=["completed"]), ask("a", result={"status": "completed"})],
        [{}, {}, {}],
    ),
]


# --- lines ------------------------------------------------------------------------------------------------------------

LINES = [
    Case(
        "blank lines count as lines and are no rows",
        [b"", at(T), b"\r", b" \t", at(T)],
        [
            {"line_number": 2, "byte_offset": 1, "byte_length": 46, "id": "sess_1:1"},
            {"line_number": 5, "byte_offset": 53, "byte_length": 46, "id": "sess_1:53"},
        ],
    ),
    Case(
        "a CR at the end is part of the line's length and not of its JSON",
        [b'{"event":"e"}\r', b'{"event":"e"}'],
        [{"byte_offset": 0, "byte_length": 14}, {"byte_offset": 15, "byte_length": 13}],
    ),
    Case(
        "what is no record is rejected with its place and reason, and leaves no trace in what follows",
        [
            ask("a"),
            b"{",
            b"\xff\xfe",
            b"[1]",
            b"7",
            b"null",
            b'{"event":""}',
            b'{"event":5,"timestamp":1,"agent_id":"z"}',
            b'{"data":{"event":"e"}}',
            b'{"event":"e","x":"\\ud8z0"}',
            b'{"event":"e","x":nan}',
            b"[" * 1_025 + b"]" * 1_025,
            at(None),
        ],
        [{"line_number": 1}, {"line_number": 13, "timestamp": float(T), "participating_agents": ["a"]}],
        rejected=[
            (2, 78, 1, "not-json"),
            (3, 80, 2, "not-json"),
            (4, 83, 3, "not-object"),
            (5, 87, 1, "not-object"),
            (6, 89, 4, "not-object"),
            (7, 94, 12, "no-event-type"),
            (8, 107, 40, "no-event-type"),
            (9, 148, 22, "no-event-type"),
            (10, 171, 26, "not-json"),
            (11, 198, 21, "not-json"),
            (12, 220, 2_050, "not-json"),
        ],
    ),
    Case(
        "a record that is not strict JSON is a record all the same",
        [
            b'{"event":"completion:request","timestamp":NaN,"data":{"agent_id":"a","x":"\\ud800"},"request_id":"q"}',
            b'{"event":"completion:result","timestamp":1e999,"data":{"agent_id":"\xff"},"request_id":"q"}',
            b'{"event":"e","x":"\t\x01","timestamp":-Infinity}\r',
        ],
        [
            {"line_number": 1, "has_response": 1, "timestamp": 1_735_500_777.25},
            {"line_number": 2, "participating_agents": ["\ufffd", "a"], "timestamp": 1_735_500_777.25},
            {"line_number": 3, "byte_length": 45},
        ],
        mtime=1_735_500_777.25,
    ),
    Case(
        "a line is what stands between the NULs at its ends, and behind a byte order mark",
        [b'\xef\xbb\xbf\0{"event":"e"}', b"\0\0\0", b'\0{"event":"e"}\0\0', b"\0x\0"],
        [{"line_number": 1, "byte_offset": 4}, {"line_number": 3, "byte_offset": 23}],
        rejected=[(4, 40, 1, "not-json")],
    ),
    Case(
        "a file in another encoding is rejected line by line",
        [b"\xff\xfe" + b'{"event":"e"}'.decode().encode("utf-16-le"), b'\0{"event":"e"}'],
        [],
        rejected=[(1, 0, 28, "not-utf8"), (2, 29, 14, "not-utf8")],
    ),
    Case(
        "a line is too long from its first byte over the limit",
        [b'{"event":"e"}', b'{"event":"e"} ', b"x" * 50, b" " * 14, b'{"event":"e"}'],
        [{"line_number": 1}, {"line_number": 5, "byte_offset": 95}],
        rejected=[(2, 14, 14, "too-long"), (3, 29, 50, "too-long"), (4, 80, 14, "too-long")],
        max_line_bytes=13,
    ),
    Case(
        "a last line without LF that is a record is taken once nothing more comes",
        [at(T)],
        [{"line_number": 1}, {"line_number": 2, "byte_offset": 47, "timestamp": T}],
        tail=b'{"event":"e"}',
    ),
    Case("a last line without LF that is no record waits", [at(T)], [{"line_number": 1}], tail=b'{"event":"e"'),
    Case("an empty file has no rows", [], []),
]


# --- the other layouts ------------------------------------------------------------------------------------------------

_EVENT = "events/2024-12-29/evt_1735500000.123_agent_spawn.json"

EVENT_FILES = [
    Case(
        "an event file without more has its type and time from its name",
        [],
        [
            {
                "id": "evt_1735500000.123_agent_spawn:0",
                "timestamp": 1735500000.123,
                "event_type": "agent_spawn",
                "session_id": "",
                "file_path": _EVENT,
                "line_number": 1,
                "byte_offset": 0,
                "initiating_agent": "unknown",
                "participating_agents": [],
                "agent_roles": {},
                "pattern_type": "general",
                "conversation_id": "",
                "correlation_id": None,
                "is_completion": 0,
                "is_request": 0,
                "has_response": 0,
                "requests_response": 0,
                "day": "2024-12-29",
                "byte_length": 2,
            }
        ],
        tail=b"{}",
        path=_EVENT,
        layout="file",
    ),
    Case(
        "what an event file says goes before its name",
        [
            b'{\n  "event": "agent:spawn",\n  "timestamp": 1735516800,\n  "session_id": "top",\n'
            b'  "data": {"agent_id": "a", "role": "lead", "session_id": 5, "to_agent": "b"}\n}'
        ],
        [
            {
                "event_type": "agent:spawn",
                "timestamp": 1735516800.0,
                "day": "2024-12-30",
                "session_id": "5",
                "conversation_id": "5",
                "line_number": 1,
                "byte_offset": 0,
                "byte_length": 157,
                "initiating_agent": "a",
                "participating_agents": ["a", "b"],
                "agent_roles": {"a": "lead"},
                "pattern_type": "peer_to_peer",
            }
        ],
        path=_EVENT,
        layout="file",
    ),
    Case(
        "an event that is no type and a time that is none give way to the file's name",
        [{"event": 5, "timestamp": "soon", "metadata": {"session_id": "s", "status": "completed"}}],
        [{"event_type": "agent_spawn", "timestamp": 1735500000.123, "session_id": "s"}],
        completed=frozenset({"s"}),
        path=_EVENT,
        layout="file",
    ),
    Case(
        "an event file of another name has the time of the file, and no type but its own",
        [{"event": "agent:spawn"}],
        [{"event_type": "agent:spawn", "timestamp": MTIME}],
        path="events/2024-12-29/evt_agent_spawn.json",
        layout="file",
    ),
    Case(
        "an event file without a type anywhere is rejected",
        [{"data": {}}],
        [],
        rejected=[(1, 0, 11, "no-event-type")],
        path="events/2024-12-29/evt_agent_spawn.json",
        layout="file",
    ),
    Case(
        "an event file that does not parse is rejected whole, less its last LF",
        [b'{"event": "agent:spawn"', b""],
        [],
        rejected=[(1, 0, 24, "not-json")],
        path=_EVENT,
        layout="file",
    ),
    Case(
        "an event file that is no object is rejected",
        [b"[]"],
        [],
        rejected=[(1, 0, 2, "not-object")],
        path=_EVENT,
        layout="file",
    ),
    Case(
        "a request in an event file is pending",
        [{"event": "tool:request", "agent_id": "a", "correlation_id": "c"}],
        [{"is_request": 1, "requests_response": 1, "has_response": 0, "initiating_agent": "a"}],
        path=_EVENT,
        layout="file",
    ),
]

STREAMS = [
    Case(
        "in a stream each record begins with its own author, and an answer with that of its request",
        [
            ask("a", "c", session_id="s1"),
            ask(None, "d"),
            answer("x", "c"),
            answer("x", "d", session_id="s2"),
            answer("x", "e"),
            at(T) | {"session_id": 7, "agent_id": "b"},
            at(T),
        ],
        [
            {"initiating_agent": "a", "session_id": "s1", "conversation_id": "s1", "has_response": 1},
            {"initiating_agent": "unknown", "session_id": "", "participating_agents": [], "has_response": 1},
            {
                "initiating_agent": "a",
                "session_id": "",
                "conversation_id": "s1",
                "participating_agents": ["x", "a"],
            },
            {
                "initiating_agent": "unknown",
                "session_id": "s2",
                "conversation_id": "",
                "participating_agents": ["x"],
            },
            {"initiating_agent": "unknown", "participating_agents": ["x"]},
            {"initiating_agent": "b", "session_id": "7", "conversation_id": "7"},
            {"initiating_agent": "unknown", "session_id": "", "participating_agents": []},
        ],
        path="responses/stream.jsonl",
        layout="stream",
    ),
    Case(
        "a stream completes the sessions its records name",
        [ask("a", session_id="s1", status="completed"), ask("a", status="completed"), ask("a", session_id="s2")],
        [{}, {}, {}],
        completed=frozenset({"s1"}),
        path="responses/stream.jsonl",
        layout="stream",
    ),
]

CASES = REFERENCE + LINKING + LIMITS + ROWS + LINES + EVENT_FILES + STREAMS
