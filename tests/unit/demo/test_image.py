"""The demo's image is what Ubuntu published in 2010, and its server gives it out whole and in ranges."""

from __future__ import annotations

import hashlib
import http.client
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebspub.demo.image import make_images, serve
from ebspub.demo.trees import ImageError, Tree, from_ext

pytestmark = pytest.mark.needs_tool("mke2fs", "debugfs", "tar")
DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("published"), content_mib=4)


@pytest.fixture(scope="module")
def image(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["tar", "-xSzf", published / "lucid-server-uec-amd64.tar.gz", "-C", folder], check=True)
    return folder / "lucid-server-uec-amd64.img"


@pytest.fixture(scope="module")
def tree(image: Path) -> Tree:
    return from_ext(image)


def tune2fs(image: Path) -> dict[str, str]:
    output = subprocess.run(["dumpe2fs", "-h", image], check=True, capture_output=True, text=True).stdout
    return {key: value.strip() for key, _, value in (line.partition(":") for line in output.splitlines())}


def test_the_folder_is_laid_out_as_ubuntu_does(published: Path) -> None:
    assert published.parts[-2:] == ("lucid", "20101020")
    tarballs = ["lucid-server-uec-amd64.tar.gz", "lucid-server-uec-i386.tar.gz"]
    assert sorted(path.name for path in published.iterdir()) == ["SHA256SUMS", *tarballs]
    lines = [f"{hashlib.sha256((published / name).read_bytes()).hexdigest()} *{name}\n" for name in tarballs]
    assert (published / "SHA256SUMS").read_text() == "".join(lines)


def test_the_tarball_has_the_members_of_2010(published: Path) -> None:
    with tarfile.open(published / "lucid-server-uec-i386.tar.gz") as tar:
        stem = "lucid-server-uec-i386"
        assert tar.getnames() == [f"{stem}.img", f"{stem}-vmlinuz-virtual", f"{stem}-loader", "README.files"]
        assert {(member.uid, member.gid, member.uname) for member in tar} == {(0, 0, "root")}


def test_the_lucid_file_system_has_the_features_of_2010_and_is_clean(image: Path) -> None:
    header = tune2fs(image)
    assert header["Filesystem volume name"] == "uec-rootfs"
    features = "has_journal ext_attr resize_inode dir_index filetype sparse_super large_file"
    assert header["Filesystem features"] == features
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)
    assert image.stat().st_blocks * 512 < 64 << 20, "unpacked sparsely"


def test_the_modern_file_system_is_ext4_and_clean(tmp_path: Path) -> None:
    folder = make_images(tmp_path, suite="noble", arches=["arm64"], style="modern", content_mib=1)
    subprocess.run(["tar", "-xSzf", folder / "noble-server-uec-arm64.tar.gz", "-C", tmp_path], check=True)
    image = tmp_path / "noble-server-uec-arm64.img"
    header = tune2fs(image)
    assert header["Filesystem volume name"] == "cloudimg-rootfs"
    assert "extent" in header["Filesystem features"].split()
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)


def test_the_image_has_what_breaks_careless_copying(tree: Tree) -> None:
    nasty = {path.removeprefix(b"srv/nasty/") for path in tree if path.startswith(b"srv/nasty/")}
    assert {b"new\nline", b"-rf", b"\xff not UTF-8", b"n" * 255, b"'single' \"double\"", b" space "} <= nasty
    assert tree[b"srv/nasty/-rf"].links == (b"srv/nasty/-rf", b"srv/nasty/deep/hard link")
    assert tree[b"srv/nasty/setuid"].mode == 0o4755
    assert tree[b"srv/nasty/sparse"].mtime_ns % 10**9 == 123456789
    sparse = tree[b"srv/nasty/sparse"]
    assert (sparse.size or 0) > 64 << 20 > 1 << 20 > (sparse.allocated or 0)
    assert dict(tree[b"srv/nasty/capable"].xattrs)[b"security.capability"].startswith(b"\1\0\0\2\0\x20")
    assert dict(tree[b"srv/nasty/deep"].xattrs) == {b"trusted.secret": b"rootonly"}
    assert tree[b"srv/nasty/fifo"].kind == "fifo"
    assert (tree[b"dev/console"].kind, tree[b"dev/console"].device) == ("character device", (5, 1))
    assert (tree[b"dev/xvda"].kind, tree[b"dev/xvda"].gid) == ("block device", 6)


def test_root_owns_the_image_and_nothing_in_it_was_unreadable_here(tree: Tree) -> None:
    assert {entry.uid for entry in tree.values()} == {0}
    assert [path for path, entry in tree.items() if entry.kind == "file" and not entry.mode & 0o004] == []


def test_a_file_that_not_everybody_may_read_stays_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open").write_bytes(b"open")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "secret").chmod(0o640)
    monkeypatch.setattr("ebspub.demo.image._ETC", (str(tmp_path / "open"), str(tmp_path / "secret")))
    folder = make_images(tmp_path, arches=["i386"], content_mib=1)
    subprocess.run(["tar", "-xSzf", folder / "lucid-server-uec-i386.tar.gz", "-C", tmp_path], check=True)
    names = {path.rpartition(b"/")[2] for path in from_ext(tmp_path / "lucid-server-uec-i386.img")}
    assert b"open" in names
    assert b"secret" not in names


def test_a_file_system_that_is_too_small_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="mke2fs"):
        make_images(tmp_path, content_mib=8, size_mib=2)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "data").write_bytes(DATA)
    with serve(tmp_path) as url:
        yield f"{url}/data"


def get(url: str, **headers: str) -> tuple[int, str | None, bytes]:
    """Return status, Content-Range and body."""
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Range"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Range"], error.read()


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, 10240),
        ("bytes=-10", 10230, 10240),
        ("bytes=10000-99999", 10000, 10240),
    ],
)
def test_a_range_is_served(url: str, asked: str, first: int, end: int) -> None:
    assert get(url, Range=asked) == (206, f"bytes {first}-{end - 1}/10240", DATA[first:end])


def test_a_range_that_the_file_does_not_have_is_refused(url: str) -> None:
    assert get(url, Range="bytes=10240-") == (416, "bytes */10240", b"")


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-1,4-5"}, {"Range": "bytes=5-", "If_Range": "another"}])
def test_what_is_no_valid_range_is_served_whole(url: str, headers: dict[str, str]) -> None:
    assert get(url, **headers) == (200, None, DATA)


def test_a_connection_is_good_for_a_range_and_then_the_whole(url: str) -> None:
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=10)
    bodies = []
    for headers in ({"Range": "bytes=0-9"}, {}):
        connection.request("GET", where.path, headers=headers)
        bodies.append(connection.getresponse().read())
    connection.close()
    assert bodies == [DATA[:10], DATA]


def test_a_file_that_is_not_there_is_not_found(url: str) -> None:
    assert get(url + "-not", Range="bytes=0-1")[0] == 404


def test_the_server_ends_with_its_context(tmp_path: Path) -> None:
    with serve(tmp_path) as url:
        assert get(url + "/")[0] == 200
    with pytest.raises(urllib.error.URLError):
        get(url + "/")


def test_the_server_ends_when_its_user_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal, sys\nfrom ebspub.demo.image import serve\n"
        "with serve(pathlib.Path(sys.argv[1])) as url:\n"
        "    print(url, flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    for _ in range(200):
        try:
            get(killed.stdout.strip() + "/")
        except urllib.error.URLError:
            return
        time.sleep(0.05)
    pytest.fail("the server still answers")
