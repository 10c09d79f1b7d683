"""SSH keys of a job: derived from one secret, never stored.

A job needs two key pairs per attempt: one that the publisher logs in with, and the builder's host key, which goes there
in its user data so that the first connection is already to a known host. Both are derived from one 32-byte
secret, because

- RunInstances reissued with its client token after a crash must carry byte-identical user data, or EC2 answers
  ``IdempotentParameterMismatch``;
- another host (or a later process) with the same secret reaches the builder without any key having been copied;
- no private key of a job lies anywhere on the publisher.

The keys are ECDSA P-256: its traditional PEM form has no random field, and it is taken by every OpenSSH since 5.7 as
well as by builds in FIPS mode.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ebspub.errors import ConfigError

SECRET_BYTES = 32
KEY_TYPE = "ecdsa-sha2-nistp256"
#: Order of the P-256 group (SEC 2, section 2.4.2).
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SALT = b"ebspub ssh keys 1"


@dataclass(frozen=True, slots=True)
class Key:
    """One ECDSA P-256 key pair; its ``repr`` shows the fingerprint only."""

    pem: str = field(repr=False)  #: private key, traditional PEM (``BEGIN EC PRIVATE KEY``)
    public_line: str = field(repr=False)  #: ``ecdsa-sha2-nistp256 AAAA... comment``
    fingerprint: str  #: ``SHA256:...`` as OpenSSH prints it

    @property
    def paramiko(self) -> paramiko.ECDSAKey:
        """The key as paramiko wants it."""
        return paramiko.ECDSAKey.from_private_key(io.StringIO(self.pem))

    @property
    def public_blob(self) -> bytes:
        """The public key in SSH wire form."""
        return base64.b64decode(self.public_line.split()[1])


class Keyring:
    """Derive the keys of every job and attempt from one secret of 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ConfigError(f"the secret of the SSH keys has {len(secret)} bytes instead of {SECRET_BYTES}")
        self._secret = secret

    @classmethod
    def open(cls, path: Path | str) -> Keyring:
        """Load the secret at ``path``, or make it there (mode 0600, in a folder of mode 0700) if nothing is there.

        Two processes that make it at the same time end up with the same secret. Raises :class:`ConfigError` for a
        secret that others could have read or put there, or that has the wrong size.
        """
        path = Path(path)
        try:
            _make_if_missing(path)
            return cls(_read(path))
        except OSError as error:
            raise ConfigError(
                f"the secret of the SSH keys, {path}, cannot be used: {error.strerror}",
                todo="Give a path that this user can read and write.",
            ) from error

    @property
    def fingerprint(self) -> str:
        """A name for the secret that says nothing of it: two hosts that share a database must share the secret."""
        return self._derive("identity", "", 1).fingerprint

    def client_key(self, job_id: str, attempt: int) -> Key:
        """Return the key pair that the publisher logs in with."""
        return self._derive("client", job_id, attempt)

    def host_key(self, job_id: str, attempt: int) -> Key:
        """Return the key pair by which the builder of ``attempt`` proves itself."""
        return self._derive("host", job_id, attempt)

    def _derive(self, purpose: str, job_id: str, attempt: int) -> Key:
        info = b"|".join(_framed(part) for part in (purpose, job_id, str(attempt)))
        # 48 bytes reduced modulo n-1 leave a bias below 2**-128 (FIPS 186-5, A.2.1).
        wide = HKDF(algorithm=hashes.SHA256(), length=48, salt=_SALT, info=info).derive(self._secret)
        scalar = int.from_bytes(wide, "big") % (_ORDER - 1) + 1
        private = ec.derive_private_key(scalar, ec.SECP256R1())
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ).decode("ascii")
        line = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        comment = re.sub(r"[^A-Za-z0-9._-]", "_", f"ebspub-{purpose}-{job_id}-{attempt}")
        public = f"{line.decode('ascii')} {comment}"
        return Key(pem=pem, public_line=public, fingerprint=fingerprint(base64.b64decode(public.split()[1])))


def fingerprint(blob: bytes) -> str:
    """Return the fingerprint of a public key in SSH wire form as OpenSSH prints it: ``SHA256:`` and base64."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def _framed(part: str) -> bytes:
    """Return ``part`` with its length before it, so that no two lists of parts look alike when joined."""
    raw = part.encode()
    return b"%d:%s" % (len(raw), raw)


def _make_if_missing(path: Path) -> None:
    """Make the secret whole or not at all: a private temporary file, linked to its name unless that is taken."""
    if path.exists() or path.is_symlink():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return  # another process was first; its secret counts
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> bytes:
    folder = path.parent.stat()
    sticky = bool(folder.st_mode & stat.S_ISVTX)
    if folder.st_uid not in (os.geteuid(), 0) or (folder.st_mode & 0o022 and not sticky):
        raise ConfigError(
            f"the folder of the SSH keys' secret, {path.parent}, can be changed by other users",
            todo=f"chmod 0700 {path.parent}, and make sure that it is yours.",
        )
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ConfigError(
                f"the secret of the SSH keys, {path}, is open to other users or belongs to another one",
                todo=f"Make it yours and chmod 0600 {path}; if others read it, delete it when no job runs.",
            )
        secret = file.read(SECRET_BYTES + 1)
    if len(secret) != SECRET_BYTES:
        raise ConfigError(
            f"the secret of the SSH keys, {path}, is damaged: it does not have {SECRET_BYTES} bytes",
            todo="Restore it from a backup. Builders that are running cannot be reached without it.",
        )
    return secret
