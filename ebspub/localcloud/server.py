"""The process of the embedded cloud."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import signal
import string
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ebspub.errors import BusyError
from ebspub.localcloud.settings import Settings

log = logging.getLogger(__name__)
STATE_FILE = "cloud.json"
LOCK_FILE = "lock"
_KEY_ALPHABET = string.ascii_uppercase + string.digits


def serve(folder: Path, settings: Settings) -> None:
    """Run the cloud in ``folder`` until SIGTERM or SIGINT; then end every builder and release everything.

    Raises :class:`ebspub.errors.BusyError` when a cloud runs in the folder already.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder):
        _serve(folder, settings)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it goes with the process, however that ends."""
    with (folder / LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = f"an embedded cloud runs in {folder} already"
            raise BusyError(what, todo="stop it, or use another folder") from None
        yield


def _serve(folder: Path, settings: Settings) -> None:
    _prepare_environment()
    _prepare_sessions()
    # Imported after the environment is set: moto reads it when it is imported.
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    from ebspub.localcloud.admin import Admin
    from ebspub.localcloud.ec2 import backend
    from ebspub.localcloud.gate import Gate
    from ebspub.localcloud.world import World

    class Handler(MotoRequestHandler):  # type: ignore[misc, unused-ignore]
        """Keeps quiet: the calls have a log of their own."""

        def log_request(self, *_: Any) -> None:
            pass

    key = "AKIA" + "".join(secrets.choice(_KEY_ALPHABET) for _ in range(16))
    world = World(folder, settings, _regions(settings))
    backend.install(world)
    admin = Admin(world, key)
    gate = Gate(world, DomainDispatcherApplication(create_backend_app), admin, key)
    admin.gate = gate
    server = make_server("127.0.0.1", settings.port, gate, threaded=True, request_handler=Handler)
    _on_signals(server)
    _write_state(folder, server.server_port, key)
    log.info("serving on 127.0.0.1:%d", server.server_port)
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        server.server_close()
        (folder / STATE_FILE).unlink(missing_ok=True)
        world.close()
        log.info("stopped")


def _prepare_environment() -> None:
    """Keep moto from what we have no use for: thousands of preset images, and the user's own AWS configuration."""
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


def _prepare_sessions() -> None:
    """Give moto one session: as it is imported it makes three, and each reads botocore's endpoints and EC2's model."""
    import boto3

    make, shared = boto3.Session, boto3.Session()

    def session(*words: Any, **options: Any) -> boto3.Session:
        return make(*words, **options) if words or options else shared

    boto3.Session = session  # type: ignore[misc, assignment]


def _regions(settings: Settings) -> frozenset[str]:
    """Return the enabled regions."""
    if settings.regions:
        return frozenset(settings.regions)
    import boto3

    return frozenset(boto3.Session().get_available_regions("ec2", partition_name="aws"))


def _on_signals(server: Any) -> None:
    def end(*_: object) -> None:
        # shutdown() waits for serve_forever(), which runs in this very thread.
        threading.Thread(target=server.shutdown, name="shutdown").start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def _write_state(folder: Path, port: int, key: str) -> None:
    """Tell clients where the cloud is; it holds the key, so nobody else may read it."""
    state = {"pid": os.getpid(), "endpoint": f"http://127.0.0.1:{port}", "access_key": key}
    fresh = folder / (STATE_FILE + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(0o600)
    fresh.write_text(json.dumps(state))
    fresh.rename(folder / STATE_FILE)
