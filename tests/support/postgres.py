"""A PostgreSQL server of a test run's own: in a temporary folder, on a Unix socket, without fsync.

Ask for the session fixture :func:`postgres` (import it in a conftest.py); each worker starts one server at most. The
kernel ends the server when the worker that started it dies.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from tests.conftest import Need

#: Where Debian keeps the server's programs: not on PATH, one folder per version.
DEBIAN = Path("/usr/lib/postgresql")
#: Nothing here needs to survive a power cut, and many short-lived tests connect.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "log_min_messages": "fatal",
}
_SERVER = pytest.StashKey["Postgres"]()


class Postgres:
    """A running server with one administrator, who needs no password on its socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def url(self, name: str) -> str:
        """Return SQLAlchemy's URL of a database."""
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def create(self, template: str = "template0") -> str:
        """Make a database, a copy of ``template``; return its URL. Nobody may be connected to the template."""
        name = f"t{uuid.uuid4().hex}"
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.run(f'DROP DATABASE "{make_url(url).database}" WITH (FORCE)')

    def run(self, statement: str) -> None:
        """Run one statement of the administrator's, outside a transaction."""
        with psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True) as conn:
            conn.execute(statement.encode())


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest, need: Need) -> Postgres:
    """Return this worker's server, started when it is first asked for."""
    stash = request.config.stash
    if _SERVER not in stash:
        running = serve(programs(need))
        stash[_SERVER] = running.__enter__()

        def end() -> None:
            del stash[_SERVER]
            running.__exit__(None, None, None)

        request.session.addfinalizer(end)
    return stash[_SERVER]


def programs(need: Need) -> Path:
    """Return the folder of the newest server's programs."""
    versions = [folder for folder in DEBIAN.glob("*/bin") if (folder / "initdb").exists()]
    if versions:
        return max(versions, key=lambda folder: float(folder.parent.name))
    need.tool("initdb", "postgres")
    return Path(str(shutil.which("initdb"))).parent


@contextmanager
def serve(bin_folder: Path) -> Iterator[Postgres]:
    """Run a server of its own until the end."""
    # Not below tmp_path: root's is closed to the server's user, and a socket's path has 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="ebspub-pg-"))
    try:
        user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
            user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
        prefix = ["setpriv", *user, "--pdeathsig=INT", "--"]
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        command = [*prefix, f"{bin_folder}/initdb", *options, "--no-instructions", f"--pgdata={folder}/data"]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60)
        settings = [f"--{name}={value}" for name, value in {**SETTINGS, "unix_socket_directories": str(folder)}.items()]
        command = [*prefix, f"{bin_folder}/postgres", "-D", f"{folder}/data", *settings]
        with (folder / "log").open("wb") as log, subprocess.Popen(command, cwd=folder, stderr=log) as server:
            try:
                _await_answer(server, folder)
                yield Postgres(folder)
            finally:
                server.send_signal(signal.SIGINT)  # "fast": disconnects everybody
                try:
                    server.wait(20)
                except subprocess.TimeoutExpired:
                    server.kill()
    finally:
        shutil.rmtree(folder)


def _await_answer(server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(host=str(folder), user="postgres", dbname="postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start: {(folder / 'log').read_text()}") from None
            time.sleep(0.05)
        else:
            return
