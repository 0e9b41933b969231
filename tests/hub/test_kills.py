"""A pusher that dies at any stage, a hub that crashes, an answer that is lost: every row is at the hub once."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from helpers.hubs import equal, pushed
from helpers.support import Stepped, reference, scratch, write_lines
from sidecar.archive.job import ArchiveOptions, archive
from sidecar.errors import HubUnavailable
from sidecar.hub.push import Pusher
from sidecar.service.supervisor import rebuild

from .conftest import Hub
from .test_push import T, say

STAGES = ("read", "dict", "rows", "cursor", "committed")


class World:
    """A machine: its logs change in all the ways that logs change, and its sidecar takes in what is there."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root, self.chance = root, chance
        self.sessions = root / "responses" / "sessions"
        self.sessions.mkdir(parents=True)
        self.number = 0
        self.settings = reference(root)

    def log(self) -> Path:
        return self.sessions / f"s{self.chance.randrange(4)}.jsonl"

    def append(self) -> None:
        for _ in range(self.chance.randrange(1, 12)):
            self.number += 1
            event = self.chance.choice(["x:request", "x:request", "x:result", "x:note"])
            correlation = f"r{self.chance.randrange(30)}" if self.chance.random() < 0.7 else None
            more = {"requests_response": False} if self.chance.random() < 0.1 else {}
            at = T + self.number * self.chance.choice([1, 500])
            write_lines(self.log(), say(at, event, correlation, agent_id=self.chance.choice("abc"), **more))

    def reset(self) -> None:
        log = self.log()
        if log.exists():
            log.write_bytes(log.read_bytes()[: self.chance.choice([0, 120])])
            write_lines(log, say(T + self.number, "after:reset"))

    def replace(self) -> None:
        log = self.log()
        write_lines(log.with_suffix(".new"), *(say(T + at, "x:request", f"n{at}") for at in range(3)))
        log.with_suffix(".new").rename(log)

    def rotate(self) -> None:
        log = self.log()
        if log.exists() and not log.with_name(f"{log.name}.1").exists():
            log.rename(log.with_name(f"{log.name}.1"))
            write_lines(log, say(T + self.number, "x:result", "r1"))

    def rebuild(self) -> None:
        rebuild(self.settings, 1, lambda _: None)

    def archive(self) -> None:
        done = self.sessions / f"done{self.number}.jsonl"
        write_lines(done, {**say(T, "x:request"), "status": "completed"})
        self.take_in()
        archive(self.settings, ArchiveOptions(age=0.0))

    def keep(self) -> None:
        archive(self.settings, ArchiveOptions(age=0.0, keep=0.0))

    def take_in(self) -> None:
        with Stepped(self.settings) as stepped:
            stepped.turn()
            stepped.turn()


def killed(world: World, url: str, stage: str, nth: int) -> bool:
    """Push in a process of its own that kills itself at the nth time it comes to a stage. Returns whether it did."""
    child = os.fork()
    if child == 0:
        left = [nth]

        def on_stage(reached: str) -> None:
            if reached == stage:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            Pusher(world.settings.index_folder, url, "n1", batch=17, on_stage=on_stage).once()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def kills(hub: Hub, seed: int, rounds: int) -> int:
    """A machine whose logs change, and whose pusher is killed. Returns the number of kills."""
    chance = random.Random(seed)
    count = 0
    with scratch() as folder:
        world = World(folder / "logs", chance)
        common = [world.append, world.append, world.append, world.reset, world.replace, world.rotate]
        rare = [world.rebuild, world.archive, world.keep]
        world.append()
        world.take_in()
        for number in range(rounds):
            chance.choice(rare if number % 4 == 3 else common)()
            world.take_in()
            for _ in range(2):
                count += killed(world, hub.url, chance.choice(STAGES), chance.randrange(1, 3))
        pushed(hub, world.settings)
        equal(hub, world.settings)
        with closing(Pusher(world.settings.index_folder, hub.url, "n1")) as pusher:
            assert pusher.verify(tries=1).differ == []
    return count


@pytest.mark.parametrize("seed", [1, 2])
def test_a_pusher_that_is_killed_at_any_stage_brings_every_row_once(hub: Hub, seed: int) -> None:
    assert kills(hub, seed, 8) >= 8


@pytest.mark.slow
def test_ten_thousand_kills(hub: Hub) -> None:
    count = seed = 0
    while count < int(os.environ.get("SIDECAR_KILLS", "10000")):
        seed += 1
        hub.ask("DELETE FROM hub.node", *(f"DELETE FROM hub.{name}" for name in ("entry", "source", "kind", "context")))
        hub.ask(*(f"DELETE FROM hub.{name}" for name in ("party", "party_agent", "session_part", "rejected_line")))
        hub.ask("DELETE FROM hub.dropped", "DELETE FROM hub.pushed")
        count += kills(hub, seed, 20)
    print(f"{count} kills, {seed} machines, none differs")


class Proxy:
    """Stands between a pusher and the hub, and can lose an answer."""

    def __init__(self, port: int) -> None:
        self._hub = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.is_armed = threading.Event()
        self.lost = 0
        self._threads = [threading.Thread(target=self._serve)]
        self._open: list[socket.socket] = []
        self._threads[0].start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                hub = socket.create_connection(("127.0.0.1", self._hub))
                self._open += [client, hub]
                for one, other, is_answer in ((client, hub, False), (hub, client, True)):
                    thread = threading.Thread(target=self._pump, args=(one, other, is_answer))
                    self._threads.append(thread)
                    thread.start()

    def _pump(self, one: socket.socket, other: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if is_answer and self.is_armed.is_set() and b"COMMIT" in data:
                    self.lost += 1
                    self.is_armed.clear()
                    break
                other.sendall(data)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._open:
            each.close()


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()


def test_an_answer_to_commit_that_is_lost_doubles_nothing(hub: Hub, stepped: Stepped, log: Path) -> None:
    write_lines(log, *(say(T + at, "x:request") for at in range(50)))
    stepped.turn()
    with proxied(hub.server.port) as proxy:
        url = f"postgresql://admin@127.0.0.1:{proxy.port}/{hub.database}?sslmode=disable"

        def on_stage(stage: str) -> None:
            if stage == "cursor" and not proxy.lost:
                proxy.is_armed.set()

        with closing(Pusher(stepped.settings.index_folder, url, "n1", on_stage=on_stage)) as pusher:
            with pytest.raises(HubUnavailable):
                pusher.once()
            assert proxy.lost == 1
            assert hub.ask("SELECT count(*) FROM hub.entry") == [(50,)]
            pusher.give_up()
            assert pusher.once() == 0
    equal(hub, stepped)


@pytest.mark.usefixtures("postgres")
def test_a_hub_that_crashes_in_a_transaction_has_all_in_the_end(stepped: Stepped, log: Path) -> None:
    from helpers.postgres import server
    from sidecar.hub.admin import init

    with server() as own:
        own.execute("postgres", "CREATE DATABASE crash")
        init(own.url("crash"))
        hub = Hub(own, "crash")
        for stage in STAGES:
            write_lines(log, *(say(T + at, "x:request", f"{stage}{at}") for at in range(5)))
            stepped.turn()
            crashed = []

            def on_stage(reached: str, stage: str = stage, crashed: list[str] = crashed) -> None:
                if reached == stage and not crashed:
                    crashed.append(reached)
                    own.stop("immediate")

            with closing(Pusher(stepped.settings.index_folder, hub.url, "n1", on_stage=on_stage)) as pusher:
                with suppress(HubUnavailable):
                    pusher.once()
                pusher.give_up()
                assert crashed
                own.start()
                pusher.once()
            equal(hub, stepped)
