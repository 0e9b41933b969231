"""What the commands share: the choice of settings, and how JSON is printed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from .config import Settings

SCHEMA_VERSION = 1
"""Of everything that is printed as JSON. A key that goes or changes its meaning makes it 2."""

_F = TypeVar("_F", bound=Callable[..., Any])


class Given(NamedTuple):
    """The options before the command."""

    config: Path | None
    root: Path | None
    preset: str | None

    def settings(self) -> Settings:
        """The settings that they choose; raises ConfigError."""
        from .config import load_settings

        return load_settings(*self)


def json_option(command: _F) -> _F:
    """`--json`, handed over as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")(command)


def print_json(value: Mapping[str, Any]) -> None:
    """One object, on one line. In pure ASCII: no terminal and no encoding stumbles over what a log holds."""
    import json

    text = json.dumps({"schema_version": SCHEMA_VERSION, **value}, default=dict)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


def print_json_lines(values: Iterable[Mapping[str, Any]]) -> None:
    """One object a line."""
    for value in values:
        print_json(value)
