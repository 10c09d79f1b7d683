"""SSH to a builder whose host key is known before the first connection.

No known_hosts file, agent, key folder, password or "accept new" has a part in it: one pinned host key and one client
key of our own, and only the key type that both have is negotiated.
"""

from __future__ import annotations

import hmac
import socket
import threading
import time

import paramiko

from ebspub.errors import HostKeyError, RemoteError
from ebspub.remote.keys import KEY_TYPE, Key, fingerprint
from ebspub.remote.report import clean
from ebspub.remote.shell import MIB, Completed

_KEEPALIVE = 15
_CHUNK = 32768
_FAULTS = (paramiko.SSHException, EOFError, OSError)


def connect(address: str, port: int, user: str, client_key: Key, host_key: Key, timeout: float) -> SshShell:
    """Return a shell on the host at ``address`` after it proved to hold ``host_key``.

    ``timeout`` in seconds bounds connection, key exchange and login together. Raises :class:`HostKeyError` for a host
    with any other key, to which nothing was sent, not even the user's name; :class:`RemoteError` if the host is
    unreachable, refuses, or does not accept the key (cloud-init may not have put it there yet).
    """
    where = f"{address} port {port}"
    deadline = time.monotonic() + timeout
    try:
        sock = socket.create_connection((address, port), timeout=timeout)
    except OSError as error:
        raise RemoteError(f"no SSH connection to {where}: {error}") from error
    transport: paramiko.Transport | None = None
    # Paramiko bounds single waits only; whatever of the handshake hangs ends with the socket.
    watchdog = _Watchdog(sock, timeout)
    try:
        transport = paramiko.Transport(sock)
        transport.daemon = True
        transport.get_security_options().key_types = (KEY_TYPE,)
        _prove(transport, host_key, where, deadline)
        _login(transport, user, client_key, where, deadline)
        transport.set_keepalive(_KEEPALIVE)
        watchdog.stop()
        if watchdog.fired:
            raise RemoteError(f"{where} did not complete the SSH handshake in {timeout:g} s")
    except _FAULTS as error:
        _discard(transport, sock)
        late = f" in {timeout:g} s" if watchdog.fired else ""
        raise RemoteError(f"{where} did not complete the SSH handshake{late}: {_said(error)}") from error
    except BaseException:
        _discard(transport, sock)
        raise
    finally:
        watchdog.stop()
    return SshShell(transport, where)


class SshShell:
    """One SSH connection; :meth:`run` may be called from several threads, which then take turns.

    A run that misses its deadline or its limit closes the connection: what the command does after that is unknown.
    """

    def __init__(self, transport: paramiko.Transport, where: str) -> None:
        self._transport = transport
        self._where = where
        self._turn = threading.Lock()

    def run(self, command: str, *, stdin: bytes = b"", timeout: float, limit: int = MIB) -> Completed:
        """See :meth:`ebspub.remote.shell.Shell.run`."""
        deadline = time.monotonic() + timeout
        if not self._turn.acquire(timeout=timeout):
            raise RemoteError(f"{self._where}: another command held the connection for {timeout:g} s")
        try:
            return self._run(command, stdin, deadline, timeout, limit)
        finally:
            self._turn.release()

    def close(self) -> None:
        """End the connection; safe to call twice."""
        self._transport.close()

    def _run(self, command: str, stdin: bytes, deadline: float, timeout: float, limit: int) -> Completed:
        watchdog = _Watchdog(self._transport, _left(deadline))
        try:
            channel = self._transport.open_session(timeout=_left(deadline))
            try:
                channel.settimeout(_left(deadline))
                channel.exec_command(command)
                exchange = _Exchange(channel, stdin, limit)
                while not exchange.finished():
                    exchange.step(deadline)
            finally:
                channel.close()
        except _FAULTS as error:
            self.close()
            if watchdog.fired or time.monotonic() >= deadline:
                raise RemoteError(f"{self._where}: the command did not end within {timeout:g} s") from error
            raise RemoteError(f"{self._where}: the connection broke: {_said(error)}") from error
        except RemoteError as error:
            self.close()
            raise RemoteError(f"{self._where}: {error.what}") from error
        finally:
            watchdog.stop()
        return exchange.completed()


class _Exchange:
    """One command's streams. A single thread serves all three, so that no stream can block another."""

    def __init__(self, channel: paramiko.Channel, stdin: bytes, limit: int) -> None:
        self._channel = channel
        self._pending: memoryview | None = memoryview(stdin)
        self._limit = limit
        self._out = bytearray()
        self._err = bytearray()
        self._ended = False
        self._pause = 0.001

    def finished(self) -> bool:
        """Whether the command's end was seen before the last of its output was taken."""
        return self._ended

    def step(self, deadline: float) -> None:
        """Move what can be moved, or wait a moment."""
        channel = self._channel
        ended = channel.closed or (channel.exit_status_ready() and channel.eof_received)
        moved = False
        while channel.recv_ready():
            self._out += channel.recv(_CHUNK)
            moved = True
            self._judge(deadline)
        while channel.recv_stderr_ready():
            self._err += channel.recv_stderr(_CHUNK)
            moved = True
            self._judge(deadline)
        self._judge(deadline)
        if ended:
            self._ended = True
            return
        moved = self._send() or moved
        self._pause = 0.001 if moved else min(self._pause * 2, 0.05)
        if not moved:
            time.sleep(self._pause)

    def completed(self) -> Completed:
        """Return the outcome; :class:`RemoteError` where the channel closed without an exit status."""
        status = self._channel.exit_status
        if status < 0:
            raise RemoteError("the connection or the command ended without an exit status")
        return Completed(status, bytes(self._out), bytes(self._err))

    def _send(self) -> bool:
        if self._pending is None or not self._channel.send_ready():
            return False
        try:
            if not self._pending:
                self._channel.shutdown_write()
                self._pending = None
                return True
            sent = self._channel.send(bytes(self._pending[:_CHUNK]))
        except OSError:
            if not self._channel.closed:
                raise
            self._pending = None  # the command ended without reading all of its input; its status tells
            return True
        self._pending = self._pending[sent:]
        return sent > 0

    def _judge(self, deadline: float) -> None:
        if len(self._out) + len(self._err) > self._limit:
            raise RemoteError(f"the command wrote more than {self._limit} bytes")
        if time.monotonic() >= deadline:
            raise TimeoutError("deadline")


class _Watchdog:
    """Closes a socket or transport after some seconds, because not every wait inside paramiko takes a timeout."""

    def __init__(self, target: socket.socket | paramiko.Transport, seconds: float) -> None:
        self._target = target
        self.fired = False
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def _fire(self) -> None:
        self.fired = True
        if isinstance(self._target, socket.socket):
            try:
                self._target.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # not connected any more, which is what we want
        else:
            self._target.close()

    def stop(self) -> None:
        self._timer.cancel()


def _prove(transport: paramiko.Transport, host_key: Key, where: str, deadline: float) -> None:
    try:
        transport.start_client(timeout=_left(deadline))
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise HostKeyError(
            f"{where} has no {KEY_TYPE} host key or no algorithm in common, so it is not the builder "
            f"with host key {host_key.fingerprint}: {_said(error)}",
            todo="Nothing was sent to it. Check what answers at this address.",
            code="host-key",
        ) from error
    shown = transport.get_remote_server_key().asbytes()
    if not hmac.compare_digest(shown, host_key.public_blob):
        raise HostKeyError(
            f"{where} showed host key {fingerprint(shown)} instead of the builder's {host_key.fingerprint}",
            todo="Nothing was sent to it. Another host answers there, or the builder's image ignores user data.",
            code="host-key",
        )


def _login(transport: paramiko.Transport, user: str, key: Key, where: str, deadline: float) -> None:
    transport.auth_timeout = _left(deadline)
    try:
        transport.auth_publickey(user, key.paramiko)
    except paramiko.AuthenticationException as error:
        raise RemoteError(
            f"{where} does not accept our key for user {user}",
            todo="It does so once cloud-init has run; if that lasts, check builder.ssh_user and the builder's image.",
        ) from error
    if not transport.is_authenticated():
        raise RemoteError(
            f"{where} asks user {user} for more than a key", todo="Use a builder image that logs in by key."
        )


def _discard(transport: paramiko.Transport | None, sock: socket.socket) -> None:
    if transport is not None:
        transport.close()
    sock.close()


def _said(error: BaseException) -> str:
    """Return what an error says, fit for a terminal: Paramiko quotes the peer, and that may be anybody."""
    return clean(str(error)) or type(error).__name__


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
