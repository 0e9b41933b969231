"""What the numbers in the rows of a daily file stand for, looked up once and kept while the file is open.

A page of rows has at most a few hundred kinds, contexts, lists of participants and sets of roles, and the next question
has many of the same. So a page takes one statement for its rows, and one for each table of which it has numbers that
are not known yet.

The sidecar never changes or deletes kinds, contexts and sets of roles. It deletes lists of participants that nobody has
any more, and may then use their numbers again; so the lists are forgotten with every write to the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sidecar.store.codec import agents_of, check_columns, roles_of, speakers

KEPT_CHARACTERS = 1 << 16
"""More characters of a table's texts are forgotten after the page that has read them."""
KEPT_ROWS = 4096
"""The same for rows."""
_SELECT = {
    table: f"SELECT {sql.format(numbers=f'json_each(?) j CROSS JOIN {table} x ON x.id = j.value')}"
    for table, sql in {
        "kind": "x.id, t.text, a.text, x.is_completion, x.is_request, x.has_author, x.addressees, x.self_place"
        " FROM {numbers} LEFT JOIN name t ON t.id = x.event_type LEFT JOIN name a ON a.id = x.pattern",
        "context": "x.id, n.text, i.text, v.text FROM {numbers} LEFT JOIN name n ON n.id = x.session"
        " LEFT JOIN name i ON i.id = x.initiating_agent LEFT JOIN name v ON v.id = x.conversation",
        "party": "x.id, x.agents FROM {numbers}",
        "role_set": "x.id, x.roles FROM {numbers}",
    }.items()
}
"""For each table, what to select from the rows with given numbers."""
_KIND = ((int,), (str,), (str,), (int,), (int,), (int,), (int,), (int,))
_CONTEXT = ((int,), (str,), (str,), (str,))
"""The types of these columns."""

Ask = Callable[[str, str], Iterable[Any]]
"""Runs a statement with one parameter, and returns its rows, unchecked."""


class Known:
    """What the numbers of one daily file stand for. Its methods raise KeyError for numbers that lead nowhere, and
    TypeError or ValueError for values that the sidecar never writes."""

    def __init__(self, ask: Ask, each: Ask) -> None:
        """`ask` returns all rows at once, which is faster; `each` yields them one by one."""
        self._ask = ask
        self._kinds: dict[int, tuple[Any, ...]] = {}
        self._contexts: dict[int, tuple[str, str, str]] = {}
        self._parties = _Texts("party", lambda text: tuple(agents_of(text)), each)
        self._role_sets = _Texts("role_set", roles_of, each)
        self._said: dict[tuple[int, int], tuple[Any, ...]] = {}
        """By the numbers of kind and list."""
        self._version: int | None = None

    @property
    def roles(self) -> dict[int, dict[str, str]]:
        """The sets of roles of the rows of which `fitting` was asked, by number. To be copied before they are given
        away."""
        return self._role_sets.known

    def begin(self, version: int) -> None:
        """Begin a page. `version` is SQLite's `data_version`, which changes with every write of others to the file."""
        if version != self._version:
            self._version = version
            self._parties.forget()
            self._said.clear()

    def end(self) -> None:
        """End a page: forget what is too much to keep."""
        for rows in (self._kinds, self._contexts, self._said):
            if len(rows) > KEPT_ROWS:
                rows.clear()
        if self._parties.is_too_much():
            self._parties.forget()
            self._said.clear()
        if self._role_sets.is_too_much():
            self._role_sets.forget()

    def fitting(self, parties: Sequence[int], roles: Sequence[int], characters: int) -> int:
        """The number of rows, at least one, before their lists of participants and sets of roles exceed this many
        characters. Given are the numbers in each row. Of the texts behind these rows, only the one that exceeds it is
        read."""
        self._parties.look_up(parties, characters)
        self._role_sets.look_up(roles, characters)
        if len(parties) * (self._parties.longest + self._role_sets.longest) <= characters:
            return len(parties)
        left = characters
        for count, (party, role_set) in enumerate(zip(parties, roles, strict=True)):
            left -= self._parties.length(party, characters) + self._role_sets.length(role_set, characters)
            if left < 0:
                return max(1, count)
        return len(parties)

    def kinds_of(self, numbers: Sequence[int]) -> list[tuple[Any, ...]]:
        """For each number what the kind says: event type, pattern, is_completion, is_request; and `has_author`,
        `addressees` and `self_place`."""
        if missing := _missing(numbers, self._kinds):
            rows = list(self._ask(_SELECT["kind"], missing))
            check_columns(list(zip(*rows, strict=True)), _KIND)
            for number, event_type, pattern, is_completion, is_request, *says in rows:
                self._kinds[number] = (event_type, pattern, is_completion != 0, is_request != 0, *says)
        return list(map(self._kinds.__getitem__, numbers))

    def contexts_of(self, numbers: Sequence[int]) -> list[tuple[str, str, str]]:
        """For each number session, initiating agent and conversation."""
        if missing := _missing(numbers, self._contexts):
            rows = list(self._ask(_SELECT["context"], missing))
            check_columns(list(zip(*rows, strict=True)), _CONTEXT)
            for number, session, agent, conversation in rows:
                self._contexts[number] = (session, agent, conversation)
        return list(map(self._contexts.__getitem__, numbers))

    def said_of(self, kinds: Sequence[int], parties: Sequence[int]) -> list[tuple[Any, ...]]:
        """For each pair of a kind and a list of which `fitting` was asked: event type, pattern, is_completion,
        is_request, participants, author, addressees."""
        pairs = list(zip(kinds, parties, strict=True))
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._said]
        for pair, kind in zip(missing, self.kinds_of([kind for kind, _ in missing]), strict=True):
            agents = self._parties.known[pair[1]]
            self._said[pair] = (*kind[:4], agents, *speakers(agents, *kind[4:]))
        return list(map(self._said.__getitem__, pairs))


class _Texts:
    """The texts of a table, decoded, by number."""

    def __init__(self, table: str, decode: Callable[[str], Any], each: Ask) -> None:
        self._sql = _SELECT[table]
        self._decode = decode
        self._each = each
        self.known: dict[int, Any] = {}
        self._lengths: dict[int, int] = {}
        self._characters = 0
        self.longest = 0
        """The length of the longest of those that are known."""

    def look_up(self, numbers: Sequence[int], characters: int) -> None:
        """Look up texts in the order of the rows, until those that were not known have more characters than these."""
        if not (missing := _missing(numbers, self.known)):
            return
        end = self._characters + characters
        for number, text in self._each(self._sql, missing):
            self.known[number] = self._decode(text)
            self._lengths[number] = len(text)
            self._characters += len(text)
            self.longest = max(self.longest, len(text))
            if self._characters > end:
                break

    def length(self, number: int, characters: int) -> int:
        """The length of a text; more than `characters` if it was not read."""
        return self._lengths.get(number, characters + 1)

    def is_too_much(self) -> bool:
        """Whether these are too many characters to keep."""
        return self._characters > KEPT_CHARACTERS or len(self.known) > KEPT_ROWS

    def forget(self) -> None:
        """Forget them all."""
        self.known = {}
        self._lengths = {}
        self._characters = self.longest = 0


def _missing(numbers: Sequence[int], known: dict[int, Any]) -> str:
    """The numbers that are not known as a JSON list, each once, in the order of their first occurrence; "" if there are
    none."""
    missing = [number for number in dict.fromkeys(numbers) if number not in known]
    return f"[{','.join(map(str, missing))}]" if missing else ""
