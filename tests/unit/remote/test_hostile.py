"""Servers at a builder's address that are none: what they say reaches nobody's terminal as they said it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from ebspub.errors import HostKeyError, RemoteError
from ebspub.remote.keys import Keyring
from ebspub.remote.ssh import connect

RING = Keyring(bytes(range(32)))


@contextlib.contextmanager
def greeting(text: bytes) -> Iterator[int]:
    """Serve one connection with these bytes; return the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            caller, _ = listener.accept()
            with caller:
                caller.settimeout(5)
                caller.sendall(text)
                while caller.recv(4096):
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            socket.create_connection(listener.getsockname()).close()
        thread.join()
        listener.close()


@pytest.mark.parametrize(
    "text",
    [
        b"SSH-\x1b[2J\x1b]0;pwned\x07\xc2\x9b31m\r\n",
        b"SSH-\x1b[31m-red\r\n",
        b"\x1b[31mred\r\n" * 200,
        b"HTTP/1.1 400 Bad Request \x1b[31m\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n" + b"\xff" * 64,
        b"SSH-2.0-" + b"x" * 100_000 + b"\r\n",
    ],
)
def test_what_a_stranger_says_is_told_in_plain_words(text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with greeting(text) as port, pytest.raises((RemoteError, HostKeyError)) as caught:
        connect("127.0.0.1", port, "ubuntu", RING.client_key("job", 1), RING.host_key("job", 1), 3.0)
    assert str(caught.value).replace("\n", " ").isprintable()
    assert len(str(caught.value)) < 1500
    assert "PRIVATE" not in caplog.text
