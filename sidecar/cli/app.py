"""The command `sidecar`: parses arguments, calls the library, renders the result.

Only click is imported at module level, here and in the command modules: `sidecar --help` and shell completion must not
wait for imports that only a command needs.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import IO, Any

import click

from sidecar import __version__
from sidecar.errors import SidecarError

from . import admin, analysis, archive, demo, entries, export, hub, mcp, query, run, search, serve, top
from .options import Group, accept_global_options

INTERRUPTED = 130
"""The exit status after ctrl-C, by the convention of shells."""

BROKEN_PIPE = 141
"""The exit status if the reader of stdout has gone away: that of a program that SIGPIPE has ended."""


_HINTS = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "run `sidecar doctor` to see which permissions this user needs"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space there"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files: ulimit -n"),
    errno.EROFS: "put the index where it can be written: --index DIR, or `index` in config.yaml",
}
"""What to do about an operating system error, by its number."""


class Failure(click.ClickException):
    """A SidecarError on the command line, with its message, its hint and its exit status."""

    def __init__(self, error: SidecarError) -> None:
        super().__init__(str(error))
        self.error = error

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """The exit status of the error."""
        return self.error.exit_status

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002
        """Print the message, and the hint if there is one, on stderr."""
        from sidecar.terminal import print_note

        print_note(f"error: {self.message}")
        if self.error.hint:
            print_note(f"hint: {self.error.hint}")


@contextmanager
def _usage_errors_escaped() -> Iterator[None]:
    """Escape control characters in usage errors: click repeats arguments verbatim, and they may come from a log."""
    try:
        yield
    except click.UsageError as error:
        from sidecar.terminal import plain

        message = "\n".join(map(plain, error.format_message().split("\n")))
        raise click.UsageError(message, error.ctx) from error


class Commands(Group):
    """The top-level group. Every command ends with one of the documented exit statuses."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        with _usage_errors_escaped():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn any error into an exit status."""
        try:
            with _usage_errors_escaped():
                result = super().invoke(ctx)
            sys.stdout.flush()
        except SidecarError as error:
            raise Failure(error) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The rest of the buffer must not raise again when Python flushes it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        except OSError as error:
            message = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
            raise Failure(SidecarError(message, hint=_HINTS.get(error.errno or 0))) from error
        return result


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  sidecar run                       index var/logs, then follow it
  sidecar --root /srv/ksi/var/logs --preset ksi-daemon run --once
  sidecar query pending             list the requests without an answer
  sidecar query timeline --agent agent_analyzer --since 2h
""",
)
@click.version_option(__version__, prog_name="sidecar", message="%(prog)s %(version)s")
def cli() -> None:
    """Find out from the logs of your agents who talked to whom, who led when, and which requests were never answered.

    The sidecar reads append-only JSON logs and keeps a small index of pointers to them, by default in the folder
    `index` below the root. It never writes to a log. The index can be deleted and rebuilt at any time.
    """


for command in (
    *(*run.COMMANDS, *query.COMMANDS, *search.COMMANDS, *analysis.COMMANDS, *entries.COMMANDS),
    *(*serve.COMMANDS, *mcp.COMMANDS),
    *(*top.COMMANDS, *demo.COMMANDS, *archive.COMMANDS, *admin.COMMANDS, *export.COMMANDS, *hub.COMMANDS),
):
    cli.add_command(command)
accept_global_options(cli)


def main() -> None:
    """The entry point of the console script."""
    # A small character set must not stop the output half-way.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    cli(prog_name="sidecar")
