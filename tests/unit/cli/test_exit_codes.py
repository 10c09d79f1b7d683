"""Exit codes and messages: the user's mistakes are told in words, with what to do, and never with a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ebspub.store import Store
from tests.unit.cli.stories import Run

JOB = "lucid-server-20101020-amd64-us-east-1"
NEEDING_CONFIG = [["run"], ["resume"], ["status"], ["show", JOB], ["plan"], ["cancel", JOB], ["db", "current"]]


@pytest.mark.parametrize("command", [*NEEDING_CONFIG, ["db", "upgrade"]], ids=" ".join)
def test_a_missing_configuration_is_2_and_touches_nothing(ebspub: Run, tmp_path: Path, command: list[str]) -> None:
    result = ebspub(*command, "--config", "nowhere.toml")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("ebspub: no configuration file 'nowhere.toml' (named by --config)\n  ")
    assert sorted(os.listdir(tmp_path)) == ["ebspub.toml"]


def test_no_configuration_at_all_says_where_it_was_looked_for(ebspub: Run) -> None:
    result = ebspub("run", EBSPUB_CONFIG="")
    # The working directory has one: it is found without being named.
    assert "no configuration file" not in result.stderr
    result = ebspub("--config", "nowhere.toml", "run", EBSPUB_CONFIG="")
    assert result.returncode == 2
    assert "--config" in result.stderr


def test_the_option_after_the_command_counts_more_than_the_one_before(ebspub: Run, config: Path) -> None:
    assert ebspub("--config", "nowhere.toml", "status", "--config", str(config)).returncode == 0


def test_an_unknown_key_is_2_and_named(ebspub: Run, config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("ssh_cidr", "ssh_cdir"))
    result = ebspub("run")
    assert (result.returncode, result.stdout) == (2, "")
    assert "ssh_cdir" in result.stderr
    assert "ssh_cidr" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--suite", "karmic"], "karmic"),
        (["--region", "mars-1"], "mars-1"),
        (["--arch", "sparc"], "sparc"),
        (["--build", "desktop"], "desktop"),
        (["--label", "daily"], "daily"),
        (["--serial", "today"], "today"),
    ],
)
def test_what_the_configuration_does_not_have_is_2(
    ebspub: Run, tmp_path: Path, command: str, options: list[str], told: str
) -> None:
    result = ebspub(command, *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["nonsense"], ["run", "lucid"], ["show"], ["cancel"]], ids=" ".join
)
def test_wrong_usage_is_2(ebspub: Run, arguments: list[str]) -> None:
    result = ebspub(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: ebspub" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["show", "cancel", "resume"])
def test_an_unknown_job_is_2(program: Run, store: Store, command: str) -> None:
    result = program(command, "nothing-of-the-kind")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "ebspub: no such job: nothing-of-the-kind\n  `ebspub status` lists the jobs.\n"


@pytest.mark.parametrize("command", ["show", "cancel", "resume"])
def test_an_unknown_job_makes_no_database(ebspub: Run, tmp_path: Path, command: str) -> None:
    result = ebspub(command, JOB)
    assert result.returncode == 2
    assert f"no such job: {JOB}" in result.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("command", [["run"], ["resume"], ["status"], ["show", JOB], ["plan"], ["db", "upgrade"]])
def test_a_database_of_a_newer_version_is_4(ebspub: Run, store: Store, command: list[str]) -> None:
    with store.write() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    result = ebspub(*command)
    assert (result.returncode, result.stdout) == (4, "")
    assert "revision 9999" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_is_no_database_is_4(program: Run, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ebspub.db").write_text("this is not a database, whatever its name says\n" * 100)
    result = program("status")
    assert result.returncode == 4
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["run", "resume"])
def test_no_credentials_is_2(program: Run, every_state: list[str], command: str) -> None:
    result = program(command)
    assert (result.returncode, result.stdout) == (2, "")
    assert "credentials" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unproved_source_is_2_and_touches_nothing(ebspub: Run, config: Path, tmp_path: Path) -> None:
    text = "\n".join(line for line in config.read_text().splitlines() if ".sha256" not in line)
    config.write_text(text + '\nsha256sums = "http://127.0.0.1:9/SHA256SUMS"\nverify = "none"\n')
    result = ebspub("run")
    assert (result.returncode, result.stdout) == (2, "")
    assert "http://127.0.0.1:9/SHA256SUMS" in result.stderr
    assert not (tmp_path / "state").exists()


def test_current_and_upgrade_of_the_database(ebspub: Run, tmp_path: Path) -> None:
    assert ebspub("db", "current").stdout.startswith("none at sqlite:")
    assert not (tmp_path / "state").exists()
    assert ebspub("db", "upgrade").stdout.startswith("none -> ")
    assert (tmp_path / "state" / "ebspub.db").stat().st_mode & 0o777 == 0o600
    assert ebspub("db", "upgrade").stdout.endswith(" already\n")
    revision = ebspub("db", "current").stdout.split()[0]
    assert revision != "none"


def test_current_tells_of_a_newer_version(ebspub: Run, store: Store) -> None:
    with store.write() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    result = ebspub("db", "current")
    assert result.returncode == 0
    assert result.stdout.startswith("9999 at sqlite:")


class TestInternalErrors:
    """What is no fault of the user: one line, a traceback only on request."""

    @pytest.fixture
    def broken(self, every_state: list[str], store: Store) -> None:
        with store.write() as conn:
            conn.exec_driver_sql("UPDATE jobs SET spec = '[]'")

    def test_one_line_and_1(self, program: Run, broken: None) -> None:
        result = program("status")
        assert (result.returncode, result.stdout) == (1, "")
        first, second = result.stderr.splitlines()
        assert first.startswith("ebspub: internal error: ValidationError: ")
        assert "--verbose" in second

    @pytest.mark.parametrize("arguments", [["-v", "status"], ["status", "--verbose"]], ids=" ".join)
    def test_the_traceback_with_verbose(self, ebspub: Run, broken: None, arguments: list[str]) -> None:
        result = ebspub(*arguments)
        assert result.returncode == 1
        assert "Traceback (most recent call last)" in result.stderr
