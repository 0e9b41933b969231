"""The dictionaries of a node at the hub: combinations of texts, each under a number that its one pusher gives."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import orjson

from . import values

MAX_CACHED = 200_000
"""Combinations of each dictionary of which the number is remembered. Others are asked for at the hub."""
_ASKED_AT_ONCE = 5_000
_COLUMNS = {
    "kind": values.KindValue._fields,
    "context": values.ContextValue._fields,
    "party": values.PartyValue._fields,
}


class Codes:
    """To be used within the transaction that brings the rows; after one that failed, it is worth nothing."""

    def __init__(self, db: Any, node: int) -> None:
        self._db, self._node = db, node
        self._known: dict[str, dict[Any, int]] = {table: {} for table in _COLUMNS}
        self._next = {}
        for table in _COLUMNS:
            sql = f"SELECT COALESCE(MAX(id), 0) + 1 FROM hub.{table} WHERE node = %s"
            self._next[table] = int(db.execute(sql, (node,)).fetchone()[0])
            db.execute(f"CREATE TEMP TABLE new_{table} (LIKE hub.{table}) ON COMMIT DELETE ROWS")
        self._agents: list[tuple[int, int, str]] = []

    def numbers(self, table: str, wanted: Iterable[Any]) -> dict[Any, int]:
        """The numbers of some combinations. New ones are brought to the hub."""
        known = self._known[table]
        each = dict.fromkeys(wanted)
        if len(known) + len(each) > MAX_CACHED:
            known.clear()
        missing = [value for value in each if value not in known]
        for some in _chunks(missing):
            self._look_up(table, some)
        new = [value for value in missing if value not in known]
        if new:
            self._bring(table, new)
        return {value: known[value] for value in each}

    def take_agents(self) -> list[tuple[int, int, str]]:
        """Node, party and agent for each new party, once."""
        agents, self._agents = self._agents, []
        return agents

    def _look_up(self, table: str, some: list[Any]) -> None:
        by_hash: dict[int, list[Any]] = {}
        for value in some:
            by_hash.setdefault(values.hash_of(*value), []).append(value)
        columns = _COLUMNS[table]
        sql = f"SELECT id, hash, {', '.join(columns)} FROM hub.{table} WHERE node = %s AND hash = ANY(%s)"
        for number, hash_, *found in self._db.execute(sql, (self._node, list(by_hash))):
            for value in by_hash[hash_]:
                if tuple(value) == tuple(found):
                    self._known[table][value] = number

    def _bring(self, table: str, new: list[Any]) -> None:
        columns = ("node", "id", "hash", *_COLUMNS[table])
        named = ", ".join(columns)
        with self._db.cursor() as cursor:
            with cursor.copy(f"COPY new_{table} ({named}) FROM STDIN") as copy:
                for value in new:
                    number = self._next[table]
                    self._next[table] += 1
                    self._known[table][value] = number
                    copy.write_row((self._node, number, values.hash_of(*value), *value))
                    if table == "party":
                        agents = dict.fromkeys(map(values.name, orjson.loads(value.agents)))
                        self._agents += [(self._node, number, agent) for agent in agents]
            cursor.execute(f"INSERT INTO hub.{table} ({named}) SELECT {named} FROM new_{table}")
            cursor.execute(f"TRUNCATE new_{table}")


def _chunks(items: list[Any]) -> Iterable[list[Any]]:
    left = iter(items)
    while some := list(islice(left, _ASKED_AT_ONCE)):
        yield some
