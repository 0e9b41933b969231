"""The command `serve`: the page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import Command, GlobalOptions

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
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Ask for the token in this file. Required for an address that other machines reach.",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Another name under which the page is reached, such as that of a proxy. May be given more than once.",
)
@click.option("--open", "is_opened", is_flag=True, help="Show the page in the browser.")
@click.pass_obj
def serve(
    options: GlobalOptions,
    port: int,
    host: str,
    token_file: Path | None,
    allow_host: tuple[str, ...],
    is_opened: bool,
) -> None:
    """Show the index in the browser: who talks to whom, what waits, what needs somebody.

    The page is for reading only, and works beside a running sidecar or without one. It is for this machine alone,
    unless --host says otherwise. Needs the extra `web`. Press ctrl-C to stop.
    """
    from sidecar.errors import MissingExtra
    from sidecar.terminal import print_note

    try:
        from sidecar.web import server
        from sidecar.web.app import Served
        from sidecar.web.desks import leave
        from sidecar.web.guard import Access
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise MissingExtra("web", "starlette and uvicorn") from None

    server.check_host(host, token_file is not None)
    token = None if token_file is None else server.read_token(token_file)
    settings = options.settings_of_index()
    with server.listen(host, port) as listener:
        where = server.address(listener)

        def served(is_over: Callable[[], bool]) -> Served:
            import socket

            names = (socket.gethostname(), socket.getfqdn(), *allow_host) if host != "127.0.0.1" else allow_host
            return Served(settings, options.open_index, Access.of(host, names, token), is_over)

        one = server.Server(served)
        print_note(f"serving {settings.root} at {where}; press ctrl-C to stop")
        if is_opened:
            click.launch(where)
        one.run(listener)
    leave()


COMMANDS = (serve,)
