"""How roles are taken, held and given back."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from sidecar.query.day_facts import DayFacts, of_each_day
from sidecar.query.index import Index
from sidecar.times import Time

from .answers import Answers, merged
from .statistics import quantile, wilson
from .sums import roles_of_days
from .values import Roles, RoleSpan, RoleUse, Transition

_Changes = dict[tuple[str, str], list[tuple[float, str]]]
"""By session and agent: the times at which it was first seen in a role, and the roles."""


def role_spans(index: Index, since: Time | None = None, until: Time | None = None) -> tuple[RoleSpan, ...]:
    """Every role that an agent held in a session, in the order of sessions, agents and times. Entries that belong to no
    session are left out. Raises BadTime, and the errors of `Index`."""
    changes: _Changes = {}
    ends: dict[str, float] = {}
    for of_day, last in of_each_day(index, day_changes, since, until):
        for key, seen in of_day.items():
            known = changes.setdefault(key, [])
            known += seen[bool(known and known[-1][1] == seen[0][1]) :]
        ends.update(last)
    return tuple(
        span for (session, agent), seen in sorted(changes.items()) for span in _spans(session, agent, seen, ends)
    )


def _spans(session: str, agent: str, seen: list[tuple[float, str]], ends: dict[str, float]) -> Iterable[RoleSpan]:
    for (begin, role), (end, _) in pairwise(seen):
        yield RoleSpan(agent, session, role, begin, end, is_over=True)
    begin, role = seen[-1]
    yield RoleSpan(agent, session, role, begin, ends[session], is_over=False)


def day_changes(day: DayFacts) -> tuple[_Changes, dict[str, float]]:
    """The changes of a day, by session and agent: the times at which a role was first seen, and the roles. And the time
    of each session's last entry."""
    changes: _Changes = {}
    ends: dict[str, float] = {}
    contexts, roles = day.contexts, day.roles
    last_set: dict[str, int] = {}
    """The last set of roles of each session: the same one changes nothing."""
    for moment, _, _, context, role_set in day.steps("context", "roles"):
        session = contexts[context][0]
        if not session:
            continue
        ends[session] = moment
        if last_set.get(session) == role_set:
            continue
        last_set[session] = role_set
        for agent, role in roles[role_set].items():
            seen = changes.get((session, agent))
            if seen is None:
                changes[session, agent] = [(moment, role)]
            elif seen[-1][1] != role:
                seen.append((moment, role))
    return changes, ends


def held_longest(spans: Iterable[RoleSpan]) -> dict[str, str]:
    """The main role of each agent: the one that it held longest in all, of several the first by name."""
    seconds: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for span in spans:
        seconds[span.agent][span.role] += span.seconds
    return longest(seconds)


def longest(seconds: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Of the roles that each agent held for so many seconds the one for most, of several the first by name."""
    return {agent: min(held, key=lambda role: (-held[role], role)) for agent, held in seconds.items()}


def main_roles(index: Index, since: Time | None = None, until: Time | None = None) -> dict[str, str]:
    """The role that each agent held longest; agents without a role are absent. Raises BadTime, and the errors of
    `Index`."""
    return held_longest(role_spans(index, since, until))


def roles(index: Index, since: Time | None = None, until: Time | None = None) -> Roles:
    """How roles were taken, held and given back, by session and agent; and how requests were answered by agents in each
    role. Raises BadTime, and the errors of `Index`.

        >>> roles(index).transitions[0]
        Transition(before='data_analyst', after='phase_coordinator', count=1, share=1.0)
    """
    spans = role_spans(index, since, until)
    answers = merged(roles_of_days(index, since, until))
    grouped: defaultdict[str, list[RoleSpan]] = defaultdict(list)
    changes: Counter[tuple[str, str]] = Counter()
    for span in spans:
        grouped[span.role].append(span)
    for before, after in pairwise(spans):
        if before.is_over:
            changes[before.role, after.role] += 1
    from_each: Counter[str] = Counter()
    for (role, _), count in changes.items():
        from_each[role] += count
    transitions = [Transition(*pair, count, count / from_each[pair[0]]) for pair, count in changes.items()]
    uses = [_use(role, held, answers.get(role, Answers())) for role, held in grouped.items()]
    return Roles(
        tuple(sorted(uses, key=lambda use: (-use.seconds, use.role))),
        tuple(sorted(transitions, key=lambda one: (-one.count, one.before, one.after))),
    )


def _use(role: str, spans: list[RoleSpan], answers: Answers) -> RoleUse:
    over = sorted(span.seconds for span in spans if span.is_over)
    times = sorted(answers.times)
    share = answers.answered / answers.asked if answers.asked else 0.0
    return RoleUse(
        role,
        len({span.agent for span in spans}),
        len(spans),
        len(spans) - len(over),
        sum(span.seconds for span in spans),
        quantile(over, 50),
        answers.asked,
        answers.answered,
        share,
        *wilson(answers.answered, answers.asked),
        quantile(times, 50),
        quantile(times, 95),
    )
