"""Two checks of `sidecar doctor`: which logs are passed over, and which logs would share a session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from sidecar.config.settings import SESSION_PART, Source
from sidecar.errors import SidecarError
from sidecar.fs import split_path, to_os, utf8_to_text
from sidecar.logs.parts import without_copy
from sidecar.logs.scanner import FoundFile, PartFile, Scan
from sidecar.query.catalog_reader import EarlierPart, open_catalog
from sidecar.records import Dropped

from .result import CheckResult, listed


def passed_over(scan: Scan) -> Iterator[CheckResult]:
    """A warning about the links, pipes and the like that a finished scan has found, and one about compressed logs."""
    links = [f"{name} ({what})" for name, what in sorted(scan.passed_over.items()) if not what.startswith("compressed")]
    compressed = [
        f"{name} ({what})" for name, what in sorted(scan.passed_over.items()) if what.startswith("compressed")
    ]
    if links:
        advice = "only regular files are indexed: put the file or folder itself below the root, or ignore this"
        yield CheckResult("links", "warning", f"skipped: {listed(links)}", advice)
    if compressed:
        advice = "decompress them to have them indexed; `sidecar archive` makes logs small and keeps them findable"
        yield CheckResult("compressed", "warning", f"not read: {listed(compressed)}", advice)


def shared_sessions(logs: Iterable[tuple[str, Source]]) -> Iterator[CheckResult]:
    """A warning if several logs have the same session id, and so share one timeline and one list of participants."""
    pairs = list(logs)
    logs_of: defaultdict[str, list[str]] = defaultdict(list)
    for path, source in pairs:
        if source.layout == "session":
            named = source.parts_of(to_os(path)).get(SESSION_PART)
            logs_of[split_path(path)[1] if named is None else utf8_to_text(named)].append(path)
    folders = sorted({source.name for _, source in pairs if source.takes_session_from_folder})
    if folders:
        what = f"the logs of {listed(folders)} all have the same name, so the name of their folder is their session"
        yield CheckResult("folders", "ok", what, "to say so in the glob, name the folder `<session>`")
    shared = [(session, sorted(paths)) for session, paths in sorted(logs_of.items()) if len(paths) > 1]
    if not shared:
        return
    logs_in_words = [f"{session} ({' and '.join(paths[:2])})" for session, paths in shared]
    yield CheckResult(
        "sessions",
        "warning",
        f"two logs or more share one session: {listed(logs_in_words)}",
        "name the part of the path that tells them apart, in the glob of the source: `state/<session>/events.jsonl`",
    )


def unread_parts(root: Path, found: FoundFile, start: int, parts: Iterable[EarlierPart]) -> list[tuple[str, int, int]]:
    """For each file of a log, the one with the plain name last: its path, the byte up to which it was read, and its
    size. `start` is the byte up to which the file with the plain name was read, and `parts` are the earlier parts that
    were read."""
    read = {part.path: part.offset for part in parts}
    files = [*found.parts, PartFile(found.path, found.status)]
    if found.parts:
        files = without_copy(root, files)
    earlier = [(path, read.get(path, 0), status.st_size) for path, status in files[:-1]]
    return [*earlier, (found.path, start, found.status.st_size)]


def dropped_entries(folder: Path) -> list[Dropped]:
    """The dropped entries that the catalog counts; none without a catalog."""
    with suppress(SidecarError), closing(open_catalog(folder)) as catalog:
        return catalog.dropped()
    return []
