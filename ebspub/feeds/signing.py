"""Simplestreams, signed by GnuPG with the key that the configuration names.

Of every ``X.json`` there is ``X.json.gpg`` (detached, armoured) and ``X.sjson`` (clear-signed). Inside a signed index
every path leads to the signed file. A signature says when it was made, so what was signed before is taken again as long
as it still proves the same content by the same key: an unchanged catalogue gives identical bytes.

An ``X.sjson`` is whole in itself, and readers that check take it: sstream-query and juju look at no ``.gpg``. It is for
who fetches ``X.json`` and ``X.json.gpg``, one after the other, and may get them of two versions if they are replaced in
between. It is seldom where the document is replaced first and the signature right after it, which is the order in which
they are fetched; it cannot be excluded. Such a reader has to fetch both again, as :mod:`ebspub.feeds.feed` does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ebspub.errors import EbspubError
from ebspub.feeds import streams
from ebspub.source.signature import SignatureError, verify

_SECONDS = 120.0


class SigningError(EbspubError):
    """GnuPG does not sign."""


@dataclass(frozen=True, slots=True)
class Key:
    """An OpenPGP key in GnuPG's keeping.

    ``fingerprint`` has 40 hex digits, of the key or of a subkey. ``home`` is GnuPG's folder, None for that of the user.
    ``passphrase`` is a file with the key's passphrase; None where it has none, or an agent knows it.
    """

    fingerprint: str
    home: Path | None = None
    passphrase: Path | None = None


def sign(
    rendering: Mapping[str, bytes], key: Key, before: Mapping[str, bytes] = MappingProxyType({})
) -> dict[str, bytes]:
    """Return ``rendering`` with signatures of its simplestreams; of ``before`` those are taken that still hold.

    Every signature is read back by gpgv before it is believed. Raises :class:`SigningError`.
    """
    documents = {path: content for path, content in rendering.items() if _is_document(path)}
    if not documents:
        return dict(rendering)
    with tempfile.TemporaryDirectory(prefix="ebspub-sign-") as folder:
        signer = _Signer(key, Path(folder))
        signed = {}
        for path, content in documents.items():
            beside, inline = _signed(path)
            signed[beside] = signer.detached(content, before.get(beside), path)
            signed[inline] = signer.clear(_leading_to_signed(content), before.get(inline), path)
    return {**rendering, **signed}


def signatures(rendering: Iterable[str]) -> list[str]:
    """Return the paths that :func:`sign` adds to those of a rendering."""
    return [made for path in rendering if _is_document(path) for made in _signed(path)]


def broken(rendering: Mapping[str, bytes], key: Key, before: Mapping[str, bytes]) -> list[str]:
    """Return the signatures that :func:`sign` would make anew. Only the public key is needed.

    Raises :class:`SigningError`.
    """
    documents = {path: content for path, content in rendering.items() if _is_document(path)}
    found = []
    if documents:
        with tempfile.TemporaryDirectory(prefix="ebspub-sign-") as folder:
            signer = _Signer(key, Path(folder))
            for path, content in documents.items():
                beside, inline = _signed(path)
                found += [] if signer.detached_holds(content, before.get(beside), path) else [beside]
                found += [] if signer.clear_holds(_leading_to_signed(content), before.get(inline), path) else [inline]
    return found


def fault(key: Key) -> str | None:
    """Return why GnuPG cannot sign with ``key``, as far as a look tells; None where it has the secret key."""
    if shutil.which("gpg") is None or shutil.which("gpgv") is None:
        return "gpg or gpgv is not installed (packages gnupg and gpgv)"
    home = key.home or Path(os.environ.get("GNUPGHOME") or Path.home() / ".gnupg")
    if not home.is_dir():  # gpg would make it
        return f"there is no folder {home} in which GnuPG could keep the key {key.fingerprint}"
    if key.passphrase is not None and not os.access(key.passphrase, os.R_OK):
        return f"{key.passphrase}, with the passphrase of the key {key.fingerprint}, cannot be read"
    try:
        _gpg(key, ["--list-secret-keys", key.fingerprint], b"")
    except SigningError as error:
        return error.what
    return None


def is_signed(path: str) -> bool:
    """Whether ``path`` is of a signature, or of what carries one: what :func:`sign` takes as ``before``."""
    return path.startswith(f"{streams.ROOT}/") and path.endswith((".json.gpg", ".sjson"))


def _is_document(path: str) -> bool:
    return path.startswith(f"{streams.ROOT}/") and path.endswith(".json")


def _signed(path: str) -> tuple[str, str]:
    """Return the paths of a document's detached signature, and of the document that carries its own."""
    return f"{path}.gpg", f"{path.removesuffix('.json')}.sjson"


def _leading_to_signed(content: bytes) -> bytes:
    """Return a document whose paths lead to signed files; files of products lead nowhere."""
    document = json.loads(content)
    if document.get("format") != "index:1.0":
        return content
    for entry in document["index"].values():
        entry["path"] = entry["path"].removesuffix(".json") + ".sjson"
    return json.dumps(document, indent=1).encode() + b"\n"


class _Signer:
    def __init__(self, key: Key, folder: Path) -> None:
        self.key = key
        self.keyring = folder / "keyring.gpg"
        exported = _gpg(key, ["--export", key.fingerprint], b"")
        if not exported:
            raise SigningError(
                f"GnuPG has no key {key.fingerprint}", todo="Correct the key's fingerprint or GnuPG's folder."
            )
        self.keyring.write_bytes(exported)

    def detached_holds(self, content: bytes, signature: bytes | None, path: str) -> bool:
        """Whether ``signature`` is a detached one of ``content``."""
        return signature is not None and self._proves(content, content, signature, path)

    def clear_holds(self, content: bytes, document: bytes | None, path: str) -> bool:
        """Whether ``document`` is ``content``, clear-signed."""
        return document is not None and self._proves(content, document, None, path)

    def detached(self, content: bytes, before: bytes | None, path: str) -> bytes:
        """Return the detached signature of ``content``."""
        if before is not None and self.detached_holds(content, before, path):
            return before
        made = _gpg(self.key, [*self._with_key(), "--armor", "--output", "-", "--detach-sign"], content)
        self._require(self._proves(content, content, made, path), path)
        return made

    def clear(self, content: bytes, before: bytes | None, path: str) -> bytes:
        """Return ``content`` clear-signed."""
        if before is not None and self.clear_holds(content, before, path):
            return before
        made = _gpg(self.key, [*self._with_key(), "--output", "-", "--clearsign"], content)
        self._require(self._proves(content, made, None, path), path)
        return made

    def _with_key(self) -> list[str]:
        words = ["--local-user", self.key.fingerprint, "--digest-algo", "SHA512"]
        if self.key.passphrase is not None:
            words += ["--pinentry-mode", "loopback", "--passphrase-file", str(self.key.passphrase)]
        return words

    def _proves(self, content: bytes, document: bytes, signature: bytes | None, path: str) -> bool:
        """Whether ``document`` is signed by our key, and what is signed is ``content``."""
        try:
            found = verify(
                document, signature, keyring=str(self.keyring), fingerprint=self.key.fingerprint, origin=path
            )
        except SignatureError:
            return False
        # The end of the last line is not part of what is signed clear.
        return found.content.rstrip(b"\n") == content.rstrip(b"\n")

    def _require(self, proved: bool, path: str) -> None:
        if not proved:
            raise SigningError(
                f"{path}: what GnuPG signed is not proved by the key {self.key.fingerprint}",
                todo="Has the key expired, or can it not sign? Nothing was published.",
            )


def _gpg(key: Key, words: list[str], content: bytes) -> bytes:
    """Run gpg on ``content``; return what it gives."""
    command = [
        "gpg",
        "--batch",
        "--no-tty",
        "--quiet",
        *(["--homedir", str(key.home)] if key.home else []),
    ]
    try:
        done = subprocess.run(
            [*command, *words],
            input=content,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise SigningError("gpg is not installed: nothing can be signed", todo="apt-get install gnupg gpgv.") from error
    except subprocess.TimeoutExpired as error:
        raise SigningError(
            f"gpg did not sign within {_SECONDS:g} s",
            todo="Does it wait for a passphrase? Give it by a file, or unlock the agent.",
        ) from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[:500]
        raise SigningError(
            f"gpg does not sign with the key {key.fingerprint}: {said}",
            todo="Try `gpg --local-user KEY --clearsign` by hand as this user. Nothing was published.",
        )
    return done.stdout
