"""The rules of the house that no linter knows: sizes, what may be imported, what may not be written."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("ebspub", "migrations", "tests", "examples", ".ci")
MAX_FILE = 400
MAX_FUNCTION = 60

#: Files that may be longer, each with the reason.
LONG_FILES: dict[str, str] = {}
#: Functions that may be longer (`path::name`), each with the reason.
LONG_FUNCTIONS: dict[str, str] = {}

#: What is written nowhere, and why. The brackets keep the patterns from matching themselves.
FORBIDDEN = {
    r"\b(TOD[O]|FIXM[E]|XX[X])\b": "finish it, or say in the docstring what it does not do",
    r"/work/(main|shared|\.library)\b|/tmp/brie[f]\b|\.pyen[v]\b": "a path of somebody's machine",
    r"pypi\.or[g]|pythonhosted\.or[g]|registry\.npmj[s]|deb\.debian\.or[g]": "a package registry's host",
}
#: Distributions that a declared one is made of and always brings, and that may be imported with it.
BROUGHT = {"botocore": "boto3", "pydantic-core": "pydantic", "click": "typer", "werkzeug": "flask", "responses": "moto"}


def files(*patterns: str, folders: tuple[str, ...] = FOLDERS) -> list[Path]:
    """Return our own files below ``folders`` whose names match."""
    found = {path for folder in folders for pattern in patterns for path in (ROOT / folder).rglob(pattern)}
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(), name(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imported(path: Path) -> set[str]:
    """Return the top-level names that a file imports, except those for types only."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(), name(path))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
        waiting.extend(ast.iter_child_nodes(node))
    return found - set(sys.stdlib_module_names) - {"ebspub", "tests"}


def normal(requirement: str) -> str:
    """Return the normalized name of the distribution that a requirement names."""
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_imports_go_downwards_only() -> None:
    lint_imports = Path(sysconfig.get_path("scripts")) / "lint-imports"
    run = subprocess.run(
        [lint_imports, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_module_can_be_imported_without_a_warning() -> None:
    modules = [path.relative_to(ROOT).with_suffix("") for path in files("*.py", folders=("ebspub",))]
    names = [".".join(path.parts).removesuffix(".__init__") for path in modules if path.stem != "__main__"]
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    command = [sys.executable, "-W", "error", "-c", script, *names]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_files_are_short() -> None:
    long = {name(path): lines for path in files("*.py", "*.sh") if (lines := path.read_text().count("\n")) > MAX_FILE}
    assert {path: lines for path, lines in long.items() if path not in LONG_FILES} == {}
    assert set(LONG_FILES) <= set(long), "an exception that nothing needs"


def test_functions_are_short() -> None:
    # A migration's function is a list of tables and columns, not a train of thought.
    paths = [path for path in files("*.py") if path.parent != ROOT / "migrations" / "versions"]
    long = {
        f"{name(path)}::{node.name}": lines
        for path in paths
        for node in functions(path)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION
    }
    assert {function: lines for function, lines in long.items() if function not in LONG_FUNCTIONS} == {}
    assert set(LONG_FUNCTIONS) <= set(long), "an exception that nothing needs"


def test_what_is_public_has_a_docstring() -> None:
    silent = []
    for path in files("*.py", folders=("ebspub",)):
        module = ast.parse(path.read_text(), name(path))
        if not ast.get_docstring(module):
            silent.append(name(path))
        silent += [
            f"{name(path)}::{node.name}"
            for node in module.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ]
    assert silent == []


def published() -> list[Path]:
    """Return the files that a commit of the tree as it is would hold: git ignores what a demo or a build leaves."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [path for each in names if each and (path := ROOT / each).is_file()]


@pytest.mark.parametrize("pattern", FORBIDDEN, ids=list(FORBIDDEN.values()))
def test_nothing_forbidden_is_written(pattern: str) -> None:
    paths = published()
    assert ROOT / "README.rst" in paths
    found = [
        f"{name(path)}:{number}: {line.strip()[:100]}"
        for path in paths
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert found == [], FORBIDDEN[pattern]


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {normal(line) for line in project["dependencies"]}
    cloud = core | {normal(line) for line in project["optional-dependencies"]["localcloud"]}
    distributions = packages_distributions()
    assert set(BROUGHT.values()) <= cloud
    missing = []
    for path in files("*.py", folders=("ebspub", "migrations")):
        declared = cloud if {"localcloud", "demo"} & set(path.relative_to(ROOT).with_suffix("").parts) else core
        for package in imported(path):
            owners = {normal(owner) for owner in distributions.get(package, [package])}
            if not (owners | {BROUGHT.get(owner, owner) for owner in owners}) & declared:
                missing.append(f"{name(path)}: {package}")
    assert missing == []


def test_every_dependency_has_a_lower_bound_and_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    assert [line for line in wanted if ">=" not in line] == []
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in pins if not re.match(r"[\w.-]+==[\w.]+( ;|$)", line)] == []
    assert {normal(line) for line in wanted} - {normal(line) for line in pins} == set()
