"""The commands that judge an index and make it anew: reindex, status, verify, doctor; and completion."""

from __future__ import annotations

import sys

import click

from .options import Given, json_option, print_json, print_json_lines


@click.command(
    epilog="""\b
Examples:
  sidecar reindex                 recovers from everything that can be wrong with an index
  sidecar reindex --workers 1     leave the other processors alone
"""
)
@click.option("--workers", type=click.IntRange(1), help="Processes that read; default: one a processor.")
@json_option
@click.pass_obj
def reindex(given: Given, workers: int | None, as_json: bool) -> None:
    """Make a new index from the logs, and swap it in.

    Queries are answered from the old index until the new one is whole. A running sidecar has to be stopped first.
    """
    from dataclasses import asdict

    from sidecar.progress import Progress
    from sidecar.service.supervisor import rebuild
    from sidecar.terminal import counted, length, note, size

    settings = given.settings()
    with Progress() as progress:
        done = rebuild(settings, workers or 0, progress)
    for problem in done.unreadable:
        note(f"not read: {problem}")
    rate = size(done.bytes / max(done.seconds, 0.001))
    note(
        f"{counted(done.entries, 'entry', 'entries')} from {counted(done.sources, 'file')}, {size(done.bytes)}, "
        f"in {length(done.seconds)} ({rate}/s)"
    )
    if as_json:
        print_json(asdict(done))


@click.command(
    epilog="""\b
Examples:
  sidecar status
  sidecar status --sources        where the bytes of each file went
  sidecar status --json | jq .healthy
"""
)
@click.option("--sources", is_flag=True, help="Also tell of each file.")
@json_option
@click.pass_obj
def status(given: Given, sources: bool, as_json: bool) -> None:
    """Whether every byte of the logs is accounted for, and how fresh the index is."""
    from dataclasses import asdict

    from sidecar.health import status as state

    settings = given.settings()
    found = state.status(settings, sources=sources)
    if as_json:
        told = asdict(found)
        if not sources:
            del told["source_list"]
        print_json(told)
    else:
        from sidecar.terminal import Screen

        from . import admin_views as screens_state

        screens_state.status(Screen(), settings, found)


@click.command(
    epilog="""\b
Example:
  sidecar verify && echo every pointer resolves
"""
)
@json_option
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:
    """Rebuild the index in a temporary folder and compare: row by row, pointer by pointer.

    Exits with 1 where they differ. It may run beside a running sidecar.
    """
    from dataclasses import asdict

    from sidecar.health import verify as comparison
    from sidecar.progress import Progress
    from sidecar.terminal import Screen

    from . import admin_views as screens_state

    settings = ctx.obj.settings()
    with Progress() as progress:
        found = comparison.verify(settings, progress)
    if as_json:
        print_json({"holds": found.holds, **asdict(found)})
    else:
        screens_state.verified(Screen(), found)
    if not found.holds:
        ctx.exit(1)


@click.command(
    epilog="""\b
Examples:
  sidecar doctor
  sidecar --root /srv/ksi/var/logs --preset ksi-daemon doctor --json
"""
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Look for what could go wrong here, and tell what to do about it.

    Watch limits, file systems, permissions, disk, whether the formats fit the logs. Exits with 1 where something is in
    the way of indexing.
    """
    from dataclasses import asdict

    from sidecar.health.doctor import examine
    from sidecar.terminal import Screen

    from . import admin_views as screens_state

    findings = examine(ctx.obj.settings())
    if as_json:
        print_json_lines(asdict(finding) for finding in findings)
    else:
        screens_state.examined(Screen(), findings)
    if any(finding.status == "error" for finding in findings):
        ctx.exit(1)


@click.command(
    epilog="""\b
How to switch it on:
  bash   echo 'eval "$(sidecar completion bash)"' >> ~/.bashrc
  zsh    echo 'eval "$(sidecar completion zsh)"' >> ~/.zshrc
  fish   sidecar completion fish > ~/.config/fish/completions/sidecar.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete this command's words."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    sys.stdout.write(kind(ctx.find_root().command, {}, "sidecar", "_SIDECAR_COMPLETE").source() + "\n")


COMMANDS = (reindex, status, verify, doctor, completion)
