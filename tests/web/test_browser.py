"""The pages in a real browser: they are drawn, they answer to the mouse, and what agents wrote stays text."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from helpers.pages import BEGIN, HOSTILE, Client, indexed_story, serving
from helpers.support import HANG, running

pytest.importorskip("starlette", reason="the extra `web` is not installed")
sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PAGES = ["/", "/timeline", "/graph", "/pending", "/sessions", "/agent/code-bo", "/conversation?id=pingpong"]
PAGES += [f"/search?q={quote('script')}", "/conversation?id=hostile", f"/agent/{quote(HOSTILE)}"]
HOUR = f"/timeline?from={BEGIN - 60}&to={BEGIN + 3600}"


class Tab(NamedTuple):
    """A page in the browser, and what it did that nobody should see."""

    page: Any
    client: Client
    outside: list[str]
    dialogs: list[str]
    console: list[str]

    def show(self, path: str) -> Any:
        """Open a page, and wait until what it shows is drawn."""
        self.page.goto(self.client.base + path)
        self.page.wait_for_selector("section.card, .spin[role=alert]")
        # Not by a function: to try one again, playwright would make code of a text, which the page forbids.
        self.page.wait_for_selector("canvas:not([data-drawn])", state="detached")
        return self.page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(indexed_story(tmp_path_factory.mktemp("browser") / "logs")) as client:
        yield client


def opened(chromium: Any, client: Client, **look: Any) -> Tab:
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, **look)
    page = context.new_page()
    page.set_default_timeout(HANG * 1000)
    tab = Tab(page, client, [], [], [])
    page.on("request", lambda one: None if one.url.startswith(client.base) else tab.outside.append(one.url))
    page.on("dialog", lambda one: (tab.dialogs.append(one.message), one.dismiss()))
    page.on("console", lambda one: tab.console.append(one.text))
    page.on("pageerror", lambda one: tab.console.append(str(one)))
    return tab


@pytest.fixture
def tab(chromium: Any, client: Client) -> Iterator[Tab]:
    tab = opened(chromium, client)
    yield tab
    tab.page.context.close()
    assert (tab.outside, tab.dialogs, tab.console) == ([], [], [])


def test_what_agents_wrote_stays_text_on_every_page(tab: Tab) -> None:
    for path in PAGES:
        page = tab.show(path)
        assert not page.query_selector(".spin[role=alert]"), path
        sync.expect(page).to_have_title(re.compile("· sidecar$"), timeout=HANG * 1000)
        assert page.query_selector_all("img[onerror], main script, main b > b") == []
    page = tab.show("/conversation?id=hostile")
    text = page.inner_text("main")
    assert "<script>document.title='owned'</script>‹U+202E›‹NUL›‹ESC›[31m <b>bold</b>" in text
    assert HOSTILE in page.inner_html("main").replace("&lt;", "<").replace("&gt;", ">")


def test_a_drag_over_the_timeline_zooms_and_a_click_reads_the_record(tab: Tab) -> None:
    page = tab.show(HOUR)
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 500, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 700, box["y"] + 5, steps=3)
    page.mouse.up()
    page.wait_for_url(re.compile("from=17486.*to=17486"))
    begin, end = (float(one) for one in re.findall(r"(?:from|to)=([\d.]+)", page.url))
    assert BEGIN - 60 < begin < end < BEGIN + 3600 and end - begin < 1_000
    page.go_back()
    # The first message of the lane of the agent with the hostile conversation: where the server says it is.
    lanes = tab.client.api(f"lanes?{HOUR.partition('?')[2]}")
    mark = next(one for one in lanes["marks"] if one[0] == "hostile:0")
    x = 136 + (mark[1] - lanes["from"]) / (lanes["to"] - lanes["from"]) * (box["width"] - 8 - 136)
    page.wait_for_selector(f"canvas[data-drawn='{lanes['from']:.3f} to {lanes['to']:.3f}']")
    page.locator("canvas").click(position={"x": x, "y": 8 + mark[2] * 26 + 11})
    side = page.wait_for_selector("aside.side pre")
    assert json.loads(side.inner_text().replace("‹NUL›", "").replace("‹ESC›", "").replace("‹U+202E›", ""))
    panel = page.inner_text("aside.side")
    assert "responses/sessions/hostile.jsonl, line 1, byte 0" in panel and "checksum holds" in panel
    page.keyboard.press("Escape")
    page.wait_for_selector("aside.side", state="detached")
    # By keyboard: zoom, choose, read.
    page.locator("canvas").focus()
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    page.wait_for_selector("aside.side pre")


def test_behind_every_picture_is_a_table(tab: Tab) -> None:
    for path in ("/", "/timeline", "/graph", "/agent/code-bo"):
        page = tab.show(path)
        assert page.locator("canvas").count() >= 1
        page.get_by_text("show as table").first.click()
        page.wait_for_selector("section:has(button[aria-pressed=true]:text('show as picture')) tbody tr")
    page = tab.show("/conversation?id=pingpong")
    assert "the same round 16 times" in page.inner_text("main")
    shown = page.locator(".msg").count()
    page.get_by_text("show every round").click()
    page.wait_for_selector(f".msg >> nth={shown}")
    page.get_by_text("show as table").click()
    page.wait_for_selector("tbody tr >> nth=63")
    assert page.locator("tbody tr").count() == 64


def test_on_a_phone_in_the_light_nothing_is_cut_off(chromium: Any, client: Client) -> None:
    tab = opened(chromium, client, color_scheme="light")
    tab.page.set_viewport_size({"width": 420, "height": 860})
    for path in PAGES:
        page = tab.show(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 420, path
        for link in page.locator("header nav a, header button").all():
            box = link.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 420, path
    tab.page.wait_for_selector("html[data-theme=light]")
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.className") == "skip"
    tab.page.get_by_label("dark or light").click()
    # The theme is set after the button was drawn again: the click is over before.
    tab.page.wait_for_selector("html[data-theme=dark]")
    tab.page.context.close()
    assert (tab.outside, tab.dialogs, tab.console) == ([], [], [])


def test_entries_that_are_indexed_now_appear_by_themselves(chromium: Any, root: Path) -> None:
    indexed_story(root)
    with running(root), serving(root) as client:
        tab = opened(chromium, client)
        page = tab.show("/")
        page.wait_for_selector("#live-rate:has-text('/s')")
        data = {"agent_id": "newcomer", "to_agent": "lead-ada", "content": "I am here."}
        with (root / "responses" / "sessions" / "team_00.jsonl").open("a") as file:
            file.write(json.dumps({"event": "message:sent", "timestamp": BEGIN + 9_000, "data": data}) + "\n")
        row = page.wait_for_selector("section[aria-label='Just now'] tr:has-text('newcomer')")
        row.query_selector("button").click()
        page.wait_for_selector("aside.side pre:has-text('I am here.')")
        page.context.close()
        assert (tab.outside, tab.dialogs, tab.console) == ([], [], [])
