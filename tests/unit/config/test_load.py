"""Where the file is looked for, and what is said when it cannot be read."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from ebspub.config import find, load, parse
from ebspub.config.load import MAX_SIZE, SYSTEM_PLACE, places
from ebspub.errors import ConfigError


def _write(file: Path, text: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_the_order_is_option_environment_working_directory_user(tmp_path: Path) -> None:
    option = _write(tmp_path / "option.toml")
    environment = _write(tmp_path / "environment.toml")
    here = _write(tmp_path / "cwd" / "ebspub.toml")
    user = _write(tmp_path / "xdg" / "ebspub" / "ebspub.toml")
    env = {"EBSPUB_CONFIG": str(environment), "XDG_CONFIG_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path)}
    assert find(option, env=env, cwd=here.parent) == option
    assert find(env=env, cwd=here.parent) == environment
    del env["EBSPUB_CONFIG"]
    assert find(env=env, cwd=here.parent) == here
    here.unlink()
    assert find(env=env, cwd=here.parent) == user


def test_without_xdg_config_home_the_user_place_is_dot_config(tmp_path: Path) -> None:
    user = _write(tmp_path / ".config" / "ebspub" / "ebspub.toml")
    assert find(env={"HOME": str(tmp_path)}, cwd=tmp_path) == user
    # A relative XDG_CONFIG_HOME is to be ignored, says the XDG specification.
    assert find(env={"HOME": str(tmp_path), "XDG_CONFIG_HOME": "config"}, cwd=tmp_path) == user


def test_an_empty_environment_variable_counts_as_none(tmp_path: Path) -> None:
    here = _write(tmp_path / "ebspub.toml")
    assert find(env={"EBSPUB_CONFIG": ""}, cwd=tmp_path) == here


@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_named_file_that_is_missing_is_never_replaced_by_another(tmp_path: Path, by: str) -> None:
    _write(tmp_path / "ebspub.toml")
    missing = tmp_path / "missing.toml"
    option, env = (missing, {}) if by == "option" else (None, {"EBSPUB_CONFIG": str(missing)})
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        find(option, env=env, cwd=tmp_path)


def test_the_place_for_everybody_is_in_etc_and_the_last(tmp_path: Path) -> None:
    assert places({}, tmp_path)[-1] == SYSTEM_PLACE == Path("/etc/ebspub/ebspub.toml")


def test_no_file_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A machine may have a configuration for everybody; this test has none.
    module = importlib.import_module("ebspub.config.load")  # by attribute, `load` is the function
    monkeypatch.setattr(module, "SYSTEM_PLACE", tmp_path / "etc" / "ebspub.toml")
    with pytest.raises(ConfigError) as caught:
        find(env={"XDG_CONFIG_HOME": str(tmp_path / "xdg")}, cwd=tmp_path)
    assert caught.value.problems == (
        str(tmp_path / "ebspub.toml"),
        str(tmp_path / "xdg" / "ebspub" / "ebspub.toml"),
        str(tmp_path / "etc" / "ebspub.toml"),
    )
    everybody = _write(tmp_path / "etc" / "ebspub.toml")
    assert find(env={}, cwd=tmp_path) == everybody


def test_a_syntax_error_names_file_line_and_column(tmp_path: Path) -> None:
    file = _write(tmp_path / "broken.toml", '[store]\nurl = "sqlite:////x.db"\n[builder\n')
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}:3:9: not TOML: ")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a = [", "f.toml:1"),
        ("a = 1\na = 2", "f.toml:2"),
        ("a = 2010-02-31", "f.toml"),
        ("a = " + "9" * 5000, "f.toml"),
        ("a = " + "[" * 5000 + "]" * 5000, "f.toml"),
        ('a = "\x00"', "f.toml:1"),
    ],
)
def test_whatever_is_not_toml_is_a_config_error(text: str, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, origin="f.toml")
    assert str(caught.value).startswith(where)
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "latin1.toml"
    file.write_bytes(b'[tags]\nowner = "J\xf6rg"\n')
    with pytest.raises(ConfigError, match=r"latin1\.toml:2: not UTF-8"):
        load(file)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "bom.toml"
    file.write_bytes(b"\xef\xbb\xbf[volume]\nsize = 9\n")
    assert load(file).volume.size == 9


def test_a_folder_and_a_huge_file_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)
    huge = tmp_path / "huge.toml"
    huge.touch()
    os.truncate(huge, MAX_SIZE + 1)
    with pytest.raises(ConfigError, match="larger than"):
        load(huge)


def test_the_state_folder_follows_file_then_xdg_then_home(tmp_path: Path) -> None:
    empty = parse("")
    assert empty.state_folder({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "ebspub"
    assert empty.state_folder({}) == Path("~/.local/state/ebspub").expanduser()
    assert empty.store_url({"XDG_STATE_HOME": str(tmp_path)}) == f"sqlite:///{tmp_path}/ebspub/ebspub.db"
    assert parse('[store]\nfolder = "/srv/x"').store_url({}) == "sqlite:////srv/x/ebspub.db"


def test_the_store_password_is_in_the_url_and_nowhere_else() -> None:
    config = parse('[store]\nurl = "postgresql://user:hunter2@db.example.com/ebspub?sslpassword=hunter2"')
    assert "hunter2" in config.store_url({})
    assert config.store_url_redacted({}) == "postgresql://user:***@db.example.com/ebspub"
    assert "hunter2" not in repr(config)
    assert "hunter2" not in config.model_dump_json()


def test_engine_and_limits_have_the_documented_defaults() -> None:
    config = parse("")
    assert (config.engine.poll_interval, config.engine.workers, config.engine.lease) == (5.0, 16, 60.0)
    assert config.limits.document().attempts == 3
