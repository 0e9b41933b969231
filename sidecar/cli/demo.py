"""The command `demo`: simulated agents and a real sidecar, side by side."""

from __future__ import annotations

from pathlib import Path

import click

from .options import Command, GlobalOptions, json_option, print_json


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar demo                        half a minute, in a temporary folder
  sidecar demo --agents 12 --rate 400 --seconds 60
  sidecar --root /tmp/talk demo --seconds 5 --json
""",
)
@click.option("--seconds", type=click.FloatRange(0.1, 86400), default=30, show_default=True, help="Duration.")
@click.option("--rate", type=click.FloatRange(0.1, 100_000), default=50, show_default=True, help="Records per second.")
@click.option("--agents", type=click.IntRange(4, 24), default=8, show_default=True, help="Number of agents.")
@click.option("--seed", type=int, default=1, show_default=True, help="Random seed: the same seed, the same talk.")
@json_option
@click.pass_context
def demo(ctx: click.Context, seconds: float, rate: float, agents: int, seed: int, as_json: bool) -> None:
    """Watch simulated agents talk, and the index keep up with them.

    A small world of agents writes logs in one process, a real `sidecar run` indexes them in another, and the screen
    shows what the index knows so far. Without --root, everything happens in a new temporary folder, which is kept. A
    root that contains anything but earlier demos is refused. Press ctrl-C to end early. Exits with status 1 if a record
    did not reach the index.
    """
    import tempfile

    from sidecar.demo.play import DemoOptions, play
    from sidecar.demo.view import ended, view_of
    from sidecar.errors import ConfigError
    from sidecar.terminal import Screen

    options: GlobalOptions = ctx.obj
    if options.preset not in (None, "reference"):
        raise ConfigError(f"the demo cannot write logs of the preset {options.preset!r}", hint="omit --preset")
    root = options.root.absolute() if options.root else Path(tempfile.mkdtemp(prefix="sidecar-demo-"))
    root.mkdir(parents=True, exist_ok=True)
    index = options.index.absolute() if options.index else None
    screen = Screen()
    summary, next_steps = play(
        DemoOptions(root, agents, rate, seconds, seed, options.config, index), view_of(screen, as_json)
    )
    if as_json:
        print_json(summary)
    else:
        ended(screen, summary, next_steps)
    if summary["indexed"] != summary["written"]:
        ctx.exit(1)


COMMANDS = (demo,)
