"""The power fails at any moment of a real run: what was not synced is lost, torn or out of order, and nothing else is.

A run is recorded by strace, SQLite's own writes and syncs included, and what a power cut might have left of it
(`disk.py`) is put in the place of the index, many times over. Then a sidecar starts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from faults.disk import SHARED_MEMORY, Disk, Names, Op, recorded
from helpers.support import indexed, modelled, nothing_is_saved_ahead_of_its_rows, reference, scratch
from helpers.tally import Tally
from sidecar.service import repair as service
from sidecar.service.supervisor import run_once
from sidecar.store import layout as swap

Often = Callable[[int, int], int]
Tallied = Callable[[str], Tally]

FILES = ["nothing", "everything", "last", "some", "torn"]
NAMES = ["nothing", "everything", "some"]


def _strace_works() -> bool:
    try:
        strace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=openat", "-o", os.devnull, "true"]
        return subprocess.run(strace, check=False).returncode == 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not _strace_works(), reason="needs strace, which records the run")


class Cut(NamedTuple):
    """When the power goes, and what it leaves."""

    after: int
    """So many things were done."""
    journal: bool
    files: str
    names: str


class Run:
    """A recorded run, whose logs and index can be put back as they were at any time, or as a power cut leaves them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "logs"
        for name in ("logs", "files", "marks"):
            (folder / name).mkdir(parents=True)
        program = [sys.executable, str(Path(__file__).with_name("recorded_run.py")), str(folder)]
        self.ops = recorded(program, folder.with_name("trace"), folder)
        self.end = self.disk(self.ops)

    def disk(self, ops: Iterable[Op] = ()) -> Disk:
        """A disk on which some things were done."""
        disk = Disk(*(str(self.folder / name) for name in ("logs", "files", "marks")))
        for op in ops:
            disk.do(op)
        return disk

    def put(self, names: Names, index: dict[str, bytes | None]) -> None:
        """Put logs and index in their places."""
        shutil.rmtree(self.root)
        self.put_logs(names)
        for path, data in sorted(index.items()):
            if data is None:
                Path(path).mkdir()
            elif not path.endswith(SHARED_MEMORY):
                Path(path).write_bytes(data)

    def put_logs(self, names: Names) -> None:
        """Put the logs in their places; each is the very file that it was."""
        for path, file in sorted(names.items()):
            if not path.startswith(str(self.root)) or self._is_index(path):
                continue
            if file is None:
                Path(path).mkdir(exist_ok=True)
            else:
                Path(file.born).write_bytes(file.now)
                Path(path).unlink(missing_ok=True)
                os.link(file.born, path)

    def left(self, disk: Disk, cut: Cut, chance: Random) -> dict[str, bytes | None]:
        """What a power cut leaves of the index."""
        names = disk.left(cut.names, chance)
        return {
            path: None if file is None else file.left(cut.files, chance)
            for path, file in names.items()
            if self._is_index(path)
        }

    def _is_index(self, path: str) -> bool:
        return path == f"{self.root}/index" or path.startswith(f"{self.root}/index/")


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with scratch() as folder:
        yield Run(folder / "run")


def test_the_record_of_a_run_is_complete(run: Run) -> None:
    """Done again, it gives the very bytes that the run left; so does a power cut when all was synced."""
    there = {str(path): path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    done = {path: file.now for path, file in run.end.names.items() if file is not None}
    for files in (there, done):
        for path in [path for path in files if path.endswith(SHARED_MEMORY)]:
            del files[path]
    assert done == there


# What distinguishes files and folders of the same part: days, numbers, names that nobody else has.
_NAMES_OF_ITS_OWN = r"(?<=/index/)(?:rebuild|ready-\w+)|(?<=parts-)\w+|\d+"


def chosen(run: Run, number: int, chance: Random) -> list[Cut]:
    """So many power cuts, right before and right after what matters: syncs, and changes of names in the index.

    What is done to files of the same part comes as often as what is done to any other: most of what a run does is done
    to the logs of its days, and the catalog's few moments are those of which the promises speak.
    """
    moments: defaultdict[str, list[int]] = defaultdict(list)
    for at, op in enumerate(run.ops):
        part = op.path.removeprefix(str(run.root))
        if op.kind != "write" and part.startswith("/index") and not part.endswith(SHARED_MEMORY):
            moments[f"{op.kind} {re.sub(_NAMES_OF_ITS_OWN, '', part)}"].append(at)
    writes = [at for at, op in enumerate(run.ops) if op.kind == "write" and "/index/" in op.path]
    ways = list(product([False, True], FILES, NAMES))
    # Where a promise hangs on one sync: what one thing needs of another is lost, the names of files or what is in them.
    # That is around each rename, all through a swap, and behind rows and offsets that have become durable.
    names, files = (False, "everything", "nothing"), (False, "nothing", "everything")
    cuts = [Cut(at + 1, *names) for part in moments.values() if len(part) <= 4 for at in part]
    for what, part in moments.items():
        if what.startswith("rename"):
            cuts += [Cut(at + 1, *files) for at in part]
        if what.startswith("sync") and what.endswith("db-wal"):
            cuts += [Cut(at + 1, *files) for at in chance.sample(part, min(40, len(part)))]
    manifest = f"/index/{swap.MANIFEST}"
    for begin, end in zip(moments[f"rename {manifest}.tmp"], moments[f"remove {manifest}"], strict=True):
        during = [at for at in range(begin, end) if run.ops[at].kind != "write"]
        cuts += [Cut(at, False, "everything", chance.choice(["nothing", "some"])) for at in during]
        behind = [at for at in moments["sync /index"] if at > end]  # it is gone for good
        cuts += [Cut(at + 1, *names) for at in behind[:2]]
    for count in range(number - len(cuts)):
        if count % len(ways) == 0:
            chance.shuffle(ways)
        part = list(moments.values())[count % len(moments)]
        at = chance.choice(part if chance.random() < 0.95 else writes)
        cuts.append(Cut(at + chance.choice([0, 1]), *ways[count % len(ways)]))
    return sorted(cuts)


def test_a_power_cut_loses_no_row_and_saves_no_offset_ahead_of_its_rows(run: Run, tally: Tallied, often: Often) -> None:
    counted = tally("power cut, unsynced writes lost, torn or out of order")
    settings = reference(run.root)
    chance = Random(4)
    disks = {False: run.disk(), True: run.disk()}
    done = 0
    for cut in chosen(run, often(300, 3_000), chance):
        for op in run.ops[done : cut.after]:
            for disk in disks.values():
                disk.do(op)
            if op.kind == "sync":
                disks[True].sync_names()
        done = cut.after
        disk = disks[cut.journal]
        left = run.left(disk, cut, chance)
        run.put(disk.names, left)
        try:
            marks = {Path(name).name for name in disk.names if name.startswith(f"{run.folder}/marks/")}
            if "damaged" not in marks:
                nothing_is_saved_ahead_of_its_rows(run.root)
            if marks == {"indexed"}:
                assert service.reason_to_rebuild(settings) is None, "the index has to be made again"
            if chance.random() < 0.25:
                shortened(run.root, chance)
            run_once(settings, lambda _: None)
            counted.compare(indexed(run.root), modelled(run.root))
            if "damaged" not in marks:
                assert not (settings.index_folder / swap.QUARANTINE).exists(), "a power cut was taken for damage"
            if chance.random() < 0.3:
                run.put_logs(run.end.names)
                run_once(settings, lambda _: None)
                counted.compare(indexed(run.root), modelled(run.root))
        except Exception as error:
            raise AssertionError(f"{cut}, before {run.ops[cut.after][:4]}, with {sorted(left)}") from error
        counted.tried += 1


def shortened(root: Path, chance: Random) -> None:
    """The daemon does not sync its logs: one of them has lost its last bytes as well."""
    log = chance.choice(sorted(root.glob("responses/sessions/*.jsonl")))
    os.truncate(log, max(0, log.stat().st_size - chance.randint(1, 800)))
