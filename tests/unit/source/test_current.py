"""Which serial is current: the newest complete one, wherever serials are written down."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebspub.app import current
from ebspub.config import load, searching, select
from ebspub.errors import SourceError
from ebspub.source import Look
from ebspub.source.current import build_info

HEAD = """
[builder]
images.amd64 = "ami-0a1b2c3d4e5f60718"
images.arm64 = "ami-0a1b2c3d4e5f60718"
ssh_cidr = "203.0.113.0/24"
[regions.us-east-1]
[[builds]]
suite = "noble"
label = "{label}"
version = "24.04"
serial = "current"
arches = ["amd64", "arm64"]
[builds.source]
verify = "none"
"""
DIRECTORY = 'directory = "{root}"\nfile = "noble-{{arch}}.img"\n'


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    return folder


class _Quiet(http.server.SimpleHTTPRequestHandler):
    listing = True
    #: What is answered for a file that is not there.
    absent = 404

    def do_GET(self) -> None:
        if self.path.endswith("/") and not self.listing:
            self.send_error(403)
        else:
            super().do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        super().send_error(self.absent if code == 404 else code, message, explain)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture(params=["path", "http", "http without listing"])
def root(mirror: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the mirror as a path and as a web server, one that shows folders and one that does not."""
    if request.param == "path":
        yield str(mirror)
        return
    with serving(mirror, listing=request.param == "http") as url:
        yield url


@contextlib.contextmanager
def serving(mirror: Path, **answers: object) -> Iterator[str]:
    handler = type("Handler", (_Quiet,), answers)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(mirror)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def publish(folder: Path, *arches: str, listed: tuple[str, ...] = ("amd64", "arm64")) -> Path:
    folder.mkdir(parents=True)
    for arch in arches:
        (folder / f"noble-{arch}.img").touch()
    (folder / "SHA256SUMS").write_text("".join(f"{'a' * 64} *noble-{arch}.img\n" for arch in listed))
    return folder


def point(link: Path, folder: Path) -> None:
    (folder / "unpacked").mkdir()
    (folder / "unpacked/build-info.txt").write_text(f'BUILD_NAME="server"\nSerial={folder.name.split("-")[-1]}\n')
    link.symlink_to(folder.name)


def found(root: str, tmp_path: Path, source: str = DIRECTORY, label: str = "daily") -> str:
    file = tmp_path / "ebspub.toml"
    file.write_text(HEAD.format(label=label) + source.format(root=root))
    config = load(file)
    serials, failures = current.serials(config, searching(config), Look())
    if failures:
        raise failures[0]
    assert {spec.serial for spec in select(config, serials)} == {serials[0]}
    return serials[0]


def test_the_newest_complete_serial_is_current(mirror: Path, root: str, tmp_path: Path) -> None:
    suite = mirror / "noble"
    publish(suite / "20240501", "amd64", "arm64")
    newest = publish(suite / "20240501.10", "amd64", "arm64")
    publish(suite / "20240501.9", "amd64", "arm64")
    point(suite / "current", newest)
    for other in ("20249999", "tmp", "20240501.x"):
        publish(suite / other, "amd64", "arm64")
    assert found(root, tmp_path) == "20240501.10"


def test_a_release_has_a_tree_of_its_own(mirror: Path, root: str, tmp_path: Path) -> None:
    folder = publish(mirror / "releases/noble/release-20240423", "amd64", "arm64")
    point(folder.parent / "release", folder)
    assert found(root, tmp_path, label="release") == "20240423"


def test_an_incomplete_serial_is_passed_over(mirror: Path, tmp_path: Path) -> None:
    suite = mirror / "noble"
    publish(suite / "20240501", "amd64", "arm64")
    publish(suite / "20240502", "amd64", listed=("amd64",))  # no arm64 yet
    publish(suite / "20240503", "amd64")  # listed, and not there
    (suite / "20240504").mkdir()  # nothing yet
    assert found(str(mirror), tmp_path) == "20240501"
    own = 'url = "{root}/noble/{{serial}}/noble-{{arch}}.img"\n'  # no list is asked for
    assert found(str(mirror), tmp_path, own) == "20240501"


def test_a_server_that_shows_no_key_that_is_not_there_has_incomplete_serials_too(
    mirror: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    suite = mirror / "noble"
    publish(suite / "20240502", "amd64")  # listed, and not there
    (suite / "20240503").mkdir()  # no list yet
    with serving(mirror, absent=403) as url:
        with pytest.raises(SourceError, match=r"/noble/: no serial can be read: .*/20240503/SHA256SUMS: .* 403"):
            found(url, tmp_path)
        caplog.clear()
        publish(suite / "20240501", "amd64", "arm64")
        assert found(url, tmp_path) == "20240501"
    told = [record.getMessage() for record in caplog.records]
    assert [line.split()[1] for line in told] == ["20240503", "20240502"]
    assert all(line.endswith("the server answers 403") for line in told)


def test_nothing_complete_is_told(mirror: Path, root: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"noble server daily: .*/noble/: no SERIAL is there"):
        found(root, tmp_path)
    folder = mirror / "noble/20240504"
    folder.mkdir(parents=True)
    point(folder.parent / "current", folder)
    with pytest.raises(SourceError, match=r"no serial is complete \(newest: 20240504\)"):
        found(root, tmp_path)


def test_a_server_in_trouble_is_not_an_older_build(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be fetched"):
        found("http://127.0.0.1:9", tmp_path)


@pytest.mark.parametrize(
    "path", ["{root}/{{suite}}-x/noble-{{arch}}.img", "{root}/{{date}}/{{serial}}/f", "{root}/{{serial}}{{serial}}/f"]
)
def test_a_place_where_no_serial_can_be_found_is_refused(mirror: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(Exception, match=r'url: found .*expected \{serial\} in it.*serial is "current"'):
        found(str(mirror), tmp_path, f'url = "{path}"\n')


def test_build_info_is_read_with_distrust() -> None:
    content = b"serial='20101020'\nSUITE=\"lu cid\"\n export X=1\n=3\nnope\nY=`id`\nZ='a\nW=a b\n"
    assert build_info(content) == {"serial": "20101020", "suite": "lu cid", "y": "`id`"}
