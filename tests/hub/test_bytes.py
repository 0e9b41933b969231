"""Records of another machine, read from its `sidecar serve`: those that were indexed, or an error that says why."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from helpers.hubs import pushed
from helpers.pages import serving
from helpers.support import once, reference, write_lines
from sidecar.errors import SourceChanged, SourceElsewhere, SourceError, SourceMissing
from sidecar.query.index import Index

from .conftest import Hub
from .test_push import T, say

pytest.importorskip("starlette", reason="the extra `web` is not installed")


def test_a_record_is_read_from_the_machine_that_has_it(
    hub: Hub, root: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(log, say(T, text="hello"), say(T + 1))
    once(reference(root))
    pushed(hub, reference(root))
    token = tmp_path / "token"
    token.write_text("abcdefghijklmnopqrstuvwxyz012345\n")
    token.chmod(0o600)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    with serving(root, "--token-file", str(token)) as server, closing(Index(hub.url)) as index:
        hub.ask(f"UPDATE hub.node SET read_from = '{server.base}'")
        first, second = index.timeline()
        with pytest.raises(SourceError, match="wants a token"):
            index.read(first)
        netrc = home / ".netrc"
        netrc.write_text(f"machine 127.0.0.1 login sidecar password {token.read_text().strip()}\n")
        netrc.chmod(0o600)
        assert index.read(first)["data"]["text"] == "hello"
        assert index.read_bytes(second) == log.read_bytes().splitlines()[1]
        headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
        asked = f"/v1/bytes?path={first.file_path}&offset=0&length=3&checksum={first.checksum}"
        assert server.get(asked, headers).status == 409
        assert server.get(asked.replace("offset=0", "offset=1"), headers).status == 404
        assert server.get(asked.replace("responses", "../responses"), headers).status == 404
        assert server.get(asked).status == 401
        log.write_bytes(log.read_bytes().replace(b"hello", b"other"))
        with pytest.raises(SourceChanged):
            index.read(first)
        log.unlink()
        with pytest.raises(SourceMissing):
            index.read(first)
    with closing(Index(hub.url)) as index, pytest.raises(SourceElsewhere, match="n1"):
        index.read(first)
