"""The graph as text for programs that draw. Agents are numbered, and their names are only ever labels: a name cannot
end a label, and has no effect on who draws it or reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sidecar.terminal import plain

if TYPE_CHECKING:
    from sidecar.analyze.values import Edge

_MEANS_SOMETHING = re.compile(r"[^\w .:/@+=-]")
"""Characters that may mean something to Mermaid, in labels too."""


def dot(edges: Sequence[Edge]) -> str:
    """The graph in the language of Graphviz."""
    names = _numbers(edges)
    lines = ["digraph agents {", "  node [shape=box, style=rounded];"]
    lines += [f"  a{number} [label={_quoted(name)}];" for name, number in names.items()]
    most = max((edge.count for edge in edges), default=1)
    for edge in edges:
        label = _quoted(f"{edge.count:,}" + (f" ({edge.pending:,} waiting)" if edge.pending else ""))
        colour = ", color=red" if edge.pending else ""
        width = 1 + 4 * edge.count / most
        lines.append(
            f"  a{names[edge.author]} -> a{names[edge.addressee]} [label={label}, penwidth={width:.1f}{colour}];"
        )
    return "\n".join([*lines, "}", ""])


def mermaid(edges: Sequence[Edge]) -> str:
    """The graph as a Mermaid flowchart."""
    names = _numbers(edges)
    lines = ["flowchart LR"]
    lines += [f'  a{number}["{_escaped(name)}"]' for name, number in names.items()]
    for edge in edges:
        label = f"{edge.count:,}" + (f", {edge.pending:,} waiting" if edge.pending else "")
        lines.append(f'  a{names[edge.author]} -->|"{label}"| a{names[edge.addressee]}')
    return "\n".join([*lines, ""])


def _numbers(edges: Iterable[Edge]) -> dict[str, int]:
    names: dict[str, int] = {}
    for edge in edges:
        for name in (edge.author, edge.addressee):
            names.setdefault(name, len(names) + 1)
    return names


def _quoted(text: str) -> str:
    r"""A string of Graphviz. A backslash is doubled: `\N`, `\l` and others mean something in labels."""
    escaped = plain(text).replace("\\", "\\\\").replace('"', '\\"')
    # Graphviz reads entities of HTML in labels.
    return f'"{escaped.replace("&", "&amp;")}"'


def _escaped(text: str) -> str:
    """A label of Mermaid: everything but letters, digits and some harmless characters as `#number;`."""
    return _MEANS_SOMETHING.sub(lambda match: f"#{ord(match[0])};", plain(text))
