"""Builders without root: sshd run as the cloud's own user in a private folder, volumes as plain files.

A session finds its volumes below the folder that the environment variable ``EBSPUB_DEVICES`` names, under the names
that they would have below /dev. The login user is the user who runs the cloud; ``sudo`` and ``shutdown`` are stand-ins.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from importlib import resources
from pathlib import Path

from ebspub.localcloud.hosts.base import (
    Attached,
    DeviceNames,
    ExitCallback,
    HostSpec,
    by_id_name,
    remove_tree,
    watch,
    write_host_keys,
)
from ebspub.localcloud.hosts.userdata import as_script

_HERE = resources.files("ebspub.localcloud.hosts")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MARK = "EBSPUB_DEVICES"

_SUDO = """\
#!/bin/sh
# There is no root here: what sudo is asked to run runs as it is.
while :; do
    case "${1-}" in
    -u | -g | -h | -p | -C | -T | -D) shift 2 ;;
    --) shift; break ;;
    -*) shift ;;
    *=*) export "${1?}"; shift ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || exit 0
exec "$@"
"""


_FORCED = (
    'ForceCommand cd "$HOME" && if [ -n "$SSH_ORIGINAL_COMMAND" ]; then'
    ' exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"; else exec /bin/sh -l; fi'
)


class PlainHost:
    """One builder; see :class:`ebspub.localcloud.hosts.base.Host`."""

    def __init__(self, spec: HostSpec) -> None:
        self.spec = spec
        self._devices = spec.folder / "devices"
        self._console = spec.folder / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._names = DeviceNames(nitro=spec.nitro)
        self._lock = threading.RLock()

    def start(self, on_exit: ExitCallback) -> None:
        with self._lock:
            end_processes(self.spec.folder)  # what an earlier boot left running
            self._boot(on_exit)

    def _boot(self, on_exit: ExitCallback) -> None:
        self._lay_out()
        # sshd wants to be called by its full path: it executes itself again for every connection.
        sshd = shutil.which("sshd", path=_PATH) or "/usr/sbin/sshd"
        command = ["setpriv", "--pdeathsig", "KILL", "sh", str(_HERE / "plain-init.sh"), str(self.spec.folder), sshd]
        with self._console.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.spec.folder,
                env=self._environment(),
            )
        self._process = process
        watch(process, lambda: on_exit(self._why()))

    def stop(self) -> None:
        end_processes(self.spec.folder)
        if self._process is not None:
            self._process.wait()

    def reboot(self) -> None:
        with self._lock:  # the next boot waits: it must not be killed with this one
            (self.spec.folder / "power").write_text("reboot\n")
            end_processes(self.spec.folder)

    def plug(self, volume: Attached) -> None:
        with self._lock:
            name = self._names.add(volume)
            self._link(self._devices / name, os.path.relpath(volume.file, self._devices))
            if self.spec.nitro:
                by_id = self._devices / "disk/by-id"
                by_id.mkdir(parents=True, exist_ok=True)
                self._link(by_id / by_id_name(volume.volume_id), f"../../{name}")

    def busy(self, volume_id: str) -> bool:
        del volume_id  # plain files are never mounted
        return False

    def unplug(self, volume_id: str) -> None:
        with self._lock:
            if name := self._names.remove(volume_id):
                (self._devices / name).unlink(missing_ok=True)
                (self._devices / "disk/by-id" / by_id_name(volume_id)).unlink(missing_ok=True)

    def discard(self) -> None:
        remove_tree(self.spec.folder)

    def console(self) -> str:
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def _why(self) -> str:
        power = self.spec.folder / "power"
        return power.read_text().strip() if power.exists() else "gone"

    def _environment(self) -> dict[str, str]:
        folder = self.spec.folder
        return {
            "PATH": f"{folder / 'sbin'}:{_PATH}",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "LANG": "C.UTF-8",
            _MARK: str(self._devices),
        }

    def _link(self, link: Path, target: str) -> None:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)

    def _lay_out(self) -> None:
        folder, spec = self.spec.folder, self.spec
        for part in ("home/.ssh", "devices", "sbin", "tmp"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        power = (_HERE / "power.sh").read_text().replace("@POWER@", str(folder / "power"))
        power = power.replace('"@INIT@"', f'"$(cat "{folder / "init.pid"}")"')
        for name in ("shutdown", "poweroff", "reboot", "halt"):
            self._write(folder / "sbin" / name, power, 0o755)
        self._write(folder / "sbin/sudo", _SUDO, 0o755)
        keys = write_host_keys(spec.seed, folder)
        self._write(folder / "sshd_config", self._sshd_config(keys), 0o600)
        self._write(folder / "authorized_keys", "".join(f"{key.strip()}\n" for key in spec.authorized_keys), 0o600)
        if spec.seed.bootcmd:
            self._write(folder / "bootcmd", as_script(spec.seed.bootcmd), 0o700)
        if spec.seed.script or spec.seed.runcmd:
            self._write(folder / "runcmd", spec.seed.script or as_script(spec.seed.runcmd), 0o700)

    def _write(self, path: Path, text: str, mode: int) -> None:
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_text(text)
        path.chmod(mode)

    def _sshd_config(self, keys: list[Path]) -> str:
        folder = self.spec.folder
        environment = " ".join(f'"{name}={value}"' for name, value in self._environment().items())
        lines = [f"ListenAddress {self.spec.address}:{self.spec.port}", *(f'HostKey "{key}"' for key in keys)]
        lines += [
            f'AuthorizedKeysFile "{folder / "authorized_keys"}"',
            "StrictModes no",
            "PidFile none",
            "UsePAM no",
            "UseDNS no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PrintMotd no",
            "MaxStartups 50:30:100",
            f"SetEnv {environment}",
            # sshd starts in the account's home folder, which is not this builder's.
            _FORCED,
            "Subsystem sftp internal-sftp",
        ]
        return "\n".join(lines) + "\n"


def end_processes(folder: Path, patience: float = 5.0) -> None:
    """Kill every process of this user that belongs to the builder in ``folder`` or to any builder below it.

    They are known by the mark in their environment, which sshd has and gives to every session. Session leaders escape
    process groups, so groups do not help.
    """
    deadline = time.monotonic() + patience
    while found := _processes(folder):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)


def _processes(folder: Path) -> list[int]:
    mark = os.fsencode(f"{_MARK}={folder}{os.sep}")
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if entry.stat().st_uid != os.getuid() or (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            if any(word.startswith(mark) for word in (entry / "environ").read_bytes().split(b"\0")):
                found.append(int(entry.name))
        except OSError:  # ended meanwhile, or not ours to read
            continue
    return found
