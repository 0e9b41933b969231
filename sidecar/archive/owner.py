"""Who may write where while it is archived: the owner of the index, and the folder that is one root's archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import orjson

from sidecar.config.settings import Settings
from sidecar.errors import ConfigError, RootLocked, SidecarError
from sidecar.indexer.index_writer import Ledger
from sidecar.logs.archive import MARKER, is_of, owner
from sidecar.service.lock import holder
from sidecar.service.requests import Asked, Owner
from sidecar.service.supervisor import fault, locked
from sidecar.store import layout as swap
from sidecar.store.connection import DATABASE_ERRORS

UNFINISHED = ".part"
"""Ends the name of a file of the archive that is being written."""


@contextmanager
def index_owner(settings: Settings) -> Iterator[Owner]:
    """Whoever may write the index: this process, or a running sidecar."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(settings, "archive"))
        except RootLocked:
            held = holder(settings.index_folder)
            if held is None or held[1] != "run":
                raise
            owner_: Owner = Asked(settings.index_folder)
        else:
            swap.settle(settings.index_folder)
            why = fault(settings)
            if why is not None:
                raise SidecarError(f"the index has to be made again: {why}", hint="run `sidecar run --once` first")
            owner_ = stack.enter_context(_opened(settings))
        yield owner_


@contextmanager
def _opened(settings: Settings) -> Iterator[Ledger]:
    with _database_errors_named(settings):
        ledger = Ledger(settings)
        try:
            yield ledger
            ledger.close()
        except BaseException:
            ledger.abandon()
            raise


@contextmanager
def _database_errors_named(settings: Settings) -> Iterator[None]:
    try:
        yield
    except DATABASE_ERRORS as error:
        hint = "`sidecar run` makes good what is broken"
        raise SidecarError(f"{settings.index_folder}: {error}", hint=hint) from error


# ---- the archive's folder


def check(settings: Settings) -> None:
    """Raise ConfigError where the archive folder is another root's, or lies where it cannot."""
    folder = settings.archive
    if folder == settings.root or folder.is_relative_to(settings.index_folder):
        raise ConfigError(f"{folder} cannot be the archive of {settings.root}", hint="name a folder beside the root")
    named = owner(folder)
    if named is not None and named.exists() and not is_of(folder, settings.root):
        raise ConfigError(
            f"{folder} is the archive of {named}", hint="one archive a root: set `archive` in config.yaml"
        )


def claim(settings: Settings) -> None:
    """Make the archive folder, and write down there whose it is. Raises ConfigError, OSError."""
    check(settings)
    folder = settings.archive
    folder.mkdir(parents=True, exist_ok=True)
    if not is_of(folder, settings.root):
        temporary = folder / f"{MARKER}{UNFINISHED}"
        with temporary.open("wb") as file:
            file.write(orjson.dumps({"root": os.fspath(settings.root)}) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / MARKER)
        swap.sync_folder(folder)
