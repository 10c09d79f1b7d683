"""Shell completion: names of the configuration, ids of jobs, and silence about everything that is amiss."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.stories import REGIONS, Run


def complete(ebspub: Run, line: str, **extra: str) -> list[str]:
    """Return what the shell is given for the last word of ``line``."""
    words = line.split(" ")
    result = ebspub(_EBSPUB_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), **extra)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.split()


def test_regions_suites_arches_and_labels_come_from_the_configuration(ebspub: Run) -> None:
    assert complete(ebspub, "ebspub run --region us-") == ["us-east-1", "us-west-1"]
    assert complete(ebspub, "ebspub status --region ") == list(REGIONS)
    assert complete(ebspub, "ebspub plan --suite l") == ["lucid"]
    assert complete(ebspub, "ebspub run --arch ") == ["amd64", "i386"]
    assert complete(ebspub, "ebspub run --label r") == ["release"]
    assert complete(ebspub, "ebspub run --build ") == ["server"]


@pytest.mark.parametrize("place", ["ebspub --config {} run --suite ", "ebspub run --config {} --suite "])
def test_a_configuration_named_on_the_line_counts(ebspub: Run, config: Path, tmp_path: Path, place: str) -> None:
    other = tmp_path / "other.toml"
    other.write_text(config.read_text().replace('"lucid"', '"maverick"'))
    assert complete(ebspub, place.format(other)) == ["maverick"]


def test_job_ids_come_from_the_database_without_those_given(ebspub: Run, every_state: list[str]) -> None:
    assert complete(ebspub, "ebspub show ") == sorted(every_state)
    assert complete(ebspub, f"ebspub cancel {every_state[0]} lucid-server-20101020-amd64-u") == [every_state[2]]
    assert "lucid-server-20101020" in complete(ebspub, "ebspub status --build lucid-")


def test_builds_to_publish_are_those_with_registered_jobs(ebspub: Run, every_state: list[str]) -> None:
    del every_state
    found = complete(ebspub, "ebspub publish lucid-")
    assert len(found) == 1
    assert complete(ebspub, f"ebspub unpublish {found[0]} l") == []


def test_commands_are_completed(ebspub: Run) -> None:
    assert complete(ebspub, "ebspub re") == ["resume"]


@pytest.mark.parametrize("fault", ["missing", "wrong", "binary", "no database", "no tables"])
def test_what_is_amiss_gives_no_suggestions_and_no_message(
    ebspub: Run, config: Path, tmp_path: Path, fault: str
) -> None:
    match fault:
        case "missing":
            config.unlink()
        case "wrong":
            config.write_text("suite = ")
        case "binary":
            config.write_bytes(b"\xff\x00")
        case "no tables":
            (tmp_path / "state").mkdir()
            (tmp_path / "state" / "ebspub.db").touch()
    assert complete(ebspub, "ebspub show l") == []
    assert complete(ebspub, "ebspub cancel --region l") == []


def test_completion_makes_no_database(ebspub: Run, tmp_path: Path) -> None:
    assert complete(ebspub, "ebspub show ") == []
    assert not (tmp_path / "state").exists()
