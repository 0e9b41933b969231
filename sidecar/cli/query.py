"""The commands that read the index: query, show, follow."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from .options import (
    Command,
    GlobalOptions,
    Group,
    as_object,
    filter_options,
    json_option,
    limit_option,
    print_json,
    print_json_lines,
    since_option,
)

if TYPE_CHECKING:
    from sidecar.query.index import Index
    from sidecar.records import Entry


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  sidecar query timeline --since 2h             what happened in the last two hours
  sidecar query peers agent_analyzer            whom agent_analyzer talked with
  sidecar query pending                         requests without an answer
  sidecar query agents --json | jq -r .agent
""",
)
def query() -> None:
    """Ask the index who talked to whom, who led, and what waits.

    Works with or without a running sidecar. With --json, each line is one object. All times are UTC.
    """


@query.command(
    epilog="""\b
Examples:
  sidecar query timeline --since 2h --agent agent_analyzer
  sidecar query timeline --reverse --limit 20   the latest twenty
  sidecar query timeline --correlation req_123  a request and its answers
"""
)
@since_option
@click.option("--until", metavar="TIME", help="End time, exclusive; same forms as --since.")
@filter_options
@limit_option
@click.option("--reverse", is_flag=True, help="Latest first.")
@json_option
@click.pass_obj
def timeline(options: GlobalOptions, /, as_json: bool, **filters: Any) -> None:
    """List entries in time order. A `…` after an event marks a request without a response."""
    with closing(options.open_index()) as index:
        entries = index.timeline(**filters)
        if as_json:
            print_json_lines(map(as_object, entries))
        else:
            from sidecar.terminal import Screen

            from . import query_views

            query_views.timeline(Screen(), entries)


@query.command(
    epilog="""\b
Example:
  sidecar query peers agent_analyzer --since 7d
"""
)
@click.argument("agent")
@since_option
@limit_option
@json_option
@click.pass_obj
def peers(options: GlobalOptions, agent: str, since: str | None, limit: int | None, as_json: bool) -> None:
    """List one-to-one messages that AGENT sent or received."""
    from sidecar.times import moment_of

    now = time.time()
    window = now - (0.0 if since is None else moment_of(since, now))
    with closing(options.open_index()) as index:
        found = index.find_peer_interactions(agent, window)[:limit]
        if as_json:
            rows = (dict(row) for row in found)
            print_json_lines({**row, "participating_agents": json.loads(row["participating_agents"])} for row in rows)
        else:
            from sidecar.terminal import Screen

            from . import query_views

            query_views.timeline(Screen(), _entries(index, found))


@query.command(
    epilog="""\b
Example:
  sidecar query roles agent_analyst sess_team_456
"""
)
@click.argument("agent")
@click.argument("session")
@json_option
@click.pass_obj
def roles(options: GlobalOptions, agent: str, session: str, as_json: bool) -> None:
    """Show which roles AGENT held in SESSION, and for how long."""
    with closing(options.open_index()) as index:
        history = index.get_agent_role_history(agent, session)
    if as_json:
        print_json_lines(history)
    else:
        from sidecar.terminal import Screen

        from . import query_views

        query_views.roles(Screen(), history)


@query.command(
    epilog="""\b
Examples:
  sidecar query pending
  sidecar query pending --since 5m              only those of the last five minutes
"""
)
@since_option
@limit_option
@json_option
@click.pass_obj
def pending(options: GlobalOptions, since: str | None, limit: int | None, as_json: bool) -> None:
    """List requests without an answer, oldest first."""
    from sidecar.times import moment_of

    now = time.time()
    with closing(options.open_index()) as index:
        found = index.find_pending_requests(None if since is None else now - moment_of(since, now))[:limit]
        if as_json:
            print_json_lines({**dict(row), "age_seconds": round(now - row.timestamp, 3)} for row in found)
        else:
            from sidecar.terminal import Screen

            from . import query_views

            query_views.pending(Screen(), _entries(index, found))


@query.command(
    epilog="""\b
Example:
  sidecar query participants sess_abc123
"""
)
@click.argument("session")
@json_option
@click.pass_obj
def participants(options: GlobalOptions, session: str, as_json: bool) -> None:
    """List the agents that took part in SESSION."""
    with closing(options.open_index()) as index:
        if as_json:
            print_json_lines({"agent": agent} for agent in index.get_session_participants(session))
        else:
            from sidecar.terminal import Screen

            from . import query_views

            query_views.participants(Screen(), index.timeline(session=session))


@query.command(
    epilog="""\b
Examples:
  sidecar query conversation team_customer_analysis
  sidecar query conversation sess_abc123 --full
"""
)
@click.argument("conversation_id", metavar="CONVERSATION")
@click.option("--full", is_flag=True, help="Do not shorten long texts.")
@limit_option
@json_option
@click.pass_obj
def conversation(options: GlobalOptions, conversation_id: str, full: bool, limit: int | None, as_json: bool) -> None:
    """Print CONVERSATION as a transcript.

    A conversation without an id of its own has the id of its session. With --json, each entry includes its `record`.
    """
    with closing(options.open_index()) as index:
        entries = index.timeline(conversation=conversation_id, limit=limit)
        if as_json:
            print_json_lines(_with_record(index, entry) for entry in entries)
        else:
            from sidecar.terminal import Screen

            from . import query_views

            query_views.conversation(Screen(), index, entries, full)


def _with_record(index: Index, entry: Entry) -> dict[str, Any]:
    """The entry with its record, or with the reason why that cannot be read."""
    from sidecar.errors import SourceError

    try:
        return {**as_object(entry), "record": index.read(entry)}
    except SourceError as error:
        return {**as_object(entry), "record": None, "error": str(error)}


@query.command()
@click.option("--status", type=click.Choice(["active", "completed"]), help="Only sessions with this status.")
@limit_option
@json_option
@click.pass_obj
def sessions(options: GlobalOptions, status: str | None, limit: int | None, as_json: bool) -> None:
    """List all sessions in order of creation."""
    _list(options, limit, as_json, lambda index: index.sessions(status), "sessions")


@query.command()
@limit_option
@json_option
@click.pass_obj
def agents(options: GlobalOptions, limit: int | None, as_json: bool) -> None:
    """List all agents, with when each was first and last seen."""
    _list(options, limit, as_json, lambda index: index.agents(), "all_agents")


@query.command()
@limit_option
@json_option
@click.pass_obj
def rejected(options: GlobalOptions, limit: int | None, as_json: bool) -> None:
    """List lines that are not records, and why.

    The reasons: not-json, not-object, no-event-type, too-long.
    """
    _list(options, limit, as_json, lambda index: index.rejected(), "rejected")


def _list(
    options: GlobalOptions, limit: int | None, as_json: bool, find: Callable[[Index], Iterable[Any]], view: str
) -> None:
    """Print frozen dataclasses, as JSON or with the view of this name."""
    with closing(options.open_index()) as index:
        found = islice(find(index), limit)
        if as_json:
            print_json_lines({name: getattr(one, name) for name in one.__slots__} for one in found)
        else:
            from sidecar.terminal import Screen

            from . import query_views

            getattr(query_views, view)(Screen(), found)


def _entries(index: Index, rows: Iterable[Any]) -> Iterator[Entry]:
    """The entries behind the rows of a reference query."""
    from sidecar.errors import AmbiguousId, EntryNotFound

    for row in rows:
        try:
            yield index.get(row.id)
        except AmbiguousId:
            yield index.get(f"{row.file_path}:{row.id.rpartition(':')[2]}")
        except EntryNotFound:
            continue  # removed since it was found


# ---- show


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar show sess_abc123:0
  sidecar show sess_abc123:0 --json | jq .record
""",
)
@click.argument("id_", metavar="ID")
@json_option
@click.pass_obj
def show(options: GlobalOptions, id_: str, as_json: bool) -> None:
    """Print the record behind an entry, and what is known of it.

    ID is in the last column of a timeline. If it is ambiguous, give `<file path>:<byte offset>` instead.
    """
    with closing(options.open_index()) as index:
        entry = index.get(id_)
        record = index.read(entry)
    if as_json:
        print_json({"entry": as_object(entry), "record": record})
    else:
        from sidecar.terminal import Screen

        from . import query_views

        query_views.shown(Screen(), entry, record)


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar follow
  sidecar follow --agent agent_analyzer --json | jq -r .event_type
""",
)
@filter_options
@json_option
@click.pass_obj
def follow(options: GlobalOptions, /, as_json: bool, **filters: Any) -> None:
    """Print new entries as they are indexed, until ctrl-C. Needs a running sidecar."""
    from sidecar.terminal import Screen

    from . import query_views

    with closing(options.open_index()) as index:
        screen = Screen()
        for entry in index.follow(**filters):
            if as_json:
                print_json(as_object(entry))
            else:
                query_views.followed(screen, entry)
            sys.stdout.flush()


COMMANDS = (query, show, follow)
