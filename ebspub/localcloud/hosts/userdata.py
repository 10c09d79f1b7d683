"""Reads the user data of a builder: the parts of cloud-init's language that the embedded cloud honours.

`#cloud-config` documents with ``ssh_keys``, ``ssh_genkeytypes``, ``ssh_authorized_keys``, ``bootcmd``, ``runcmd``,
``write_files``; or a script that starts with ``#!``. Everything else is ignored, as cloud-init ignores modules that a
distribution leaves out.
"""

from __future__ import annotations

import base64
import gzip
import shlex
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

Command = list[str] | str


class UserDataError(ValueError):
    """The user data cannot be understood; a real host would boot without it and say so on its console."""


class WriteFile(BaseModel):
    """One entry of ``write_files``."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    path: str
    content: str = ""
    encoding: str = ""
    permissions: str = "0644"

    def data(self) -> bytes:
        """Return the decoded content."""
        raw = self.content.encode()
        if "b64" in self.encoding or "base64" in self.encoding:
            raw = base64.b64decode(raw)
        return gzip.decompress(raw) if self.encoding.startswith("gz") else raw


class Seed(BaseModel):
    """What the user data asks of a host."""

    model_config = ConfigDict(extra="ignore")

    ssh_keys: dict[str, str] = {}
    ssh_genkeytypes: list[str] | None = None
    ssh_authorized_keys: list[str] = []
    bootcmd: list[Command] = []
    runcmd: list[Command] = []
    write_files: list[WriteFile] = []
    script: str = ""

    def host_keys(self) -> dict[str, str]:
        """Return the given private host keys by type (ecdsa, ed25519, rsa)."""
        return {name.removesuffix("_private"): key for name, key in self.ssh_keys.items() if name.endswith("_private")}


def parse(data: bytes) -> Seed:
    """Read user data (already decoded from base64). Raises :class:`UserDataError`."""
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    text = data.decode("utf-8", errors="replace")
    if text.startswith("#!"):
        return Seed(script=text)
    if not text.startswith("#cloud-config"):
        return Seed()
    try:
        document: Any = yaml.safe_load(text)
        return Seed.model_validate(document or {})
    except (yaml.YAMLError, ValidationError) as error:
        # The text may hold private keys: only the kind of the error is told.
        raise UserDataError(
            f"user data is no cloud-config that this host understands ({type(error).__name__})"
        ) from None


def as_script(commands: list[Command]) -> str:
    """Return a shell script of ``commands``: lists are quoted, strings are shell. A failing one stops nothing."""
    lines = [command if isinstance(command, str) else shlex.join(command) for command in commands]
    return "\n".join(["#!/bin/sh", *lines, ""])
