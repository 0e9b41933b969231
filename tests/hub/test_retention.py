"""Old days go from the hub, exported before; the sums hold, and machines go on pushing."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from helpers.hubs import pushed
from helpers.support import Stepped, command, write_lines
from sidecar.errors import HubUnavailable
from sidecar.hub.push import Pusher
from sidecar.hub.retention import drop, old_days
from sidecar.query.index import Index

from .conftest import Hub
from .test_push import T, say

DAY = 86_400


def test_a_day_is_exported_and_closed_and_what_comes_later_to_it_is_counted(
    hub: Hub, stepped: Stepped, log: Path, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_lines(log, say(T, "x:request", "r1", new_role="lead"), say(T + 1), say(T + DAY, "x:request", "r2"))
    stepped.turn()
    pushed(hub, stepped)
    with closing(Index(stepped.settings.root)) as index:
        first, second, _ = index.timeline()
    days = [day for day in old_days(hub.url, 0) if day.day == "2024-12-29"]
    gone = []
    drop(hub.url, days, tmp_path / "cold", gone.append)
    ((day, entries, (file,)),) = gone
    assert (day, entries) == ("2024-12-29", 2)
    rows = parquet.ParquetFile(file).read().to_pylist()
    assert [row["id"] for row in rows] == [first.id, second.id]
    assert rows[0]["participating_agents"] == ["a", "b"] and json.loads(rows[0]["agent_roles"]) == {"a": "lead"}
    assert (rows[0]["author"], rows[0]["addressees"], rows[0]["has_response"]) == ("a", ["b"], False)
    assert hub.ask("SELECT entries, closed FROM hub.source") == [(1, 2)]
    write_lines(log, say(T + DAY + 1, "x:result", "r1"), say(T + 2), say(T + DAY + 2))
    stepped.turn()
    assert pushed(hub, stepped) == 2
    assert hub.ask("SELECT entries, closed FROM hub.source") == [(3, 3)]
    with closing(Pusher(stepped.settings.index_folder, hub.url, "n1")) as pusher:
        assert pusher.verify(tries=1).differ == []
    log.write_text("")
    write_lines(log, say(T), say(T + DAY))
    stepped.turn()
    assert pushed(hub, stepped) == 1
    assert hub.ask("SELECT entries, closed FROM hub.source") == [(1, 1)]


def test_a_pusher_that_is_at_work_notices_that_a_day_was_closed(hub: Hub, stepped: Stepped, log: Path) -> None:
    write_lines(log, say(T))
    stepped.turn()
    with closing(Pusher(stepped.settings.index_folder, hub.url, "n1")) as pusher:
        pusher.once()
        drop(hub.url, old_days(hub.url, 0), None, lambda _: None)
        write_lines(log, say(T + 1), say(T + DAY))
        stepped.turn()
        assert pusher.once() == 1
    assert hub.ask("SELECT entries, closed FROM hub.source") == [(1, 2)]


def test_a_machine_cannot_lead_an_export_out_of_its_folder_by_its_name(
    hub: Hub, stepped: Stepped, log: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    write_lines(log, say(T))
    stepped.turn()
    pushed(hub, stepped)
    hub.ask("UPDATE hub.node SET name = 'x/../../../outside'")
    with pytest.raises(HubUnavailable, match="outside"):
        drop(hub.url, old_days(hub.url, 0), tmp_path / "cold" / "here", lambda _: None)
    assert not list(tmp_path.rglob("*.parquet"))
    assert len(hub.ask("SELECT * FROM hub.entry")) == 1


def test_the_command_asks_before_it_drops(hub: Hub, stepped: Stepped, log: Path) -> None:
    write_lines(log, say(T))
    stepped.turn()
    pushed(hub, stepped)

    def sidecar(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command("hub", "drop", "--hub", hub.url, *words), capture_output=True, text=True, check=False
        )

    refused = sidecar("--older-than", "1d")
    assert refused.returncode == 2 and "1 day with 1 entry, without a copy" in refused.stderr
    assert sidecar("--older-than", "30").returncode == 2
    assert len(hub.ask("SELECT * FROM hub.entry")) == 1
    done = sidecar("--older-than", "1d", "--yes", "--json")
    assert json.loads(done.stdout) == {"schema_version": 1, "day": "2024-12-29", "entries": 1, "files": []}
    assert hub.ask("SELECT * FROM hub.entry") == []
    assert "no day is that old" in sidecar("--older-than", "1d", "--yes").stderr
