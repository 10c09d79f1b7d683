"""OpenPGP signatures by keys that GnuPG made: what is accepted, and every way in which one is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ebspub.demo.signing import Signer, signer
from ebspub.source.signature import SignatureError, check_keyring, is_clear_signed, verify

SUMS = b"a" * 64 + b" *lucid-server-uec-amd64.tar.gz\n"
LONG_AGO = ("--faked-system-time", "20200101T000000!")

pytestmark = pytest.mark.needs_tool("gpg", "gpgv")


@dataclass(frozen=True)
class Publisher:
    signer: Signer
    keyring: str
    sums: Path

    def signed(self, *options: str) -> bytes:
        return self.signer.sign(self.sums, *options).read_bytes()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Publisher]]:
    """Keys of several fates: a good one, another good one, one that has expired, one that was revoked."""
    folder = tmp_path_factory.mktemp("keys")
    found = {}
    with signer() as good, signer() as other, signer() as old, signer() as revoked:
        for name, each in (("good", good), ("other", other), ("old", old), ("revoked", revoked)):
            sums = folder / name / "SHA256SUMS"
            sums.parent.mkdir()
            sums.write_bytes(SUMS)
            each.make_key(*LONG_AGO, expires="1d" if name == "old" else "never")
            if name == "revoked":
                each.sign(sums)
                certificate = each.home / "openpgp-revocs.d" / f"{each.fingerprint}.rev"
                certificate.write_text(certificate.read_text().replace(":-----BEGIN", "-----BEGIN"))
                each.gpg("--import", certificate)
            found[name] = Publisher(each, str(each.export(folder / f"{name}.gpg")), sums)
        yield found


def refused(content: bytes, signature: bytes | None, keyring: str, fingerprint: str | None = None) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(content, signature, keyring=keyring, fingerprint=fingerprint, origin="https://example.com/SHA256SUMS")
    assert caught.value.exit_code == 2
    return caught.value.what


def test_a_detached_signature_by_a_key_of_the_keyring_is_accepted(keys: dict[str, Publisher]) -> None:
    good = keys["good"]
    for fingerprint in (None, good.signer.fingerprint):
        found = verify(SUMS, good.signed(), keyring=good.keyring, fingerprint=fingerprint, origin="x")
        assert (found.content, found.signer) == (SUMS, good.signer.fingerprint)
    assert verify(SUMS, good.signed(*LONG_AGO), keyring=good.keyring, origin="x").at == 1577836800


def test_armour_is_read(keys: dict[str, Publisher], tmp_path: Path) -> None:
    good = keys["good"]
    armoured = tmp_path / "keys.asc"
    good.signer.gpg("--armor", "--output", armoured, "--export")
    assert verify(SUMS, good.signed("--armor"), keyring=str(armoured), origin="x").signer == good.signer.fingerprint


def test_of_a_clear_signed_text_only_what_was_signed_counts(keys: dict[str, Publisher], tmp_path: Path) -> None:
    good = keys["good"]
    clear = tmp_path / "clear"
    good.signer.gpg("--output", clear, "--clearsign", good.sums)
    evil = b"b" * 64 + b" *evil\n"
    assert is_clear_signed(clear.read_bytes())
    for content in (clear.read_bytes(), evil + clear.read_bytes() + evil):
        assert verify(content, None, keyring=good.keyring, origin="x").content == SUMS
    assert "was changed" in refused(clear.read_bytes().replace(b"aaaa", b"bbbb"), None, good.keyring)


def test_a_subkey_signs_for_its_key_and_can_be_the_pinned_one(keys: dict[str, Publisher], tmp_path: Path) -> None:
    with signer() as key:
        primary = key.make_key()
        key.gpg("--quick-add-key", primary, "ed25519", "sign", "never")
        listed = key.gpg("--with-colons", "--list-keys").splitlines()
        subkey = [line.split(":")[9] for line in listed if line.startswith("fpr:")][1]
        sums = tmp_path / "SHA256SUMS"
        sums.write_bytes(SUMS)
        signature, keyring = key.sign(sums).read_bytes(), str(key.export(tmp_path / "keys.gpg"))
    for fingerprint in (primary, subkey, None):
        assert verify(SUMS, signature, keyring=keyring, fingerprint=fingerprint, origin="x").signer == primary


def test_what_is_not_accepted_is_told_apart(keys: dict[str, Publisher]) -> None:
    good, other, old, revoked = keys["good"], keys["other"], keys["old"], keys["revoked"]
    signature = good.signed()
    assert "was changed" in refused(SUMS.replace(b"a", b"b"), signature, good.keyring)
    assert "not in the keyring" in refused(SUMS, signature, other.keyring)
    assert f"not by {'A' * 40}" in refused(SUMS, signature, good.keyring, "A" * 40)
    assert "the key that signed it has expired" in refused(SUMS, old.signed(*LONG_AGO), old.keyring)
    revoked_signature = revoked.sums.with_name("SHA256SUMS.gpg").read_bytes()
    assert "was revoked" in refused(SUMS, revoked_signature, revoked.keyring)
    expired = good.signed(*LONG_AGO, "--default-sig-expire", "1d")
    assert "the signature has expired" in refused(SUMS, expired, good.keyring)
    assert "can be forged" in refused(SUMS, good.signed("--digest-algo", "SHA1"), good.keyring)


@pytest.mark.parametrize("signature", [b"", b"no signature", b"\x88" * 100, b"<html>404</html>"])
def test_no_signature_is_none(keys: dict[str, Publisher], signature: bytes) -> None:
    assert "no signature that gpgv can read" in refused(SUMS, signature, keys["good"].keyring)
    assert "no signature that gpgv can read" in refused(SUMS, None, keys["good"].keyring)


def test_a_good_signature_does_not_outweigh_a_bad_one(keys: dict[str, Publisher], tmp_path: Path) -> None:
    good, other = keys["good"], keys["other"]
    both = tmp_path / "both.gpg"
    both.write_bytes(Path(good.keyring).read_bytes() + Path(other.keyring).read_bytes())
    another = tmp_path / "another"
    another.write_bytes(b"something else\n")
    wrong = other.signer.sign(another).read_bytes()
    assert "was changed" in refused(SUMS, good.signed() + wrong, str(both))
    # The other one's key is not known: it says nothing, as while keys are rolled over.
    assert verify(SUMS, good.signed() + other.signed(), keyring=good.keyring, origin="x").signer


def test_while_keys_are_rolled_over_one_good_signature_suffices(keys: dict[str, Publisher], tmp_path: Path) -> None:
    good, old, revoked = keys["good"], keys["old"], keys["revoked"]
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(b"".join(Path(each.keyring).read_bytes() for each in (old, revoked, good)))
    stale = {
        "expired": old.signed(*LONG_AGO),
        "revoked": revoked.sums.with_name("SHA256SUMS.gpg").read_bytes(),
    }
    for fingerprint in (None, good.signer.fingerprint):
        for signature in stale.values():
            for both in (good.signed() + signature, signature + good.signed()):
                found = verify(SUMS, both, keyring=str(ring), fingerprint=fingerprint, origin="x")
                assert found.signer == good.signer.fingerprint
    # The pinned key is the one that must be good: another's good signature does not help an expired or revoked one.
    for fate, key in (("expired", old), ("revoked", revoked)):
        for both in (good.signed() + stale[fate], stale[fate] + good.signed()):
            assert fate in refused(SUMS, both, str(ring), key.signer.fingerprint)
    # What does not match is no matter of age.
    (tmp_path / "another").write_bytes(b"something else\n")
    wrong = old.signer.sign(tmp_path / "another", *LONG_AGO).read_bytes()
    for both in (good.signed() + wrong, wrong + good.signed()):
        assert "was changed" in refused(SUMS, both, str(ring))


def test_a_keyring_that_is_none_is_told(tmp_path: Path, keys: dict[str, Publisher]) -> None:
    assert "cannot be read" in refused(SUMS, b"", str(tmp_path / "nowhere"))
    (tmp_path / "text").write_text("keys\n")
    (tmp_path / "empty").touch()
    (tmp_path / "torn").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n%%%\n-----END PGP PUBLIC KEY BLOCK-----\n")
    for name in ("text", "empty", "torn"):
        assert check_keyring(str(tmp_path / name)), name
    assert check_keyring(keys["good"].keyring) == ""


def test_without_gpgv_it_says_how_to_get_it(keys: dict[str, Publisher], monkeypatch: pytest.MonkeyPatch) -> None:
    signature = keys["good"].signed()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SignatureError, match="gpgv is not installed") as caught:
        verify(SUMS, signature, keyring=keys["good"].keyring, origin="x")
    assert "apt-get install gpgv" in caught.value.todo
