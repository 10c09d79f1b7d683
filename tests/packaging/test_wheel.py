"""What is installed is complete: built as a packager builds, installed into a fresh environment, and used there."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.timeout(300),
]


def ours(folder: str, *patterns: str) -> set[str]:
    """Return the paths of our own files below a top-level folder, relative to the checkout."""
    found = {path for pattern in patterns for path in (ROOT / folder).rglob(pattern)}
    return {path.relative_to(ROOT).as_posix() for path in found if path.is_file() and "__pycache__" not in path.parts}


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source archive, and from that the wheel; return the folder of both."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert run.returncode == 0, run.stdout + run.stderr
    return out


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a fresh environment and return its Python.

    The dependencies are lent by the environment that runs the tests, so that no network is needed; the checkout itself,
    which may be installed there as well, comes after the wheel on the path.
    """
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=120)
    python = venv / "bin/python"
    command = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*command, str(wheel)], check=True, timeout=120)
    (site,) = venv.glob("lib/python3.*/site-packages")
    lent = [path for path in sys.path if path.endswith("site-packages")]
    (site / "lent.pth").write_text("\n".join(lent) + "\n")
    return python


def run(python: Path, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [python, *arguments], cwd=cwd, env=os.environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_holds_the_package_with_its_scripts_and_migrations(wheel: Path) -> None:
    expected = ours(
        "ebspub", "*.py", "*.sh", "*.j2", "*.html", "*.css", "*.js", "*.csv", "*.toml", "*.json", "*.yaml", "py.typed"
    )
    expected |= {f"ebspub/{path}" for path in ours("migrations", "*.py", "*.mako")}
    assert "ebspub/migrations/env.py" in expected
    assert any(path.endswith(".sh") for path in expected)
    names = set(zipfile.ZipFile(wheel).namelist())
    assert expected - names == set()


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    strangers = [path for path in names if not path.startswith("ebspub/") and ".dist-info/" not in path]
    assert strangers == []
    assert [path for path in names if "__pycache__" in path or path.endswith(".pyc")] == []
    assert any(path.endswith("licenses/LICENSE") for path in names)


def test_source_archive_holds_what_builds_and_tests_it(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {member.name.split("/", 1)[1] for member in archive if member.isfile()}
    expected = {"pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "README.rst", "alembic.ini", ".ci/run"}
    expected |= ours("migrations", "*.py") | ours("tests", "*.py")
    assert expected - names == set()


def test_installed_program_starts(installed: Path, tmp_path: Path) -> None:
    program = installed.with_name("ebspub")
    assert program.is_file()
    assert "Usage" in run(installed, str(program), "--help", cwd=tmp_path)
    assert "Usage" in run(installed, "-m", "ebspub", "--help", cwd=tmp_path)


def test_installed_package_is_the_wheel_and_upgrades_a_database(installed: Path, tmp_path: Path) -> None:
    script = """
import sys, pathlib, ebspub
assert pathlib.Path(ebspub.__file__).is_relative_to(sys.prefix), ebspub.__file__
from ebspub.store import database, migrate
assert migrate.script_folder().is_relative_to(sys.prefix), migrate.script_folder()
engine = database.connect("sqlite:///" + sys.argv[1])
print(migrate.upgrade(engine)[1], migrate.HEAD)
engine.dispose()
"""
    after, head = run(installed, "-c", script, str(tmp_path / "state.db"), cwd=tmp_path).split()
    assert after == head
