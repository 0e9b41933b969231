"""The sidecar: a log-tailing index for multi-agent systems.

    from sidecar import Index

    with Index("var/logs") as index:
        for entry in index.timeline(agent="agent_analyzer", since="2h"):
            print(entry.timestamp, entry.event_type, index.read(entry)["data"])

Names are loaded on first use, so that importing the package is cheap and never loads the watcher.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import (
        AmbiguousId,
        ArchiveDamaged,
        ArchiveMissing,
        BadArgument,
        BadSearch,
        BadTime,
        ConfigError,
        EntryNotFound,
        ForeignFile,
        HubUnavailable,
        IndexDamaged,
        IndexMissing,
        IndexUnavailable,
        InvalidName,
        InvalidRecord,
        MissingExtra,
        NodeTaken,
        RootLocked,
        RootMissing,
        SchemaMismatch,
        SessionLocked,
        SidecarError,
        SourceChanged,
        SourceElsewhere,
        SourceError,
        SourceMissing,
        UnknownColumn,
        UnknownName,
        UnsafePath,
        WriterClosed,
        WriterError,
    )
    from .query.index import Index
    from .records import Entry

__version__ = "0.1.0"

__all__ = [
    "AmbiguousId",
    "ArchiveDamaged",
    "ArchiveMissing",
    "BadArgument",
    "BadSearch",
    "BadTime",
    "ConfigError",
    "Entry",
    "EntryNotFound",
    "ForeignFile",
    "HubUnavailable",
    "Index",
    "IndexDamaged",
    "IndexMissing",
    "IndexUnavailable",
    "InvalidName",
    "InvalidRecord",
    "MissingExtra",
    "NodeTaken",
    "RootLocked",
    "RootMissing",
    "SchemaMismatch",
    "SessionLocked",
    "SidecarError",
    "SourceChanged",
    "SourceElsewhere",
    "SourceError",
    "SourceMissing",
    "UnknownColumn",
    "UnknownName",
    "UnsafePath",
    "WriterClosed",
    "WriterError",
]


# A type checker must not see this: it would accept any name at all.
if not TYPE_CHECKING:
    # All other names are errors.
    _MODULES = {"Entry": "records", "Index": "query.index"}

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)

    def __dir__():
        return sorted(__all__)
