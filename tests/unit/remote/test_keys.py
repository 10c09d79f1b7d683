"""Keys that are derived, and the one secret that they come from."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from ebspub.errors import ConfigError
from ebspub.remote.keys import Keyring, fingerprint

RING = Keyring(bytes(range(32)))


def test_the_same_secret_job_and_attempt_give_the_same_key() -> None:
    assert RING.client_key("job", 1) == Keyring(bytes(range(32))).client_key("job", 1)


def test_a_key_is_what_it_was_in_every_earlier_version() -> None:
    """Jobs in flight over an upgrade: another derivation would lock the publisher out of its builders."""
    pem = RING.host_key("lucid-server-20101020-amd64-us-east-1", 1).pem
    assert (
        hashlib.sha256(pem.encode()).hexdigest() == "0d209f1375207475ab9834f35812ad5ac861562f68a83ae8a4e0a4b29b4bd8df"
    )


def test_purpose_job_attempt_and_secret_each_give_another_key() -> None:
    keys = [RING.client_key("a", 1), RING.host_key("a", 1), RING.client_key("a", 2), RING.client_key("b", 1)]
    keys += [RING.client_key("a|1:1", 1), RING.client_key("a", 11), Keyring(bytes(32)).client_key("a", 1)]
    assert len({key.pem for key in keys}) == len(keys)


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=80), st.integers(0, 10**6))
def test_every_key_is_a_valid_p256_pair_in_all_of_its_forms(job: str, attempt: int) -> None:
    key = RING.client_key(job, attempt)
    private = serialization.load_pem_private_key(key.pem.encode(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert isinstance(private.curve, ec.SECP256R1)
    assert key.paramiko.asbytes() == key.public_blob
    assert key.paramiko.get_name() == "ecdsa-sha2-nistp256"
    assert len(key.public_line.splitlines()) == 1
    assert len(key.public_line.split(" ")) == 3


@pytest.mark.needs_tool("ssh-keygen")
def test_openssh_reads_both_halves(tmp_path: Path) -> None:
    key = RING.client_key("job", 1)
    private, public = tmp_path / "key", tmp_path / "key.pub"
    private.touch(0o600)
    private.write_text(key.pem)
    public.write_text(key.public_line + "\n")
    derived = subprocess.run(["ssh-keygen", "-y", "-f", private], capture_output=True, text=True, check=True).stdout
    assert derived.split()[:2] == key.public_line.split()[:2]
    shown = subprocess.run(["ssh-keygen", "-l", "-f", public], capture_output=True, text=True, check=True).stdout
    assert shown.split()[1] == key.fingerprint == fingerprint(key.public_blob)


def test_a_key_does_not_show_its_private_half() -> None:
    key = RING.client_key("job", 1)
    assert "PRIVATE" not in repr(key)
    assert "PRIVATE" not in str(key)


# The secret -----------------------------------------------------------------------------------------------------------


def test_the_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    first = Keyring.open(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_size == 32
    assert Keyring.open(path).client_key("j", 1) == first.client_key("j", 1)
    assert [file.name for file in path.parent.iterdir()] == ["secret"]


def test_many_that_make_it_at_once_have_the_same_secret(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "secret"
    gate = threading.Barrier(8)
    keys: list[str] = []

    def go() -> None:
        gate.wait()
        keys.append(Keyring.open(path).client_key("j", 1).pem)

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert [file.name for file in path.parent.iterdir()] == ["secret"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o610])
def test_a_secret_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    Keyring.open(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="open to other users"):
        Keyring.open(path)


@pytest.mark.parametrize("size", [0, 31, 33, 1000])
def test_a_secret_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_bytes(b"x" * size)
    with pytest.raises(ConfigError, match="damaged"):
        Keyring.open(path)


def test_a_link_in_the_place_of_the_secret_is_refused(tmp_path: Path) -> None:
    Keyring.open(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError):
        Keyring.open(tmp_path / "link")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError):
        Keyring.open(tmp_path / "dangling")


def test_a_folder_that_others_may_change_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(0o700)
    Keyring.open(folder / "secret")
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="changed by other users"):
        Keyring.open(folder / "secret")


@pytest.mark.needs_root
def test_a_secret_of_another_owner_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    Keyring.open(path)
    os.chown(path, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to another"):
        Keyring.open(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be used"):
        Keyring.open(tmp_path / "file" / "secret")
