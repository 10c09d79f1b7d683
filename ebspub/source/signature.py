"""OpenPGP signatures, judged by gpgv (GnuPG's verifier: no trust database, no network, no agent).

What counts is its machine-readable status, and all of it: one good signature by a key that is accepted, by a digest
that is not broken, and none that does not match. While keys are rolled over, a file carries one by the old key and one
by the new: a signature beside the good one that has expired, or whose key has expired, was revoked, is not the one that
was pinned, or is not in the keyring, says nothing either way.

A signature proves who signed these bytes, not that they are the newest: see :mod:`ebspub.source.resolve`.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ebspub.errors import SourceError

#: RFC 9580, 9.5: SHA-256, SHA-384, SHA-512, SHA3-256, SHA3-512. MD5, SHA-1 and RIPEMD-160 can be forged, or soon.
_DIGESTS = frozenset({"8", "9", "10", "12", "14"})
#: Signatures of a binary or of a text document.
_CLASSES = frozenset({"00", "01"})
_BAD = "the signature does not match: what is signed was changed, or is signed by nobody"
#: Signatures that match, and are worth nothing any more.
_STALE = {
    "EXPSIG": "the signature has expired",
    "EXPKEYSIG": "the key that signed it has expired",
    "REVKEYSIG": "the key that signed it was revoked",
}
_CLEAR = b"-----BEGIN PGP SIGNED MESSAGE-----"
_SECONDS = 60.0
_LIMIT = 1024 * 1024
INSTALL = "Install it: apt-get install gpgv (Debian, Ubuntu), dnf install gnupg2 (Fedora)."


class SignatureError(SourceError):
    """Nothing proves who made a document."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A document that a key of the keyring has signed."""

    content: bytes
    #: Fingerprint of the primary key, 40 hex digits or more.
    signer: str
    #: When it was signed, in seconds since the epoch.
    at: int


def is_clear_signed(content: bytes) -> bool:
    """Return whether a text carries its signature itself (``gpg --clearsign``)."""
    return content.lstrip().startswith(_CLEAR)


def verify(
    content: bytes, signature: bytes | None, *, keyring: str, fingerprint: str | None = None, origin: str
) -> Signed:
    """Return what of ``content`` is signed, and by whom.

    ``signature`` is detached, armoured or not; None where ``content`` is clear-signed. ``fingerprint`` is the one key
    of the ``keyring`` (a file as gpg exports it) that counts, or a subkey of it; None for any. ``origin`` is the
    document's URL, for messages. Raises :class:`SignatureError`.
    """
    with tempfile.TemporaryDirectory(prefix="ebspub-gpgv-") as home:
        folder = Path(home)
        keys, document, output = folder / "keyring.gpg", folder / "document", folder / "signed"
        keys.write_bytes(_keys(keyring))
        document.write_bytes(content)
        files = [str(document)]
        if signature is None:
            files = ["--output", str(output), *files]
        else:
            (folder / "signature").write_bytes(signature)
            files = [str(folder / "signature"), *files]
        status, said = _gpgv(folder, keys, files)
        signer, at = _judge(status, said, fingerprint, keyring, origin)
        # Of a clear-signed text only what was signed: there may be more before and after it.
        return Signed(output.read_bytes() if signature is None else content, signer, at)


def check_keyring(keyring: str) -> str:
    """Return why ``keyring`` cannot be used, or nothing."""
    try:
        _keys(keyring)
    except SignatureError as error:
        return error.what
    return ""


def _keys(keyring: str) -> bytes:
    """Return the keys as gpgv takes them: it does not read ASCII armour."""
    todo = "Correct `keyring` in the configuration: a file of public keys, as `gpg --export` writes it."
    try:
        with Path(keyring).open("rb") as file:
            content = file.read(16 * _LIMIT)
    except OSError as error:
        raise SignatureError(f"the keyring {keyring} cannot be read: {error.strerror}", todo=todo) from error
    if content.lstrip().startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"):
        try:
            content = b"".join(_unarmoured(content.decode("ascii")))
        except (UnicodeDecodeError, binascii.Error) as error:
            raise SignatureError(f"the keyring {keyring} is damaged", todo=todo) from error
    # A keybox says so; a packet has its highest bit set (RFC 9580, 4.2).
    if not content or not (content[0] & 0x80 or content[8:12] == b"KBXf"):
        raise SignatureError(f"the keyring {keyring} holds no OpenPGP keys", todo=todo)
    return content


def _unarmoured(text: str) -> list[bytes]:
    blocks = re.findall(r"-----BEGIN PGP PUBLIC KEY BLOCK-----(.*?)-----END PGP PUBLIC KEY BLOCK-----", text, re.DOTALL)
    # Headers end with an empty line; a line that begins with = is a check sum of the armour.
    bodies = [re.sub(r"(?m)^=.*$", "", re.split(r"\r?\n[ \t]*\r?\n", block, maxsplit=1)[-1]) for block in blocks]
    return [base64.b64decode("".join(body.split()), validate=True) for body in bodies]


def _gpgv(home: Path, keys: Path, files: list[str]) -> tuple[list[list[str]], str]:
    """Return the status lines as lists of words, and what gpgv says to people."""
    command = ["gpgv", "--homedir", str(home), "--keyring", str(keys), "--status-fd", "1"]
    command += ["--weak-digest", "SHA1", "--weak-digest", "RIPEMD160", *files]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "GNUPGHOME": str(home)},
        )
    except FileNotFoundError as error:
        raise SignatureError("gpgv is not installed: no signature can be checked", todo=INSTALL) from error
    except subprocess.TimeoutExpired as error:
        raise SignatureError(f"gpgv did not end within {_SECONDS:g} s", todo="Try again.") from error
    text = done.stdout[:_LIMIT].decode("utf-8", "replace")
    # Not splitlines(): a user id with a foreign line separator in it must not become a line of its own.
    lines = [line.removeprefix("[GNUPG:] ").split(" ") for line in text.split("\n") if line.startswith("[GNUPG:] ")]
    return lines, done.stderr[:_LIMIT].decode("utf-8", "replace")


def _judge(status: list[list[str]], said: str, fingerprint: str | None, keyring: str, origin: str) -> tuple[str, int]:
    """Return the fingerprint of the primary key of the accepted signature, and its time."""
    for word, *rest in status:
        if word == "BADSIG":
            raise _refused(origin, f"{_BAD} (key {rest[0] if rest else 'unknown'})")
    others, why = list[str](), list[str]()
    for fate, valid in _signatures(status):
        primary, by, digest, kind = valid[9], valid[0], valid[7], valid[8]
        if fingerprint not in (None, by, primary):
            others.append(primary)
        elif fate != "GOODSIG":
            why.append(f"{_STALE.get(fate, 'gpgv does not say that the signature is good')} (key {by})")
        elif digest not in _DIGESTS or kind not in _CLASSES:
            why.append(f"the signature is of a kind that is not accepted (digest {digest}, class {kind})")
        else:
            return primary, int(valid[2])
    if why:
        raise _refused(origin, "; ".join(why))
    if others:
        raise _refused(origin, f"it is signed by {', '.join(others)}, not by {fingerprint}")
    absent = [rest[0] for word, *rest in status if word == "NO_PUBKEY" and rest]
    if absent:
        raise _refused(origin, f"it is signed by {', '.join(absent)}, which is not in the keyring {keyring}")
    if "weak digest" in said or "digest algorithm" in said:
        raise _refused(origin, "the signature is by a digest that can be forged (MD5, SHA-1, RIPEMD-160)")
    raise _refused(origin, "there is no signature that gpgv can read")


def _signatures(status: list[list[str]]) -> Iterator[tuple[str, list[str]]]:
    """Yield of each signature that matches what became of it, and the words of its VALIDSIG.

    GnuPG's DETAILS: NEWSIG begins a signature, one of GOODSIG, EXPSIG, EXPKEYSIG and REVKEYSIG tells its fate, and a
    VALIDSIG follows any of them. After an EXPSIG gpgv looks at no further one.
    """
    fate = ""
    for word, *rest in status:
        if word == "NEWSIG":
            fate = ""
        elif word == "GOODSIG" or word in _STALE:
            fate = word
        elif word == "VALIDSIG" and len(rest) >= 10:
            yield fate, rest


def _refused(origin: str, why: str) -> SignatureError:
    return SignatureError(
        f"{origin}: its OpenPGP signature does not prove it: {why}",
        todo="Nothing was touched. Ask who publishes it; never take a key from the place that is to be proved by it.",
    )
