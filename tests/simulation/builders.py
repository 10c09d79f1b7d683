"""Builders of the simulated regions, as the remote layer meets them: a shell that runs our programs."""

from __future__ import annotations

import re
from typing import Any

from ebspub.errors import RemoteError
from ebspub.remote.keys import Key, Keyring
from ebspub.remote.shell import Completed
from ebspub.store import Job
from tests.simulation.chaos import Chaos
from tests.simulation.ec2 import Region

_DIGEST = "d" * 64


class SimulatedShell:
    """The SSH connection to one builder."""

    def __init__(self, region: Region, instance: str, job: Job, source: str) -> None:
        self._region = region
        self._instance = instance
        self._job = job
        self._source = source

    @property
    def _chaos(self) -> Chaos:
        return self._region.chaos

    def run(self, command: str, *, stdin: bytes = b"", timeout: float, limit: int = 0) -> Completed:
        """Answer what the builder would."""
        del timeout, limit
        self._chaos.moment(f"ssh {self._job.id}")
        if self._chaos.happens(self._chaos.weather.ssh_drops):
            self._chaos.tell(f"ssh to {self._instance} drops")
            raise RemoteError("the connection broke")
        builder = self._region.things[self._instance]
        if builder.state(self._region.now) != "running":
            raise RemoteError("no route to host")
        if command == "true":
            return Completed(0, b"", b"")
        answer = self._answer(stdin.decode(), builder.data)
        self._chaos.moment(f"after ssh {self._job.id}")
        return Completed(0, answer.encode(), b"")

    def close(self) -> None:
        """End the connection."""

    def _answer(self, program: str, host: dict[str, Any]) -> str:
        found = re.search(r"^report_device (vol-[0-9a-f]+) ", program, re.MULTILINE)
        if found is not None:
            volume = self._region.things[found[1]]
            return f"device /dev/{volume.id}\n" if volume.data.get("instance") == self._instance else ""
        task = re.search(r"^task=(\S+)$", program, re.MULTILINE)
        assert task is not None, program[:400]
        tasks: dict[str, Any] = host.setdefault("tasks", {})
        asked = program.rpartition("\nexit 0\n}")[0].rpartition("\n")[2]
        if asked.startswith("clear_task") and task[1] in tasks:
            tasks[task[1]]["fails"] = True
            tasks[task[1]]["until"] = self._region.now
        if asked.startswith(("clear_task", "start_task")):
            if asked.startswith("start_task") and task[1] not in tasks:
                tasks[task[1]] = self._started(program)
            return ""
        return self._report(tasks.get(task[1]))

    def _started(self, program: str) -> dict[str, Any]:
        volume = re.search(r"volume_id=(vol-[0-9a-f]+)", program)
        assert volume is not None
        fails = self._chaos.happens(self._chaos.weather.copy_fails)
        self._chaos.tell(f"{self._instance} starts to copy to {volume[1]}")
        thing = self._region.things[volume[1]]
        thing.data["copies"] = thing.data.get("copies", 0) + 1
        thing.data["content"] = "half"
        return {"volume": volume[1], "until": self._region.now + 30.0, "fails": fails}

    def _report(self, task: dict[str, Any] | None) -> str:
        if task is None:
            return "ebspub-report 1\nstate absent\nend\n"
        if self._region.now < task["until"]:
            return "ebspub-report 1\nstate running\nprogress phase=copy\nprogress done=1\nprogress total=2\nend\n"
        if task["fails"] or self._region.things[task["volume"]].data.get("instance") != self._instance:
            lines = ["outcome=failed", "code=io", "phase=copy", "message=simulated", "status=1"]
        else:
            self._region.things[task["volume"]].data["content"] = self._source
            facts = {"files": 1, "bytes": 1, "size": 1, "fs_type": "ext4", "label": "x", "uuid": "y"}
            more = {"sha256": self._source, "digest": _DIGEST, "xattrs": "compared", "way": "mounted"}
            lines = ["outcome=succeeded", "status=0", *(f"fact.{k}={v}" for k, v in {**facts, **more}.items())]
        return "\n".join(["ebspub-report 1", "state ended", *(f"result {line}" for line in lines), "end", ""])


class FixedKeys(Keyring):
    """Keys that cost nothing: no simulated host checks them."""

    def __init__(self) -> None:
        super().__init__(b"\0" * 32)
        self._key = super().client_key("simulated", 1)

    def client_key(self, job_id: str, attempt: int) -> Key:
        return self._key

    def host_key(self, job_id: str, attempt: int) -> Key:
        return self._key
