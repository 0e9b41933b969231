"""The command that shows it all at work: demo."""

from __future__ import annotations

from pathlib import Path

import click

from .options import GlobalOptions, json_option, print_json


@click.command(
    epilog="""\b
Examples:
  sidecar demo                                  half a minute, in a folder of its own
  sidecar demo --agents 12 --rate 400 --seconds 60
  sidecar --root /tmp/talk demo --seconds 5 --json
"""
)
@click.option("--seconds", type=click.FloatRange(0.1, 86400), default=30, show_default=True, help="They talk so long.")
@click.option("--rate", type=click.FloatRange(0.1, 100_000), default=50, show_default=True, help="Records a second.")
@click.option("--agents", type=click.IntRange(4, 24), default=8, show_default=True, help="How many there are.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same talk.")
@json_option
@click.pass_context
def demo(ctx: click.Context, seconds: float, rate: float, agents: int, seed: int, as_json: bool) -> None:
    """Agents that talk, and what the index knows of it, live.

    A small world of agents writes logs in one process, a real `sidecar run` indexes them in another, and the screen
    shows what can be asked of the index meanwhile. Without --root it all happens in a new temporary folder, which is
    kept; your own logs are not touched. ctrl-C ends it early. Exits with 1 where a record did not reach the index.
    """
    import tempfile

    from sidecar.demo.play import DemoOptions, play
    from sidecar.demo.view import ended, view_of
    from sidecar.errors import ConfigError
    from sidecar.terminal import Screen

    given: GlobalOptions = ctx.obj
    if given.preset not in (None, "reference"):
        raise ConfigError(f"the demo's agents do not write as {given.preset!r} has it", hint="leave --preset out")
    root = given.root.absolute() if given.root else Path(tempfile.mkdtemp(prefix="sidecar-demo-"))
    root.mkdir(parents=True, exist_ok=True)
    screen = Screen()
    summary, next_steps = play(DemoOptions(root, agents, rate, seconds, seed, given.config), view_of(screen, as_json))
    if as_json:
        print_json(summary)
    else:
        ended(screen, summary, next_steps)
    if summary["indexed"] != summary["written"]:
        ctx.exit(1)


COMMANDS = (demo,)
