"""Machines divided among three servers, behind a front database that has no rows: it answers as the machines do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from helpers.hubs import pushed
from helpers.postgres import Server, server
from helpers.support import once, reference
from sidecar.hub.admin import init
from sidecar.hub.reader import HubIndex
from sidecar.query.index import Index

from .conftest import Hub
from .test_reading import answers, names_in, talk

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("postgres")]

TABLES = ("entry", "kind", "context", "party", "party_agent", "source", "node", "meta")
VIEWS = ("files", "sessions", "rejected", "agents")
NUMBERS = 1000
"""Numbers of nodes for each server."""


@pytest.fixture
def three() -> Iterator[list[Hub]]:
    with ExitStack() as stack:
        hubs = []
        for number in range(3):
            one: Server = stack.enter_context(server())
            one.execute("postgres", "CREATE DATABASE part")
            init(one.url("part"))
            hub = Hub(one, "part")
            # The numbers of its nodes begin here, so that those of all servers differ.
            hub.ask(
                "INSERT INTO hub.node (id, name, epoch, checkpoint, claim, turn, retries)"
                f" VALUES ({number * NUMBERS + 1}, '(first of server {number})', '', 0, '', 0, 0)"
            )
            hubs.append(hub)
        yield hubs


def front_of(hubs: list[Hub]) -> Hub:
    """A front database on the first server."""
    front = Hub(hubs[0].server, "front")
    front.server.execute("postgres", "CREATE DATABASE front")
    front.ask("CREATE EXTENSION postgres_fdw", "CREATE SCHEMA hub")
    for number, hub in enumerate(hubs):
        front.ask(
            f"CREATE SERVER s{number} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1',"
            f" port '{hub.server.port}', dbname 'part', async_capable 'true', fetch_size '1000')",
            f"CREATE USER MAPPING FOR CURRENT_USER SERVER s{number} OPTIONS (user 'admin', password_required 'false')",
            f"CREATE SCHEMA s{number}",
            f"IMPORT FOREIGN SCHEMA hub LIMIT TO ({', '.join((*TABLES, *VIEWS))}) FROM SERVER s{number} INTO s{number}",
        )
    for table in TABLES[:6]:
        front.ask(f"CREATE TABLE hub.{table} (LIKE s0.{table}) PARTITION BY RANGE (node)")
        for number in range(3):
            span = f"FROM ({number * NUMBERS}) TO ({(number + 1) * NUMBERS})"
            front.ask(f"ALTER TABLE hub.{table} ATTACH PARTITION s{number}.{table} FOR VALUES {span}")
    for view in ("node", *VIEWS):
        parts = " UNION ALL ".join(f"SELECT * FROM s{number}.{view}" for number in range(3))
        front.ask(f"CREATE VIEW hub.{view} AS {parts}")
    front.ask("CREATE VIEW hub.meta AS SELECT * FROM s0.meta")
    return front


def test_a_front_over_three_servers_answers_as_the_machines_do(three: list[Hub], tmp_path: Path) -> None:
    roots = [tmp_path / f"m{number}" for number in range(5)]
    for seed, root in enumerate(roots):
        root.mkdir()
        talk(root, seed, 60)
        once(reference(root))
        pushed(three[seed % 3], reference(root), node=root.name)
    front = front_of(three)
    plan = "\n".join(row[0] for row in front.ask("EXPLAIN SELECT * FROM hub.entry WHERE correlation = 'r1'"))
    assert plan.count("Async Foreign Scan") == 3
    plan = "\n".join(row[0] for row in front.ask("EXPLAIN SELECT * FROM hub.entry WHERE node = 1002"))
    assert plan.count("Foreign Scan") == 1
    with closing(Index(front.url)) as everywhere:
        expected = []
        for root in roots:
            with closing(Index(root)) as alone:
                expected += list(alone.timeline())
        found = list(everywhere.timeline())
        assert sorted(found, key=lambda one: one.id) == sorted(expected, key=lambda one: one.id)
        assert [one.timestamp for one in found] == sorted(one.timestamp for one in found)
    for root in roots:
        with closing(Index(root)) as here, closing(HubIndex(front.url, node=root.name)) as there:
            names = names_in(list(here.timeline()))
            given = answers(there, names)
            for question, answer in answers(here, names).items():
                assert given[question] == answer, question
