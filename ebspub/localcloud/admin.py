"""The control interface of the endpoint, below /_localcloud/: JSON in, JSON out, and the cloud's key in a header."""

from __future__ import annotations

import hmac
import json
import logging
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, NotFound
from werkzeug.wrappers import Request, Response

from ebspub.localcloud.ec2.backend import CloudBackend, backends
from ebspub.localcloud.ec2.images import CloudImage
from ebspub.localcloud.ec2.instances import CloudInstance
from ebspub.localcloud.faults import Rule
from ebspub.localcloud.inventory import ImageItem, InstanceItem, Inventory, Resource, SnapshotItem, VolumeItem
from ebspub.localcloud.settings import Settings
from ebspub.localcloud.world import FateKind, World

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from ebspub.localcloud.gate import Gate

log = logging.getLogger(__name__)
KEY_HEADER = "X-Localcloud-Key"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Fate(_Body):
    """The next ``times`` resources of a kind end badly."""

    kind: FateKind
    times: int = 1


class Capacity(_Body):
    """Where there is none; empty strings stand for any."""

    zone: str = ""
    instance_type: str = ""


class Victim(_Body):
    """An instance whose host is to die."""

    instance_id: str


class Admin:
    """Routes of the control interface. ``gate`` is set once both exist."""

    gate: Gate

    def __init__(self, world: World, key: str) -> None:
        self._world = world
        self._key = key
        self._routes: dict[tuple[str, str], Callable[[Request], Any]] = {
            ("GET", "health"): lambda _: {"pid": os.getpid(), "root": world.root, "ssh_port": world.port},
            ("GET", "calls"): self._calls,
            ("GET", "inventory"): lambda _: self._inventory(),
            ("GET", "file"): self._file,
            ("GET", "faults"): lambda _: [s.model_dump(mode="json") for s in self.gate.faults.status()],
            ("POST", "faults"): lambda r: {"id": self.gate.faults.add(Rule.model_validate_json(r.data))},
            ("DELETE", "faults"): lambda r: self.gate.faults.remove(r.args.get("id", type=int)),
            ("PUT", "settings"): self._settings,
            ("POST", "kill-host"): self._kill_host,
            ("POST", "fates"): self._doom,
            ("POST", "no-capacity"): self._no_capacity,
            ("DELETE", "harm"): lambda _: self._heal(),
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            response = self._respond(request)
        except HTTPException as error:
            response = Response(json.dumps({"error": error.description}), error.code, mimetype="application/json")
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get(KEY_HEADER, "").encode(), self._key.encode()):
            raise Forbidden("the cloud's key is missing")
        name = request.path.rpartition("/")[2]
        handler = self._routes.get((request.method, name))
        if handler is None:
            raise NotFound(f"no {request.method} {name}")
        try:
            result = handler(request)
        except ValidationError as error:
            raise BadRequest(str(error)) from error
        return Response(json.dumps(result), mimetype="application/json")

    def _calls(self, request: Request) -> list[Any]:
        return [call.model_dump(mode="json") for call in self.gate.calls.since(request.args.get("since", 0, type=int))]

    def _file(self, request: Request) -> dict[str, str]:
        resource_id = request.args.get("id", "")
        world = self._world
        file = world.snapshot_file(resource_id) if resource_id.startswith("snap-") else world.volume_file(resource_id)
        if not file.exists():
            raise NotFound(f"no file of {resource_id}")
        return {"path": str(file)}

    def _settings(self, request: Request) -> None:
        wanted = Settings.model_validate_json(request.data)
        fixed = {name: getattr(self._world.settings, name) for name in ("ssh_port", "regions", "port")}
        self._world.settings = wanted.model_copy(update=fixed)

    def _kill_host(self, request: Request) -> None:
        instance_id = Victim.model_validate_json(request.data).instance_id
        with self._world.lock:
            for _, backend in backends():
                if any(instance.id == instance_id for instance in backend.all_instances()):
                    backend.kill_host(instance_id)
                    return
        raise NotFound(f"no instance {instance_id}")

    def _doom(self, request: Request) -> None:
        fate = Fate.model_validate_json(request.data)
        with self._world.lock:
            self._world.fates[fate.kind] = fate.times

    def _no_capacity(self, request: Request) -> None:
        capacity = Capacity.model_validate_json(request.data)
        with self._world.lock:
            self._world.no_capacity.add((capacity.zone, capacity.instance_type))

    def _heal(self) -> None:
        with self._world.lock:
            self._world.fates.clear()
            self._world.no_capacity.clear()
        self.gate.faults.remove()

    def _inventory(self) -> Any:
        with self._world.lock:
            parts = [_inventory_of(region, backend) for region, backend in backends()]
        whole = {name: [item for part in parts for item in getattr(part, name)] for name in Inventory.model_fields}
        return Inventory(**whole).model_dump(mode="json")


def _inventory_of(region: str, backend: CloudBackend) -> Inventory:
    def common(resource: Any) -> dict[str, Any]:
        return {"id": resource.id, "region": region, "tags": {t["key"]: t["value"] for t in resource.get_tags()}}

    groups = [g for by_vpc in backend.groups.values() for g in by_vpc.values() if g.name != "default"]
    return Inventory(
        instances=[
            InstanceItem(
                **common(i), state=i.state, type=i.instance_type, address=i.address, client_token=i.client_token or ""
            )
            for i in cast(list[CloudInstance], backend.all_instances())
        ],
        volumes=[
            VolumeItem(
                **common(v), state=v.status, size=v.size, attached_to=v.attachment.instance.id if v.attachment else ""
            )
            for v in backend.volumes.values()
        ],
        snapshots=[
            SnapshotItem(**common(s), state=s.status, size=s.volume_size, volume_id=s.volume.id)
            for s in backend.snapshots.values()
        ],
        images=[
            ImageItem(
                **common(a), state=a.state, name=a.name or "", snapshots=sorted(a.snapshot_ids), public=a.is_public
            )
            for a in cast(list[CloudImage], list(backend.amis.values()))
            if a.owner_id == backend.account_id
        ],
        security_groups=[Resource(**common(g), name=g.name) for g in groups],
        key_pairs=[Resource(**common(k), name=k.key_name) for k in backend.key_pairs.values()],
    )
