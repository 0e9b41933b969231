"""Draws docs/demo.svg: one frame of `sidecar demo`, from logs that are the same each time.

    python docs/picture.py [FILE]

The agents of the demo speak at moments that are given to them instead of a clock, into a temporary folder. It is
indexed, and the demo's own view draws what the index knows. No lag is shown, because none is measured here.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from sidecar import Index
from sidecar.board.stats import BoardStats, Lag
from sidecar.board.view import Picture, WaitingRequest, frame
from sidecar.config.settings import load_settings
from sidecar.demo.world import Act, Begin, Happen, Say, World
from sidecar.service.supervisor import run_once

TARGET = Path(__file__).with_name("demo.svg")
BEGAN = 1_735_500_000.0
"""2024-12-29 19:20:00 UTC: the day of the example logs."""
AGENTS, SEED, RATE, SECONDS, SHOWN = 8, 1, 50.0, 30.0, 21.0
"""As `sidecar demo` has them without options, after 21 seconds."""
COLUMNS, ROWS = 116, 27
_NORMAL = ("282c34", "e06c75", "7ec274", "deb868", "61a0ef", "c678dd", "56b6c2", "abb2bf")
_BRIGHT = ("5c6370", "f08088", "98da8e", "f0cc80", "82baff", "da92f0", "70ceda", "ffffff")


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color)
    return red, green, blue


THEME = TerminalTheme(_rgb("16191f"), _rgb("d6dae0"), [*map(_rgb, _NORMAL)], [*map(_rgb, _BRIGHT)])
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>sidecar demo: who talks to whom, roles as they change, what waits for an answer, what was said last</title>
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class UntimedStats(BoardStats):
    """What the demo has learned, without a lag."""

    def lag(self, since: float | None = None) -> Lag | None:  # noqa: ARG002
        """None: the records were written before they were read."""
        return None


def write_logs(root: Path) -> None:
    """The logs of the demo's first seconds."""
    acts = World(AGENTS, SEED).acts()
    for number, act in enumerate(islice(acts, int(RATE * SHOWN))):
        timestamp = round(BEGAN + number / RATE, 3)
        if isinstance(act, Happen):
            kind = act.record["event"].replace(":", "_")
            path = root / "events" / "2024-12-29" / f"evt_{timestamp:.3f}_{kind}.json"
        else:
            path = root / "responses" / "sessions" / f"{act.session}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps({**record_of(act), "timestamp": timestamp}) + "\n")


def record_of(act: Act) -> dict[str, Any]:
    """The record that an act leaves in the logs."""
    if isinstance(act, Happen | Say):
        return act.record
    if isinstance(act, Begin):
        return {"event": "session:created", "data": {"agent_id": act.agent, "pattern": act.pattern}}
    return {"event": "session:completed", "data": {"agent_id": act.agent, "status": "completed"}}


def picture_of(root: Path) -> Picture:
    """What the index of these logs knows."""
    now = BEGAN + SHOWN
    run_once(load_settings(root=root, preset="reference"), lambda _: None)
    seen = UntimedStats(BEGAN)
    picture = Picture(seen, f"{AGENTS} agents write, `sidecar run` reads along: what the index knows", SECONDS)
    with Index(root) as index:
        for entry in index.timeline():
            seen.take(entry, entry.timestamp)
        pending = [index.get(row.id) for row in index.find_pending_requests(time_limit=None)]
        picture.waiting_count = len(pending)
        picture.waiting = [
            WaitingRequest(now - one.timestamp, one.participating_agents, index.text(one)) for one in pending[:ROWS]
        ]
        picture.said = [(one.participating_agents, index.text(one)) for one in seen.last_said(ROWS)]
    return picture


def draw() -> str:
    """The picture, as SVG: no fonts, links or scripts from elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "logs"
        write_logs(root)
        picture = picture_of(root)
    console = Console(
        record=True, file=io.StringIO(), width=COLUMNS, height=ROWS, force_terminal=True, color_system="truecolor"
    )
    console.print(frame(picture, BEGAN + SHOWN, COLUMNS, ROWS))
    svg = console.export_svg(title="sidecar demo", theme=THEME, code_format=SVG, unique_id="demo")
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET).write_text(draw())
