"""Find the configuration file, read it, and tell everything that is wrong with it at once."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ebspub.config import problems
from ebspub.config.model import Config
from ebspub.config.plan import check
from ebspub.errors import ConfigError

SYSTEM_PLACE = Path("/etc/ebspub/ebspub.toml")
#: The largest file that is read, in bytes: far above any real one, and a wrong path to a disk image stays harmless.
MAX_SIZE = 4 * 1024 * 1024
_TODO = "Correct the file and run the command again; nothing was touched."


def places(env: Mapping[str, str], cwd: Path) -> tuple[Path, ...]:
    """Return where a file is looked for when none is named: working directory, user's place, system's place."""
    xdg = env.get("XDG_CONFIG_HOME", "")
    home = env.get("HOME", "")
    user = [Path(xdg)] if xdg.startswith("/") else [Path(home, ".config")] if home else []
    return (cwd / "ebspub.toml", *(folder / "ebspub" / "ebspub.toml" for folder in user), SYSTEM_PLACE)


def find(explicit: Path | None = None, *, env: Mapping[str, str] = os.environ, cwd: Path | None = None) -> Path:
    """Return the configuration file: ``explicit`` (--config), $EBSPUB_CONFIG, or the first of :func:`places`.

    A file that is named (by option or environment) must exist: another one is never read in its stead. Raises
    :class:`ConfigError`, which says where it was looked for.
    """
    named = explicit or (Path(env["EBSPUB_CONFIG"]) if env.get("EBSPUB_CONFIG") else None)
    if named is not None:
        if not os.path.lexists(named):
            by = "--config" if explicit else "EBSPUB_CONFIG"
            raise ConfigError(f"no configuration file {str(named)!r} (named by {by})", todo="Name one that exists.")
        return named
    looked = places(env, cwd or Path.cwd())
    for each in looked:
        if os.path.lexists(each):
            return each
    raise ConfigError(
        "no configuration file; looked for:",
        problems=[str(each) for each in looked],
        todo="Write one there, or name it with --config or EBSPUB_CONFIG; examples/minimal.toml is a beginning.",
    )


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a usable file name"
        raise ConfigError(
            f"{str(file)!r} cannot be read: {reason}", todo="Make it readable, or name another."
        ) from error
    if len(content) > MAX_SIZE:
        raise ConfigError(f"{file}: larger than {MAX_SIZE} bytes", todo="Name a TOML file with --config.")
    try:
        # Windows editors write a byte order mark, which TOML does not know.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: not UTF-8", todo="Save the file as UTF-8.") from error


def _toml(text: str, origin: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(f"{origin}: nested too deeply", todo=_TODO) from error
    except ValueError as error:
        # tomllib.TOMLDecodeError, and ValueError for a date or a number that Python does not take.
        told = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|(end of document))\)", str(error), re.DOTALL)
        if told is None:
            raise ConfigError(f"{origin}: not TOML: a number or a date that cannot be", todo=_TODO) from error
        message, line, column, _ = told.groups()
        where = f"{origin}:{line}:{column}" if line else f"{origin}:{text.count(chr(10)) + 1}"
        raise ConfigError(f"{where}: not TOML: {message}", todo=_TODO) from error


def from_dict(data: Mapping[str, Any], *, origin: str = "configuration") -> Config:
    """Return the configuration that the parsed document ``data`` describes; ``origin`` names it in messages.

    Raises :class:`ConfigError` with every problem that was found.
    """
    found = problems.region_problems(data)
    config: Config | None = None
    try:
        config = Config.model_validate(data)
        config._origin = origin
    except ValidationError as error:
        found = problems.from_validation(Config, error) + found
    if config is not None and not found:
        found = check(config)
    if config is None or found:
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        raise ConfigError(f"{origin}: {count}", problems=found, todo=_TODO)
    return config


def parse(text: str, *, origin: str = "configuration") -> Config:
    """Return the configuration that the TOML document ``text`` describes. Raises :class:`ConfigError`."""
    return from_dict(_toml(text, origin), origin=origin)


def load(explicit: Path | None = None, *, env: Mapping[str, str] = os.environ, cwd: Path | None = None) -> Config:
    """Find the file (see :func:`find`), read it and check it. Raises :class:`ConfigError`; nothing is touched."""
    file = find(explicit, env=env, cwd=cwd)
    return parse(_read(file), origin=str(file))
