"""Each number of the analysis is what a plain computation over `Index.timeline` says, on generated logs.

The computations here are written from docs/analysis.md alone, entry by entry, and share nothing with the package.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from helpers import story
from helpers.story import Story
from helpers.support import once, reference, write_lines
from helpers.trees import tree
from sidecar import Entry, Index, analyze

Span = tuple[float | None, float | None]


@pytest.fixture(scope="module", params=["any records", "a shop", "a crowd"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    if request.param == "any records":
        tree(root, 2, sessions=5, lines=60, events=10)
    elif request.param == "a shop":
        Story(root, tasks_a_day=8, seed=3)
    else:
        crowd(root, random.Random(4))
    once(reference(root))
    return root


def crowd(root: Path, draw: random.Random) -> None:
    """Few agents that say much to each other, in several conversations at once, over two midnights, at equal times."""
    agents = ["a", "b", "c", "d", "e", "f"]
    for session in range(8):
        lines, open_requests = [], list[tuple[str, str]]()
        at = story.BEGIN + draw.choice([-200, 50, 80_000])
        for number in range(draw.randint(60, 200)):
            at += draw.choice([0, 0, 1, 5, 300]) if session != 3 else 1
            author, *others = draw.sample(agents, draw.choice([2, 2, 2, 3]))
            data: dict[str, Any] = {"agent_id": author, "conversation_id": f"talk_{draw.randrange(4)}"}
            line: dict[str, Any] = {"event": "message:sent", "timestamp": at, "data": data}
            what = draw.random()
            if session == 3:  # rounds of all lengths, broken now and then
                place = number % (2 + number // 40)
                data |= {"agent_id": agents[place], "to_agent": agents[(place + 1) % (2 + number // 40)]}
                data |= {"conversation_id": "rounds", "content": "on"}
            elif what < 0.1:
                line["event"] = "agent:role_change"
                data["new_role"] = draw.choice(["lead", "coder", "tester"])
            elif what < 0.5:
                line |= {"event": "completion:request", "request_id": f"r_{session}_{number}"}
                data |= {"to_agents": others} if len(others) > 1 else {"to_agent": others[0]}
                data["prompt"] = "x" * draw.randrange(3)
                open_requests.append((others[0], line["request_id"]))
            elif what < 0.8 and open_requests:
                answerer, request = open_requests.pop(draw.randrange(len(open_requests)))
                data["agent_id"] = answerer
                line |= {"event": draw.choice(["completion:result", "completion:error"]), "request_id": request}
            else:
                data["to_agent"] = others[0]
            lines.append(line)
        write_lines(root / f"responses/sessions/sess_{session}.jsonl", *lines)


@pytest.fixture
def index(root: Path) -> Iterator[Index]:
    with Index(root) as index:
        yield index


def spans(index: Index) -> list[Span]:
    times = [entry.timestamp for entry in index.timeline()]
    return [(None, None), (times[len(times) // 3], None), (times[len(times) // 4], times[len(times) * 3 // 4])]


def entries(index: Index, since: float | None, until: float | None) -> list[Entry]:
    return [
        entry
        for entry in index.timeline()
        if (since is None or entry.timestamp >= since) and (until is None or entry.timestamp < until)
    ]


def interval(part: int, whole: int) -> Any:
    """Wilson's interval, from the textbook: the roots of (p - share)² = z² p (1 - p) / n."""
    share, z = part / whole, 1.96
    a, b, c = 1 + z * z / whole, -2 * share - z * z / whole, share * share
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return pytest.approx(((-b - root) / (2 * a), (-b + root) / (2 * a)), abs=1e-9)


def percentile(times: list[float], percent: int) -> float | None:
    return sorted(times)[min(len(times) - 1, len(times) * percent // 100)] if times else None


def seconds(asked: list[Entry]) -> list[float]:
    return [entry.answered_after for entry in asked if entry.answered_after is not None]


# ---- messages and requests


def test_an_edge_counts_what_an_author_said_to_an_addressee(index: Index) -> None:
    for span in spans(index):
        plain: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for entry in entries(index, *span):
            for other in entry.addressees if entry.author is not None else ():
                sums = plain[str(entry.author), other]
                sums["count"] += 1
                if entry.requests_response:
                    sums["asked"] += 1
                    sums["answered" if entry.has_response else "pending"] += 1
        found = analyze.graph(index, *span)
        assert plain and {
            (edge.author, edge.addressee): Counter(
                count=edge.count, asked=edge.asked, answered=edge.answered, pending=edge.pending
            )
            for edge in found.edges
        } == dict(plain)
        for node in found.nodes:
            assert node.sent == sum(sums["count"] for pair, sums in plain.items() if pair[0] == node.agent)
            assert node.pending == sum(sums["pending"] for pair, sums in plain.items() if pair[1] == node.agent)


def ends(entry: Entry) -> tuple[float, float]:
    """When a request was answered, if that was on the same day, and the day."""
    return round(entry.timestamp + (entry.answered_after or 0), 4), entry.timestamp // 86400


@pytest.mark.parametrize("by", ["pair", "agent", "role"])
def test_latency_is_that_of_the_requests(index: Index, by: Any) -> None:
    failed = {
        (entry.correlation_id, (round(entry.timestamp, 4), entry.timestamp // 86400))
        for entry in index.timeline()
        if entry.event_type.split(":")[-1] in ("error", "cancelled", "failed") and entry.correlation_id
    }
    for span in spans(index):
        plain: defaultdict[tuple[str | None, str | None], list[Entry]] = defaultdict(list)
        for entry in entries(index, *span):
            for other in entry.addressees if entry.requests_response else ():
                if by == "agent":
                    plain[None, other].append(entry)
                elif by == "role":
                    plain[None, entry.agent_roles.get(other)].append(entry)
                elif entry.author is not None:
                    plain[entry.author, other].append(entry)
        rows = {(row.asker, row.answerer): row for row in analyze.latency(index, *span, by=by)}
        assert plain and rows.keys() == plain.keys()
        for key, asked in plain.items():
            row = rows[key]
            answered = sum(entry.has_response for entry in asked)
            assert (row.asked, row.answered, row.share) == (len(asked), answered, answered / len(asked))
            assert (row.low, row.high) == interval(answered, len(asked))
            assert row.errors == sum((entry.correlation_id, ends(entry)) in failed for entry in asked)
            times = seconds(asked)
            assert (row.p50, row.p90, row.p95, row.p99) == tuple(percentile(times, p) for p in (50, 90, 95, 99))


def test_activity_counts_what_an_author_said_in_a_slice_of_time(index: Index) -> None:
    for span in spans(index):
        plain: defaultdict[tuple[float, str | None], Counter[str]] = defaultdict(Counter)
        for entry in entries(index, *span):
            sums = plain[entry.timestamp // 600 * 600, entry.author]
            sums.update(said=1, asked=entry.requests_response, waiting=entry.requests_response > entry.has_response)
        assert [
            (one.begin, one.agent, one.said, one.asked, one.waiting) for one in analyze.activity(index, *span, 600)
        ] == [
            (*key, sums["said"], sums["asked"], sums["waiting"])
            for key, sums in sorted(plain.items(), key=lambda one: (one[0][0], one[0][1] or ""))
        ]


# ---- roles and teams


def held(index: Index, span: Span) -> list[tuple[str, str, str, float, float, bool]]:
    """Session, agent, role, begin, end, and whether it ended."""
    begun: dict[tuple[str, str], tuple[str, float]] = {}
    last: dict[str, float] = {}
    found = []
    for entry in entries(index, *span):
        if entry.session_id:
            last[entry.session_id] = entry.timestamp
            for agent, role in entry.agent_roles.items():
                before, since = begun.get((entry.session_id, agent), (None, 0.0))
                if before != role:
                    if before is not None:
                        found.append((entry.session_id, agent, before, since, entry.timestamp, True))
                    begun[entry.session_id, agent] = (role, entry.timestamp)
    found += [(session, agent, role, since, last[session], False) for (session, agent), (role, since) in begun.items()]
    return sorted(found, key=lambda one: (one[0], one[1], one[3]))


def test_a_role_is_held_until_the_agent_has_another(index: Index) -> None:
    for span in spans(index):
        plain = held(index, span)
        found = sorted(analyze.role_spans(index, *span), key=lambda one: (one.session, one.agent, one.since))
        assert plain and sorted(plain) == sorted(
            (one.session, one.agent, one.role, one.since, one.until, one.is_over) for one in found
        )
        roles = analyze.roles(index, *span)
        for use in roles.uses:
            assert use.spans == sum(one[2] == use.role for one in plain)
            assert use.censored == sum(one[2] == use.role and not one[5] for one in plain)
            assert use.seconds == pytest.approx(sum(one[4] - one[3] for one in plain if one[2] == use.role))
            assert use.dwell == percentile([one[4] - one[3] for one in plain if one[2] == use.role and one[5]], 50)
        assert sum(change.count for change in roles.transitions) == sum(one[5] for one in plain)
        shares: Counter[str] = Counter()
        for change in roles.transitions:
            shares[change.before] += change.share  # type: ignore[assignment]
        assert all(share == pytest.approx(1) for share in shares.values())


@pytest.mark.parametrize("by", ["roles", "agents"])
def test_a_team_is_what_its_conversations_are_made_of(index: Index, by: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.analyze.conversations.LEAST_CONVERSATIONS", 1)
    for span in spans(index):
        sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for _, agent, role, since, until, _ in held(index, span):
            sums[agent][role] += until - since  # type: ignore[assignment]
        main = {agent: min(roles, key=lambda role: (-roles[role], role)) for agent, roles in sums.items()}
        conversations: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in entries(index, *span):
            conversations[entry.conversation_id].append(entry)
        plain: defaultdict[tuple[str, ...], list[list[Entry]]] = defaultdict(list)
        for said in conversations.values():
            agents = {agent for entry in said for agent in entry.participating_agents}
            plain[tuple(sorted(main.get(agent, agent) if by == "roles" else agent for agent in agents))].append(said)
        found = {team.members: team for team in analyze.teams(index, *span, by=by)}
        for members, group in plain.items():
            asked = [entry for said in group for entry in said if entry.requests_response]
            assert (members in found) == bool(asked)
            if asked:
                team, times = found[members], sorted(seconds(asked))
                answered = sum(entry.has_response for entry in asked)
                assert (team.conversations, team.asked, team.answered) == (len(group), len(asked), answered)
                assert (team.low, team.high) == interval(answered, len(asked))
                assert team.median == percentile(times, 50)
                if times:
                    half = 0.98 * math.sqrt(len(times))
                    assert team.median_low == times[max(0, int(len(times) / 2 - half))]
                    assert team.median_high == times[min(len(times) - 1, int(len(times) / 2 + half))]


def test_one_act_follows_another_in_a_conversation(index: Index) -> None:
    for span in spans(index):
        conversations: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in entries(index, *span):
            conversations[entry.conversation_id].append(entry)
        follows: Counter[Any] = Counter()
        ways: Counter[tuple[str, ...]] = Counter()
        for said in conversations.values():
            acts = [(one.event_type, one.agent_roles.get(one.author) if one.author else None) for one in said]
            follows.update(pairwise(acts))
            steps: list[str] = []
            for one in said:
                if one.author is not None and one.addressees:
                    to = "+".join(sorted({one.agent_roles.get(other, "-") for other in one.addressees}))
                    steps.append(f"{one.agent_roles.get(one.author, '-')} → {to}")
            way = [step for place, step in enumerate(steps) if not place or steps[place - 1] != step]
            if way:
                ways[(*way[:50], str(len(way)))] += 1
        found = analyze.process(index, *span)
        assert follows == {
            ((one.before.event_type, one.before.role), (one.after.event_type, one.after.role)): one.count
            for one in found.follows
        }
        shown: Counter[tuple[str, ...]] = Counter()
        for way_ in found.variants:
            shown[(*way_.steps, str(way_.length))] += way_.conversations
        assert shown == ways


# ---- what needs somebody


def plain_loops(said: list[Entry]) -> Iterator[tuple[tuple[str, ...], int, float, float]]:
    edges = [(str(entry.author), entry.addressees) for entry in said]
    at = 0
    while at < len(edges):
        best = (0, 0)
        for p in (2, 3, 4, 5):
            walk = edges[at : at + p]
            closes = len(walk) == p and all(walk[i][1] == (walk[(i + 1) % p][0],) for i in range(p))
            end = at + p
            while closes and end < len(edges) and edges[end] == edges[end - p]:
                end += 1
            if closes and end - at >= max(12, 4 * p) and end - at > best[1]:
                best = (p, end - at)
        if best[1]:
            last = said[at + best[1] - 1]
            agents = tuple(edge[0] for edge in edges[at : at + best[0]])
            yield agents, best[1], said[at].timestamp, last.timestamp
        at += best[1] or 1


def is_answer(entry: Entry) -> bool:
    return entry.event_type.split(":")[-1] in ("result", "response", "error", "cancelled")


def test_a_loop_is_a_round_that_repeats(index: Index, root: Path) -> None:
    some = False
    for span in spans(index):
        conversations: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in entries(index, *span):
            if entry.author is not None and entry.addressees and not is_answer(entry):
                conversations[entry.conversation_id].append(entry)
        plain = [(*loop, name) for name, said in conversations.items() for loop in plain_loops(said)]
        assert sorted(plain) == sorted(
            (one.agents, one.messages, one.since, one.until, one.conversation) for one in analyze.loops(index, *span)
        )
        some = some or bool(plain)
    assert some or not (root / "responses/sessions/sess_pingpong.jsonl").exists()


def test_silence_and_storms_are_judged_by_history(index: Index) -> None:
    for span in spans(index):
        asked: defaultdict[str, list[Entry]] = defaultdict(list)
        last: dict[str, float] = {}
        for entry in entries(index, *span):
            if entry.author is not None:
                last[entry.author] = entry.timestamp
            for other in set(entry.addressees) if entry.requests_response else ():
                asked[other].append(entry)
        silent = {}
        storms: Counter[str] = Counter()
        for agent, requests in asked.items():
            waits = [entry.timestamp for entry in requests if not entry.has_response]
            rate = len(waits) / max(86400.0, requests[-1].timestamp - requests[0].timestamp) * 600
            for first in range(len(waits)):
                k = sum(waits[first] <= one <= waits[first] + 600 for one in waits[first:])
                below = sum(math.exp(-rate) * rate**n / math.factorial(n) for n in range(k))
                if k >= 8 and 1 - below < 1e-6:
                    storms[agent] = max(storms[agent], k)
            before = [entry.has_response for entry in requests if entry.timestamp <= last.get(agent, -1)]
            after = [entry.has_response for entry in requests if entry.timestamp > last.get(agent, -1)]
            if len(before) >= 20 and len(after) >= 2 and not any(after):
                odds = (1 - sum(before) / len(before)) ** len(after)
                if odds < 1e-3:
                    silent[agent] = (len(after), last[agent], max(odds, 1e-12))
        assert {one.agent: (one.requests, one.since, one.odds) for one in analyze.silent(index, *span)} == silent
        found: Counter[str] = Counter()
        for storm in analyze.storms(index, *span):
            found[storm.agent] = max(found[storm.agent], storm.peak)
        assert found == storms


def test_duplicates_say_the_same(index: Index) -> None:
    for span in spans(index):
        plain: Counter[tuple[str, tuple[str, ...], int, str]] = Counter()
        for entry in entries(index, *span):
            if entry.author is not None and entry.addressees and not is_answer(entry):
                record = index.read(entry)
                said = record.get("data") or record
                ids = ("agent_id", "conversation_id", "request_id", "session_id")
                text = repr(sorted((key, value) for key, value in said.items() if key not in ids))
                plain[entry.author, entry.addressees, len(index.read_bytes(entry)), text] += 1
        found = analyze.duplicates(index, *span)
        counts = sorted((key[:3], count) for key, count in plain.items() if count >= 4)
        assert sorted(((one.author, one.addressees, one.bytes), one.messages) for one in found) == counts


def test_a_day_with_more_entries_than_are_sorted_in_memory_says_the_same(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[Any] = [analyze.role_spans, analyze.process, analyze.loops]
    before = [question(index) for question in questions]
    monkeypatch.setattr("sidecar.query.day_facts.MAX_SORTED", 0)
    monkeypatch.setattr("sidecar.query.day_facts._CHUNK", 7)
    assert [question(index) for question in questions] == before
