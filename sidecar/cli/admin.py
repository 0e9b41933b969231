"""The commands that check and rebuild an index: reindex, status, verify, doctor; and completion."""

from __future__ import annotations

import sys

import click

from .options import GlobalOptions, json_option, print_json, print_json_lines


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
def reindex(given: GlobalOptions, workers: int | None, as_json: bool) -> None:
    """Make a new index from the logs, and swap it in.

    Queries are answered from the old index until the new one is whole. A running sidecar has to be stopped first.
    """
    from dataclasses import asdict

    from sidecar.service.supervisor import rebuild
    from sidecar.terminal import ProgressBar, counted, duration_text, print_note, size_text

    settings = given.settings()
    with ProgressBar() as progress:
        done = rebuild(settings, workers or 0, progress)
    for problem in done.unreadable:
        print_note(f"not read: {problem}")
    rate = size_text(done.bytes / max(done.seconds, 0.001))
    print_note(
        f"{counted(done.entries, 'entry', 'entries')} from {counted(done.sources, 'file')}, {size_text(done.bytes)}, "
        f"in {duration_text(done.seconds)} ({rate}/s)"
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
def status(given: GlobalOptions, sources: bool, as_json: bool) -> None:
    """Whether every byte of the logs is accounted for, and how fresh the index is."""
    from dataclasses import asdict

    from sidecar.health.status import status_of

    settings = given.settings()
    found = status_of(settings, sources=sources)
    if as_json:
        told = asdict(found)
        if not sources:
            del told["source_list"]
        print_json(told)
    else:
        from sidecar.terminal import Screen

        from . import admin_views

        admin_views.status_view(Screen(), settings, found)


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

    from sidecar.health.verify import compare
    from sidecar.terminal import ProgressBar, Screen

    from . import admin_views

    settings = ctx.obj.settings()
    with ProgressBar() as progress:
        found = compare(settings, progress)
    if as_json:
        print_json({"holds": found.holds, **asdict(found)})
    else:
        admin_views.verify_view(Screen(), found)
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

    from sidecar.health.doctor import run_checks
    from sidecar.terminal import Screen

    from . import admin_views

    findings = run_checks(ctx.obj.settings())
    if as_json:
        print_json_lines(asdict(finding) for finding in findings)
    else:
        admin_views.doctor_view(Screen(), findings)
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
