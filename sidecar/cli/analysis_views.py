"""The output of the analysis for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sidecar.terminal import Cell, Column, Piece, Screen, agent_piece, counted, duration_text, print_note

if TYPE_CHECKING:
    from sidecar.analyze.values import (
        Act,
        Anomalies,
        Duplicate,
        Graph,
        Latency,
        Loop,
        Process,
        Roles,
        Silent,
        Storm,
        Team,
    )

_Rows = Iterable[Sequence[Cell]]

_NEVER = 1e-12
"""Odds from here on read "never"."""
_FROM = Column("from", least=12, cut="middle")
_TO = Column("to", least=12, cut="middle")
_AGENT = Column("agent", least=12, cut="middle")
_CONVERSATION = Column("conversation", "dim", least=16, cut="middle")


def _number(title: str, style: str = "", optional: int = 0) -> Column:
    return Column(title, style, right=True, optional=optional)


def edges(screen: Screen, found: Graph, limit: int | None) -> None:
    """Print who talks to whom."""
    columns: tuple[Column, ...] = (_FROM, _TO, *map(_number, ("messages", "asked", "answered")), _number("waiting"))
    rows: _Rows = (
        (
            (agent_piece(one.author),),
            (agent_piece(one.addressee),),
            *_counts(one.count, one.asked, one.answered),
            _waiting(one.pending),
        )
        for one in found.edges[:limit]
    )
    screen.table(columns, rows)
    pairs, agents = counted(len(found.edges), "pair"), counted(len(found.nodes), "agent")
    print_note(f"{pairs} of {agents}" if found.edges else "nobody talks to anybody")


def agents(screen: Screen, found: Graph, limit: int | None) -> None:
    """Print the agents of a graph, with their communities and how much they broker."""
    communities, betweenness = found.communities, found.betweenness
    columns: tuple[Column, ...] = (
        _AGENT,
        *map(_number, ("sent", "received", "asked", "answered", "waiting")),
        _number("community", optional=1),
        _number("betweenness"),
    )
    rows: _Rows = (
        (
            (agent_piece(one.agent),),
            *_counts(one.sent, one.received, one.asked, one.answered),
            _waiting(one.pending),
            str(communities[one.agent]),
            f"{betweenness.get(one.agent, 0.0):.3f}",
        )
        for one in found.nodes[:limit]
    )
    _count(screen.table(columns, rows), "agent")


def latency(screen: Screen, found: Sequence[Latency], limit: int | None) -> None:
    """Print how requests were answered."""
    is_of_pairs = any(one.asker is not None for one in found)
    columns: tuple[Column, ...] = (
        *((_FROM,) if is_of_pairs else ()),
        *(_TO, _number("asked"), _number("answered"), _number("95 %", "dim", optional=2)),
        *(_number("p50"), _number("p90", optional=1), _number("p95"), _number("p99", optional=3)),
    )
    rows: _Rows = (
        (
            *((_name(one.asker),) if is_of_pairs else ()),
            *(_name(one.answerer), f"{one.asked:,}", _share(one.share, one.asked), _interval(one.low, one.high)),
            *map(_seconds, (one.p50, one.p90, one.p95, one.p99)),
        )
        for one in found[:limit]
    )
    screen.table(columns, rows)
    requests = counted(sum(one.asked for one in found), "request")
    print_note(f"{requests}, {counted(len(found), 'row')}" if found else "nothing was asked")


def teams(screen: Screen, found: Sequence[Team], limit: int | None) -> None:
    """Print teams, the best first."""
    columns: tuple[Column, ...] = (
        *(Column("team", least=20, cut="end"), _number("conversations", optional=2), _number("asked", optional=1)),
        *(_number("answered"), _number("95 %", "dim"), _number("median"), _number("95 %", "dim")),
    )
    rows: _Rows = (
        (
            ", ".join(one.members),
            *_counts(one.conversations, one.asked),
            *(_share(one.share, one.asked), _interval(one.low, one.high)),
            *(_seconds(one.median), f"{_seconds(one.median_low)} – {_seconds(one.median_high)}"),
        )
        for one in found[:limit]
    )
    if screen.table(columns, rows):
        print_note(counted(len(found), "team"))
    else:
        print_note("no team has 8 conversations with a request")


def roles(screen: Screen, found: Roles, limit: int | None) -> None:
    """Print the roles, and the changes between them."""
    columns: tuple[Column, ...] = (
        *(Column("role", least=12, cut="middle"), _number("agents"), _number("times held", optional=2)),
        *(_number("in all"), _number("usually"), _number("asked"), _number("answered"), _number("p50", optional=1)),
    )
    uses: _Rows = (
        (
            ((one.role, "bold"),),
            *_counts(one.agents, one.spans),
            duration_text(one.seconds),
            _seconds(one.dwell),
            f"{one.asked:,}",
            _share(one.share, one.asked),
            _seconds(one.p50),
        )
        for one in found.uses[:limit]
    )
    if not screen.table(columns, uses):
        print_note("nobody has a role")
        return
    screen.line()
    changes: _Rows = (
        (one.before, ((one.after, "bold"),), f"{one.count:,}", f"{one.share:.0%}") for one in found.transitions[:limit]
    )
    columns = (_FROM, _TO, _number("changes"), _number("share", "dim"))
    screen.table(columns, changes)
    print_note(f"{counted(len(found.uses), 'role')}, {counted(len(found.transitions), 'kind')} of change")


def process(screen: Screen, found: Process, limit: int | None) -> None:
    """Print what follows what, and the ways that conversations take."""
    columns: tuple[Column, ...] = (
        *(Column("event", least=18, cut="middle"), Column("is followed by", least=18, cut="middle")),
        *(_number("times"), _number("after", "dim")),
    )
    follows: _Rows = (
        (_act(one.before), _act(one.after), f"{one.count:,}", _seconds(one.seconds)) for one in found.follows[:limit]
    )
    screen.table(columns, follows)
    screen.line()
    columns = (_number("conversations"), _number("steps"), Column("way", least=20, cut="end"), _CONVERSATION)
    ways: _Rows = (
        (f"{one.conversations:,}", f"{one.length:,}", ", ".join(one.steps), one.example)
        for one in found.variants[:limit]
    )
    screen.table(columns, ways)
    print_note(f"{counted(len(found.follows), 'pair')} of events, {counted(len(found.variants), 'way')}")


def loops(screen: Screen, found: Sequence[Loop], limit: int | None) -> None:
    """Print loops."""
    columns: tuple[Column, ...] = (
        *(Column("agents", least=24), _number("rounds"), _number("messages", optional=1)),
        *(Column(f"since ({screen.zone})", "dim"), _number("for"), _CONVERSATION),
    )
    rows: _Rows = (
        (
            _circle(one.agents),
            *_counts(one.rounds, one.messages),
            screen.moment(one.since),
            duration_text(one.until - one.since),
            one.conversation,
        )
        for one in found[:limit]
    )
    _count(screen.table(columns, rows), "loop")


def silent(screen: Screen, found: Sequence[Silent], limit: int | None) -> None:
    """Print agents that have stopped answering."""
    columns: tuple[Column, ...] = (
        *(_AGENT, _number("unanswered"), Column(f"last word ({screen.zone})", "dim")),
        *(_number("answered before", optional=1), Column("odds")),
    )
    rows: _Rows = (
        (
            (agent_piece(one.agent),),
            f"{one.requests:,}",
            screen.moment(one.since),
            f"{one.share:.1%}",
            odds_text(one.odds),
        )
        for one in found[:limit]
    )
    _count(screen.table(columns, rows), "silent agent")


def storms(screen: Screen, found: Sequence[Storm], limit: int | None) -> None:
    """Print floods of requests."""
    columns: tuple[Column, ...] = (
        *(_AGENT, _number("unanswered"), _number("in 10 min", optional=1)),
        *(Column(f"since ({screen.zone})", "dim"), _number("for"), Column("odds")),
    )
    rows: _Rows = (
        (
            (agent_piece(one.agent),),
            *_counts(one.requests, one.peak),
            screen.moment(one.since),
            duration_text(one.until - one.since),
            odds_text(one.odds),
        )
        for one in found[:limit]
    )
    _count(screen.table(columns, rows), "storm")


def duplicates(screen: Screen, found: Sequence[Duplicate], limit: int | None) -> None:
    """Print messages that were sent again and again."""
    columns: tuple[Column, ...] = (
        *(_FROM, _TO, _number("times"), _number("bytes", "dim", optional=1)),
        *(Column(f"since ({screen.zone})", "dim"), _number("for"), _CONVERSATION),
    )
    rows: _Rows = (
        (
            (agent_piece(one.author),),
            _names(one.addressees),
            *_counts(one.messages, one.bytes),
            screen.moment(one.since),
            duration_text(one.until - one.since),
            one.conversation,
        )
        for one in found[:limit]
    )
    _count(screen.table(columns, rows), "duplicate")


def anomalies(screen: Screen, found: Anomalies, limit: int | None) -> None:
    """Print what needs somebody now, one table for each kind that there is."""
    if found.silent:
        screen.line(("silent", "bold"))
        silent(screen, found.silent, limit)
    if found.storms:
        screen.line(("storms", "bold"))
        storms(screen, found.storms, limit)
    if found.loops:
        screen.line(("loops", "bold"))
        loops(screen, found.loops, limit)
    if found.duplicates:
        screen.line(("duplicates", "bold"))
        duplicates(screen, found.duplicates, limit)
    if not (found.silent or found.storms or found.loops or found.duplicates):
        print_note("nothing needs attention")


def odds_text(odds: float) -> str:
    """Odds in words: `1 in 8,200`, or `never in its history`."""
    return "never in its history" if odds <= _NEVER else f"1 in {1 / odds:,.0f}"


def _count(count: int, one: str) -> None:
    print_note(counted(count, one) if count else f"no {one} found")


def _counts(*counts: int) -> list[str]:
    return [f"{count:,}" for count in counts]


def _waiting(count: int) -> list[Piece]:
    return [(f"{count:,}", "bold yellow" if count else "dim")]


def _name(name: str | None) -> Cell:
    return [("–", "dim") if name is None else agent_piece(name)]


def _names(names: Iterable[str]) -> list[Piece]:
    pieces: list[Piece] = []
    for name in names:
        pieces += [(", ", "dim")] if pieces else []
        pieces.append(agent_piece(name))
    return pieces


def _circle(agents: Sequence[str]) -> list[Piece]:
    pieces: list[Piece] = []
    for name in agents:
        pieces += [(" → ", "dim")] if pieces else []
        pieces.append(agent_piece(name))
    return [*pieces, (" ↺", "bold yellow")]


def _act(act: Act) -> list[Piece]:
    return [(act.event_type, ""), (f" by {act.role}" if act.role else "", "dim")]


def _share(share: float, of: int) -> str:
    return f"{share:.1%}" if of else "–"


def _interval(low: float, high: float) -> str:
    return f"{low:.0%} – {high:.0%}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.1f}s" if 1 <= seconds < 60 else duration_text(seconds)
