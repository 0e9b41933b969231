"""What a search finds: an entry, with the place in its record where the text is, and what surrounds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sidecar.records import Entry

from .wanted import Wanted


@dataclass(frozen=True, slots=True, eq=False)
class Hit(Entry):
    """An entry whose record has the text that was looked for. It equals the entry without what was found.

    >>> hit = next(index.search("nlp capabilities"))
    >>> hit.id, hit.place, hit.before, hit.match
    ('sess_discovery_123:251', 'data.response', 'I have ', 'NLP capabilities')
    """

    place: str = ""
    """Where in the record the text is, such as `data.prompt` or `message.content[0].text`."""
    before: str = ""
    """What comes before the match in the same text, at most as many characters as were asked for; so does `after`."""
    match: str = ""
    """The match, as the record has it."""
    after: str = ""

    def __eq__(self, other: object) -> bool:
        """Whether the other is an entry with the same columns."""
        return isinstance(other, Entry) and self._columns() == tuple(getattr(other, name) for name in Entry.__slots__)

    def __hash__(self) -> int:
        return hash(self.id)

    def _columns(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in Entry.__slots__)


class Found(NamedTuple):
    """What a hit has besides its entry."""

    place: str
    before: str
    match: str
    after: str

    def hit(self, entry: Entry) -> Hit:
        """The hit for the entry in whose record this was found."""
        columns: dict[str, Any] = {name: getattr(entry, name) for name in Entry.__slots__}
        hit = Hit(**columns, **self._asdict())
        for name in ("checksum", "node"):
            object.__setattr__(hit, name, getattr(entry, name))
        return hit


def find(record: Any, wanted: Wanted, said: Callable[[], str], context: int) -> Found | None:
    """The first match in a record, in the order of its values; but one in what was said, which `said` returns, comes
    before all others. `context` is the number of characters before and after it."""
    spoken: str | None = None
    first: Found | None = None
    for text, link in _texts(record):
        span = wanted.find(text)
        if span is None:
            continue
        if spoken is None:
            spoken = f"\n{said()}\n"
        is_said = f"\n{text}\n" in spoken
        if is_said or first is None:
            begin, end = span
            around = text[max(0, begin - context) : begin], text[begin:end], text[end : end + context]
            first = Found(_place(link), *around)
        if is_said:
            break
    return first


def matches(record: Any, wanted: Wanted) -> bool:
    """Whether there is a match in a record."""
    return any(wanted.find(text) is not None for text, _ in _texts(record))


Link = tuple[Any, str | int] | None
"""The way to a value: that to the object or list it is in, and its key or number there. None for the record itself."""


def _texts(record: Any) -> Iterator[tuple[str, Link]]:
    """The string values in a record, in their order, each with the way to it. Without recursion: a record may be deeper
    than Python's stack."""
    ahead: list[tuple[Any, Link]] = [(record, None)]
    while ahead:
        value, link = ahead.pop()
        if value.__class__ is str:
            yield value, link
        elif value.__class__ is dict:
            ahead += [(one, (link, key)) for key, one in reversed(value.items()) if one.__class__ in _WITH_TEXT]
        elif value.__class__ is list:
            ahead += [(one, (link, i)) for i, one in _backwards(value) if one.__class__ in _WITH_TEXT]


def _backwards(values: list[Any]) -> Iterator[tuple[int, Any]]:
    return zip(range(len(values) - 1, -1, -1), reversed(values), strict=True)


_WITH_TEXT = frozenset((str, dict, list))


def _place(link: Link) -> str:
    steps: list[str] = []
    while link is not None:
        link, step = link
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    return "".join(reversed(steps)).removeprefix(".")
