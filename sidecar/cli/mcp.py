"""The command `mcp`: the index for agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import Command, GlobalOptions

if TYPE_CHECKING:
    from sidecar.health.status import Status


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  claude mcp add sidecar -- sidecar --preset claude-code mcp
  codex mcp add sidecar -- sidecar --preset codex mcp
""",
)
@click.pass_obj
def mcp(options: GlobalOptions) -> None:
    """Serve the index to agents, over the Model Context Protocol on stdin and stdout.

    Ten tools, which only read: who waits for an agent, whom it waits for, what was said, whether it goes in circles.
    Needs the extra `mcp`.
    """
    from sidecar.errors import ConfigError, MissingExtra

    try:
        from sidecar.mcp.server import make_server
        from sidecar.mcp.tools import Tools
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "pydantic"):
            raise
        raise MissingExtra("mcp", "the package mcp") from None

    def status() -> tuple[str, Status]:
        from sidecar.health.status import status_of

        if options.hub is not None:
            raise ConfigError("status is of one machine's root, not of a hub", hint="ask `sidecar hub status`")
        settings = options.settings_of_index()
        return str(settings.root), status_of(settings)

    options.settings()
    make_server(Tools(options.open_index, status)).run("stdio")


COMMANDS = (mcp,)
"""What this module adds to `sidecar`."""
