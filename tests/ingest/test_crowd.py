"""Requests to very many agents are kept packed, and are answered by the same rules as any other."""

from __future__ import annotations

import zlib
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from helpers.corpora import BASE, random_log
from helpers.support import everything, indexed, modelled, rebuilt, reference, rows_of, write_lines
from oracle.model import model_file
from sidecar.ingest import crowd, linking
from sidecar.ingest.crowd import Crowd
from sidecar.service.supervisor import run_once

LOG = "responses/sessions/s.jsonl"
NAMES = [f"agent_{number:02}" for number in range(60)]


def talk(seed: int, records: int) -> list[dict[str, Any]]:
    """Requests to few, to many and to nobody, and answers, most of which name no request."""
    random = Random(seed)
    found = []
    for number in range(records):
        data: dict[str, Any] = {"agent_id": random.choice(NAMES)}
        record: dict[str, Any] = {"timestamp": BASE + number, "data": data}
        if random.random() < 0.15:
            record["correlation_id"] = f"c{random.randrange(20)}"
        if random.random() < 0.6:
            record["event"] = "a:request"
            count = random.choice([0, 1, 3, 33, 40, 50])
            data["to_agents"] = [*random.sample(NAMES, count), *random.sample(NAMES, min(2, count))]
            if random.random() < 0.1:
                data["requests_response"] = False
        else:
            record["event"] = "a:result"
        found.append(record)
    return found


def held(content: bytes) -> None:
    model = model_file(content, path=LOG, layout="session", mtime=BASE, settled=True)
    assert rows_of(content, LOG, "session", BASE).rows == model.rows


@pytest.mark.parametrize("is_swept", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_answers_of_one_among_many_belong_to_the_request_of_the_law(
    monkeypatch: pytest.MonkeyPatch, seed: int, is_swept: bool
) -> None:
    if is_swept:
        monkeypatch.setattr(crowd, "_FULL_BYTES", 64)
        monkeypatch.setattr(crowd, "_MIN_GONE", 10)
        monkeypatch.setattr(crowd, "_MAX_STARTS", 3)
    held(b"".join(orjson.dumps(record) + b"\n" for record in talk(seed, 500)))


def test_a_log_with_every_oddity_gives_the_rows_of_the_law_if_two_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linking, "MAX_LISTED", 1)
    monkeypatch.setattr(crowd, "_FULL_BYTES", 64)
    held(random_log(7, 3_000))


def test_whom_a_request_to_very_many_went_to_is_known_after_a_stop(tmp_path: Path) -> None:
    conf = reference(tmp_path)
    records = talk(9, 300)
    for start in range(0, len(records), 60):
        write_lines(tmp_path / LOG, *records[start : start + 60])
        run_once(conf, lambda _: None)
    assert indexed(tmp_path) == modelled(tmp_path)
    assert everything(tmp_path / "index") == rebuilt(conf)


@pytest.mark.parametrize("packed", [b"", b"\0\0\0\1" + zlib.compress(b"[1]"), b"\0\0\0\2" + zlib.compress(b'["a"]')])
def test_a_crowd_from_elsewhere_is_an_error(packed: bytes) -> None:
    with pytest.raises((TypeError, ValueError, zlib.error)):
        list(Crowd(packed))
