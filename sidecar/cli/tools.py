"""The options `--tools` and `--no-tools`: whether what agents and their tools say to each other is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sidecar.records import Entry

PATTERN = "tool"
"""The pattern of what is said to a tool, and of its answers."""

PREFIX = "tool:"
"""What the name of a tool begins with, as an agent's."""

_F = TypeVar("_F", bound=Callable[..., Any])


def tools_option(*, default: bool) -> Callable[[_F], _F]:
    """Add `--tools/--no-tools`. The command gets it as `tools`."""
    text = f"Show calls of tools and their results, or leave them out. Default: {'shown' if default else 'left out'}."
    return click.option("--tools/--no-tools", default=default, help=text)


def chosen(entries: Iterable[Entry], tools: bool) -> Iterator[Entry]:
    """The entries, without those between agents and tools unless `tools`."""
    return (entry for entry in entries if tools or entry.pattern_type != PATTERN)


def is_chosen(agent: str, tools: bool) -> bool:
    """Whether an agent is to be shown."""
    return tools or not agent.startswith(PREFIX)
