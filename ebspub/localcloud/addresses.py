"""Loopback addresses for builders: each has one of its own in 127.0.0.0/8."""

from __future__ import annotations

import random
import socket


class Addresses:
    """Hands out free loopback addresses at which nobody listens on ``port``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._used: set[str] = set()
        self._random = random.SystemRandom()

    def take(self) -> str:
        """Return an address that no living builder of this cloud has and on whose port nobody listens."""
        while True:
            address = ".".join(["127", *(str(self._random.randint(1, 254)) for _ in range(3))])
            if address not in self._used and not address.startswith("127.0.") and self._free(address):
                self._used.add(address)
                return address

    def give_back(self, address: str) -> None:
        """Free the address of a builder that is gone."""
        self._used.discard(address)

    def _free(self, address: str) -> bool:
        with socket.socket() as probe:
            try:
                probe.bind((address, self.port))
            except OSError:
                return False
        return True
