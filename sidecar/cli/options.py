"""Shared by the commands: the global options, the filter options, and JSON output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.query.index import Index
    from sidecar.records import Entry

SCHEMA_VERSION = 1
"""Version of all JSON output. Raised when a key is removed or changes its meaning."""

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The options given before the command."""

    config: Path | None
    root: Path | None
    preset: str | None

    def settings(self) -> Settings:
        """The settings that these options select. Raises ConfigError."""
        from sidecar.config.settings import load_settings

        return load_settings(self.config, self.root, self.preset)

    def index(self) -> Index:
        """The index below the root, opened for reading."""
        from sidecar.logs.archive_file import beside
        from sidecar.query.index import Index

        settings = self.settings()
        is_named = settings.archive != beside(settings.root)  # otherwise the index itself names the archive folder
        return Index(settings.root, settings.archive if is_named else None)


class OrderedGroup(click.Group):
    """A group that lists its commands in the order they were added, not by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of the commands."""
        return list(self.commands)


_FILTERS = (
    click.option("--agent", help="Only entries this agent takes part in."),
    click.option("--session", help="Only entries of this session."),
    click.option("--event", "event_type", help="Only entries of this event type."),
    click.option("--pattern", help="Only entries of this pattern: peer_to_peer, broadcast, team, swarm …"),
    click.option("--conversation", help="Only entries of this conversation."),
    click.option("--correlation", help="Only the request with this id, and its answers."),
)
since_option = click.option(
    "--since", metavar="TIME", help="Start time: 2h, 7d, 2024-01-15, 2024-01-15T10:30:00Z, or seconds since 1970."
)
limit_option = click.option("--limit", type=click.IntRange(0), metavar="N", help="At most N results.")


def filter_options(command: _F) -> _F:
    """Add the filter options. The parameters have the names that `Index.timeline` uses."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def json_option(command: _F) -> _F:
    """Add `--json`, passed to the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout, and nothing else.")(command)


def _log_to_stderr(ctx: click.Context, _option: click.Parameter, count: int) -> None:
    if count:
        from sidecar.diagnostics import log_to_stderr

        ctx.meta[_VERBOSITY] = ctx.meta.get(_VERBOSITY, 0) + count  # shared by the command and the group it is in
        log_to_stderr(ctx.meta[_VERBOSITY])


_VERBOSITY = f"{__name__}.verbosity"


def verbose_option(command: _F) -> _F:
    """`-v` and `--verbose`, which take effect at once and are not passed to the function."""
    return click.option(
        *("-v", "--verbose"),
        count=True,
        expose_value=False,
        callback=_log_to_stderr,
        help="Log what is done to stderr; -vv in detail.",
    )(command)


def accept_verbose(command: click.Command) -> None:
    """Let a command, or each command of a group, take `--verbose` behind its name as well."""
    if isinstance(command, click.Group):
        for one in command.commands.values():
            accept_verbose(one)
    else:
        verbose_option(command)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one object on one line, in ASCII, so that no terminal or encoding trips over the content of a log."""
    import json

    text = json.dumps({"schema_version": SCHEMA_VERSION, **value}, default=dict)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


def print_json_lines(values: Iterable[Mapping[str, Any]]) -> None:
    """Print one object per line."""
    for value in values:
        print_json(value)


def as_object(entry: Entry) -> dict[str, Any]:
    """The 17 columns of an entry, by name."""
    return {name: getattr(entry, name) for name in entry.__slots__}
