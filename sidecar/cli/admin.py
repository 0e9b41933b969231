"""The commands that rebuild and check an index (reindex, status, verify, doctor), and shell completion."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .options import Command, GlobalOptions, json_option, print_json, print_json_lines


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar reindex               recover from anything wrong with an index
  sidecar reindex --workers 1   use only one processor
""",
)
@click.option("--workers", type=click.IntRange(1), help="Number of reader processes. Default: one per processor.")
@json_option
@click.pass_obj
def reindex(options: GlobalOptions, workers: int | None, as_json: bool) -> None:
    """Rebuild the index from the logs and swap it in.

    Queries are answered from the old index until the new one is complete. Stop a running sidecar first.
    """
    from dataclasses import asdict

    from sidecar.progress import ProgressBar
    from sidecar.service.supervisor import rebuild
    from sidecar.terminal import counted, duration_text, print_note, size_text

    settings = options.settings()
    with ProgressBar() as progress:
        done = rebuild(settings, workers or 0, progress)
    for problem in done.unreadable:
        print_note(f"could not read {problem}")
    rate = size_text(done.bytes / max(done.seconds, 0.001))
    print_note(
        f"{counted(done.entries, 'entry', 'entries')} from {counted(done.sources, 'file')}, {size_text(done.bytes)}, "
        f"in {duration_text(done.seconds)} ({rate}/s)"
    )
    if as_json:
        print_json(asdict(done))


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar status || echo see above
  sidecar status --sources        account for the bytes of each file too
  sidecar status --json | jq .healthy
""",
)
@click.option("--sources", is_flag=True, help="Also list each file.")
@json_option
@click.pass_context
def status(ctx: click.Context, sources: bool, as_json: bool) -> None:
    """Account for every byte of the logs, and report what is wrong.

    Exits with status 1 if anything is wrong.
    """
    from dataclasses import asdict

    from sidecar.health.status import status_of

    settings = ctx.obj.settings()
    found = status_of(settings, sources=sources)
    if as_json:
        values = asdict(found)
        if not sources:
            del values["source_list"]
        print_json(values)
    else:
        from sidecar.terminal import Screen

        from . import admin_views

        admin_views.status_view(Screen(), settings, found)
    if not found.healthy:
        ctx.exit(1)


@click.command(
    cls=Command,
    epilog="""\b
Example:
  sidecar verify && echo every pointer resolves
""",
)
@json_option
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:
    """Compare the index with a fresh rebuild, and test all pointers.

    The rebuild is made in a temporary folder. Exits with status 1 if the two differ. Safe to use while a sidecar is
    running.
    """
    from dataclasses import asdict

    from sidecar.health.verify import compare
    from sidecar.progress import ProgressBar
    from sidecar.terminal import Screen

    from . import admin_views

    settings = ctx.obj.settings_of_index()
    with ProgressBar() as progress:
        found = compare(settings, progress)
    if as_json:
        print_json({"holds": found.holds, **asdict(found)})
    else:
        admin_views.verify_view(Screen(), found)
    if not found.holds:
        ctx.exit(1)


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar doctor
  sidecar --root /srv/ksi/var/logs --preset ksi-daemon doctor --json
  sidecar doctor --suggest logs/bus.jsonl > config.yaml
""",
)
@click.option(
    "--suggest",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Print a draft of config.yaml for a log of unknown shape instead.",
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, suggest: Path | None, as_json: bool) -> None:
    """Look for problems on this machine, and say what to do.

    Checks watch limits, file systems, permissions, disk space, and whether the formats fit the logs. Exits with status
    1 if anything prevents indexing. With --suggest, the draft says in comments what each line is guessed from.
    """
    if suggest is not None:
        _suggest(suggest, as_json)
        return
    from dataclasses import asdict

    from sidecar.health.doctor import run_checks
    from sidecar.terminal import Screen

    from . import admin_views

    results = run_checks(ctx.obj.settings())
    if as_json:
        print_json_lines(asdict(result) for result in results)
    else:
        admin_views.doctor_view(Screen(), results)
    if any(result.status == "error" for result in results):
        ctx.exit(1)


def _suggest(file: Path, as_json: bool) -> None:
    from sidecar.health.suggest import suggest

    draft = suggest(file)
    if as_json:
        print_json({"config": draft})
    else:
        sys.stdout.write(draft)


@click.command(
    cls=Command,
    epilog="""\b
How to enable completion:
  bash   echo 'eval "$(sidecar completion bash)"' >> ~/.bashrc
  zsh    echo 'eval "$(sidecar completion zsh)"' >> ~/.zshrc
  fish   sidecar completion fish > ~/.config/fish/completions/sidecar.fish
""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script for completion in SHELL."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    sys.stdout.write(kind(ctx.find_root().command, {}, "sidecar", "_SIDECAR_COMPLETE").source() + "\n")


COMMANDS = (reindex, status, verify, doctor, completion)
