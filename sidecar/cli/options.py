"""Shared by the commands: the global options, the filter options, and JSON output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.query.index import Index
    from sidecar.records import Entry

SCHEMA_VERSION = 1
"""Version of all JSON output. Raised when a key is removed or changes its meaning."""

JSON_HELP = "Print JSON to stdout, and nothing else."

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The options that every command takes, before its name or behind it; behind it counts more."""

    config: Path | None = None
    root: Path | None = None
    preset: str | None = None
    index: Path | None = None
    as_json: bool = False

    def settings(self) -> Settings:
        """The settings that these options select. Raises ConfigError."""
        from sidecar.config.settings import load_settings

        return load_settings(self.config, self.root, self.preset, self.index)

    def open_index(self) -> Index:
        """The index that these options select, opened for reading."""
        from sidecar.logs.archive_file import beside
        from sidecar.query.index import Index

        settings = self.settings()
        is_named = settings.archive != beside(settings.root)  # otherwise the index itself names the archive folder
        return Index(settings.root, settings.archive if is_named else None, settings.index_folder)


# ---- options of every command


class _GlobalOption(click.Option):
    """An option of every command. The help lists them in a section of their own."""


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep the value in the context's GlobalOptions, which a command inherits from the group that it is in."""
    options = ctx.ensure_object(GlobalOptions)
    if value is not None and value is not False and param.name is not None:
        ctx.obj = replace(options, **{param.name: value})


def _log_to_stderr(ctx: click.Context, _option: click.Parameter, count: int) -> None:
    if count:
        from sidecar.diagnostics import log_to_stderr

        ctx.meta[_VERBOSITY] = ctx.meta.get(_VERBOSITY, 0) + count  # shared by the command and the group it is in
        log_to_stderr(ctx.meta[_VERBOSITY])


_VERBOSITY = f"{__name__}.verbosity"


def _global_options(*, as_json: bool, root_variable: str | None) -> list[click.Option]:
    option = partial(_GlobalOption, expose_value=False, callback=_remember)
    path = click.Path(path_type=Path)
    root_help = "Log folder. Default: $SIDECAR_ROOT, or var/logs."
    options: list[click.Option] = [
        option(["--config"], type=path, metavar="FILE", help="Settings file. Default: ./config.yaml."),
        option(["--root"], type=path, metavar="DIR", envvar=root_variable, help=root_help),
        option(["--index"], type=path, metavar="DIR", help="Index folder. Default: the folder `index` below the root."),
        option(["--preset"], metavar="NAME", help="Set of log sources: reference (default), ksi-daemon, none."),
    ]
    if as_json:
        options.append(option(["--json", "as_json"], is_flag=True, help=JSON_HELP))
    log = partial(_GlobalOption, expose_value=False, callback=_log_to_stderr)
    return [*options, log(["-v", "--verbose"], count=True, help="Log what is done to stderr; -vv in detail.")]


def accept_global_options(command: click.Command, root_variable: str | None = "SIDECAR_ROOT") -> None:
    """Let a command, and each command of a group, take the options of every command."""
    is_group = isinstance(command, click.Group)
    # A command that prints JSON has the option itself. Only the outermost looks at the environment, which counts less
    # than an option that stands before or behind it.
    command.params += _global_options(as_json=is_group, root_variable=root_variable)
    for one in command.commands.values() if isinstance(command, click.Group) else ():
        accept_global_options(one, root_variable=None)


class Command(click.Command):
    """A command whose help lists the options of every command after its own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, in two sections."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Options of every command": []}
        for param in self.get_params(ctx):
            title = list(sections)[isinstance(param, _GlobalOption)]
            if record := param.get_help_record(ctx):
                sections[title].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Group(Command, click.Group):
    """A group that lists its commands in the order they were added, and that prints its help where none is named."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of the commands."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Nothing at all is a question for help, and no mistake."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)


# ---- options of some


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


def _or_before(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    return value or ctx.ensure_object(GlobalOptions).as_json


def json_option(command: _F) -> _F:
    """Add `--json`, passed to the command as `as_json`, wherever on the command line it stands."""
    return click.option("--json", "as_json", is_flag=True, callback=_or_before, help=JSON_HELP)(command)


# ---- JSON


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
