"""Who may push for a node: the machine whose index folder has the token that the hub has.

A machine that was cloned has the same name, index and token. Each start of a pusher takes a new token, so that the
first of the two that starts makes that of the other worth nothing. The file has the new token before the hub, and the
old one beside it, so that a kill between the two locks nobody out. Where a pusher may not write the index folder, the
machine and the folder are the token.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from sidecar.errors import ForeignFile, NodeTaken
from sidecar.guarded import GuardedFolder

if TYPE_CHECKING:
    from .target import HubTarget

NAME = "hub"
"""The file in the index folder."""
_KEPT = 2
"""Tokens that count: the last one may be lost at a hub that failed over to a replica."""


def take_claim(folder: Path, target: HubTarget, take_over: bool) -> None:
    """Become the one that pushes for a node. Raises NodeTaken if another machine does."""
    old, new = _read(folder)[:_KEPT], uuid4().hex
    if take_over:
        old = [*old, target.claim]
    if not _write(folder, [new, *old]):
        new = _of_machine(folder)
        old = [*old, new]
    if not target.take_claim(old, new):
        _write(folder, old)
        raise NodeTaken(f"the node {target.name} is pushed by another machine, or by a clone of this one")
    _write(folder, [new, *old])


def _read(folder: Path) -> list[str]:
    try:
        with GuardedFolder.open_to_read(folder) as index:
            return index.read(NAME).decode("ascii", "replace").split()
    except (OSError, ForeignFile):
        return []


def _write(folder: Path, tokens: list[str]) -> bool:
    try:
        with GuardedFolder.open_own(folder) as index:
            index.write(NAME, " ".join(tokens[: _KEPT + 1]).encode(), durable=True)
    except (OSError, ForeignFile):
        return False
    return True


def _of_machine(folder: Path) -> str:
    try:
        machine = Path("/etc/machine-id").read_text("ascii")
    except OSError:
        machine = ""
    return hashlib.sha256(f"{machine}{folder.absolute()}".encode()).hexdigest()[:32]
