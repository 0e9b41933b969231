"""`sidecar doctor --suggest FILE`: a draft of the configuration for a log of unknown shape."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sidecar.config.formats import load_formats, read_packaged
from sidecar.globs import glob_regex
from sidecar.tool_logs import candidates

from .guess import Guesses, guesses_at
from .survey import MAX_RECORDS, Survey, survey_of

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+)*")
_NOT_TEXT = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))
"""Words that YAML does not take for text."""
_NAME = "draft"
_REPEATED = "repeated"
_COMMENT_AT = 60


def suggest(file: Path) -> str:
    """The text of a config.yaml that indexes a log and similar ones beside it, and that can be used as it is. Comments
    say what each line is guessed from. Raises SidecarError if the file contains no record."""
    survey = survey_of(file)
    guesses = guesses_at(survey)
    return "\n".join(_lines(file, survey, guesses)) + "\n"


def _lines(file: Path, survey: Survey, guesses: Guesses) -> Iterator[str]:
    name = _name_for(file)
    count = len(survey.records)
    most = " first" if count >= MAX_RECORDS else ""
    yield f"# A draft, guessed from the{most} {count} records of {json.dumps(file.name)}."
    yield "# Look at each line, then try it:"
    yield "# sidecar --config THIS_FILE doctor; sidecar --config THIS_FILE run --once"
    yield from (f"# The preset `{preset}` reads a log of this name already." for preset in _presets_for(file))
    yield f"root: {_text(str(file.resolve().parent))}"
    yield "preset: none"
    yield "sources:"
    glob = re.sub(r"([*?\[<])", r"[\1]", file.suffix)
    across = ", answers_across_files: true" if guesses.layout == "file" else ""
    source = f"{{name: {name}, glob: {_text(f'*{glob}')}, layout: {guesses.layout}, format: {name}{across}}}"
    yield _commented(f"  - {source}", guesses.layout_why)
    yield "formats:"
    yield f"  {name}:"
    for guess in guesses.attributes:
        yield _commented(f"    {guess.key}: {_list(guess.value)}", guess.why)
    if all(guess.key != "timestamp" for guess in guesses.attributes):
        yield "    # No times were found: the file's modification time stands for them."
    for guess in guesses.event_types:
        yield _commented(f"    {guess.key}: {_list(guess.value)}", guess.why)
    if guesses.repeated:
        yield f"    skip: [{_REPEATED}]"
    yield _commented("    set: {event_type: record}", "for records without any of the above")
    if guesses.repeated:
        path, values = guesses.repeated
        when = f"{{path: {_place(path)}, in: {_list(values)}}}"
        yield "    shapes:"
        yield _commented(f"      - when: {when}", guesses.repeated_why)
        yield f"        set: {{event_type: {_REPEATED}}}"


def _name_for(file: Path) -> str:
    """A name for the source and the format: the words at the beginning of the file's name."""
    words = re.match(r"[a-z]{2,}(?:[-_.][a-z]{2,})*", file.stem.lower())
    name = words[0][:40] if words else _NAME
    return f"{name}-{_NAME}" if name in _NOT_TEXT or name in load_formats() else name


def _presets_for(file: Path) -> Iterator[str]:
    """The presets of tools that read a file of this name, by the end of its path."""
    presets = read_packaged("presets").mapping()
    parts = file.resolve().parts[1:]
    for preset in candidates():
        sources = presets[preset].mapping()["sources"].items()
        globs = [source.mapping()["glob"].text() for source in sources]
        # A glob such as `*/*.jsonl` matches nearly every log, so it does not count.
        telling = [re.compile(glob_regex(glob)) for glob in globs if re.search(r"[a-z]{4}", glob.replace("jsonl", ""))]
        ends = ["/".join(parts[i:]) for i in range(len(parts))]
        if any(regex.fullmatch(end) for regex in telling for end in ends):
            yield preset


def _commented(line: str, why: str) -> str:
    return f"{line:<{_COMMENT_AT}} # {why}" if why else line


def _list(values: list[Any]) -> str:
    return f"[{', '.join(_text(value) if isinstance(value, str) else _place(value) for value in values)}]"


def _place(path: tuple[str, ...]) -> str:
    """A path as it is written in a format: keys separated by dots, or a list of keys if one has special characters."""
    if any(re.search(r"[.\[\]{}<>]", key) for key in path):
        return f"[{', '.join(map(_text, path))}]"
    return _text(".".join(path))


def _text(text: str) -> str:
    """A text in YAML, in quotation marks if it needs them."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    return json.dumps(text)
