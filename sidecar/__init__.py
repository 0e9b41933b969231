"""The sidecar: a log-tailing index for multi-agent systems.

    from sidecar import Index

    with Index("var/logs") as index:
        for entry in index.timeline(agent="agent_analyzer", since="2h"):
            print(entry.timestamp, entry.event_type, index.read(entry)["data"])

Names are handed out when they are asked for, so that importing the package costs nothing and never loads the watcher.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import SidecarError as SidecarError
    from .query.index import Index as Index
    from .records import Entry as Entry

__version__ = "0.1.0"

_HOME = {"Index": "query.index", "Entry": "records"}
__all__ = ["Entry", "Index", "SidecarError"]


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    module = import_module(f"{__name__}.{_HOME.get(name, 'errors')}")
    try:
        return getattr(module, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted(__all__)
