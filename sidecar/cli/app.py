"""The command `sidecar`: arguments in, the library called, results rendered.

Only click is imported at the top, here and in the modules of the commands: `sidecar --help` and a shell that completes
a word must not wait for what a command may need.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

import click

from sidecar import __version__
from sidecar.errors import SidecarError

from . import admin, archive, demo, query, run
from .options import GlobalOptions, OrderedGroup, accept_verbose, verbose_option

INTERRUPTED = 130
"""Exit status after ctrl-C, as shells have it."""

BROKEN_PIPE = 141
"""Exit status when nobody reads on, as of any program that the signal ends."""


class Failure(click.ClickException):
    """What a SidecarError is on the command line: its message, its hint, its exit status."""

    def __init__(self, error: SidecarError) -> None:
        super().__init__(str(error))
        self.error = error

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """The error's own."""
        return self.error.exit_status

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002
        """Two lines on stderr."""
        from sidecar.terminal import print_note

        print_note(f"error: {self.message}")
        if self.error.hint:
            print_note(f"hint: {self.error.hint}")


@contextmanager
def _wrong_use_escaped() -> Iterator[None]:
    """A script may hand on what a log holds: click repeats it as it is."""
    try:
        yield
    except click.UsageError as error:
        from sidecar.terminal import plain

        message = "\n".join(map(plain, error.format_message().split("\n")))
        raise click.UsageError(message, error.ctx) from error


class Commands(OrderedGroup):
    """A group whose commands end in the way that is promised for all of them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the arguments apart."""
        with _wrong_use_escaped():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn whatever ends it into an exit status."""
        try:
            with _wrong_use_escaped():
                result = super().invoke(ctx)
            sys.stdout.flush()
        except SidecarError as error:
            raise Failure(error) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # What is still in the buffer must not raise again when Python flushes it at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        except OSError as error:
            message = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
            raise Failure(SidecarError(message)) from error
        return result


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  sidecar run                                   index var/logs, and follow it
  sidecar --root /srv/ksi/var/logs --preset ksi-daemon run --once
  sidecar query pending                         requests that nobody answered
  sidecar query timeline --agent agent_analyzer --since 2h
""",
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings; default: ./config.yaml.")
@click.option("--root", type=click.Path(path_type=Path), metavar="DIR", help="The log folder; default: var/logs.")
@click.option("--preset", metavar="NAME", help="Which files are read as what: reference (default), ksi-daemon, none.")
@verbose_option
@click.version_option(__version__, prog_name="sidecar", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, root: Path | None, preset: str | None) -> None:
    """Who talked to whom, who led when, which requests were never answered: from the logs that agents leave behind.

    The sidecar reads append-only JSON logs and keeps a small index of pointers beside them, in the folder `index` below
    the root. It never writes to a log, and the index can be deleted and made again at any time.
    """
    ctx.obj = GlobalOptions(config, root, preset)


for command in (
    *(*run.COMMANDS, *query.COMMANDS, *demo.COMMANDS),
    *(*archive.COMMANDS, *admin.COMMANDS),
):
    accept_verbose(command)
    cli.add_command(command)


def main() -> None:
    """The entry point."""
    if isinstance(sys.stdout, TextIOWrapper):  # a locale that knows few letters is no reason to stop half-way
        sys.stdout.reconfigure(errors="backslashreplace")
    cli(prog_name="sidecar")
