"""The command `top`: the board of one's own logs."""

from __future__ import annotations

from contextlib import closing

import click

from .options import Command, GlobalOptions, json_option, print_json

JSON_ROWS = 20
"""Requests and messages that are listed with --json."""


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar top
  sidecar --preset claude-code top
  sidecar top | head -40     one picture, as text
""",
)
@json_option
@click.pass_obj
def top(options: GlobalOptions, as_json: bool) -> None:
    """Watch live what the agents do.

    Shows the rate of messages, how far the index lags behind, who talks to whom, roles as they change, the requests
    that have waited longest, and what was said last. It begins with the latest 2,000 messages. Press q to quit.

    Where there is no terminal, one picture is printed. With --json, one object.
    """
    from sidecar.board.signals import stopped_by_key, stopped_by_signals
    from sidecar.board.top import Board
    from sidecar.board.view import SilentView, TerminalView
    from sidecar.service.lock import lock_holder
    from sidecar.terminal import Screen

    screen = Screen()
    is_live = screen.is_terminal and not screen.console.is_dumb_terminal and not as_json
    folder = options.settings().index_folder
    with closing(options.open_index()) as index:
        view = TerminalView(screen) if is_live else SilentView()
        board = Board(index, view, lambda: lock_holder(folder) is not None)
        board.open()
        if as_json:
            print_json(board.as_object(JSON_ROWS))
        elif is_live:
            with stopped_by_signals() as is_asked, stopped_by_key() as is_pressed:
                board.run(lambda: is_asked() or is_pressed())
        else:
            board.print_once()


COMMANDS = (top,)
