"""Who may ask, and what a browser is told it may do, over HTTP."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.pages import Client, indexed_story, serving
from helpers.support import HANG, command
from sidecar import access
from sidecar.errors import ConfigError

pytest.importorskip("starlette", reason="the extra `web` is not installed")

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return indexed_story(tmp_path_factory.mktemp("guard") / "logs")


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Client]:
    with serving(root) as client:
        yield client


@pytest.fixture(scope="module")
def asking(root: Path) -> Iterator[Client]:
    """A server that asks for a token."""
    file = root.parent / "token"
    file.write_text(f"{TOKEN}\n")
    with serving(root, "--token-file", str(file), "--allow-host", "logs.example.org") as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/timeline", "/agent/code-bo", "/static/js/app.js", "/api/overview", "/api/x"])
def test_every_answer_tells_browsers_to_run_and_load_nothing_from_elsewhere(page: Client, path: str) -> None:
    headers = page.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "trusted-types 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy and "base-uri 'none'" in policy
    assert "unsafe" not in policy and "data:" not in policy and "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", "10.0.0.7:8321", "localhost.evil:80", ""])
def test_a_request_under_another_name_is_refused(page: Client, name: str) -> None:
    answer = page.get("/api/overview", {"Host": name})
    assert answer.status == 421 and "error" in answer.json


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost:8321", "[::1]:8321", "LOCALHOST"])
def test_the_names_of_this_machine_are_served(page: Client, name: str) -> None:
    assert page.get("/", {"Host": name}).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_reading_is_allowed(page: Client, method: str) -> None:
    for path in ("/", "/api/overview", "/login"):
        answer = page.get(path, method=method)
        assert answer.status == 405 and answer.headers["allow"] == "GET, HEAD"


def test_another_site_may_not_read_the_api(page: Client) -> None:
    for site in ("cross-site", "same-site"):
        assert page.get("/api/overview", {"Sec-Fetch-Site": site}).status == 403
        assert page.get("/api/live", {"Sec-Fetch-Site": site}).status == 403
    assert page.get("/api/overview", {"Sec-Fetch-Site": "same-origin"}).status == 200
    # A link from elsewhere to a page is a link.
    assert page.get("/timeline", {"Sec-Fetch-Site": "cross-site"}).status == 200


def test_files_outside_the_static_folder_are_not_served(page: Client) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/", "/static/js"):
        assert page.get(path).status == 404


def test_no_piece_of_an_answer_waits_for_an_acknowledgement() -> None:
    with (
        access.listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_beyond_this_machine_a_token_is_required(root: Path) -> None:
    ended = subprocess.run(
        command("--root", root, "serve", "--host", "0.0.0.0", "--port", "0"),
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert ended.returncode == 2
    assert "--token-file is required" in ended.stderr and ended.stdout == ""
    for host in ("::", "192.0.2.1", "logs.example.org", ""):
        with pytest.raises(ConfigError, match="--token-file is required"):
            access.check_host(host, has_token=False)
    for host in ("127.0.0.1", "::1", "localhost", "127.0.0.2"):
        access.check_host(host, has_token=False)


@pytest.mark.parametrize("content", [None, "", "short", "with a space in the middle", "with-ümlauts-of-all-kinds"])
def test_a_token_that_anybody_could_guess_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(str(file))):
        access.read_token(file)


def test_without_the_token_nothing_but_the_login_is_answered(asking: Client) -> None:
    for path in ("/api/overview", "/api/live", "/api/entry?id=pingpong:0", "/metrics"):
        assert asking.get(path).status == 401
        assert asking.get(path, {"Authorization": "Bearer " + TOKEN[:-1]}).status == 401
        assert asking.get(path, {"Authorization": "Basic " + TOKEN}).status == 401
        assert asking.get(path, {"Cookie": "sidecar_login=" + TOKEN}).status == 401
    for path in ("/", "/timeline"):
        answer = asking.get(path)
        assert answer.status == 401 and b'name="token"' in answer.body and b"code-bo" not in answer.body
    assert asking.get("/static/app.css").status == 200


def test_a_bearer_of_the_token_is_answered(asking: Client) -> None:
    assert asking.get("/api/overview", {"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert asking.get("/api/overview", {"Authorization": f"Bearer {TOKEN}", "Host": "logs.example.org"}).status == 200
    assert asking.get("/api/overview", {"Authorization": f"Bearer {TOKEN}", "Host": "other.example"}).status == 421


def test_a_login_gives_a_cookie_that_scripts_and_other_sites_do_not_get(asking: Client) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert asking.get("/login").status == 200
    wrong = asking.get("/login", form, "POST", b"token=" + b"x" * 22)
    assert wrong.status == 401 and "set-cookie" not in wrong.headers
    assert asking.get("/login", form, "POST", b"token=" + b"x" * 5000).status == 413
    elsewhere = asking.get("/login", {**form, "Sec-Fetch-Site": "cross-site"}, "POST", f"token={TOKEN}".encode())
    assert elsewhere.status == 403
    answer = asking.get("/login", form, "POST", f"token={TOKEN}".encode())
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie, *rules = answer.headers["set-cookie"].split("; ")
    assert {rule.lower() for rule in rules} >= {"httponly", "samesite=strict", "path=/"}
    assert TOKEN not in cookie
    assert asking.get("/api/overview", {"Cookie": cookie}).status == 200
    assert asking.get("/", {"Cookie": cookie}).status == 200
