"""The options `--tools` and `--no-tools`: whether the calls of tools, and their results, are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sidecar.records import Entry

PATTERN = "tool"
"""The pattern of calls of tools, and of their results."""

PREFIX = "tool:"
"""The beginning of the agent name of every tool."""

_F = TypeVar("_F", bound=Callable[..., Any])


def tools_option(*, default: bool) -> Callable[[_F], _F]:
    """Add `--tools/--no-tools`. The command receives it as `tools`."""
    text = f"Show calls of tools and their results, or leave them out. Default: {'shown' if default else 'left out'}."
    return click.option("--tools/--no-tools", default=default, help=text)


def chosen(entries: Iterable[Entry], tools: bool) -> Iterator[Entry]:
    """The entries; without those between agents and tools, unless `tools` is true."""
    return (entry for entry in entries if tools or entry.pattern_type != PATTERN)


def is_chosen(agent: str, tools: bool) -> bool:
    """Whether an agent is shown: any that is not a tool, or with `tools` all."""
    return tools or not agent.startswith(PREFIX)
