"""A reader of what an NBD server exports, with several reads under way at a time.

The fixed newstyle handshake and simple replies of the protocol, which every server speaks
(https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).
"""

from __future__ import annotations

import socket
import struct
from typing import Final

_GREETING: Final = struct.Struct(">8sQH")
_OPTION: Final = struct.Struct(">IQII")
_EXPORT: Final = struct.Struct(">QH")
_REQUEST: Final = struct.Struct(">IHHQQI")
_REPLY: Final = struct.Struct(">IIQ")
_IHAVEOPT: Final = 0x49484156454F5054
_REQUEST_MAGIC: Final = 0x25609513
_REPLY_MAGIC: Final = 0x67446698
#: Flags of both sides' handshakes: fixed newstyle, no padding behind the export's size.
_FIXED: Final = 1
_NO_ZEROES: Final = 2
_EXPORT_NAME: Final = 1
_READ: Final = 0
_PADDING: Final = 124


class NbdError(Exception):
    """The server is gone, or says what no server says, or cannot read what it exports."""


class Export:
    """The nameless export of the server at the other end of ``link``, which stays the caller's. Raises NbdError."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._asked: dict[int, memoryview] = {}
        self._next = 0
        magic, style, flags = _GREETING.unpack(self._take(_GREETING.size))
        if magic != b"NBDMAGIC" or style != _IHAVEOPT or not flags & _FIXED:
            raise NbdError("it does not greet as a server of NBD does")
        ours = flags & (_FIXED | _NO_ZEROES)
        self._send(_OPTION.pack(ours, _IHAVEOPT, _EXPORT_NAME, 0))
        #: Bytes of the export.
        self.size: int
        self.size, _ = _EXPORT.unpack(self._take(_EXPORT.size))
        if not ours & _NO_ZEROES:
            self._take(_PADDING)

    def ask(self, at: int, view: memoryview) -> int:
        """Ask for the bytes that ``view`` is to hold, those from ``at`` on; return a number for :meth:`settle`."""
        self._next += 1
        self._asked[self._next] = view
        self._send(_REQUEST.pack(_REQUEST_MAGIC, 0, _READ, self._next, at, len(view)))
        return self._next

    def settle(self, number: int) -> None:
        """Wait until the answer of that number is in its view; others may come before it."""
        while number in self._asked:
            magic, error, handle = _REPLY.unpack(self._take(_REPLY.size))
            if magic != _REPLY_MAGIC or handle not in self._asked:
                raise NbdError("its answer is none")
            if error:
                raise NbdError(f"it cannot read: error {error}")
            self._fill(self._asked[handle])
            del self._asked[handle]

    def _send(self, data: bytes) -> None:
        try:
            self._link.sendall(data)
        except OSError as error:
            raise NbdError(f"it is gone: {error.strerror}") from error

    def _take(self, count: int) -> bytes:
        data = bytearray(count)
        self._fill(memoryview(data))
        return bytes(data)

    def _fill(self, view: memoryview) -> None:
        while view:
            try:
                count = self._link.recv_into(view)
            except OSError as error:
                raise NbdError(f"it is gone: {error.strerror}") from error
            if not count:
                raise NbdError("it is gone")
            view = view[count:]
