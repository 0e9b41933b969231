"""The container and compose files in the documentation: what they start works with nothing but what they give it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.pages import Client, write_story
from helpers.support import HANG, command, eventually, write_lines

FOLDER = Path(__file__).parents[1] / "docs/container"
TOKEN = "a-token-of-some-length"
ASK = {"Authorization": f"Bearer {TOKEN}"}


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    return found


def entrypoint() -> list[str]:
    (line,) = re.findall(r"^ENTRYPOINT (.+)$", (FOLDER / "Containerfile").read_text(), re.M)
    words: list[str] = json.loads(line)
    return words


def test_the_image_is_built_from_files_that_are_here() -> None:
    wanted = re.findall(r"^!(.+)$", (FOLDER / "Containerfile.dockerignore").read_text(), re.M)
    assert wanted
    for name in wanted:
        assert (FOLDER / "../.." / name).exists(), name
    for service in services().values():
        build = service["build"]
        assert (FOLDER / build["context"] / build["dockerfile"]).is_file()


def test_every_service_has_the_logs_to_read_only_and_the_index_to_write() -> None:
    for service in services().values():
        assert [one.rpartition("}")[2] for one in service["volumes"]] == [":/logs:ro", "index:/index"]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]


def _may_have_namespaces() -> bool:
    words = ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "proc", "proc", "/proc"]
    return (
        shutil.which("unshare") is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0
    )


@contextmanager
def contained(words: list[str], logs: Path) -> Iterator[Client]:
    """What a container does: the command is process 1 of its own, sees no other, and cannot write to the logs."""
    seen = shlex.quote(str(logs))
    script = (
        f"mount -t proc proc /proc && mount --bind {seen} {seen} && mount -o remount,ro,bind {seen} && "
        f"! touch {seen}/there 2>/dev/null && exec {shlex.join(words)}"
    )
    unshared = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]
    process = subprocess.Popen(unshared, stderr=subprocess.PIPE, env={**os.environ, "SIDECAR_ROOT": str(logs)})
    assert process.stderr is not None
    try:
        while not (found := re.search(rb"http://[\d.]+:(\d+)/", line := process.stderr.readline())):
            assert line, "it ended"
        yield Client(process, int(found[1]))
    finally:
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        process.communicate(timeout=HANG)
    assert process.returncode == 0


@pytest.mark.skipif(not _may_have_namespaces(), reason="needs `unshare`, and the right to use it")
def test_services_that_see_neither_each_other_nor_more_than_their_folders_work_together(tmp_path: Path) -> None:
    logs, token = tmp_path / "logs", tmp_path / "token"
    write_story(logs)
    token.write_text(TOKEN)
    token.chmod(0o600)
    # As in the containers, but for their folders and ports.
    here = {
        "/index": str(tmp_path / "index"),
        "--token-file=/run/secrets/token": f"--token-file={token}",
        "--metrics=0.0.0.0:9321": "--metrics=127.0.0.1:0",
        "--host=0.0.0.0": "--host=127.0.0.1",
    }
    name, *options = entrypoint()
    assert name == "sidecar"

    def words(*of: str) -> list[str]:
        return command(*(here.get(one, one) for one in (*options, *of)))

    of = services()
    before = sorted(path.relative_to(logs) for path in logs.rglob("*"))
    with (
        contained(words(*of["sidecar"]["command"]), logs) as sidecar,
        contained(words(*of["page"]["command"], "--port=0"), logs) as page,
    ):
        eventually(lambda: sidecar.get("/metrics", ASK).body.count(b"sidecar_entries_total") > 0)
        assert sidecar.get("/metrics").status == page.get("/api/status").status == 401
        entries = page.get("/api/status", ASK).json["entries"]
        assert entries > 50
        write_lines(logs / "responses/sessions/new.jsonl", {"event": "agent:say", "data": {"agent_id": "a"}})
        eventually(lambda: page.get("/api/status", ASK).json["entries"] == entries + 1)
        _, name, *check = of["sidecar"]["healthcheck"]["test"]
        assert name == "sidecar"
        asked = subprocess.run(command("--root", logs, *(here.get(one, one) for one in check)), check=False)
        assert asked.returncode == 0
    after = sorted(path.relative_to(logs) for path in logs.rglob("*"))
    assert after == sorted([*before, Path("responses/sessions/new.jsonl")])
