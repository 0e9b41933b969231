"""What Prometheus gets: real servers, scraped over HTTP and read by the parsers of `prometheus_client`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import orjson
import pytest

from helpers.pages import HOSTILE, Answer, Client, indexed_story, serving, write_story
from helpers.support import HANG, command, eventually, once, reference, with_constants, write_lines
from sidecar.metrics import keeper, numbers
from sidecar.query.index import Index
from sidecar.times import day_number

pytest.importorskip("prometheus_client", reason="the extra `metrics` is not installed")

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

TOKEN = "a-token-of-some-length"
LABELS = {
    "sidecar_build_info": {"version"},
    "sidecar_healthy": set(),
    "sidecar_lag_seconds": set(),
    "sidecar_log_bytes": {"state"},
    "sidecar_sources": {"status"},
    "sidecar_watch_mode": {"mode"},
    "sidecar_entries_total": set(),
    "sidecar_rejected_lines_total": {"reason"},
    "sidecar_days": set(),
    "sidecar_index_bytes": set(),
    "sidecar_pending_requests": set(),
    "sidecar_oldest_pending_age_seconds": set(),
    "sidecar_answer_seconds_bucket": {"le"},
    "sidecar_answer_seconds_count": set(),
    "sidecar_answer_seconds_sum": set(),
    "sidecar_anomalies": {"kind"},
}
"""What is promised."""
Samples = dict[tuple[str, str], float]
"""Values by name and label (empty if there is none)."""


def parsed(text: bytes) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            (label,) = sample.labels.values() or ("",)
            assert (sample.name, label) not in found
            found[sample.name, label] = sample.value
    return found


def samples(client: Client) -> Samples:
    answers: list[Answer] = []

    def is_counted() -> bool:
        answers.append(client.get("/metrics"))
        return answers[-1].status != 503  # on a busy machine the first count may take longer than a scrape waits

    eventually(is_counted)
    assert answers[-1].status == 200, answers[-1].body
    return parsed(answers[-1].body)


def samples_with_all(client: Client) -> Samples:
    """The samples, once the anomalies are known too."""
    eventually(lambda: b"sidecar_anomalies" in client.get("/metrics").body)
    return samples(client)


@contextmanager
def scraped(root: Path, *arguments: str) -> Iterator[Client]:
    """A real `sidecar run --metrics` on a free port. It is stopped at the end, unless it is gone already."""
    words = command("--root", root, "run", "--metrics", "127.0.0.1:0", *arguments)
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        while not (found := re.search(rb"metrics at http://127.0.0.1:(\d+)/metrics", process.stderr.readline())):
            assert process.poll() is None
        yield Client(process, int(found[1]))
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=HANG)
            assert process.returncode == 0
        process.stderr.close()


@contextmanager
def quick_serving(root: Path, *arguments: str) -> Iterator[Client]:
    """A `sidecar serve` that counts all the time."""
    quickly = with_constants("sidecar.metrics.keeper", INTERVAL=0.05, SHARE=0)
    code = f"{quickly}; from sidecar.cli import main; main()"
    words = [sys.executable, "-c", code, "--root", str(root), "serve", "--port", "0", *arguments]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        found = re.search(rb":(\d+)/;", process.stderr.readline())
        assert found is not None
        yield Client(process, int(found[1]))
    finally:
        process.terminate()
        process.communicate(timeout=HANG)


def children(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread or a process that has just ended
            for one in path.read_text().split():
                with suppress(OSError):
                    if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes():
                        found.append(int(one))
    return found


def child_of(process: subprocess.Popen[bytes]) -> int:
    """The process that answers for a sidecar, as soon as there is one."""
    eventually(lambda: children(process.pid))
    return children(process.pid)[0]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("metrics") / "logs"
    write_story(root)
    write_lines(root / "responses/sessions/odd.jsonl", b"no json\n", b"[]\n", {"data": 1}, b"\n")
    once(reference(root))
    return root


@pytest.fixture(scope="module")
def sidecar(root: Path) -> Iterator[Client]:
    with scraped(root) as client:
        yield client


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Client]:
    with serving(root) as client:
        yield client


@pytest.fixture(scope="module", params=["sidecar", "page"])
def either(request: pytest.FixtureRequest) -> Client:
    """Of `run`, and of `serve`."""
    client: Client = request.getfixturevalue(request.param)
    return client


# ---- what is said


def test_names_and_labels_are_those_that_are_promised_and_no_agent_is_named(either: Client) -> None:
    samples_with_all(either)
    answer = either.get("/metrics")
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    assert labels == LABELS
    assert answer.headers["content-type"].startswith("text/plain")
    for agent in (b"code-bo", b"pingpong", HOSTILE.encode()):
        assert agent not in answer.body


def test_numbers_are_those_of_status_and_of_the_entries(either: Client, root: Path) -> None:
    found = samples_with_all(either)
    done = subprocess.run(command("--root", root, "status", "--json"), capture_output=True, check=False)
    status = json.loads(done.stdout)
    assert found["sidecar_healthy", ""] == status["healthy"]
    assert found["sidecar_entries_total", ""] == status["entries"]
    assert found["sidecar_days", ""] == status["days"]
    for state in ("indexed", "blank", "rejected", "skipped", "waiting"):
        assert found["sidecar_log_bytes", state] == status["bytes"][state]
    assert found["sidecar_sources", "ok"] == status["sources"]
    reasons = {reason: count for (key, reason), count in found.items() if key == "sidecar_rejected_lines_total"}
    assert {reason: count for reason, count in reasons.items() if count} == {
        "not-json": 1,
        "not-object": 1,
        "no-event-type": 1,
    }
    with Index(root) as index:
        entries = list(index.timeline())
    times = [entry.answered_after for entry in entries if entry.answered_after is not None]
    assert found["sidecar_answer_seconds_count", ""] == len(times)
    assert found["sidecar_answer_seconds_sum", ""] == pytest.approx(sum(times))
    for bound in (1, 20, 30, 60, 3600):
        at_most = sum(seconds <= bound for seconds in times)
        assert found["sidecar_answer_seconds_bucket", str(float(bound))] == at_most
    waiting = [entry.timestamp for entry in entries if entry.requests_response and not entry.has_response]
    assert found["sidecar_pending_requests", ""] == len(waiting) == 2
    assert found["sidecar_oldest_pending_age_seconds", ""] == pytest.approx(time.time() - min(waiting), abs=HANG)
    size = sum(file.stat().st_size for file in (root / "index").rglob("*") if file.is_file())
    assert 0 < found["sidecar_index_bytes", ""] <= 2 * size
    assert found["sidecar_anomalies", "ping_pong"] == 1
    assert found["sidecar_watch_mode", "inotify"] + found["sidecar_watch_mode", "polling"] == 1


def test_the_manual_lists_the_same_names_and_labels() -> None:
    manual = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    rows = re.findall(r"^\| (`sidecar_\w+`.*?) \| (?:`(\w+)`)? ?\|", manual, re.M)
    listed = {name: {label} - {""} for names, label in rows for name in re.findall(r"`(\w+)`", names)}
    histogram = {re.sub("_(bucket|count|sum)$", "", name): labels for name, labels in reversed(LABELS.items())}
    assert listed == histogram


def test_prometheus_may_ask_for_open_metrics(sidecar: Client) -> None:
    answer = sidecar.get("/metrics", {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in open_metrics(answer.body.decode())}
    assert {"sidecar_entries", "sidecar_build", "sidecar_answer_seconds"} <= names


def test_agents_are_named_only_if_they_are_asked_for_and_the_rest_are_others(tmp_path: Path) -> None:
    root = indexed_story(tmp_path / "logs")
    odd = 'an "odd" \\ name\nsidecar_healthy 0'
    lines = [{"event": "note", "timestamp": 1_748_600_000, "data": {"agent_id": odd}}] * 500
    waits = {"event": "x:request", "timestamp": 1_748_600_000, "data": {"agent_id": "code-bo", "to_agent": odd}}
    write_lines(root / "responses/sessions/odd.jsonl", *lines, waits)
    once(reference(root))
    with serving(root, "--metrics-agents", "3") as client:
        found = samples(client)
    said = {agent: count for (name, agent), count in found.items() if name == "sidecar_entries_total"}
    assert said[odd] == 500 and len(said) == 4 and said["other"] > 0
    with Index(root) as index:
        assert sum(said.values()) == sum(1 for _ in index.timeline())
    asked = {agent: count for (name, agent), count in found.items() if name == "sidecar_pending_requests"}
    assert asked[odd] == 1 and sum(asked.values()) == 3
    assert found["sidecar_healthy", ""] == 1


# ---- who may ask


def test_only_reads_of_this_machine_under_its_own_name_are_answered(either: Client) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.7:9321", ""):
        assert either.get("/metrics", {"Host": host}).status == 421
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = either.get("/metrics", method=method, body=b"x")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert either.get("/metrics", {"Sec-Fetch-Site": "cross-site"}).status == 403
    answer = either.get("/metrics", {"Host": "localhost:1"})
    assert answer.status == 200 and answer.headers["x-content-type-options"] == "nosniff"
    assert either.get("/metrics", method="HEAD").body == b""


def test_run_has_nothing_but_the_metrics(sidecar: Client) -> None:
    for path in ("/", "/metrics/", "/api/overview", "/%6detrics", "/../metrics"):
        assert sidecar.get(path).status == 404
    assert sidecar.get("/metrics?x=1").status == 200
    with socket.create_connection(("127.0.0.1", sidecar.port)) as raw:
        raw.sendall(b"<script>\x00 nonsense\r\n\r\n")
        answer = raw.makefile("rb").read()
    assert answer and b"<" not in answer


def test_one_connection_serves_many_scrapes_and_idle_ones_keep_nobody_out(sidecar: Client) -> None:
    idle = [socket.create_connection(("127.0.0.1", sidecar.port)) for _ in range(8)]
    with socket.create_connection(("127.0.0.1", sidecar.port)) as raw, raw.makefile("rb") as answers:
        for _ in range(3):
            raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in answers.readline()
            length = 0
            while (line := answers.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            assert b"sidecar_healthy" in answers.read(length)
    for one in idle:
        one.close()


def test_a_token_is_asked_for_if_there_is_one_and_required_beyond_this_machine(root: Path, tmp_path: Path) -> None:
    logs = indexed_story(tmp_path / "logs")
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    with scraped(logs, "--token-file", str(file), "--allow-host", "logs.example.org") as client:
        assert client.get("/metrics").status == 401
        assert client.get("/metrics", {"Authorization": f"Bearer {TOKEN}x"}).status == 401
        good = {"Authorization": f"Bearer {TOKEN}", "Host": "logs.example.org"}
        assert client.get("/metrics", good).status == 200
    done = run_to_end(root, "--metrics", "[::]:0")
    assert done.returncode == 2 and "--token-file is required" in done.stderr


def run_to_end(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("--root", root, "run", *words), capture_output=True, text=True, timeout=HANG, check=False
    )


@pytest.mark.parametrize("address", ["9321", "localhost", ":9321", "127.0.0.1:", "127.0.0.1:99999", "::1:9321", "a:b"])
def test_what_is_no_address_is_wrong_use(root: Path, address: str) -> None:
    done = run_to_end(root, "--metrics", address)
    assert done.returncode == 2 and "is not HOST:PORT" in done.stderr


def test_options_of_the_metrics_need_the_metrics_and_a_sidecar_that_goes_on(root: Path) -> None:
    assert run_to_end(root, "--metrics-agents", "5").returncode == 2
    assert run_to_end(root, "--once", "--metrics", "127.0.0.1:0").returncode == 2


def test_a_port_that_is_taken_is_an_error_in_words(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run_to_end(root, "--metrics", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 1 and "cannot listen on 127.0.0.1" in done.stderr and "Traceback" not in done.stderr


# ---- whatever becomes of the index


def test_a_scrape_is_right_without_an_index_with_a_new_one_a_growing_one_and_none_again(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    log = root / "responses/sessions/s.jsonl"
    asks = {"event": "x:request", "timestamp": 1_748_600_000, "data": {"agent_id": "a", "to_agent": "b"}}
    write_lines(log, asks)
    (root / "index").mkdir()

    with quick_serving(root) as client:
        found = samples(client)
        assert found["sidecar_healthy", ""] == 0
        assert ("sidecar_entries_total", "") not in found and ("sidecar_pending_requests", "") not in found
        assert found["sidecar_sources", "behind"] == 1

        def becomes(**values: float) -> None:
            wanted = {f"sidecar_{name}": value for name, value in values.items()}
            eventually(lambda: wanted.items() <= {key: v for (key, _), v in samples(client).items()}.items())

        process = subprocess.Popen(command("--root", root, "run"), stderr=subprocess.DEVNULL)
        try:
            becomes(healthy=1, entries_total=1, pending_requests=1)
            assert samples(client)["sidecar_watch_mode", "inotify"] == 1
            write_lines(log, {"event": "x:result", "timestamp": 1_748_600_007, "data": {"agent_id": "b"}}, asks, asks)
            becomes(entries_total=4, pending_requests=2, answer_seconds_count=1, answer_seconds_sum=7)
        finally:
            process.kill()
            process.wait()
        becomes(entries_total=4, pending_requests=2)
        write_lines(log, asks)
        becomes(healthy=0, entries_total=4)
        found = samples(client)
        assert found["sidecar_watch_mode", "inotify"] == found["sidecar_watch_mode", "polling"] == 0
        assert found["sidecar_sources", "behind"] == 1

        for _ in range(3):
            # The numbers of a rebuilt index are the same, and there is no moment without them.
            done = subprocess.Popen(command("--root", root, "reindex"), stderr=subprocess.DEVNULL)
            while done.poll() is None:
                assert samples(client)["sidecar_pending_requests", ""] in (2, 3)
            assert done.returncode == 0
        becomes(healthy=1, entries_total=5, pending_requests=3)

        for path in sorted((root / "index").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        becomes(healthy=0)
        eventually(lambda: ("sidecar_pending_requests", "") not in samples(client))


def test_what_answers_ends_with_a_sidecar_that_is_killed_and_is_started_again_if_it_is_killed_itself(
    tmp_path: Path,
) -> None:
    root = indexed_story(tmp_path / "logs")
    with scraped(root) as client:
        child = child_of(client.process)
        entries = samples(client)["sidecar_entries_total", ""]
        os.kill(child, signal.SIGKILL)
        eventually(lambda: children(client.process.pid) not in ([], [child]))
        assert samples(client)["sidecar_entries_total", ""] == entries
        child = child_of(client.process)
        client.process.kill()
        client.process.wait()
        eventually(lambda: not Path(f"/proc/{child}").exists())
        with pytest.raises(ConnectionRefusedError):
            client.get("/metrics")


def test_a_sidecar_that_is_stopped_leaves_no_process(tmp_path: Path) -> None:
    root = indexed_story(tmp_path / "logs")
    with scraped(root) as client:
        child = child_of(client.process)
        samples(client)
    assert not Path(f"/proc/{child}").exists()


def test_without_the_package_the_page_says_what_to_install(root: Path) -> None:
    code = "import sys; sys.modules['prometheus_client'] = None; from sidecar.cli import main; main()"
    words = [sys.executable, "-c", code, "--root", str(root), "serve", "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        found = re.search(rb":(\d+)/;", process.stderr.readline())
        assert found is not None
        client = Client(process, int(found[1]))
        answer = client.get("/metrics")
        assert answer.status == 501 and "agent-sidecar[metrics]" in answer.json["error"]
        assert client.get("/api/overview").status == 200
        process.terminate()


# ---- counted once, and not given out too late


def test_a_day_that_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "logs"
    log = root / "responses/sessions/s.jsonl"
    write_lines(log, *({"event": "x:request", "timestamp": 1_748_600_000 + 86_400 * day} for day in range(5)))
    once(reference(root))
    path = Path()
    for path in (root / "index/daily").iterdir():  # a change of just now proves nothing
        os.utime(path, (1_748_600_000, 1_748_600_000))
    asked: list[float] = []
    of_each_day = numbers.of_each_day
    monkeypatch.setattr(numbers, "of_each_day", lambda *given: asked.append(given[2]) or of_each_day(*given))
    days = numbers.DaySums(agents=False)
    with Index(root) as index:
        assert days.total(index, root / "index").pending == 5
        assert days.total(index, root / "index").pending == 5
        assert len(asked) == 5
        os.utime(path, (1_748_600_001, 1_748_600_001))
        assert days.total(index, root / "index").pending == 5
    assert asked[5:] == [day_number(path.stem) * 86_400]


def test_an_answer_that_is_dated_before_its_request_took_no_time(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    asks = {"event": "x:request", "timestamp": 1_748_600_000, "request_id": "r"}
    write_lines(root / "responses/sessions/s.jsonl", asks, {**asks, "event": "x:result", "timestamp": 1_748_599_990})
    once(reference(root))
    with Index(root) as index:
        sums = numbers.DaySums(agents=False).total(index, root / "index")
    assert (sums.answers[0], sum(sums.answers), sums.seconds) == (1, 1, 0.0)


def test_numbers_that_have_become_too_old_are_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "GRACE", 0.0)
    monkeypatch.setattr(keeper, "INTERVAL", 0.01)
    may_go_on, is_known = threading.Event(), threading.Event()

    @contextmanager
    def make() -> Iterator[keeper.Callable[[], int]]:
        def count() -> int:
            if is_known.is_set():
                may_go_on.wait()
            return 7

        yield count

    with closing(_Closing(keeper.KeptValue("counts", make))) as kept:
        assert kept.value.get(time.monotonic() + HANG) == 7
        is_known.set()
        eventually(lambda: kept.value.get(0.0) is None)
        may_go_on.set()
        assert kept.value.get(time.monotonic() + HANG) == 7


def test_what_cannot_be_counted_at_the_moment_is_counted_later() -> None:
    fails = [OSError("not now")]

    @contextmanager
    def make() -> Iterator[keeper.Callable[[], bytes]]:
        def count() -> bytes:
            if fails:
                raise fails.pop()
            return orjson.dumps(1)

        yield count

    with pytest.MonkeyPatch.context() as patch, closing(_Closing(keeper.KeptValue("counts", make))) as kept:
        patch.setattr(keeper, "INTERVAL", 0.01)
        eventually(lambda: kept.value.get(0.0) == b"1")


class _Closing:
    def __init__(self, value: keeper.KeptValue[object]) -> None:
        self.value = value

    def close(self) -> None:
        self.value.close(HANG)
