"""What a person sees: nothing that a log holds moves the cursor, and what is too wide is cut."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from sidecar.cli import admin_views as screens_state
from sidecar.cli import query_views as screens
from sidecar.cli.answers import participants_of, roles_held
from sidecar.config.settings import Settings
from sidecar.errors import SourceMissing
from sidecar.health.doctor import CheckResult
from sidecar.health.status import ByteSum, SourceStatus, Status
from sidecar.health.verify import Verification
from sidecar.progress import ProgressBar, progress_text
from sidecar.query.index import Index
from sidecar.query.names import is_meant
from sidecar.records import Entry, Report
from sidecar.terminal import (
    Column,
    Screen,
    agent_piece,
    duration_text,
    moment_text,
    plain,
    plain_lines,
    shortened,
    size_text,
)

EVIL = "\x1b[2J\x1b]0;title\x07\r\x9b31m\u202eabc\x00\x7f\u2028"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")


def entry(offset: int = 0, agents: tuple[str, ...] = ("planner", "coder"), **changed: object) -> Entry:
    values: dict[str, object] = {
        "id": f"sess_1:{offset}",
        "timestamp": 1705314600.0 + offset,
        "event_type": "completion:request",
        "session_id": "sess_1",
        "file_path": "responses/sessions/sess_1.jsonl",
        "line_number": 1,
        "byte_offset": offset,
        "initiating_agent": "planner",
        "participating_agents": agents,
        "agent_roles": {},
        "pattern_type": "peer_to_peer",
        "conversation_id": "sess_1",
        "correlation_id": None,
        "is_completion": True,
        "is_request": True,
        "has_response": True,
        "requests_response": True,
        "author": agents[0] if agents else None,
        "addressees": agents[1:],
    }
    return Entry(**{**values, **changed})  # type: ignore[arg-type]


def terminal(monkeypatch: pytest.MonkeyPatch, width: int = 80) -> Screen:
    """A screen that takes standard output for a terminal without colours."""
    monkeypatch.setenv("COLUMNS", str(width))
    screen = Screen()
    screen.is_terminal = True
    return screen


# --- text that strangers wrote ----------------------------------------------------------------------------------------


def test_control_characters_are_written_as_escapes() -> None:
    assert plain("a\x1b[31m\r\n\t\x9b\x7f") == r"a\x1b[31m\r\n\t\x9b\x7f"


def test_what_turns_a_line_around_or_hides_is_written_as_an_escape() -> None:
    assert plain("\u202eabc\u2066\u200f\ufeff\U000e0041") == r"\u202eabc\u2066\u200f\ufeff\U000e0041"


def test_text_of_any_language_stays_as_it_is() -> None:
    assert plain("Grüße, 団体, مرحبا, 👩‍💻 [bold]x[/bold] :smile:") == "Grüße, 団体, مرحبا, 👩‍💻 [bold]x[/bold] :smile:"


@given(st.text(st.characters(codec=None)))
def test_no_text_at_all_comes_out_with_a_control_character(text: str) -> None:
    assert not UNSAFE.search(plain(text))
    assert "\n" not in plain(text)
    assert not any(UNSAFE.search(line) or "\n" in line for line in plain_lines(text))


@pytest.mark.parametrize("is_terminal", [False, True])
def test_nothing_of_a_log_reaches_the_screen_unescaped(
    is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Reads(Index):
        def read(self, _: Entry) -> dict[str, object]:
            return {"data": {"prompt": f"one\n{EVIL}[red]"}}

    evil = entry(
        agents=(EVIL, "[bold]b[/bold]"),
        agent_roles={EVIL: EVIL},
        **dict.fromkeys(("id", "event_type", "session_id", "file_path", "pattern_type", "conversation_id"), EVIL),
    )
    screen = terminal(monkeypatch)
    screen.is_terminal = is_terminal
    screens.timeline(screen, [evil])
    screens.pending(screen, [evil])
    screens.participants(screen, participants_of([evil]))
    screens.roles(screen, roles_held([{"timestamp": 1.0, "role": EVIL}]))
    screens.FollowView(screen).show(evil)
    screens.shown(screen, evil, {EVIL: [EVIL, "[red]"]})
    with Reads(tmp_path) as index:
        screens.conversation(screen, index, [evil], full=True)
    screens_state.verify_view(screen, Verification(1, 1, (EVIL,), 1))
    screens_state.doctor_view(screen, [CheckResult("x", "error", EVIL, EVIL)])
    out, err = capsys.readouterr()
    assert not UNSAFE.search(out) and not UNSAFE.search(err)
    assert "[bold]b[/bold]" in out and "[red]" in out


# --- tables -----------------------------------------------------------------------------------------------------------


def test_in_a_pipe_columns_are_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (Column("name"), Column("count", right=True), Column("id"))
    assert Screen().table(columns, [("a" * 200, "1", "x"), ("団体", "1,000", "y")]) == 2
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == f"name{' ' * 196}  count  id"
    assert second == f"{'a' * 200}      1  x"
    assert third == f"団体{' ' * 196}  1,000  y"  # each of the two is two columns wide


def test_a_table_of_no_rows_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert Screen().table((Column("name"),), []) == 0
    assert capsys.readouterr().out == ""


def test_a_long_table_has_one_header(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for screen in (Screen(), terminal(monkeypatch)):
        assert screen.table((Column("name"),), ((str(i),) for i in range(1234))) == 1234
        assert len(capsys.readouterr().out.splitlines()) == 1235


UUID = "52f25b26-1a5b-4070-ac28-469e6893d8fd"


@pytest.mark.parametrize("width", [50, 60, 80, 100, 160])
def test_on_a_terminal_a_row_is_one_line_and_none_is_wider_than_it(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = entry(agents=("a" * 30, "b" * 70, "団体" * 20), id=f"{UUID}:1234567", event_type="state:entity:created")
    screen = terminal(monkeypatch, width)
    for view, rows in ((screens.timeline, 3), (screens.pending, 2)):
        view(screen, [long])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == rows
        assert max(cell_len(line.rstrip()) for line in lines) <= width
        assert is_meant(lines[-1].split()[-1], long.id)


def test_a_row_that_fits_is_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    screens.pending(terminal(monkeypatch), [entry(agents=("planner", "coder", "critic"))])
    assert "planner → coder, critic  completion:request  sess_1:0" in capsys.readouterr().out


@pytest.mark.parametrize("width", range(12, 46))
def test_an_id_is_shortened_in_its_middle_so_that_it_can_still_be_found(width: int) -> None:
    for name in (f"{UUID}:1234", UUID, "responses/sessions/sess_1.jsonl", "団体" * 20 + ":7"):
        short = shortened(name, width)
        assert cell_len(short) <= width
        assert short == name if cell_len(name) <= width else is_meant(short, name) and short.count("…") == 1
        assert short.endswith(":1234") or not name.endswith(":1234")


def test_a_request_that_waits_is_marked_however_narrow_the_terminal_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = entry(event_type="completion:request:of:a:long:name", has_response=False, agents=("a" * 40,))
    screens.timeline(terminal(monkeypatch, 60), [waits])
    assert re.search(r"completi…[a-z:]*name … ", capsys.readouterr().out)


@pytest.mark.parametrize("status", ["ok", "archived"])
def test_the_status_of_each_source_has_room_for_its_path_at_80_columns(
    status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"responses/sessions/{UUID}.jsonl"
    one = SourceStatus(path, 12_345_678, 12_000_000, 1, 22, 3_000, 4, 342_651, 40_000, status)
    screens_state.status_view(terminal(monkeypatch), Settings(tmp_path, tmp_path, ()), status_of(source_list=(one,)))
    *_, titles, line = capsys.readouterr().out.splitlines()
    assert len(line.rstrip()) <= 80
    shown = dict(zip(titles.split(), line.split(), strict=True))
    assert shown["size"] == "12,345,678" and shown["behind"] == "342,651" and shown["rejected"] == "22"
    assert is_meant(shown["file"], path) and len(shown["file"]) >= 28


def test_numbers_that_are_nowhere_but_0_give_their_room_to_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "responses/sessions/sess_customer_analysis.jsonl"
    one = SourceStatus(path, 100, 100, 0, 0, 0, 0, 0, 1, "ok")
    screens_state.status_view(terminal(monkeypatch), Settings(tmp_path, tmp_path, ()), status_of(source_list=(one,)))
    out = capsys.readouterr().out.splitlines()
    assert out[-2].split() == ["status", "size", "indexed", "entries", "file"] and path in out[-1]


def test_where_a_terminal_is_too_narrow_the_pattern_goes_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = entry(agents=("agent_with_a_name", "another_with_a_name"), id="sess_discovery_123:100000")
    screens.timeline(terminal(monkeypatch, 160), [wide])
    assert "pattern" in capsys.readouterr().out
    screens.timeline(terminal(monkeypatch, 80), [wide])
    assert "pattern" not in capsys.readouterr().out


# --- screens ----------------------------------------------------------------------------------------------------------


def test_a_timeline_on_a_terminal_names_each_day_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screens.timeline(terminal(monkeypatch), [entry(0), entry(5), entry(86400)])
    out, err = capsys.readouterr()
    assert re.findall(r"2024-01-\d\d", out) == ["2024-01-15", "2024-01-16"]
    assert "10:30:05" in out
    assert err == "3 entries\n"


def test_a_timeline_in_a_pipe_has_whole_times(capsys: pytest.CaptureFixture[str]) -> None:
    screens.timeline(Screen(), [entry(5)])
    line = capsys.readouterr().out.splitlines()[1]
    assert line == "2024-01-15 10:30:05  completion:request  planner → coder  peer_to_peer  sess_1:5"


@pytest.mark.parametrize("width", [60, 80, 160])
def test_an_entry_that_is_followed_is_one_line_with_an_id_that_can_be_shown(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    view = screens.FollowView(terminal(monkeypatch, width))
    for offset in (7, 86_400):
        view.show(entry(offset, ("planner", "a" * 50), id=f"{UUID}:{offset}"))
    day, first, next_day, _ = capsys.readouterr().out.splitlines()
    assert (day.strip(), next_day.strip()) == ("2024-01-15", "2024-01-16")
    assert first.startswith("10:30:07  ") and len(first.rstrip()) <= width
    assert is_meant(first.split()[-1], f"{UUID}:7")


def test_an_entry_that_is_followed_is_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    screens.FollowView(Screen()).show(entry(5, ("planner", "a" * 50)))
    line = capsys.readouterr().out
    assert line.startswith("2024-01-15 10:30:05  completion:request ") and f"→ {'a' * 50}  sess_1:5\n" in line


def test_a_request_that_waits_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    screens.timeline(Screen(), [entry(0), entry(5, has_response=False)])
    assert [" …" in line for line in capsys.readouterr().out.splitlines()] == [False, False, True]


def test_pending_requests_have_a_readable_age(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.time", lambda: 1705314600.0 + 252)
    screens.pending(Screen(), [entry(0), entry(240, agents=())])
    out, err = capsys.readouterr()
    assert [line.split("  ")[0].strip() for line in out.splitlines()] == ["waits", "4m 12s", ""]
    assert "   12s  planner" in out  # nobody is named in it, so its owner is
    assert err == "2 pending requests\n"


def test_a_role_is_one_line_for_as_long_as_it_was_held(capsys: pytest.CaptureFixture[str]) -> None:
    held = [(0, "peer"), (10, "peer"), (100, "lead"), (460, "peer"), (465, "peer")]
    screens.roles(Screen(), roles_held([{"timestamp": 1705314600.0 + at, "role": role} for at, role in held]))
    assert [line.split()[2:] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["peer", "1m", "40s", "2"],
        ["lead", "6m", "0s", "1"],
        ["peer", "5s", "2"],
    ]


def test_a_conversation_reads_from_top_to_bottom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Reads(Index):
        def read(self, one: Entry) -> dict[str, object]:
            if one.byte_offset == 20:
                raise SourceMissing("sess_1.jsonl is gone")
            return {"data": {"prompt": "\n".join(["Is it done?"] * (one.byte_offset + 1))}}

    said = [entry(0, agent_roles={"planner": "lead"}), entry(15, ("coder", "planner")), entry(20)]
    with Reads(tmp_path) as index:
        screens.conversation(Screen(), index, said, full=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "2024-01-15",
        "",
        "10:30:00  planner (lead) → coder  completion:request · peer_to_peer",
        "          Is it done?",
    ]
    assert lines[5] == "10:30:15  coder → planner  completion:request · peer_to_peer"
    assert "          … 4 more lines: sidecar show sess_1:15" in lines
    assert lines[-1] == "          (sess_1.jsonl is gone)"


def status_of(**changed: object) -> Status:
    values: dict[str, object] = {
        "healthy": True,
        "reasons": (),
        "sources": 2,
        "entries": 3,
        "bytes": ByteSum(100, 60, 10, 20, 5, 5),
        "behind_bytes": 0,
        "rejected": 1,
        "missing": 0,
        "days": 1,
        "lag_seconds": 0.0,
        "watching": "inotify",
        "running": None,
    }
    return Status(**{**values, **changed})  # type: ignore[arg-type]


def test_the_status_says_its_health_in_a_word_and_shows_the_sum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(tmp_path, tmp_path, ())
    screens_state.status_view(Screen(), settings, status_of())
    out = capsys.readouterr().out
    assert out.startswith(f"healthy  {tmp_path}\n")
    assert re.search(r"indexed +60 +60.0 %\n", out) and re.search(r"total +100\n", out)
    assert "unaccounted" not in out and "not indexed" not in out


def test_bytes_that_are_in_no_sum_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(tmp_path, tmp_path, ())
    behind = status_of(
        healthy=False, reasons=("no sidecar runs",), bytes=ByteSum(100, 60), behind_bytes=40, lag_seconds=252.0
    )
    screens_state.status_view(Screen(), settings, behind)
    out = capsys.readouterr().out
    assert out.startswith("unhealthy")
    assert "  · no sidecar runs" in out
    assert "40 B not indexed, the oldest for 4m 12s" in out
    assert re.search(r"not indexed +40 +40.0 %", out)
    screens_state.status_view(Screen(), settings, status_of(bytes=ByteSum(100, 60)))
    assert re.search(r"unaccounted +40 +40.0 %", capsys.readouterr().out)


def test_the_status_tells_of_each_source_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = SourceStatus("a.jsonl", 100, 60, 10, 20, 5, 5, 0, 3, "ok")
    screens_state.status_view(Screen(), Settings(tmp_path, tmp_path, ()), status_of(source_list=(source,)))
    assert re.search(r"^ok +100 +60 +10 +20 +5 +5 +0 +3 +0 +a.jsonl$", capsys.readouterr().out, re.MULTILINE)


# --- times, sizes, progress -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.85, "850ms"), (59.9, "59s"), (252, "4m 12s"), (7200, "2h 0m"), (284400, "3d 7h"), (-5, "-5s")],
)
def test_a_length_of_time_is_told_by_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (455_000_000, "455 MB"), (2e15, "2000.0 TB")]
)
def test_sizes_have_a_unit(count: float, text: str) -> None:
    assert size_text(count) == text


def test_a_moment_beyond_the_calendar_is_told_in_seconds() -> None:
    assert moment_text(1705314600.5) == "2024-01-15 10:30:00"
    assert moment_text(1e15) == "1000000000000000"


def test_an_agent_has_the_same_colour_everywhere() -> None:
    assert agent_piece("planner") == agent_piece("planner")
    assert len({agent_piece(f"agent_{i}")[1] for i in range(50)}) > 4
    assert agent_piece("\udcff")[0] == "\udcff"


def test_progress_tells_share_rate_and_time_left() -> None:
    assert progress_text(Report("rebuilding", 250_000_000, 1_000_000_000, 4000), 10) == (
        "rebuilding 25% of 1.0 GB, 4,000 entries, 25.0 MB/s, 30s left"
    )
    assert progress_text(Report("indexing", 5_000_000, 0, 1), 2) == "indexing 5.0 MB, 1 entry, 2.5 MB/s"


def test_without_a_terminal_progress_is_a_line_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with ProgressBar() as progress:
        for tenth in range(120):
            now = tenth / 10
            progress(Report("rebuilding", tenth, 120, tenth))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line[:15] for line in err.splitlines()] == ["rebuilding 41% ", "rebuilding 83% "]


def test_work_that_is_done_in_a_moment_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar() as progress:
        progress(Report("rebuilding", 1, 2, 1))
        assert progress.pause()
        assert not progress.pause()
    assert capsys.readouterr() == ("", "")
