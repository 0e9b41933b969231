"""The errors of the package.

    SidecarError
    ├── ConfigError                 a setting, source or format that cannot be used     (exit status 2)
    │   └── RootMissing             the root does not exist, or not yet                  (exit status 1)
    ├── MissingExtra                a package is missing that an extra installs          (exit status 2)
    ├── BadTime                     a time that is neither a moment nor an age           (exit status 2)
    ├── BadArgument                 an argument of the library that is of the wrong kind (exit status 2)
    ├── HubUnavailable              the hub cannot be reached, or not by this role
    │   └── NodeTaken               another machine pushes under this node's name
    ├── BadSearch                   a text or a regular expression that cannot be looked for (exit status 2)
    ├── RootLocked                  another sidecar holds the root                       (exit status 3)
    ├── IndexUnavailable
    │   ├── IndexMissing            there is no index yet
    │   ├── IndexDamaged            an index file is not what it should be
    │   │   └── ForeignFile         a link, a pipe or another user's file is where a file of the sidecar should be
    │   └── SchemaMismatch          the index was made by another version
    ├── EntryNotFound               no entry has this id
    ├── AmbiguousId                 several entries have this id
    ├── UnknownName                 nothing in the index has this name
    ├── SourceError
    │   ├── SourceMissing           the log file of an entry is gone
    │   │   └── ArchiveMissing      the archive that the log was moved to is gone
    │   ├── SourceElsewhere         the log is on another machine
    │   ├── SourceChanged           the bytes at the pointer are not the bytes that were indexed
    │   │   └── ArchiveDamaged      an archive cannot be unpacked, or contains other bytes
    │   └── UnsafePath              a path leads out of the folder that it must stay in
    └── WriterError
        ├── SessionLocked           another writer owns the session
        ├── InvalidRecord           what was passed to be written is not a record
        ├── InvalidName             a session id or event type that is not a plain file name
        └── WriterClosed            the writer has been closed

The docstring of a class is its default message. `hint` says what to do about the error, and `exit_status` is the exit
status of the command. Everything that a caller may want to catch is here; errors that never leave their package stand
in the module that raises them.
"""

from __future__ import annotations


class SidecarError(Exception):
    """Something went wrong in the sidecar."""

    hint: str = ""
    exit_status = 1

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])
        if hint is not None:
            self.hint = hint


class ConfigError(SidecarError):
    """The configuration cannot be used."""

    exit_status = 2


class RootMissing(ConfigError):
    """The root does not exist."""

    hint = "start the daemon that logs there first, or name another directory with --root"
    # A service manager tries again, which it does not if the configuration is wrong.
    exit_status = 1


class MissingExtra(SidecarError):
    """A package is missing that an extra of the sidecar installs."""

    exit_status = 2

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(f"this needs {package}: pip install 'agent-sidecar[{extra}]'")


class BadTime(SidecarError):
    """Not a time."""

    hint = (
        "give an age (30s, 5m, 1h30m, 7d), a date or time (2024-01-15, 19:35, today, ISO 8601), or seconds since 1970"
    )
    exit_status = 2


class BadArgument(SidecarError):
    """An argument is not of the kind that is expected."""

    exit_status = 2


class BadSearch(SidecarError):
    """Nothing that can be looked for."""

    hint = "give a text of 1 to 10,000 characters, or with `regex` a regular expression in Python's syntax"
    exit_status = 2


class UnknownColumn(SidecarError):
    """An entry has no column with this name, or the names are not a list of at least one."""

    hint = "the columns are the attributes of `sidecar.Entry`"
    exit_status = 2


class HubUnavailable(SidecarError):
    """The hub cannot be reached."""

    hint = (
        "check the address, that the server runs, and the role: a password comes from ~/.pgpass, not from the address"
    )


class NodeTaken(HubUnavailable):
    """Another machine pushes under this name."""

    hint = "give this machine a name of its own (--node), or end the other pusher and add --take-over"


class RootLocked(SidecarError):
    """Another sidecar holds this root."""

    hint = "stop it first, or read its index: queries need no lock"
    exit_status = 3


class IndexUnavailable(SidecarError):
    """The index cannot be read."""

    hint = "run `sidecar run --once` or `sidecar reindex` to make it"


class IndexMissing(IndexUnavailable):
    """There is no index yet."""


class IndexDamaged(IndexUnavailable):
    """An index file is damaged."""

    hint = "run `sidecar reindex`; a running sidecar does that by itself"


class ForeignFile(IndexDamaged):
    """A file in a folder of the sidecar does not belong to the sidecar."""

    hint = "find out who put it there, and delete it"


class SchemaMismatch(IndexUnavailable):
    """The index was made by another version of the sidecar."""

    hint = "run `sidecar reindex`; `sidecar run` does that by itself"


class EntryNotFound(SidecarError):
    """No entry has this id."""

    hint = "an id is <file stem or session>:<byte offset>, as every query prints it"


class AmbiguousId(SidecarError):
    """Several entries have this id."""

    hint = "give <file path>:<byte offset> instead"


class UnknownName(SidecarError):
    """Nothing in the index has this name."""


class SourceError(SidecarError):
    """The record behind an entry cannot be read."""


class SourceMissing(SourceError):
    """The log file of this entry is gone."""

    hint = "put the file back under the root, or run `sidecar reindex` to forget it"


class SourceElsewhere(SourceError):
    """The log of this entry is on another machine."""


class ArchiveMissing(SourceMissing):
    """The archive that this log was moved to is gone."""

    hint = "mount the archive folder, put the file back, or set `archive` in config.yaml to the folder"


class SourceChanged(SourceError):
    """The bytes at this pointer are no longer the bytes that were indexed."""

    hint = "a running sidecar indexes the new bytes; else run `sidecar run --once`"


class ArchiveDamaged(SourceChanged):
    """An archive is damaged."""

    hint = "put the archive file back from a backup; everything else stays readable"


class UnsafePath(SourceError):
    """This pointer leads out of the root."""

    hint = "the index has been tampered with: run `sidecar reindex`"


class WriterError(SidecarError):
    """The record was not written."""


class SessionLocked(WriterError):
    """Another writer owns this session."""

    hint = "wait for it to close the session, or write to a session of your own"


class InvalidRecord(WriterError):
    """This is not a record."""

    hint = "a record is a JSON object with a non-empty string under `event`"


class InvalidName(WriterError):
    """This is not a plain file name."""

    hint = "use letters, digits, `-`, `_`, `.` and `:`; no `/`, and not only dots"


class WriterClosed(WriterError):
    """The writer has been closed."""
