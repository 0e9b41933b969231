"""The first lines of some logs of a source, by which `sidecar doctor` tells whether the format fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sidecar.config.settings import Settings, Source
from sidecar.errors import SourceError
from sidecar.fs import resolve_under
from sidecar.ingest.parse import NO_EVENT_TYPE, NOT_JSON, NOT_OBJECT, TORN
from sidecar.ingest.source import SourceState
from sidecar.logs.tail import NEW, NotAFile, read_lines, read_whole_file
from sidecar.records import NOT_UTF8, Layout, Rejected

SAMPLE_FILES = 20
"""How many files of a source are read to see whether its format fits."""
SAMPLE_LINES = 100
"""How many lines of each of them are read."""


class Sample(NamedTuple):
    """The lines of a source that were checked."""

    lines: int
    """The number of lines that are not blank."""
    rejected: list[tuple[str, Rejected]]
    """Those that are not records, each with the path of its log."""


def read_sample(settings: Settings, source: Source, paths: Sequence[str]) -> Sample:
    """Read the first lines of some files, spread evenly over all of them."""
    step = max(1, len(paths) // SAMPLE_FILES)
    lines = 0
    rejected: list[tuple[str, Rejected]] = []
    for path in paths[::step][:SAMPLE_FILES]:
        new = SourceState(0, path, source)
        file = resolve_under(settings.root, path)
        try:
            if source.layout == "file":
                whole = read_whole_file(file, settings.max_line_bytes).line
                read, refused = ([], [whole]) if isinstance(whole, Rejected) else ([whole], [])
            else:
                seen = read_lines(file, NEW, settings.max_line_bytes)
                read, refused = seen.lines[:SAMPLE_LINES], seen.rejected[:SAMPLE_LINES]
        except (OSError, NotAFile, SourceError):
            # Reported as unreadable, or gone by now.
            continue
        read = [line for line in read if line.data.strip()]
        lines += len(read) + len(refused)
        new.ingest(read, refused)
        rejected += [(path, one) for one in new.rejected]
    return Sample(lines, rejected)


def advice_for(reason: str, layout: Layout, source: Source) -> str:
    """What to do about lines of a source that are rejected for a reason."""
    if reason == NOT_JSON and layout != "file":
        return (
            "look at that line: if a record takes many lines, the layout is `file`; if it is not a log, narrow the glob"
        )
    if reason == NOT_JSON:
        return "look at that file; if it holds one record per line, the layout is `session` or `stream`"
    if reason == NOT_OBJECT:
        return "a record is a JSON object; if these are not records, narrow the glob"
    if reason == NO_EVENT_TYPE:
        return f"give the format `{source.format.name}` a path or a constant for `event_type`, in config.yaml"
    if reason == TORN:
        return (
            "a piece of a record that a dead writer left, glued to the next on its line; whole records beside it are"
            " indexed: end lines with LF when the writer starts, or ignore this"
        )
    if reason == NOT_UTF8:
        return (
            "by its first bytes the file is in UTF-16: make its writer write UTF-8, or convert it:"
            " iconv -f UTF-16 -t UTF-8 FILE > NEW, then mv NEW FILE"
        )
    return "raise `max_line_bytes` in config.yaml"
