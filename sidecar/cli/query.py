"""The command `query`, with a subcommand for each kind of question to the index."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .options import (
    GlobalOptions,
    Group,
    Window,
    as_object,
    filter_options,
    json_option,
    local_option,
    print_json_lines,
    resolved,
    window_options,
)
from .tools import chosen, is_chosen, tools_option
from .values import names_of

if TYPE_CHECKING:
    from sidecar.query.index import Index
    from sidecar.records import Entry, Session

T = TypeVar("T")


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  sidecar query timeline --since 2h     what happened in the last two hours
  sidecar query peers agent_analyzer    who agent_analyzer talked with
  sidecar query pending                 requests without an answer
  sidecar query agents --json | jq -r .agent
""",
)
def query() -> None:
    """Ask who talked to whom, who led, and what is waiting.

    Works with or without a running sidecar. The beginning of a session's or a conversation's id is enough if no other
    id has the same. With --json, each line is one object. All times are in UTC, unless --local is given.
    """


@query.command(
    epilog="""\b
Examples:
  sidecar query timeline --since 2h --agent agent_analyzer
  sidecar query timeline --reverse --limit 20   the latest twenty
  sidecar query timeline --correlation req_123  a request and its answers
"""
)
@window_options
@filter_options
@click.option("--reverse", is_flag=True, help="Latest first.")
@tools_option(default=True)
@local_option
@json_option
@click.pass_obj
def timeline(
    options: GlobalOptions,
    window: Window,
    filters: dict[str, Any],
    reverse: bool,
    tools: bool,
    local: bool,
    as_json: bool,
) -> None:
    """List entries in time order. A `…` after an event marks a request that is still waiting for its response."""
    with closing(options.open_index()) as index:
        entries = index.timeline(**window.span, **resolved(index, filters), reverse=reverse)
        _print("timeline", islice(chosen(entries, tools), window.limit), as_object, as_json, local)


@query.command(
    epilog="""\b
Example:
  sidecar query peers agent_analyzer --since 7d
"""
)
@click.argument("agent", shell_complete=names_of("agent"))
@window_options
@local_option
@json_option
@click.pass_obj
def peers(options: GlobalOptions, agent: str, window: Window, local: bool, as_json: bool) -> None:
    """List one-to-one messages that AGENT sent or received."""
    with closing(options.open_index()) as index:
        entries = index.timeline(**window._asdict(), **resolved(index, {"agent": agent}), pattern="peer_to_peer")
        _print("timeline", entries, as_object, as_json, local)


@query.command(
    epilog="""\b
Examples:
  sidecar query roles    all roles: how long they are held, how they change
  sidecar query roles agent_analyst sess_team_456
"""
)
@click.argument("agent", required=False, shell_complete=names_of("agent"))
@click.argument("session", required=False, shell_complete=names_of("session"))
@window_options
@local_option
@json_option
@click.pass_obj
def roles(
    options: GlobalOptions, agent: str | None, session: str | None, window: Window, local: bool, as_json: bool
) -> None:
    """Show which roles AGENT held in SESSION, and for how long.

    Without them, how long roles were held in all sessions, and how they changed.

    With --json, each line is an entry in which the agent has a role, which is added as `role`. Without AGENT, it is a
    role, or a change from one role to another.
    """
    if agent is None:
        from sidecar import analyze

        print_analysis(options, window, as_json, local, "roles", lambda index: analyze.roles(index, **window.span))
        return
    if session is None:
        raise click.UsageError("Missing argument 'SESSION'.")
    from .answers import roles_held

    with closing(options.open_index()) as index:
        names = resolved(index, {"agent": agent, "session": session})
        name = names["agent"]
        entries = (one for one in index.timeline(**window.span, **names) if name in one.agent_roles)
        if as_json:
            print_json_lines(
                {**as_object(entry), "role": entry.agent_roles[name]} for entry in islice(entries, window.limit)
            )
            return
        history = [{"timestamp": entry.timestamp, "role": entry.agent_roles[name]} for entry in entries]
    from sidecar.terminal import Screen

    from . import query_views

    query_views.roles(Screen(local), roles_held(history)[: window.limit])


@query.command(
    epilog="""\b
Examples:
  sidecar query pending
  sidecar query pending --since 5m      made in the last five minutes
  sidecar query pending --until 1h      waiting for an hour or longer
"""
)
@window_options
@tools_option(default=True)
@local_option
@json_option
@click.pass_obj
def pending(options: GlobalOptions, window: Window, tools: bool, local: bool, as_json: bool) -> None:
    """List requests without an answer, oldest first."""
    now = time.time()
    with closing(options.open_index()) as index:
        entries = islice(chosen(index.waiting(**window.span), tools), window.limit)

        def with_age(entry: Entry) -> dict[str, Any]:
            return {**as_object(entry), "age_seconds": round(now - entry.timestamp, 3)}

        _print("pending", entries, with_age, as_json, local)


@query.command(
    epilog="""\b
Example:
  sidecar query participants sess_abc123
"""
)
@click.argument("session", shell_complete=names_of("session"))
@window_options
@tools_option(default=True)
@local_option
@json_option
@click.pass_obj
def participants(options: GlobalOptions, session: str, window: Window, tools: bool, local: bool, as_json: bool) -> None:
    """List the agents that took part in SESSION."""
    from .answers import Participant, participants_of

    with closing(options.open_index()) as index:
        entries = index.timeline(**window.span, **resolved(index, {"session": session}))
        found = [one for one in participants_of(chosen(entries, tools)) if is_chosen(one.agent, tools)]
    _print("participants", found[: window.limit], Participant._asdict, as_json, local)


@query.command(
    epilog="""\b
Examples:
  sidecar query conversation team_customer_analysis
  sidecar query conversation sess_abc123 --full
"""
)
@click.argument("conversation_id", metavar="CONVERSATION", shell_complete=names_of("conversation"))
@click.option("--full", is_flag=True, help="Do not shorten long texts.")
@window_options
@tools_option(default=False)
@local_option
@json_option
@click.pass_obj
def conversation(
    options: GlobalOptions,
    conversation_id: str,
    full: bool,
    window: Window,
    tools: bool,
    local: bool,
    as_json: bool,
) -> None:
    """Print CONVERSATION as a transcript.

    A conversation without an id of its own has the id of its session. With --json, each entry includes its `record`,
    and as `text` what was said.
    """
    with closing(options.open_index()) as index:
        entries = index.timeline(**window.span, **resolved(index, {"conversation": conversation_id}))
        entries = islice(chosen(entries, tools), window.limit)
        if as_json:
            print_json_lines(_with_record(index, entry) for entry in entries)
        else:
            from sidecar.terminal import Screen

            from . import query_views

            query_views.conversation(Screen(local), index, entries, full)


def _with_record(index: Index, entry: Entry) -> dict[str, Any]:
    """The entry with its record and what was said in it, or with the reason why the record cannot be read."""
    from sidecar.errors import SourceError

    try:
        return {**as_object(entry), "record": index.read(entry), "text": index.text(entry)}
    except SourceError as error:
        return {**as_object(entry), "record": None, "text": None, "error": str(error)}


@query.command()
@click.option("--status", type=click.Choice(["active", "completed"]), help="Only sessions with this status.")
@window_options
@local_option
@json_option
@click.pass_obj
def sessions(options: GlobalOptions, status: str | None, window: Window, local: bool, as_json: bool) -> None:
    """List all sessions in order of creation.

    --since and --until apply to the time at which a session was created.
    """
    with closing(options.open_index()) as index:
        created: Iterable[Session] = (one for one in index.sessions(status) if window.has(one.created_at))
        found = islice(created, window.limit)
        _print("sessions", found, _values, as_json, local)


@query.command()
@window_options
@tools_option(default=True)
@local_option
@json_option
@click.pass_obj
def agents(options: GlobalOptions, window: Window, tools: bool, local: bool, as_json: bool) -> None:
    """List all agents, and when each was first and last seen.

    With --since or --until, only entries from that time count.
    """
    from .answers import agents_in

    with closing(options.open_index()) as index:
        all_of_them = index.agents() if window.is_whole else agents_in(index.timeline(**window.span))
    found = [one for one in all_of_them if is_chosen(one.agent, tools)][: window.limit]
    _print("all_agents", found, _values, as_json, local)


@query.command()
@window_options
@local_option
@json_option
@click.pass_obj
def rejected(options: GlobalOptions, window: Window, local: bool, as_json: bool) -> None:  # noqa: ARG001
    """List lines that are not records, and why.

    The reasons are not-json, not-object, no-event-type, and too-long. For --since and --until, a line has the time of
    the record before it in its file; before the first record, the time of the file's last change.
    """
    from .answers import rejected_in

    with closing(options.open_index()) as index:
        lines = index.rejected() if window.is_whole else rejected_in(index, window.has)
        found = islice(lines, window.limit)
        _print("rejected", found, _values, as_json)


def _print(
    view: str, found: Iterable[T], to_object: Callable[[T], Mapping[str, Any]], as_json: bool, local: bool = False
) -> None:
    """Print an answer as JSON, or with the view of this name."""
    if as_json:
        print_json_lines(map(to_object, found))
    else:
        from sidecar.terminal import Screen

        from . import query_views

        getattr(query_views, view)(Screen(local), found)


def print_analysis(
    options: GlobalOptions, window: Window, as_json: bool, local: bool, name: str, question: Callable[[Index], Any]
) -> None:
    """Print what a function of `sidecar.analyze` returns: as the objects of the function of this name in
    `analysis_objects`, or as the table of that name in `analysis_views`. `--limit` applies to rows."""
    with closing(options.open_index()) as index:
        found = question(index)
    if as_json:
        from . import analysis_objects

        print_json_lines(islice(getattr(analysis_objects, name)(found), window.limit))
    else:
        from sidecar.terminal import Screen

        from . import analysis_views

        getattr(analysis_views, name)(Screen(local), found, window.limit)


def _values(one: Any) -> Mapping[str, Any]:
    """The fields of a frozen dataclass, by name."""
    return {name: getattr(one, name) for name in one.__slots__}


COMMANDS = (query,)
