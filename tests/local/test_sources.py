"""Where images come from, and what proves them, through the whole tool: nothing unproved is ever registered."""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ebspub.demo.image import write_sums
from ebspub.demo.signing import Signer, signer
from tests.local.publisher import Publisher

LONG_AGO = ("--faked-system-time", "20100101T000000!")
FILE = "lucid-server-uec-amd64.tar.gz"


@dataclass
class Mirror:
    """A tree in Ubuntu's layout, served over HTTP, and the key that signs it."""

    folder: Path
    key: Signer
    keyring: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)

    def publish(self, publisher: Publisher, serial: str, *, name: str = FILE) -> Path:
        """Publish a daily, signed; return its folder."""
        folder = self.folder / "lucid" / serial
        folder.mkdir(parents=True)
        os.link(publisher.images / name, folder / FILE)
        self.key.sign(write_sums(folder, [folder / FILE]))
        return folder

    def source(self, **keys: str) -> str:
        """Return a [builds.source] of this mirror; ``keys`` change it."""
        values = {"directory": self.url, "file": "{suite}-server-uec-{arch}.tar.gz", "keyring": str(self.keyring)}
        return "\n".join(f'{key} = "{value}"' for key, value in {**values, **keys}.items() if value)


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, mirror: Mirror, *args: Any) -> None:
        self.mirror = mirror
        super().__init__(*args, directory=str(mirror.folder))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        self.mirror.requests.append(f"{self.command} {self.path}")


@pytest.fixture(scope="module")
def key() -> Iterator[Signer]:
    with signer() as made:
        made.make_key(*LONG_AGO)
        yield made


@pytest.fixture
def mirror(tmp_path: Path, key: Signer) -> Iterator[Mirror]:
    made = Mirror(tmp_path / "mirror", key, key.export(tmp_path / "keyring.gpg"))
    made.folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, made))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def configure(publisher: Publisher, source: str, *, serial: str) -> None:
    """Let the configuration publish one arch of a daily from ``source``."""

    def edit(text: str) -> str:
        head, _, _ = text.partition("[builds.source]")
        head = head.replace(f'serial = "{publisher.serial}"', f'serial = "{serial}"')
        head = head.replace('["amd64", "i386"]', '["amd64"]').replace('label = "release"', 'label = "daily"')
        return f"{head}[builds.source]\n{source}\n"

    publisher.configure("us-east-1", edit=edit)


def test_current_publishes_each_new_build_once(publisher: Publisher, mirror: Mirror) -> None:
    first, second = publisher.serial, f"{publisher.serial}9"
    mirror.publish(publisher, first)
    configure(publisher, mirror.source(), serial="current")

    planned = publisher.call("plan")
    done = publisher.call("run")

    assert f"lucid server: current is {first}" in planned.stdout, planned.stderr
    assert f"signed by {mirror.key.fingerprint}" in planned.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    publisher.assert_published(["us-east-1"], ["amd64"])
    # A build that is not complete is not there yet, and nothing new costs no call and no fetch of an artefact.
    unsigned = mirror.publish(publisher, second)
    sums, signature = ((unsigned / name).rename(mirror.folder / name) for name in ("SHA256SUMS", "SHA256SUMS.gpg"))
    before = len(publisher.cloud.calls())
    mirror.requests.clear()
    again = publisher.call("run")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert publisher.mutating_calls(before) == []
    assert not [request for request in mirror.requests if request.startswith("GET") and FILE in request]
    sums.rename(unsigned / "SHA256SUMS")
    signature.rename(unsigned / "SHA256SUMS.gpg")
    done = publisher.call("run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {job["serial"]: job["status"] for job in publisher.status()} == {first: "done", second: "done"}
    shown = json.loads(publisher.call("show", publisher.status()[0]["id"], "--json").stdout)["job"]["source"]
    assert (shown["verify"], shown["signer"]) == ("signature", mirror.key.fingerprint)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("list changed", "the signature does not match"),
        ("not signed", "is not signed"),
        ("another key", "not in the keyring"),
        ("expired key", "the key that signed it has expired"),
        ("older list", "it is of an older build"),
        ("not pinned", "not by " + "A" * 40),
    ],
)
def test_without_proof_nothing_is_touched(publisher: Publisher, mirror: Mirror, how: str, told: str) -> None:
    folder = mirror.publish(publisher, publisher.serial)
    sums = folder / "SHA256SUMS"
    with signer() as other:
        if how == "list changed":
            sums.write_text(sums.read_text().replace(sums.read_text()[:64], "0" * 64))
        elif how == "not signed":
            (folder / "SHA256SUMS.gpg").unlink()
        elif how in ("another key", "expired key"):
            other.make_key(*LONG_AGO, expires="1d" if how == "expired key" else "never")
            other.sign(sums, *LONG_AGO)
            if how == "expired key":
                other.export(mirror.keyring)
        elif how == "older list":
            mirror.key.sign(sums, *LONG_AGO)
    source = mirror.source(fingerprint="A" * 40 if how == "not pinned" else "")
    configure(publisher, source, serial="current")
    before = len(publisher.cloud.calls())

    done = publisher.call("run")

    assert done.returncode == 2, done.stdout + done.stderr
    assert told in done.stderr
    assert publisher.mutating_calls(before) == []
    assert publisher.status() == []


@pytest.mark.parametrize("how", ["truncated", "swapped"])
def test_an_artefact_that_is_not_what_was_signed_is_never_registered(
    publisher: Publisher, mirror: Mirror, how: str
) -> None:
    artefact = mirror.publish(publisher, publisher.serial) / FILE
    content = artefact.read_bytes()
    artefact.unlink()
    if how == "truncated":
        artefact.write_bytes(content[: len(content) // 2])
    else:
        os.link(publisher.images / "lucid-server-uec-i386.tar.gz", artefact)
    configure(publisher, mirror.source(), serial=publisher.serial)

    done = publisher.call("run")

    assert done.returncode == 3, done.stdout + done.stderr
    (job,) = publisher.status()
    assert job["error"]["code"] == "checksum", job["error"]
    assert "SHA-256" in job["error"]["message"]
    publisher.assert_nothing_left()
    assert publisher.mine(publisher.cloud.inventory().images) == []


@pytest.mark.long
def test_a_local_file_without_proof_is_published_loudly(publisher: Publisher, tmp_path: Path) -> None:
    file = tmp_path / "an image.tar.gz"
    os.link(publisher.images / FILE, file)
    configure(publisher, f'url = "{file}"\nverify = "none"', serial=publisher.serial)

    planned = publisher.call("plan")
    done = publisher.call("run")

    assert "NOT PROVED" in planned.stdout, planned.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    publisher.assert_published(["us-east-1"], ["amd64"])
    (job,) = publisher.status()
    shown = publisher.call("show", job["id"]).stdout
    assert "NOT PROVED" in shown
    (image,) = publisher.mine(publisher.cloud.inventory().images)
    assert image.tags["ebspub:source-verify"] == "none"
    assert image.tags["ebspub:source-sha256"] == job["facts"]["sha256"]
    # Another database knows it again by where it came from, and takes nothing else for it.
    (publisher.folder / "ebspub.db").unlink()
    before = len(publisher.cloud.calls())
    assert publisher.call("run").returncode == 0
    assert publisher.status()[0]["ami_id"] == job["ami_id"]
    (publisher.folder / "ebspub.db").unlink()
    os.link(file, tmp_path / "another.tar.gz")
    configure(publisher, f'url = "{tmp_path}/another.tar.gz"\nverify = "none"', serial=publisher.serial)
    done = publisher.call("run")
    assert done.returncode == 3
    assert "was registered from another source" in done.stderr
    assert publisher.mutating_calls(before) == []
