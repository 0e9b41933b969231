"""What a scrape costs over 3 million entries, of `sidecar run --metrics` and of `sidecar serve`.

Beside it: a bare HTTP answer of the same bytes, from a server of the standard library that has them ready. Both are
asked in turn over connections that stay open, as Prometheus does. And what counting costs while nothing is added.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from statistics import median

from corpus import Corpus
from measure import Figure, Goal, Plan, cpu, entries, family, memory, quantile, run, sidecar, stop

SCRAPES = 200
"""In a round."""
BARE = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
body = sys.stdin.buffer.read()
class Bare(BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Bare)
print(f"http://127.0.0.1:{server.server_port}/", file=sys.stderr, flush=True)
server.serve_forever()
"""


def measure(plan: Plan) -> Iterator[Figure]:
    logs = Corpus(plan.folder, plan.sized(3_000_000), plan.sized(12_000), 30)
    if entries(logs.root) != logs.records:
        logs.drop_index()
        run(sidecar(logs.root, "reindex", "--json"))
    words = {"run": ["run", "--metrics", "127.0.0.1:0"], "serve": ["serve", "--port", "0"]}
    for name, command in words.items():
        with _answering(sidecar(logs.root, *command)) as (process, port), _connected(port) as asked:
            began = time.perf_counter()
            _scrape(asked)
            yield Figure(f"first scrape, {name}", time.perf_counter() - began, "s", note="waits until all is counted")
            while b"sidecar_anomalies" not in (body := _scrape(asked)):
                time.sleep(0.5)
            known = time.perf_counter() - began
            if name == "serve":
                busy = [time_ for _ in plan.rounds(2) for time_ in _round(asked)]
                note = "a month is looked at for the page, in the same process"
                yield Figure("a scrape, serve, p50, at work", quantile(busy, 0.5), "ms", note=note)
                _rest(process)
                asked.close()  # the server has: it opens again
            with _answering([sys.executable, "-c", BARE], body) as (_, bare), _connected(bare) as beside:
                rounds = [(_round(asked), _round(beside)) for _ in plan.rounds()]
            ours, theirs = (median(quantile(times, 0.5) for times in side) for side in zip(*rounds, strict=True))
            ratio = median(quantile(mine, 0.5) / quantile(bare, 0.5) for mine, bare in rounds)
            yield Figure(f"a scrape, {name}, p50", ours, "ms", "bare HTTP", theirs, ratio, Goal(5))
            slowest = [quantile([time for one in side for time in one], 0.99) for side in zip(*rounds, strict=True)]
            yield Figure(f"a scrape, {name}, p99", slowest[0], "ms", "bare HTTP", slowest[1], None, Goal(5))
            if name == "run":
                yield from _counting(process, known, plan)


def _counting(process: subprocess.Popen[bytes], known: float, plan: Plan) -> Iterator[Figure]:
    """What the process costs that counts for `run`."""
    counts = max(family(process.pid), key=cpu)
    yield Figure("all numbers known after", known, "s", note=f"{cpu(counts):.1f} CPU s")
    before, seconds = cpu(counts), 5.0 if plan.quick else 60.0
    time.sleep(seconds)
    yield Figure("counting, nothing added", 100 * (cpu(counts) - before) / seconds, "% of a core")
    yield Figure("memory of what counts", memory(counts)[1], "MB")


def _rest(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has nothing to do."""
    before = -1.0
    while cpu(process.pid) - before > 0.2:
        before = cpu(process.pid)
        time.sleep(2)


@contextmanager
def _answering(command: list[str], given: bytes = b"") -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server, and its port, which is in one of the first lines that it prints."""
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert server.stdin is not None and server.stderr is not None
    try:
        server.stdin.write(given)
        server.stdin.close()
        while not (found := re.search(rb"http://[^/]*:(\d+)/", server.stderr.readline())):
            assert server.poll() is None
        yield server, int(found[1])
    finally:
        stop(server)
        server.stderr.close()


@contextmanager
def _connected(port: int) -> Iterator[HTTPConnection]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=900)) as connection:
        yield connection


def _scrape(connection: HTTPConnection) -> bytes:
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.status == 200
    return response.read()


def _round(connection: HTTPConnection) -> list[float]:
    """The times of some scrapes, in milliseconds."""
    times = []
    for _ in range(SCRAPES):
        began = time.perf_counter()
        _scrape(connection)
        times.append(1000 * (time.perf_counter() - began))
    return times
