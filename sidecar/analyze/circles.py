"""Messages that go round in circles."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sidecar.query.day_facts import DayFacts, is_answer, of_each_day
from sidecar.query.index import Index
from sidecar.times import Time

from .values import Loop

LONGEST = 5
"""Agents in a loop, at most."""
LEAST_MESSAGES = 12
LEAST_ROUNDS = 4
"""A loop has at least `LEAST_MESSAGES` messages, and at least so many rounds."""

Edge = tuple[str, tuple[str, ...]]
"""Author and addressees."""


@dataclass(slots=True)
class _Messages:
    """The directed messages of a conversation, in the order of time: a column for each attribute, because there may be
    millions."""

    edges: array[int] = field(default_factory=lambda: array("l"))
    times: array[float] = field(default_factory=lambda: array("d"))
    sources: array[int] = field(default_factory=lambda: array("l"))
    offsets: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.edges)


@dataclass(slots=True)
class _Day:
    """The directed messages of a day."""

    edges: list[Edge]
    """What the numbers in `_Messages.edges` stand for."""
    sources: dict[int, str]
    """What the ids of a source's entries begin with."""
    conversations: dict[str, _Messages]


def loops(index: Index, since: Time | None = None, until: Time | None = None) -> tuple[Loop, ...]:
    """Loops among the messages of each conversation, answers left out: two to five agents that passed messages round
    and round in the same order, at least 12 messages and 4 rounds; the latest first, then by conversation.

    A message is directed if it has an author and addressees. Message i belongs to a loop of p agents if it has the
    same author and addressee as message i - p, and each of p messages in a row is addressed to the author of the next.
    The longest loop that begins at a message counts, and the search goes on after it.

        >>> loops(index)
        ()

    Raises BadTime, and the errors of `Index`.
    """
    edges: dict[Edge, int] = {}
    prefixes: dict[str, int] = {}
    known: dict[str, _Messages] = {}
    for day in of_each_day(index, _day_messages, since, until):
        edge_numbers = [edges.setdefault(edge, len(edges)) for edge in day.edges]
        source_numbers = {source: prefixes.setdefault(begin, len(prefixes)) for source, begin in day.sources.items()}
        for name, of_day in day.conversations.items():
            messages = known.setdefault(name, _Messages())
            messages.edges.extend(edge_numbers[edge] for edge in of_day.edges)
            messages.times.extend(of_day.times)
            messages.sources.extend(source_numbers[source] for source in of_day.sources)
            messages.offsets.extend(of_day.offsets)
    names, begins = list(edges), list(prefixes)
    found = [
        _loop(conversation, messages, names, begins, first, period, count)
        for conversation, messages in known.items()
        for first, period, count in rounds_in(messages.edges, names)
    ]
    return tuple(sorted(found, key=lambda one: (-one.until, one.conversation, one.since)))


def rounds_in(numbers: Sequence[int], edges: Sequence[Edge]) -> Iterator[tuple[int, int, int]]:
    """The loops in a sequence of messages, each the number of an edge: the place of the first message, the number of
    agents, and that of messages."""
    first = 0
    while first + LEAST_MESSAGES <= len(numbers):
        best = (0, 0)
        for period in range(2, LONGEST + 1):
            if numbers[first + period] != numbers[first]:
                continue  # as at most places
            count = _repeated(numbers, edges, first, period)
            if count >= max(LEAST_MESSAGES, LEAST_ROUNDS * period) and count > best[1]:
                best = (period, count)
        if best[1]:
            yield first, *best
        first += best[1] or 1


def _repeated(numbers: Sequence[int], edges: Sequence[Edge], first: int, period: int) -> int:
    """How many messages from `first` on repeat a closed round of `period` messages; 0 if the round is not closed."""
    if first + period > len(numbers):
        return 0
    walk = [edges[number] for number in numbers[first : first + period]]
    if any(edge[1] != (following[0],) for edge, following in zip(walk, [*walk[1:], walk[0]], strict=True)):
        return 0
    end = first + period
    while end < len(numbers) and numbers[end] == numbers[end - period]:
        end += 1
    return end - first


def _loop(
    conversation: str,
    messages: _Messages,
    edges: Sequence[Edge],
    begins: Sequence[str],
    first: int,
    period: int,
    count: int,
) -> Loop:
    last = first + count - 1
    return Loop(
        tuple(edges[number][0] for number in messages.edges[first : first + period]),
        count // period,
        count,
        messages.times[first],
        messages.times[last],
        conversation,
        tuple(f"{begins[messages.sources[at]]}:{messages.offsets[at]}" for at in range(first, last + 1)),
    )


def _day_messages(day: DayFacts) -> _Day:
    edges: dict[Edge, int] = {}
    of_kind: dict[tuple[int, int], int] = {}
    """The number of the edge of each kind and list of participants; -1 if it is not a directed message."""
    conversations: dict[str, _Messages] = {}
    sources: dict[int, str] = {}
    contexts = day.contexts
    for moment, source, offset, kind, context, party in day.steps("kind", "context", "party"):
        key = (kind, party)
        number = of_kind.get(key)
        if number is None:
            author, addressees = day.speakers(*key)
            is_directed = author is not None and addressees and not is_answer(day.event_type(kind))
            number = of_kind[key] = edges.setdefault((author, addressees), len(edges)) if is_directed else -1  # type: ignore[arg-type]
        if number >= 0:
            conversation = contexts[context][1]
            messages = conversations.get(conversation)
            if messages is None:
                messages = conversations[conversation] = _Messages()
            messages.edges.append(number)
            messages.times.append(moment)
            messages.sources.append(source)
            messages.offsets.append(offset)
            if source not in sources:
                sources[source] = day.ids_begin(source)
    return _Day(list(edges), sources, conversations)
