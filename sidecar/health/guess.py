"""Guesses at what the fields of a log mean, each with its reason, from their names and values alone."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from sidecar.config.timestamps import timestamp_of

from .survey import Field, Path_, Survey

_FROM_2000, _UNTIL_2100 = 946_684_800.0, 4_102_444_800.0
_NAMES: Mapping[str, tuple[str, ...]] = {
    "event_type": ("event", "eventtype", "eventname", "type", "kind", "action", "op", "msgtype", "messagetype", "role"),
    "timestamp": ("timestamp", "time", "ts", "at", "datetime", "date", "createdat", "created", "starttime", "when"),
    "author": (
        *("author", "sender", "senderid", "from", "fromagent", "agentid", "agent", "agentname", "speaker", "actor"),
        *("handlingagent", "originator", "source", "user", "role"),
    ),
    "addressees": (
        *("to", "toagent", "toagents", "recipient", "recipients", "receiver", "receiverid", "target", "addressee"),
        *("destination", "dest"),
    ),
    "session_id": ("sessionid", "session", "runid", "chatid"),
    "conversation": ("conversationid", "conversation", "threadid", "thread", "teamid", "team", "room", "channel"),
    "new_role": ("newrole", "agentrole", "agenttype", "role"),
    "pattern": ("pattern",),
    "text": (
        *("text", "content", "message", "body", "prompt", "response", "output", "result", "summary", "error", "reason"),
        *("payload", "question", "answer"),
    ),
}
"""By attribute, the names that people give to it, without `_` and in lower case, the likeliest first."""
_TOOL_NAMES = ("tool", "toolname")
_COMMON = frozenset(("from", "to", "target", "source", "user", "role", "agent", "name"))
"""Names that mean other things deep inside a record."""
_ROLES = frozenset(
    ("user", "human", "assistant", "system", "developer", "tool", "agent", "model", "ai", "bot", "gemini")
)
"""The names of roles, which stand for the author if nothing else does."""
_SPEAKS_AS_MODEL = frozenset(("agent", "model", "ai", "bot", "gemini"))
_ASKS = frozenset(
    (
        *("request", "requested", "ask", "asked", "query", "question", "call", "prompt", "invoke", "delegate"),
        *("direct", "user", "human"),
    )
)
_ANSWERS = frozenset(
    (
        *("result", "response", "respond", "reply", "replied", "answer", "answered", "output", "return", "returned"),
        *("error", "failed", "failure", "exception", "cancelled", "rejected", "observation", "assistant"),
    )
)
_BEGINS = frozenset(("start", "started", "begin"))
_ENDS = frozenset(("end", "ended", "complete", "completed", "finish", "finished", "done"))
_MAX_PLACES = 6


@dataclass(frozen=True, slots=True)
class Guess:
    """What a format should have under a key, and why."""

    key: str
    value: list[Any]
    """Places, as paths of keys or as texts; under `requests` and `answers`, event types."""
    why: str


@dataclass(slots=True)
class Guesses:
    """All guesses about a log."""

    layout: str
    layout_why: str
    attributes: list[Guess] = field(default_factory=list)
    event_types: list[Guess] = field(default_factory=list)
    repeated: tuple[Path_, list[str]] | None = None
    """A path, and those of its values with which a record repeats another one."""
    repeated_why: str = ""


def guesses_at(survey: Survey) -> Guesses:
    """What the records of a log seem to mean."""
    repeated = _repeats(survey)
    types = _event_types(survey)
    type_of = _type_of_each(types)
    links, link_why = _correlations(survey, types)
    attributes = [Guess("event_type", [one.path for one in types], _about_values(types[0], survey) if types else "")]
    times = _times(survey)
    attributes.append(Guess("timestamp", [one.path for one in times], _share(times, survey)))
    session = _named(survey, "session_id")
    layout, why = _layout(survey, session)
    if session and layout != "session":
        attributes.append(Guess("session_id", [one.path for one in session], _about_values(session[0], survey)))
    used = {one.path for one in types}
    for attribute in ("author", "addressees", "conversation", "new_role", "pattern"):
        found = [one for one in _named(survey, attribute) if attribute != "author" or one.path not in used]
        value: list[Any] = [one.path for one in found]
        if attribute == "addressees":
            value += [f"tool:{{{'.'.join(one.path)}}}" for one in _tools(survey)]
        if not value and attribute == "author":
            found = [one for one in types if len(_ROLES & one.counts.keys()) > 1]
            value = [one.path for one in found]
        if value:
            attributes.append(Guess(attribute, value, _about_values(found[0] if found else _tools(survey)[0], survey)))
    if links:
        attributes.append(Guess("correlation", [one.path for one in links], link_why))
    texts = _texts(survey)
    if texts:
        attributes.append(Guess("text", [one.path for one in texts], "these read like something said"))
    guessed = Guesses(layout, why, [one for one in attributes if one.value])
    guessed.event_types = _asks_and_answers(type_of, links)
    if repeated:
        (guessed.repeated, guessed.repeated_why) = repeated
    return guessed


# ---- fields by their name


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _rank(one: Field, names: tuple[str, ...]) -> int:
    """The position of a field's name among names, or their number if it is not one of them. For a key `id` or `name`,
    the name of the object that it is in counts."""
    name = _key(one.name)
    if name in ("id", "name") and len(one.path) > 1:
        name = _key(one.path[-2])
    return names.index(name) if name in names else len(names)


def _named(survey: Survey, attribute: str) -> list[Field]:
    """The fields that have a name of an attribute and contain short texts, the likeliest and those at the top first."""
    names = _NAMES[attribute]
    found = [
        one
        for one in survey.fields
        if _rank(one, names) < len(names)
        and (len(one.path) <= 2 or _key(one.name) not in _COMMON)
        and (_key(one.name) != "role" or (attribute == "author") == (one.counts.keys() <= _ROLES))
        and len(one.texts) == len(one.values)
        and one.words < 0.5
        and all(len(text) <= 200 for text in one.counts)
    ]
    return sorted(found, key=lambda one: (_rank(one, names), len(one.path)))[:_MAX_PLACES]


def _tools(survey: Survey) -> list[Field]:
    return [one for one in survey.fields if _key(one.name) in _TOOL_NAMES and one.is_choice][:2]


def _texts(survey: Survey) -> list[Field]:
    names = _NAMES["text"]
    found = [one for one in survey.fields if one.words > 0.3 and _rank(one, names) < len(names)]
    return sorted(found, key=lambda one: (len(one.path), _rank(one, names)))[:_MAX_PLACES]


def _times(survey: Survey) -> list[Field]:
    """The fields that contain times of this century."""
    names = _NAMES["timestamp"]
    found = []
    for one in survey.fields:
        moments = [timestamp_of(value) for value in one.values.values()]
        fitting = sum(m is not None and _FROM_2000 <= m < _UNTIL_2100 for m in moments)
        is_text = all(isinstance(value, str) and not value.isdigit() for value in one.values.values())
        if fitting >= 0.9 * len(moments) and (is_text or _rank(one, names) < len(names)):
            found.append(one)
    found.sort(key=lambda one: (_rank(one, names) == len(names), len(one.path), -len(one.values), _rank(one, names)))
    return _covering(found, survey)


def _covering(fields: Iterable[Field], survey: Survey) -> list[Field]:
    """Those of some fields, which are in order of preference, that have a value in records in which none before them
    has one."""
    chosen: list[Field] = []
    covered: set[int] = set()
    for one in fields:
        if not covered.issuperset(one.values) and len(chosen) < _MAX_PLACES:
            chosen.append(one)
            covered |= one.values.keys()
        if len(covered) == len(survey.records):
            break
    return chosen


# ---- event types, and what belongs together


def _event_types(survey: Survey) -> list[Field]:
    """The fields that say what kind of record it is, those that tell requests from answers first."""
    names = _NAMES["event_type"]

    def score(one: Field) -> float:
        answers = sum(n for text, n in one.counts.items() if _answers(text))
        asks = sum(n for text, n in one.counts.items() if _asks(text))
        telling = min(1.0, 4 * min(asks, answers) / len(survey.records))
        return len(one.values) / len(survey.records) + telling - _rank(one, names) / 20 - len(one.path) / 4

    found = [one for one in survey.fields if _rank(one, names) < len(names) and one.is_choice]
    return _covering(sorted(found, key=score, reverse=True), survey)


def _type_of_each(types: list[Field]) -> dict[int, str]:
    found: dict[int, str] = {}
    for one in reversed(types):
        found.update(one.texts)
    return found


def _correlations(survey: Survey, types: list[Field]) -> tuple[list[Field], str]:
    """The fields each value of which is in a few records of different kinds: ids of requests and their answers."""
    kinds = _type_of_each(types)
    found: list[tuple[float, Field, int]] = []
    for one in survey.fields:
        if not re.search(r"(id|ticket|ref|correlation)$", _key(one.name)) or one.path in {t.path for t in types}:
            continue
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for n, text in one.texts.items():
            groups[text].append(n)
        pairs = [group for group in groups.values() if len({kinds.get(n, "") for n in group}) > 1]
        size = len(one.texts) / max(1, len(groups))
        if pairs and size <= 4 and len(groups) > 1:
            found.append((size, one, len(pairs)))
    found.sort(key=lambda each: (len(each[1].path), each[0]))
    chosen = found[:_MAX_PLACES]
    why = f"{chosen[0][2]} values are in records of different kinds" if chosen else ""
    return [one for _, one, _ in chosen], why


def _asks_and_answers(type_of: Mapping[int, str], links: list[Field]) -> list[Guess]:
    """Which event types are requests and which are answers: by which come first with an id, or else by their names."""
    first, later = Counter[str](), Counter[str]()
    seen: set[str] = set()
    ids = {n: next((one.texts[n] for one in links if n in one.texts), None) for n in type_of}
    for n, kind in sorted(type_of.items()):
        id = ids[n]
        if id is not None:
            (later if id in seen else first)[kind] += 1
            seen.add(id)
    kinds = Counter(type_of.values())
    asks, answers = {}, {}
    for kind in kinds:
        words = _words(kind)
        if later[kind] and later[kind] >= 4 * first[kind] and not _asks(kind):
            answers[kind] = "comes second with an id"
        elif _answers(kind) or (words & _ENDS and _has_partner(kind, kinds, _BEGINS)):
            answers[kind] = "by its name"
        elif _asks(kind) or (words & _BEGINS and _has_partner(kind, kinds, _ENDS)):
            asks[kind] = "by its name"
    for kind in first:
        if first[kind] >= 4 * later[kind] and kind not in answers and kind not in asks and answers:
            followed = {ids[n] for n, other in type_of.items() if other in answers}
            if any(ids[n] in followed for n, other in type_of.items() if other == kind and ids[n] is not None):
                asks[kind] = "comes first with an id"
    return [
        Guess(key, sorted(found), "; ".join(sorted(set(found.values()))))
        for key, found in (("requests", asks), ("answers", answers))
        if found
    ]


def _asks(kind: str) -> bool:
    """Whether an event type has the name of a request. One that has that of an answer as well (`call_output`) is an
    answer."""
    words = _words(kind)
    return bool(words & _ASKS) and not _answers(kind) and "system" not in words


def _answers(kind: str) -> bool:
    return bool(_words(kind) & _ANSWERS) or kind.lower() in _SPEAKS_AS_MODEL


def _has_partner(kind: str, kinds: Iterable[str], others: frozenset[str]) -> bool:
    """Whether there is a type with the same words, except for those that mean a beginning or an end."""
    rest = _words(kind) - _BEGINS - _ENDS
    return any(_words(other) & others and _words(other) - _BEGINS - _ENDS == rest for other in kinds)


def _words(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)}


# ---- sessions, and records that repeat others


def _layout(survey: Survey, session: list[Field]) -> tuple[str, str]:
    if survey.is_one_a_file:
        return "file", "the whole file is one record"
    most = max((len(one.counts) for one in session), default=0)
    if most > 1:
        return "stream", f"{most} sessions in this file"
    return "session", "no records of several sessions in this file"


def _repeats(survey: Survey) -> tuple[tuple[Path_, list[str]], str] | None:
    """A field at the top that is the only difference between many records and earlier ones."""
    for one in survey.fields:
        if len(one.path) > 1 or not one.is_choice or not 2 <= len(one.counts) <= 5:
            continue
        seen: dict[bytes, str] = {}
        repeats = Counter[str]()
        for n, text in one.texts.items():
            rest = {key: value for key, value in survey.records[n].items() if key != one.name}
            own = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)
            if seen.setdefault(own, text) != text:
                repeats[text] += 1
        values = sorted(text for text, times in repeats.items() if times >= 0.8 * one.counts[text])
        if sum(repeats[text] for text in values) >= max(2, 0.2 * len(survey.records)):
            times = sum(repeats[text] for text in values)
            return (one.path, values), f"{times} records differ from an earlier one in nothing else"
    return None


# ---- reasons


def _share(fields: list[Field], survey: Survey) -> str:
    covered = set[int]().union(*(one.values.keys() for one in fields))
    return f"in {len(covered)} of {len(survey.records)} records"


def _about_values(one: Field, survey: Survey) -> str:
    common = ", ".join(_short(text) for text, _ in one.counts.most_common(3))
    more = " ..." if len(one.counts) > 3 else ""
    return f"in {len(one.values)} of {len(survey.records)} records: {common}{more}"


def _short(text: str) -> str:
    text = text if len(text) <= 30 else f"{text[:29]}…"
    return orjson.dumps(text).decode()[1:-1] if text.isprintable() else ascii(text)[1:-1]
