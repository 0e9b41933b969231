"""What several files make together: the parts of a rotated log, and answers in another file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product, takewhile
from pathlib import PurePosixPath

from oracle.linking import Links, answer_across
from oracle.model import LogFile, ModelFile, State, model_log
from oracle.rules import MAIN, Rules

ROTATED = ("{name}.{number}", "{name}-{date}", "{stem}-{date}{suffix}")
_PLACES = {"{number}": r"(?P<number>[0-9]+)", "{date}": r"(?P<date>[0-9]{8}[0-9_-]*)"}


@dataclass(frozen=True)
class Log:
    """The files of one log, oldest first; the last has the log's plain name."""

    parts: tuple[LogFile, ...]


def model_tree(
    files: Iterable[LogFile],
    *,
    rotated: Sequence[str] = ROTATED,
    takes: Callable[[str], bool] = lambda _: True,
    answers_across: bool = False,
    max_line_bytes: int = 16 * 2**20,
    rules: Rules = MAIN,
) -> dict[str, ModelFile]:
    """What the law says of each file of a source, by its path. `takes`: whether the glob has a log of this path."""
    found: dict[str, ModelFile] = {}
    links: list[Links] = []
    for log in logs(files, rotated if rules.rotated else ()):
        if not takes(log.parts[-1].path):
            continue
        state = State()
        models = model_log(log.parts, state, max_line_bytes=max_line_bytes, rules=rules)
        found.update((part.path, model) for part, model in zip(log.parts, models, strict=True))
        links.append(state.links)
    if answers_across and rules.across:
        answer_across(links)
    return found


def logs(files: Iterable[LogFile], rotated: Sequence[str]) -> list[Log]:
    """The files by the logs that they are parts of."""
    by_path = {file.path: file for file in files}
    ages = {
        (path, plain): age
        for path, plain in _pairs(by_path, rotated)
        if (age := _age(path, plain, rotated)) is not None
    }
    plain_of = _plain_of(ages)
    parts: dict[str, list[tuple[tuple[int, str], LogFile]]] = {}
    for path, file in by_path.items():
        plain = plain_of.get(path, path)
        parts.setdefault(plain, []).append((ages.get((path, plain), (1, "")), file))
    return [
        Log(
            tuple(replace(file, session=PurePosixPath(plain).stem) for _, file in sorted(found, key=lambda one: one[0]))
        )
        for plain, found in parts.items()
    ]


def _plain_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """By the path of a part, the plain name of its log. Of what is a part itself nothing is a part."""
    pairs = list(pairs)
    parts = {path for path, _ in pairs}
    found: dict[str, str] = {}
    for path, plain in pairs:
        if plain not in parts:
            found.setdefault(path, plain)
    return found


def _pairs(paths: Iterable[str], rotated: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The pairs of a path and a plain name that it may be a part of. A tree may have thousands of files, so a pattern
    that begins with the name or the stem is not tried on each pair."""
    paths = list(paths)
    if not all(pattern.startswith(("{name}", "{stem}")) for pattern in rotated):
        yield from product(paths, paths)
        return
    with_stem: dict[str, list[str]] = {}
    for path in paths:
        with_stem.setdefault(str(PurePosixPath(path).with_suffix("")), []).append(path)
    for path in paths:
        for end in range(1, len(path)):
            for plain in with_stem.get(path[:end], ()):
                yield path, plain


def _age(path: str, plain: str, rotated: Sequence[str]) -> tuple[int, list[int]] | None:
    """Where a file stands among the parts of the log of a plain name; None where it is no part of it."""
    name, log = PurePosixPath(path), PurePosixPath(plain)
    if path == plain or name.parent != log.parent:
        return None
    for pattern in rotated:
        written = {"{name}": log.name, "{stem}": log.stem, "{suffix}": log.suffix}
        steps = re.split(r"(\{[a-z]+\})", pattern)
        beginning = "".join(written.get(step, step) for step in takewhile(lambda step: step not in _PLACES, steps))
        if not name.name.startswith(beginning):
            continue
        expression = "".join(_PLACES.get(step) or re.escape(written.get(step, step)) for step in steps)
        if found := re.fullmatch(expression, name.name):
            groups = found.groupdict()
            if groups.get("number"):
                return -int(groups["number"]), []
            return 0, [int(groups["date"][:8]), *map(int, re.findall("[0-9]+", groups["date"][8:]))]
    return None
