"""A coverage-guided fuzzer for the way of a line: bytes go in, and every promise about what comes of them is checked.

    python tests/faults/fuzz.py lines [--seconds 300]     parse and derive, held against the model of the law
    python tests/faults/fuzz.py tail [--seconds 300]      a file written, cut and rewritten while it is tailed
    python tests/faults/fuzz.py index [--seconds 300]     bytes written over the files of an index: named, never a crash

It needs atheris, which is no dependency of the project: `pip install atheris` (Linux, CPython 3.11 or newer). What it
finds is printed with the bytes that did it; they belong into `tests/faults/test_hostile_input.py`.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

try:
    import atheris
except ImportError:
    sys.exit("fuzz.py needs atheris: pip install atheris")

with atheris.instrument_imports(include=["sidecar"]):
    from sidecar import Index
    from sidecar.errors import SidecarError
    from sidecar.health.status import status_of
    from sidecar.ingest.reader import read_next
    from sidecar.ingest.source import SourceState
    from sidecar.query.catalog_reader import CatalogReader
    from sidecar.query.day_reader import DayReader
    from sidecar.service import supervisor as service
    from sidecar.store import layout as swap

from faults.test_hostile_input import FIRST, TOKENS  # noqa: E402
from helpers.support import LATER, any_source, as_dict, reference, rows_of, write_lines  # noqa: E402
from oracle.model import model_file  # noqa: E402

SEEDS = [
    FIRST,
    b'{"event":"completion:request","correlation_id":"c","data":{"agent_id":"a","to_agents":["b","c"],"role":"lead"}}\n',
    b'{"event":"a:result","request_id":7,"data":{"agent_id":"b","participants":["x"],"team_id":"t"}}\n',
    b'{"event":"x","timestamp":"2024-12-29T19:20:00Z","metadata":{"agent_id":"m","pattern":"p"},"status":"completed"}\n',
    *TOKENS,
]


def mutate(data: bytes, longest: int, seed: int) -> bytes:
    """Insert a whole piece of JSON now and then, which would take long to make from single bytes."""
    chance = random.Random(seed)
    if chance.random() < 0.5:
        at = chance.randrange(len(data) + 1)
        piece = chance.choice(SEEDS)
        data = data[:at] + piece + data[at + chance.choice([0, 0, 1, 8]) :]
        return data[:longest]
    return bytes(atheris.Mutate(data, longest))


def lines(data: bytes) -> None:
    """The rows, rejected lines and byte counts of the law, whatever the bytes are."""
    layout = ("session", "stream", "file")[data[0] % 3] if data else "session"
    content = data[1:]
    path = "events/2024-12-29/evt_1.5_x.json" if layout == "file" else "responses/sessions/s.jsonl"
    found = rows_of(content, path, layout, 1_735_500_000.0, 2_000)
    expected = model_file(content, path=path, layout=layout, mtime=1_735_500_000.0, max_line_bytes=2_000)
    assert found.rows == expected.rows, (found.rows, expected.rows)
    assert sorted(found.rejected) == sorted(expected.rejected)
    assert found.bytes == {key: expected.bytes[key] for key in found.bytes}


def tail(data: bytes) -> None:
    """A file that is appended to, cut and rewritten between two looks ends as the rows of its last content."""
    source = atheris.FuzzedDataProvider(data)
    path = "responses/sessions/s.jsonl"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        file = Path(folder, path)
        file.parent.mkdir(parents=True)
        file.touch()
        progress, rows = SourceState(1, path, any_source("session"), 0.0), {}
        for _ in range(12):
            kind, size = source.ConsumeIntInRange(0, 9), source.ConsumeIntInRange(0, 400)
            if kind == 0:
                file.write_bytes(source.ConsumeBytes(size))
            elif kind == 1:
                with file.open("r+b") as log:
                    log.truncate(min(size, file.stat().st_size))
            elif kind == 2:
                other = file.with_suffix(".new")
                other.write_bytes(FIRST + source.ConsumeBytes(size))
                other.replace(file)
            else:
                with file.open("ab") as log:
                    log.write(source.ConsumeBytes(size) if kind < 7 else FIRST[: size % (len(FIRST) + 1)])
            taken(progress, folder, rows)
        file.write_bytes(b"")  # seen to shrink, so that the next look begins anew
        taken(progress, folder, rows)
        file.write_bytes(FIRST)
        taken(progress, folder, rows)
        expected = model_file(FIRST, path=path, layout="session", mtime=file.stat().st_mtime)
        assert [as_dict(row, path) for row in rows.values()] == expected.rows
        assert progress.counts.total == progress.cursor.offset == file.stat().st_size


def taken(progress: SourceState, folder: str, rows: dict[int, object]) -> None:
    more = True
    while more:
        seen = read_next(progress, Path(folder), 2_000, LATER)
        if seen.changed:
            progress.begin_again()
            rows.clear()
        if seen.batch:
            rows.update((row.byte_offset, row) for row in seen.batch.rows)
        more = seen.more or seen.changed
    assert progress.counts.total == progress.cursor.offset


def index(pristine: Path) -> Callable[[bytes], None]:
    """Bytes are written over any file of an index: readers answer or report it, and a start repairs it."""
    files = [swap.catalog_path(pristine / "index"), *swap.daily_paths(pristine / "index")]
    expected = [row for path in files[1:] for row in _rows(path)]

    def over(data: bytes) -> None:
        source = atheris.FuzzedDataProvider(data)
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            root = Path(folder, "logs")
            shutil.copytree(pristine, root, copy_function=shutil.copy2)
            file = root / source.PickValueInList(files).relative_to(pristine)
            content = bytearray(file.read_bytes())
            for _ in range(source.ConsumeIntInRange(1, 4)):
                at = source.ConsumeIntInRange(0, len(content) - 1)
                piece = source.ConsumeBytes(source.ConsumeIntInRange(1, 200))
                content[at : at + len(piece)] = piece
            file.write_bytes(
                content[: len(content) - source.ConsumeIntInRange(0, 1) * source.ConsumeIntInRange(0, 9_000)]
            )
            with suppress(SidecarError), Index(root) as opened:
                for entry in opened.timeline():
                    with suppress(SidecarError):
                        opened.read(entry)
                list(opened.sessions()), list(opened.rejected()), opened.agents(), opened.find_pending_requests(None)
            with suppress(SidecarError), closing(CatalogReader(root / "index/catalog.db")) as catalog:
                catalog.sources(), catalog.offsets(), catalog.days()
            with suppress(SidecarError):
                status_of(reference(root), sources=True)
            with suppress(SidecarError):
                service.run_once(reference(root), lambda _: None)
            service.rebuild(reference(root), 1, lambda _: None)
            assert [row for path in swap.daily_paths(root / "index") for row in _rows(path)] == expected

    return over


def _rows(path: Path) -> list[object]:
    with closing(DayReader(path)) as day:
        return list(day.rows())


def main() -> None:
    """Fuzz one of the targets for some time, and print how far it got."""
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what not in ("lines", "tail", "index"):
        sys.exit(__doc__)
    seconds = int(sys.argv[sys.argv.index("--seconds") + 1]) if "--seconds" in sys.argv else 300
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        target: Callable[[bytes], None] = lines if what == "lines" else tail
        if what == "index":
            root = Path(folder, "pristine")
            write_lines(root / "responses/sessions/s.jsonl", *SEEDS[:4] * 10)
            service.run_once(reference(root), lambda _: None)
            target = index(root)
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(SEEDS):
            (corpus / str(number)).write_bytes(b"\0" + seed)
        print(f"fuzzing {what} for {seconds} s", time.strftime("%H:%M:%S"), flush=True)
        options = [
            f"-max_total_time={seconds}",
            "-max_len=6000",
            "-timeout=60",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *options, str(corpus)], target, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
