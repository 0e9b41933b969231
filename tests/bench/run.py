"""Measure every figure of `docs/testing.md`, beside its floor or peer, in one run on one machine.

    python tests/bench/run.py                       all of it; about half an hour, and 8 GB of disk in --folder
    python tests/bench/run.py --quick               everything, a twentieth as large: a smoke run of a minute
    python tests/bench/run.py --only rebuild size   these
    python tests/bench/run.py --only rebuild --scale 10    5 million records: does it grow linearly?

Corpora are made from a seed and kept in --folder for the next run. Peers that are not installed (duckdb, jq) are
skipped, and that is said. Ratios are taken within a round; a figure is the median of its rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import analyze
import archive
import beside
import fresh
import hub
import idle
import imports
import metrics
import orjson
import query
import rebuild
import search
import size
import web
from measure import Figure, Plan, python
from rich.console import Console
from rich.table import Table

FIGURES: dict[str, Callable[[Plan], Iterator[Figure]]] = {
    "imports": imports.measure,
    "rebuild": rebuild.measure,
    "size": size.measure,
    "query": query.measure,
    "fresh": fresh.measure,
    "idle": idle.measure,
    "beside": beside.measure,
    "archive": archive.measure,
    "search": search.measure,
    "analyze": analyze.measure,
    "hub": hub.measure,
    "web": web.measure,
    "metrics": metrics.measure,
}
WRITER = "writer"
"""A table of its own: `bench_writer.py`."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(tempfile.gettempdir()) / "sidecar-bench"
    arguments.add_argument("--folder", type=Path, default=default, help=f"where corpora are kept (default: {default})")
    arguments.add_argument("--quick", action="store_true", help="a twentieth of everything")
    arguments.add_argument("--repeat", type=int, default=5, help="rounds of what is short (default: 5)")
    arguments.add_argument(
        "--scale", type=int, default=1, help="times the records of the rebuild's corpus (default: 1)"
    )
    arguments.add_argument(
        "--only", nargs="+", choices=[*FIGURES, WRITER], metavar="NAME", help=", ".join([*FIGURES, WRITER])
    )
    arguments.add_argument("--json", action="store_true", help="one object a figure, a line each, instead of the table")
    options = arguments.parse_args()

    options.folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(options.folder.absolute(), options.quick, options.repeat, options.scale)
    chosen = options.only or [*FIGURES, WRITER]
    screen = Console(width=None if sys.stdout.isatty() else 150)
    if not options.json:
        screen.print(machine(), highlight=False)
    for name in chosen:
        if name == WRITER:
            if not options.json:
                write(plan)
            continue
        found = []
        for figure in FIGURES[name](plan):
            found.append(figure)
            if options.json:
                print(as_json(name, figure), flush=True)
        if not options.json:
            screen.print(table(name, found))


def machine() -> str:
    """What it was measured on."""
    return (
        f"{os.cpu_count()} processors ({platform.machine()}), load {os.getloadavg()[0]:.1f}, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def table(name: str, figures: list[Figure]) -> Table:
    """The figures of one name."""
    told = Table(title=name, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    told.add_column("figure")
    for column in ("ours", "beside", "ratio", "goal"):
        told.add_column(column, justify="right", no_wrap=True)
    for column in ("", "note"):
        told.add_column(column, overflow="fold")
    for figure in figures:
        beside = "" if figure.other is None else f"{figure.beside} {amount(figure.other, figure.unit)}"
        ratio = figure.compared()
        verdict = {None: "", True: "[green]reached[/]", False: "[red]not yet[/]"}[figure.reached()]
        told.add_row(
            *(figure.name, amount(figure.ours, figure.unit), beside, "" if ratio is None else f"{ratio:.3g} x"),
            *("" if figure.goal is None else str(figure.goal), verdict, figure.note),
        )
    return told


def amount(value: float, unit: str) -> str:
    """A number with its unit, in three digits."""
    if value != value:  # a peer that is not installed
        return "–"
    digits = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{digits} {unit}".rstrip()


def as_json(name: str, figure: Figure) -> str:
    """A figure for programs."""
    told = asdict(figure) | {"group": name, "ratio": figure.compared(), "reached": figure.reached()}
    told["goal"] = figure.goal and str(figure.goal)
    return orjson.dumps(told).decode()


def write(plan: Plan) -> None:
    """The writer's own table."""
    sizes = ["--records", "2000", "--repeats", "2"] if plan.quick else ["--repeats", plan.repeat]
    print(flush=True)
    subprocess.run(python("bench_writer.py", "--folder", plan.folder, *sizes), check=True)


if __name__ == "__main__":
    main()
