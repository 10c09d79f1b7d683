"""Readers of query data as they are in the wild, written from what is known of them and not from our writer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def strict(text: str) -> list[dict[str, str]]:
    """Read as Ansible's old ec2_ami_search: exactly eleven values, or it fails."""
    rows = []
    for line in text.splitlines():
        suite, build, label, serial, root_store, arch, region, ami, aki, ari, virt = line.split("\t")
        rows.append({
            "suite": suite, "build": build, "label": label, "serial": serial, "root_store": root_store, "arch": arch,
            "region": region, "ami": ami, "aki": aki, "ari": ari, "virt": virt,
        })  # fmt: skip
    return rows


def juju(text: str, region: str, arch: str) -> list[tuple[str, str]]:
    """Read as juju did: rows whose fifth column is `ebs`, and of these id and virtualization."""
    found = []
    for line in text.split("\n"):
        words = line.split("\t")
        if len(words) < 11 or words[4] != "ebs":
            continue
        if words[6] == region and words[5] == arch:
            found.append((words[7], words[10]))
    return found


def awk(text: str, **columns: str) -> list[list[str]]:
    r"""Read as ``awk -F'\t'``: ``c5="ebs"`` is the condition ``$5 == "ebs"``."""
    rows = [line.split("\t") for line in text.split("\n") if line]
    return [row for row in rows if all(row[int(name[1:]) - 1] == value for name, value in columns.items())]


def sstream_query(index: Path, keyring: Path, *filters: str) -> list[dict[str, str]]:
    """Read simplestreams by the real sstream-query; an AssertionError tells what it complains about."""
    program = Path(sys.executable).parent / "sstream-query"
    command = [sys.executable, "-W", "ignore", str(program), "--json", f"--keyring={keyring}", str(index), *filters]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found
