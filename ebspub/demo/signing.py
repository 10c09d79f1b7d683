"""An OpenPGP key that signs what is published here, made by GnuPG for this once and worth nothing elsewhere."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ebspub.errors import UsageError

#: The file of public keys that is written beside the images.
KEYRING = "keyring.gpg"


class Signer:
    """A key pair and GnuPG's folder; see :func:`signer`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.fingerprint = ""

    def gpg(self, *words: str | Path) -> str:
        """Run gpg in the key's folder; return what it prints. Raises UsageError."""
        command = ["gpg", "--batch", "--no-tty", "--quiet", "--homedir", str(self.home), "--pinentry-mode", "loopback"]
        command += ["--passphrase", "", *(str(word) for word in words)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        except FileNotFoundError as error:
            raise UsageError("gpg is not installed", todo="Install it: apt-get install gnupg gpgv.") from error
        if done.returncode != 0:
            raise UsageError(f"gpg ended with exit status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def make_key(self, *options: str, expires: str = "never") -> str:
        """Make a signing key; return its fingerprint. ``expires`` as gpg has it: `never`, `1d`."""
        self.gpg(*options, "--quick-gen-key", "Publisher <publisher@example.com>", "ed25519", "sign", expires)
        listed = self.gpg("--with-colons", "--list-keys").splitlines()
        self.fingerprint = next(line.split(":")[9] for line in listed if line.startswith("fpr:"))
        return self.fingerprint

    def export(self, keyring: Path) -> Path:
        """Write the public keys to ``keyring``."""
        keyring.unlink(missing_ok=True)
        self.gpg("--output", keyring, "--export")
        return keyring

    def sign(self, file: Path, *options: str) -> Path:
        """Write the detached signature of ``file`` beside it, ``FILE.gpg``."""
        signature = file.with_name(f"{file.name}.gpg")
        signature.unlink(missing_ok=True)
        self.gpg(*options, "--output", signature, "--detach-sign", file)
        return signature


@contextmanager
def signer() -> Iterator[Signer]:
    """Yield a signer without a key; GnuPG's agent ends, and the secret key is gone, with the block."""
    # Not in the caller's folder: the agent listens on a socket there, whose path may have 108 bytes.
    with tempfile.TemporaryDirectory(prefix="ebspub-gpg-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        try:
            yield Signer(home)
        finally:
            subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)


def sign_sums(folder: Path) -> Path:
    """Sign ``folder/SHA256SUMS`` with a key made for it, as Ubuntu does; return the keyring, which lies beside it."""
    with signer() as key:
        key.make_key()
        key.sign(folder / "SHA256SUMS")
        return key.export(folder / KEYRING)
