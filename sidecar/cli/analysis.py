"""The commands of `query` that compute something from many entries, and the command `analyze`, which lists them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from copy import copy
from typing import TYPE_CHECKING, Any

import click

from .options import GlobalOptions, Group, Window, json_option, local_option, print_json, window_options
from .query import print_analysis, query

if TYPE_CHECKING:
    from sidecar.query.index import Index


def _analysis(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every analysis has."""
    return window_options(local_option(json_option(click.pass_obj(command))))


@query.command(
    epilog="""\b
Examples:
  sidecar query graph --since 7d
  sidecar query graph --agents    agents, their communities, and who brokers
  sidecar query graph --dot | dot -Tsvg > agents.svg
"""
)
@click.option("--agents", is_flag=True, help="One line for each agent: degrees, community, betweenness.")
@click.option("--dot", "drawn_as", flag_value="dot", help="Print the graph for Graphviz.")
@click.option("--mermaid", "drawn_as", flag_value="mermaid", help="Print the graph for Mermaid.")
@_analysis
def graph(
    options: GlobalOptions, window: Window, local: bool, as_json: bool, agents: bool, drawn_as: str | None
) -> None:
    """Show who talks to whom.

    One line for each author and addressee: the number of messages, of requests among them, and how many of these were
    answered or wait.
    """
    from sidecar import analyze

    def question(index: Index) -> Any:
        return analyze.graph(index, **window.span)

    if drawn_as is None:
        print_analysis(options, window, as_json, local, "agents" if agents else "edges", question)
        return
    if agents or as_json:
        other = "--agents" if agents else "--json"
        raise click.UsageError(f"--{drawn_as} and {other} cannot be used together.")
    from . import drawings

    with closing(options.open_index()) as index:
        found = question(index)
    click.echo(getattr(drawings, drawn_as)(found.edges[: window.limit]), nl=False)


@query.command()
@click.option("--by", type=click.Choice(["pair", "agent", "role"]), default="pair", show_default=True, help="Rows.")
@_analysis
def latency(options: GlobalOptions, window: Window, local: bool, as_json: bool, by: Any) -> None:
    """Show how requests were answered, and how fast.

    The share of answered requests has its 95 % interval (Wilson). p50 is the time within which half of the answers
    came. Requests that wait count in the share, and never in the times.
    """
    from sidecar import analyze

    print_analysis(
        options, window, as_json, local, "latency", lambda index: analyze.latency(index, **window.span, by=by)
    )


@query.command()
@click.option(
    "--by",
    type=click.Choice(["roles", "agents"]),
    default="roles",
    show_default=True,
    help="What makes two teams the same.",
)
@_analysis
def teams(options: GlobalOptions, window: Window, local: bool, as_json: bool, by: Any) -> None:
    """Rank teams by how their requests were answered.

    A team is what conversations are made of: the main roles of the participants, or --by agents. Those with at least 8
    conversations are ranked by the lower end of the 95 % interval of the answered share, so that a few lucky ones do
    not win.
    """
    from sidecar import analyze

    def question(index: Index) -> Any:
        return analyze.teams(index, **window.span, by=by)

    print_analysis(options, window, as_json, local, "teams", question)


@query.command()
@_analysis
def process(options: GlobalOptions, window: Window, local: bool, as_json: bool) -> None:
    """Show the ways that conversations take.

    First, which event directly follows which; then how many conversations took the same way through the roles.
    """
    from sidecar import analyze

    def question(index: Index) -> Any:
        return analyze.process(index, **window.span)

    print_analysis(options, window, as_json, local, "process", question)


@query.command()
@_analysis
def loops(options: GlobalOptions, window: Window, local: bool, as_json: bool) -> None:
    """List agents that go round in circles.

    Two to five agents passed messages on in the same order, for at least four rounds and twelve messages. The latest
    are the first.
    """
    from sidecar import analyze

    def question(index: Index) -> Any:
        return analyze.loops(index, **window.span)

    print_analysis(options, window, as_json, local, "loops", question)


@query.command()
@_analysis
def silent(options: GlobalOptions, window: Window, local: bool, as_json: bool) -> None:
    """List agents that have stopped answering.

    The odds say how likely that is, by the share of requests that the agent answered before.
    """
    from sidecar import analyze

    def question(index: Index) -> Any:
        return analyze.silent(index, **window.span)

    print_analysis(options, window, as_json, local, "silent", question)


@query.command()
@_analysis
def storms(options: GlobalOptions, window: Window, local: bool, as_json: bool) -> None:
    """List floods of requests that nobody answered.

    At least eight requests to one agent within ten minutes, if that is unlikely by its history.
    """
    from sidecar import analyze

    def question(index: Index) -> Any:
        return analyze.storms(index, **window.span)

    print_analysis(options, window, as_json, local, "storms", question)


@query.command()
@_analysis
def duplicates(options: GlobalOptions, window: Window, local: bool, as_json: bool) -> None:
    """List messages that were sent again and again.

    Four times or more to the same addressees, in the same words: the records are read to make sure.
    """
    from sidecar import analyze

    print_analysis(
        options, window, as_json, local, "duplicates", lambda index: analyze.duplicates(index, **window.span)
    )


@click.group(
    cls=Group,
    name="analyze",
    epilog="""\b
Examples:
  sidecar analyze anomalies          what needs somebody now
  sidecar analyze graph --since 7d   as `sidecar query graph --since 7d`
""",
)
def analyze_group() -> None:
    """Find out what the agents do, and what needs somebody now.

    Everything but `anomalies` is there under `sidecar query` too. All times are in UTC, unless --local is given.
    """


@analyze_group.command()
@_analysis
def anomalies(options: GlobalOptions, window: Window, local: bool, as_json: bool) -> None:
    """List what needs somebody now.

    Agents that are silent, floods of requests, loops and duplicates of the two days before the last entry, or from
    --since on. With --json, each line says its `kind`.
    """
    from sidecar import analyze

    def question(index: Index) -> Any:
        return analyze.anomalies(index, **window.span)

    print_analysis(options, window, as_json, local, "anomalies", question)


@analyze_group.command()
@_analysis
def roles(options: GlobalOptions, window: Window, local: bool, as_json: bool) -> None:
    """Show how long roles are held, and how they change.

    With --json, each line is a role, or a change from one role to another.
    """
    from sidecar import analyze

    def question(index: Index) -> Any:
        return analyze.roles(index, **window.span)

    print_analysis(options, window, as_json, local, "roles", question)


@analyze_group.command()
@json_option
@click.pass_obj
def keep(options: GlobalOptions, as_json: bool) -> None:
    """Sum up the days that are over, for fast answers.

    Sums are kept in the folder `summary` of the index, and used by every question about whole days as long as the day
    is unchanged. They may be deleted at any time. Run it once a day, for example from cron.
    """
    from sidecar.analyze import keep_sums
    from sidecar.permissions import permissions_of, restricted_umask

    folder = options.settings_of_index().index_folder
    with restricted_umask(permissions_of([folder, folder / "daily"])), closing(options.open_index()) as index:
        kept = keep_sums(index)
    if as_json:
        print_json({"days": kept.days, "written": kept.written})
    else:
        from sidecar.terminal import counted

        click.echo(f"{counted(kept.days, 'day')} over, {kept.written:,} summed up now")


def _same(command: click.Command) -> click.Command:
    """The same command, to be in another group: the options of every command are added to each by itself."""
    other = copy(command)
    other.params = list(command.params)
    return other


for one in (graph, latency, teams, process, loops, silent, storms, duplicates):
    analyze_group.add_command(_same(one))

COMMANDS = (analyze_group,)
