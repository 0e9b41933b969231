"""The command `serve`: the page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import Command, GlobalOptions
from .web_options import allow_host_option, metrics_agents_option, token_file_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.web.app import Served


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar serve             http://127.0.0.1:8321/, for this machine alone
  sidecar serve --open      the same, and shows it in the browser
  sidecar serve --host 0.0.0.0 --token-file /etc/sidecar/token
""",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8321, show_default=True, help="Port; 0 for any.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="Address to listen on.")
@token_file_option
@allow_host_option
@metrics_agents_option
@click.option("--open", "is_opened", is_flag=True, help="Show the page in the browser.")
@click.pass_obj
def serve(
    options: GlobalOptions,
    port: int,
    host: str,
    token_file: Path | None,
    allow_host: tuple[str, ...],
    metrics_agents: int,
    is_opened: bool,
) -> None:
    """Show the index in the browser: who talks to whom, what waits, what needs somebody.

    The page is for reading only, and works beside a running sidecar or without one. It is for this machine alone,
    unless --host says otherwise. Needs the extra `web`. Press ctrl-C to stop.
    """
    from sidecar import access
    from sidecar.errors import MissingExtra
    from sidecar.terminal import print_note

    try:
        from sidecar.web import server
        from sidecar.web.app import Served
        from sidecar.web.desks import leave
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise MissingExtra("web", "starlette and uvicorn") from None

    access.check_host(host, token_file is not None)
    token = None if token_file is None else access.read_token(token_file)
    settings = options.settings_of_index()
    with access.listen(host, port) as listener:
        where = access.address(listener)

        def served(is_over: Callable[[], bool]) -> Served:
            allowed = access.access_to(host, allow_host, token)
            return Served(settings, options.open_index, allowed, is_over, metrics_agents)

        one = server.Server(served)
        print_note(f"serving {settings.root} at {where}; press ctrl-C to stop")
        if is_opened:
            click.launch(where)
        one.run(listener)
    leave()


COMMANDS = (serve,)
