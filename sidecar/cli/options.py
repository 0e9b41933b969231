"""What several commands share: global options, filters, times, names, and JSON output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import click

from .values import folders, names_of, presets

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.query.index import Index
    from sidecar.query.names import Kind
    from sidecar.records import Entry

SCHEMA_VERSION = 1
"""The version of all JSON output. It is raised when a key is removed or changes its meaning."""

JSON_HELP = "Print JSON to stdout, and nothing else."

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The options that every command takes, before or after its name. One after the name takes precedence."""

    config: Path | None = None
    root: Path | None = None
    preset: str | None = None
    index: Path | None = None
    as_json: bool = False
    hub: str | None = None
    """The address of a hub; empty for the one in the settings."""
    node: str | None = None

    @property
    def names_no_logs(self) -> bool:
        """Whether no option says which logs to use."""
        return self.config is None and self.root is None and self.preset is None

    def settings(self) -> Settings:
        """The settings that these options select. Raises ConfigError."""
        from sidecar.config.settings import load_settings
        from sidecar.errors import ConfigError

        if self.hub is not None:
            raise ConfigError("this command reads a root, and no hub", hint="leave out --hub")
        if self.node is not None:
            raise ConfigError("--node chooses a node of a hub, and no hub is named", hint="add --hub URL")
        return load_settings(self.config, self.root, self.preset, self.index)

    def hub_url(self) -> str:
        """The address of the hub that `--hub` or the settings name. Raises ConfigError."""
        from sidecar.config.hub import what_is_wrong
        from sidecar.errors import ConfigError

        url = self.hub or replace(self, hub=None, node=None).settings().hub.url
        if url is None:
            raise ConfigError("no hub is named", hint="give --hub URL, or `hub: {url: ...}` in config.yaml")
        if self.hub and (wrong := what_is_wrong(self.hub)):
            raise ConfigError(f"--hub: {wrong}")
        return url

    def settings_of_index(self) -> Settings:
        """Like `settings`, for commands that read an index. Raises also RootMissing if there is neither an index nor a
        root, and ConfigError if the index folder holds something else, or the index of another root."""
        settings = self.settings()
        if not settings.index_folder.exists():
            settings.check_root()
        if settings.index is not None:
            from sidecar.service.index_folder import check_index_folder

            check_index_folder(settings)
        return settings

    def open_index(self) -> Index:
        """The index that these options select, opened for reading: that of a root, or a hub. Raises the errors of
        `settings_of_index`, `hub_url` and `Index`."""
        from sidecar.logs.archive_file import beside
        from sidecar.query.index import Index

        if self.hub is not None:
            from sidecar.hub.reader import HubIndex

            return HubIndex(self.hub_url(), node=self.node)
        settings = self.settings_of_index()
        # Otherwise the index itself names the archive folder.
        is_named = settings.archive != beside(settings.root)
        return Index(settings.root, settings.archive if is_named else None, settings.index_folder)


# ---- options of every command


class _GlobalOption(click.Option):
    """An option that every command has. The help lists these in a section of their own."""


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Store the value in the GlobalOptions of the context, which a command inherits from its group."""
    options = ctx.ensure_object(GlobalOptions)
    if value is not None and value is not False and param.name is not None:
        ctx.obj = replace(options, **{param.name: value})


def _log_to_stderr(ctx: click.Context, _option: click.Parameter, count: int) -> None:
    if count:
        from sidecar.diagnostics import log_to_stderr

        # Shared by a command and the group that it is in.
        ctx.meta[_VERBOSITY] = ctx.meta.get(_VERBOSITY, 0) + count
        log_to_stderr(ctx.meta[_VERBOSITY])


_VERBOSITY = f"{__name__}.verbosity"


def _global_options(*, as_json: bool, root_variable: str | None) -> list[click.Option]:
    option = partial(_GlobalOption, expose_value=False, callback=_remember)
    file = partial(option, type=click.Path(path_type=Path, readable=False))
    folder = partial(file, metavar="DIR", shell_complete=folders)
    preset_help = (
        "Set of log sources: reference (default), ksi-daemon, claude-code, codex, copilot, gemini, openhands, none."
    )
    options: list[click.Option] = [
        file(["--config"], metavar="FILE", help="Settings file. Default: ./config.yaml."),
        folder(
            ["--root"],
            envvar=root_variable,
            help="Log folder. Default: $SIDECAR_ROOT, or var/logs, or where the preset finds the logs.",
        ),
        folder(["--index"], help="Index folder. Default: the folder `index` below the root."),
        option(["--preset"], metavar="NAME", shell_complete=presets, help=preset_help),
        option(
            ["--hub"],
            metavar="URL",
            is_flag=False,
            flag_value="",
            help="Ask a hub instead of a root: postgresql://HOST/DATABASE, or without a value that of the settings.",
        ),
        option(["--node"], metavar="NAME", help="Only this machine of a hub; for `push`, the name of this one."),
    ]
    if as_json:
        options.append(option(["--json", "as_json"], is_flag=True, help=JSON_HELP))
    log = partial(_GlobalOption, expose_value=False, callback=_log_to_stderr)
    return [*options, log(["-v", "--verbose"], count=True, help="Log what is done to stderr; -vv in detail.")]


def accept_global_options(command: click.Command, root_variable: str | None = "SIDECAR_ROOT") -> None:
    """Add the global options to a command, or to a group and all of its commands."""
    is_group = isinstance(command, click.Group)
    # A command that prints JSON has a `--json` of its own. Only the outermost group reads the environment, so that an
    # option takes precedence over it wherever it is given.
    command.params += _global_options(as_json=is_group, root_variable=root_variable)
    for one in command.commands.values() if isinstance(command, click.Group) else ():
        accept_global_options(one, root_variable=None)


class Command(click.Command):
    """A command. Its help lists its own options first, then the global ones."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, in two sections. Arguments are explained in the text above."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Options of every command": []}
        for param in self.get_params(ctx):
            title = list(sections)[isinstance(param, _GlobalOption)]
            record = param.get_help_record(ctx)
            if record and isinstance(param, click.Option):
                sections[title].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Group(Command, click.Group):
    """A group of commands, listed in the order in which they were added. Without arguments it prints its help."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of the commands."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options and the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their summaries, which are wrapped rather than cut."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [(name, command) for name, command in commands if command is not None and not command.hidden]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(limit=200)) for name, command in shown])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Without any, print the help and exit with status 0."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)


# ---- options of several commands

KINDS: tuple[Kind, ...] = ("agent", "session", "event_type", "pattern", "conversation", "correlation")
"""What entries can be filtered by, under the names that `Index.timeline` uses."""

_FILTERS = (
    click.option("--agent", shell_complete=names_of("agent"), help="Only entries that this agent takes part in."),
    click.option("--session", shell_complete=names_of("session"), help="Only entries of this session."),
    click.option(
        *("--event", "event_type"),
        shell_complete=names_of("event_type"),
        help="Only entries of this event type.",
    ),
    click.option(
        "--pattern",
        shell_complete=names_of("pattern"),
        help="Only entries with this pattern: peer_to_peer, broadcast, team, swarm, …",
    ),
    click.option("--conversation", shell_complete=names_of("conversation"), help="Only entries of this conversation."),
    click.option(
        "--correlation",
        shell_complete=names_of("correlation"),
        help="Only the request with this id, and its answers.",
    ),
)


def filter_options(command: _F) -> _F:
    """Add the filter options. The command receives those that are given as `filters`, by the names in `KINDS`."""

    @wraps(command)
    def with_filters(*args: Any, **given: Any) -> Any:
        filters = {name: value for name in KINDS if (value := given.pop(name)) is not None}
        return command(*args, filters=filters, **given)

    for option in reversed(_FILTERS):
        with_filters = option(with_filters)
    return cast(_F, with_filters)


class Window(NamedTuple):
    """The values of `--since`, `--until` and `--limit`."""

    since: float | None
    until: float | None
    limit: int | None

    @property
    def span(self) -> dict[str, Any]:
        """The start and the end, as arguments of `Index.timeline`."""
        return {"since": self.since, "until": self.until}

    @property
    def is_whole(self) -> bool:
        """Whether neither a start nor an end is given."""
        return self.since is None and self.until is None

    def has(self, moment: float) -> bool:
        """Whether a moment is not before the start and is before the end."""
        return (self.since is None or self.since <= moment) and (self.until is None or moment < self.until)


def _moment(ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """The value of an option in seconds since 1970."""
    from sidecar.times import moment_of

    return None if value is None else moment_of(value, time.time(), local=ctx.params.get("local", False))


_WINDOW = (
    click.option(
        "--since",
        callback=_moment,
        metavar="TIME",
        help="Start time: 2h, 1h30m, today, yesterday, 19:35, 2024-01-15, 2024-01-15T10:30:00Z, or seconds since 1970.",
    ),
    click.option("--until", callback=_moment, metavar="TIME", help="End time, exclusive; in the same forms."),
    click.option("--limit", type=click.IntRange(0), metavar="N", help="At most N results."),
)


def window_options(command: _F) -> _F:
    """Add `--since`, `--until` and `--limit`. The command receives them as `window`."""

    @wraps(command)
    def with_window(*args: Any, since: float | None, until: float | None, limit: int | None, **given: Any) -> Any:
        return command(*args, window=Window(since, until, limit), **given)

    for option in reversed(_WINDOW):
        with_window = option(with_window)
    return cast(_F, with_window)


def window_times(command: _F) -> _F:
    """Add `--since` and `--until`. The command receives them as `window`."""

    @wraps(command)
    def with_window(*args: Any, since: float | None, until: float | None, **given: Any) -> Any:
        return command(*args, window=Window(since, until, None), **given)

    for option in reversed(_WINDOW[:2]):
        with_window = option(with_window)
    return cast(_F, with_window)


def local_option(command: _F) -> _F:
    """Add `--local`. It is parsed first, because it decides how times are read."""
    text = "Show and read times in this machine's time zone, not in UTC."
    return click.option("--local", is_flag=True, is_eager=True, help=text)(command)


def _or_before(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    return value or ctx.ensure_object(GlobalOptions).as_json


def json_option(command: _F) -> _F:
    """Add `--json`. The command receives it as `as_json`, even if it is given before the command's name."""
    return click.option("--json", "as_json", is_flag=True, callback=_or_before, help=JSON_HELP)(command)


# ---- names and JSON


def resolved(index: Index, filters: Mapping[str, str]) -> dict[str, Any]:
    """The filters with complete names. If an id was given in part, the complete one is printed on stderr.

    Raises UnknownName and AmbiguousId.
    """
    from sidecar.query.names import resolve

    found: dict[str, Any] = {}
    for kind in KINDS:
        if kind in filters:
            found[kind] = resolve(index, kind, filters[kind])
            if found[kind] != filters[kind]:
                from sidecar.terminal import print_note

                print_note(f"{kind} {found[kind]}")
    return found


def print_json(value: Mapping[str, Any]) -> None:
    """Print one object on one line, in ASCII, so that the content of a log causes no trouble in any encoding."""
    import json

    text = json.dumps({"schema_version": SCHEMA_VERSION, **value}, default=dict)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


def print_json_lines(values: Iterable[Mapping[str, Any]]) -> None:
    """Print one object per line."""
    for value in values:
        print_json(value)


def as_object(entry: Entry) -> dict[str, Any]:
    """All fields of an entry, by name; from a hub also its `node`, of a hit where the text was found."""
    values: dict[str, Any] = {name: getattr(entry, name) for name in entry.__match_args__}
    return values if entry.node is None else {**values, "node": entry.node}
