"""What conversations are made of: their teams, and the ways that they take."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from sidecar.errors import SidecarError
from sidecar.query.day_facts import ASKS, DayFacts, of_each_day
from sidecar.query.index import Index
from sidecar.times import Time

from .answers import Answers
from .role_use import held_longest, role_spans
from .statistics import median_interval, quantile, wilson
from .values import Act, Follows, Process, Team, TeamBy, Variant

LEAST_CONVERSATIONS = 8
"""A team with fewer conversations is left out."""
MAX_STEPS = 50
"""The steps of a variant that are returned."""


@dataclass(slots=True)
class _Conversation:
    participants: set[str] = field(default_factory=set)
    entries: int = 0
    answers: Answers = field(default_factory=Answers)


def teams(index: Index, since: Time | None = None, until: Time | None = None, by: TeamBy = "roles") -> tuple[Team, ...]:
    """The compositions of conversations: the participants as a multiset of their main roles (the ones that each held
    longest), or by `agents`, as a set of names. Only teams with at least 8 conversations and one request, in the order
    of the lower end of the interval of their answered share, best first; then by members.

    Raises BadTime, and the errors of `Index`.
    """
    if by not in ("roles", "agents"):
        raise SidecarError(f"by: {by!r} is neither 'roles' nor 'agents'")
    known: defaultdict[str, _Conversation] = defaultdict(_Conversation)
    for day in of_each_day(index, _day_conversations, since, until):
        for name, of_day in day.items():
            one = known[name]
            one.participants |= of_day.participants
            one.entries += of_day.entries
            one.answers += of_day.answers
    roles = held_longest(role_spans(index, since, until)) if by == "roles" else {}
    groups: defaultdict[tuple[str, ...], list[_Conversation]] = defaultdict(list)
    for one in known.values():
        groups[tuple(sorted(roles.get(agent, agent) for agent in one.participants))].append(one)
    found = [_team(members, group) for members, group in groups.items() if len(group) >= LEAST_CONVERSATIONS]
    return tuple(sorted((team for team in found if team.asked), key=lambda team: (-team.low, team.members)))


def _day_conversations(day: DayFacts) -> Mapping[str, _Conversation]:
    found: defaultdict[str, _Conversation] = defaultdict(_Conversation)
    for context, party, entries in day.counts("e.context", "e.party"):
        one = found[day.contexts[context][1]]
        one.participants.update(day.parties[party])
        one.entries += entries
    for context, has_response, seconds in day.rows("context", "has_response", "answered_after", term=ASKS):
        found[day.contexts[context][1]].answers.add(has_response, seconds)
    return found


def _team(members: tuple[str, ...], group: list[_Conversation]) -> Team:
    answers = Answers()
    for one in group:
        answers += one.answers
    times = sorted(answers.times)
    share = answers.answered / answers.asked if answers.asked else 0.0
    ends = wilson(answers.answered, answers.asked)
    entries = sum(one.entries for one in group)
    counts = (len(group), entries, answers.asked, answers.answered)
    return Team(members, *counts, share, *ends, quantile(times, 50), *median_interval(times))


# ---- process

_Numbers = tuple[str, str | None]
"""Event type and role."""


@dataclass(slots=True)
class _Course:
    """How a conversation went on one day, or on several."""

    first: tuple[_Numbers, float] | None = None
    """The first act, and its time."""
    last: tuple[_Numbers, float] | None = None
    steps: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _DayProcess:
    follows: dict[tuple[_Numbers, _Numbers], tuple[int, float]]
    courses: dict[str, _Course]


def process(index: Index, since: Time | None = None, until: Time | None = None) -> Process:
    """The ways that conversations take, in the order of time: how often one act (an event, and the role of its author)
    directly followed another; and variants, which are sequences of `author's role → addressees' roles`.

    Raises BadTime, and the errors of `Index`.
    """
    follows: defaultdict[tuple[_Numbers, _Numbers], list[float]] = defaultdict(lambda: [0, 0.0])
    courses: dict[str, _Course] = {}
    for day in of_each_day(index, _day_process, since, until):
        for pair, (count, seconds) in day.follows.items():
            follows[pair][0] += count
            follows[pair][1] += seconds
        for name, course in day.courses.items():
            before = courses.setdefault(name, course)
            if before is not course:
                _join(before, course, follows)
    found = [
        Follows(Act(*before), Act(*after), int(count), seconds / count)
        for (before, after), (count, seconds) in follows.items()
    ]
    found.sort(key=lambda one: (-one.count, repr(one.before), repr(one.after)))
    return Process(tuple(found), _variants(courses))


def _join(before: _Course, course: _Course, follows: defaultdict[tuple[_Numbers, _Numbers], list[float]]) -> None:
    """Continue a conversation on the next day."""
    if before.last is not None and course.first is not None:
        sums = follows[before.last[0], course.first[0]]
        sums[0] += 1
        sums[1] += course.first[1] - before.last[1]
    before.last = course.last
    repeats = bool(before.steps and course.steps and before.steps[-1] == course.steps[0])
    before.steps += course.steps[repeats:]


def _day_process(day: DayFacts) -> _DayProcess:
    follows: defaultdict[tuple[_Numbers, _Numbers], list[float]] = defaultdict(lambda: [0, 0.0])
    courses: dict[str, _Course] = {}
    contexts, roles = day.contexts, day.roles
    known: dict[tuple[int, int, int], tuple[_Numbers, str]] = {}
    for moment, _, _, kind, context, party, role_set in day.steps("kind", "context", "party", "roles"):
        step = known.get((kind, party, role_set))
        if step is None:
            held = roles[role_set]
            author, addressees = day.speakers(kind, party)
            role = None if author is None else held.get(author)
            to = "+".join(sorted({held.get(one, "-") for one in addressees}))
            way = f"{role or '-'} → {to}" if author is not None and addressees else ""
            step = known[kind, party, role_set] = ((day.event_type(kind), role), way)
        act, way = step
        conversation = contexts[context][1]
        course = courses.get(conversation)
        if course is None:
            course = courses[conversation] = _Course()
        if course.last is None:
            course.first = (act, moment)
        else:
            sums = follows[course.last[0], act]
            sums[0] += 1
            sums[1] += moment - course.last[1]
        course.last = (act, moment)
        if way and (not course.steps or course.steps[-1] != way):
            course.steps.append(way)
    return _DayProcess({pair: (int(count), seconds) for pair, (count, seconds) in follows.items()}, courses)


def _variants(courses: Mapping[str, _Course]) -> tuple[Variant, ...]:
    counts: Counter[str] = Counter()
    examples: dict[str, tuple[str, list[str]]] = {}
    for name, course in courses.items():
        if course.steps:
            key = _hash(course.steps)
            counts[key] += 1
            examples.setdefault(key, (name, course.steps))
    found = [
        Variant(key, tuple(steps[:MAX_STEPS]), len(steps), counts[key], name) for key, (name, steps) in examples.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.conversations, one.length, one.steps)))


def _hash(steps: Iterable[str]) -> str:
    return blake2b("\n".join(steps).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
