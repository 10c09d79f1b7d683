"""Instances: builders that boot, run and end, and what EC2 says of them meanwhile."""

from __future__ import annotations

import base64
import copy
import logging
import re
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from moto.core.utils import utcnow
from moto.ec2.exceptions import InvalidKeyPairNameError
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance, InstanceState, Reservation, StateReason

from ebspub.localcloud.ec2.base import now
from ebspub.localcloud.ec2.errors import refuse
from ebspub.localcloud.ec2.images import CloudImage, ImageBackend
from ebspub.localcloud.ec2.volumes import CloudVolume, VolumeBackend
from ebspub.localcloud.hosts.base import XEN_FAMILIES, Host, HostSpec
from ebspub.localcloud.hosts.userdata import Seed, UserDataError, parse

log = logging.getLogger(__name__)

_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
#: Seconds for which an instance waits for its root volume.
_ROOT_PATIENCE = 60.0
#: Graviton families: a1, and those with a g after the generation (t4g, m6gd, c7gn).
_ARM_FAMILY = re.compile(r"a1|[a-z]+\d+g[a-z]*")


class CloudInstance(Instance):  # type: ignore[misc, unused-ignore]
    """An instance with a builder behind it."""

    def __init__(self, ec2_backend: Any, *args: Any, **kwargs: Any) -> None:
        self.born = now()
        self.ended: float | None = None
        self.address = ""
        #: The console of the boot before, and when the instance was stopped; when it was started again.
        self.console_output, self.console_at = "", utcnow()
        self.started = 0.0
        #: Held while the builder is started or stopped, so that neither overtakes the other.
        self.switch = threading.Lock()
        super().__init__(ec2_backend, *args, **kwargs)
        self.region_name = ec2_backend.region_name
        self.become("pending")

    def become(self, state: str) -> InstanceState:
        """Change the state; returns the previous one."""
        previous = copy.copy(self._state)
        self._state = InstanceState(state, _CODES[state])
        return previous

    @property
    def private_ip(self) -> str:
        """The builder's loopback address."""
        return self.address

    @property
    def gone(self) -> bool:
        """Whether it is terminated or will be."""
        return self.state in {"shutting-down", "terminated"}

    private_ip_address = public_ip = public_ip_address = private_ip

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        """The mappings with the attachments' own states."""
        result = []
        for device, block in self.get_block_device_mapping:
            shown = copy.copy(block)
            attachment = self.ec2_backend.get_volume(block.volume_id).attachment
            # `busy` is a state of an attachment, but not of an instance's mapping.
            shown.status = {"busy": "detaching"}.get(attachment.status, attachment.status)
            result.append({"DeviceName": device, "Ebs": shown})
        return result

    def add_block_device(
        self,
        size: int,
        device_path: str,
        snapshot_id: str | None,
        encrypted: bool,
        delete_on_termination: bool,
        *rest: Any,
        **more: Any,
    ) -> None:
        del rest, encrypted
        volume = self.ec2_backend.create_volume(
            size, self._placement.zone, snapshot_id, volume_type=more.get("volume_type")
        )
        self.ec2_backend.attach_at_launch(volume, self.id, device_path, delete_on_termination)

    def start(self) -> InstanceState:
        if self.state != "stopped":
            refuse(
                "IncorrectInstanceState", f"The instance '{self.id}' is not in a state from which it can be started."
            )
        previous = self.become("pending")
        self.started = now()
        self.ec2_backend.boot(self)
        return previous

    def stop(self) -> InstanceState:
        if self.state not in {"running", "pending"}:
            refuse(
                "IncorrectInstanceState", f"The instance '{self.id}' is not in a state from which it can be stopped."
            )
        previous = self.become("stopping")
        self.ec2_backend.end(self, "stopped", "Client.UserInitiatedShutdown")
        return previous

    def terminate(self) -> InstanceState:
        if self.gone:
            return copy.copy(self._state)
        previous = self.become("shutting-down")
        self.ec2_backend.end(self, "terminated", "Client.UserInitiatedShutdown")
        return previous

    def reboot(self) -> None:
        if self.state != "running":
            refuse("IncorrectState", f"Instance '{self.id}' is not 'running'.")
        host = self.ec2_backend.world.hosts.get(self.id)
        if host is not None:
            self.ec2_backend.world.background(host.reboot)


class InstanceBackend(ImageBackend, VolumeBackend):
    """Instances of one region."""

    def run_instances(
        self, image_id: str, count: int, user_data: Any, security_group_names: list[str], **kwargs: Any
    ) -> Reservation:
        image = self.available_image(image_id)
        key_name = kwargs.get("key_name")
        if key_name and key_name not in self.key_pairs:
            raise InvalidKeyPairNameError([key_name])
        instance_type = kwargs["instance_type"]
        self._check_type(instance_type, image)
        zone = self._zone(kwargs)
        if not self.world.has_capacity(zone, instance_type):
            refuse(
                "InsufficientInstanceCapacity",
                f"We currently do not have sufficient {instance_type} capacity in the Availability Zone ({zone}).",
            )
        if not kwargs.get("subnet_id") and not kwargs.get("nics"):
            kwargs["placement"] = zone
        kwargs["block_device_mappings"] = _launch_mappings(image, kwargs.get("block_device_mappings", []))
        # What moto checks with these was checked above; it knows neither today's regions nor yesterday's types.
        kwargs.pop("region_name", None)
        placement = kwargs.pop("placement", None)
        kwargs["is_instance_type_default"] = True
        if placement:
            kwargs["subnet_id"] = self.get_default_subnets()[placement].id
        # Every builder has a public address.
        kwargs["associate_public_ip"] = False
        reservation = super().run_instances(image_id, count, user_data, security_group_names, **kwargs)
        for instance in cast(list[CloudInstance], reservation.instances):
            instance.address = self.world.addresses.take()
            self._make_host(instance)
            self.boot(instance)
        return reservation

    def get_instance(self, instance_id: str) -> CloudInstance:
        return cast(CloudInstance, super().get_instance(instance_id))

    def boot(self, instance: CloudInstance) -> None:
        """Start the builder in the background; the instance runs when it has, and the delay is over."""
        begin = now()

        def start() -> None:
            self._await_root(instance)
            self._start_host(instance)
            left = self.world.settings.delays.instance_pending - (now() - begin)
            self.world.later(max(0.0, left), lambda: self._runs(instance))

        self.world.background(lambda: self._or_fail(instance, start))

    def _await_root(self, instance: CloudInstance) -> None:
        """Wait until the root volume is filled from its snapshot."""
        deadline = now() + _ROOT_PATIENCE
        while self._root(instance).word == "creating" and now() < deadline:
            time.sleep(0.02)

    def _root(self, instance: CloudInstance) -> CloudVolume:
        return self.get_volume(instance.block_device_mapping[instance.root_device_name].volume_id)

    def _start_host(self, instance: CloudInstance) -> None:
        """Start the builder, unless the instance was ended meanwhile."""
        with instance.switch:
            host = self.world.hosts.get(instance.id)
            if host is not None and instance.state in {"pending", "running"}:
                host.start(lambda why: self._host_ended(instance, why))

    def end(self, instance: CloudInstance, state: str, reason: str) -> None:
        """Stop the builder in the background; then the instance is ``state`` (stopped, terminated)."""
        delays = self.world.settings.delays
        delay = delays.instance_stopping if state == "stopped" else delays.instance_shutting_down
        begin = now()
        instance.state_reason = StateReason(f"{reason}: {reason.partition('.')[2]}", reason)
        instance._reason = f"User initiated ({utcnow():%Y-%m-%d %H:%M:%S} UTC)"

        def stop() -> None:
            try:
                self._stop_host(instance, discard=state == "terminated")
            except Exception:
                # EC2 ends an instance whatever its host does; it would be on its way for ever. The log has the
                # traceback, and what is left of the builder is found when the cloud ends.
                log.exception("%s: the builder does not end as it should", instance.id)
            left = delay - (now() - begin)
            finish = self._stopped if state == "stopped" else self._terminated
            self.world.later(max(0.0, left), lambda: finish(instance))

        self.world.background(stop)

    def _stop_host(self, instance: CloudInstance, *, discard: bool) -> None:
        host = self.world.hosts.get(instance.id)
        if host is None:
            return
        with instance.switch:
            host.stop()
            instance.console_output, instance.console_at = host.console(), utcnow()
            if discard:
                host.discard()

    def kill_host(self, instance_id: str) -> None:
        """Let the builder die at once, as if its hardware had failed: the instance terminates."""
        instance = self.get_instance(instance_id)
        instance.become("shutting-down")
        self.end(instance, "terminated", "Server.InternalError")

    def console(self, instance_id: str) -> tuple[datetime, bytes]:
        """Return when the boot log of a builder was posted, and what it says, encoded as GetConsoleOutput does."""
        instance = self.get_instance(instance_id)
        host: Host | None = self.world.hosts.get(instance_id)
        late = instance.started and now() < instance.started + self.world.settings.delays.console_posting
        posted, text = instance.console_at, instance.console_output
        if host is not None and not (instance.gone or instance.state == "stopped" or late):
            posted, text = utcnow(), host.console()
        return posted, base64.b64encode(text[-65536:].encode())

    def delete_security_group(self, name: str | None = None, group_id: str | None = None) -> None:
        for instance in self.all_instances():
            groups = [*instance.security_groups, *(g for nic in instance.nics.values() for g in nic.group_set)]
            if instance.state != "terminated" and any(g.id == group_id or g.name == name for g in groups):
                refuse("DependencyViolation", f"resource {group_id or name} has a dependent object")
        super().delete_security_group(name, group_id)

    def _check_type(self, instance_type: str, image: CloudImage) -> None:
        family = instance_type.partition(".")[0]
        if instance_type not in INSTANCE_TYPES and family not in XEN_FAMILIES:
            refuse("InvalidParameterValue", f"Invalid value '{instance_type}' for InstanceType.")
        arm = _ARM_FAMILY.fullmatch(family) is not None
        if arm != (image.architecture == "arm64"):
            refuse(
                "InvalidParameterValue",
                f"The architecture '{'arm64' if arm else 'i386,x86_64'}' of the specified instance type does not match"
                f" the architecture '{image.architecture}' of the specified AMI.",
            )

    def _zone(self, kwargs: Mapping[str, Any]) -> str:
        """Return the zone that the instance will be in."""
        subnet_id = kwargs.get("subnet_id") or next(
            (n["SubnetId"] for n in kwargs.get("nics", []) if "SubnetId" in n), ""
        )
        if subnet_id:
            zone: str = self.get_subnet(subnet_id).availability_zone
            return zone
        zones = sorted(self.get_default_subnets())
        wanted = kwargs.get("placement") or zones[0]
        if wanted not in zones:
            refuse("InvalidParameterValue", f"Invalid availability zone: [{wanted}]")
        return str(wanted)

    def _make_host(self, instance: CloudInstance) -> None:
        world = self.world
        try:
            seed = parse(base64.b64decode(str(instance.user_data))) if instance.user_data else Seed()
        except UserDataError as error:
            log.warning("%s: %s", instance.id, error)
            seed = Seed()
        keys = list(seed.ssh_authorized_keys)
        if instance.key_name:
            keys.append(self.key_pairs[instance.key_name].material_public.decode())
        folder = world.folder / "hosts" / instance.id
        own = self.image(str(instance.image_id)).owner_id == self.account_id
        root = world.volume_file(self._root(instance).id) if own else None
        spec = HostSpec(instance.id, instance.instance_type, instance.address, world.port, folder, seed, keys, root)
        world.make_host(spec)

    def _or_fail(self, instance: CloudInstance, start: Any) -> None:
        try:
            start()
        except Exception:
            # Whatever keeps a builder from starting (a program, the kernel, a defect of ours) is told as EC2 tells a
            # broken host: the instance ends. It would be `pending` for ever; the log has the traceback.
            log.exception("%s: the builder does not start", instance.id)
            with self.world.lock:
                instance.become("shutting-down")
                self.end(instance, "terminated", "Server.InternalError")

    def _runs(self, instance: CloudInstance) -> None:
        if instance.state != "pending":
            return
        instance.become("running")
        for device in list(instance.block_device_mapping):
            attachment = self.get_volume(instance.block_device_mapping[device].volume_id).attachment
            if attachment is not None:
                self._plug_when_filled(attachment)

    def _plug_when_filled(self, attachment: Any) -> None:
        """A volume that is still being filled from its snapshot appears when it is ready."""
        if (
            attachment.device != attachment.instance.root_device_name
            and self.get_volume(attachment.volume.id).word == "creating"
        ):
            again = self.world.locked(lambda: self._plug_when_filled(attachment))
            self.world.timers.later(0.05, again)
        else:
            self.plug(attachment)

    def _host_ended(self, instance: CloudInstance, why: str) -> None:
        """The builder's first process ended by itself, or a reboot was asked for."""
        with self.world.lock:
            if instance.state not in {"pending", "running"} or instance.id not in self.world.hosts:
                return
            if why == "reboot":
                self.world.background(lambda: self._or_fail(instance, lambda: self._start_host(instance)))
                return
            stays = why == "poweroff" and instance.instance_initiated_shutdown_behavior == "stop"
            reason = "Client.InstanceInitiatedShutdown" if why == "poweroff" else "Server.InternalError"
            instance.become("stopping" if stays else "shutting-down")
            self.end(instance, "stopped" if stays else "terminated", reason)

    def _stopped(self, instance: CloudInstance) -> None:
        if instance.state == "stopping":
            instance.become("stopped")

    def _terminated(self, instance: CloudInstance) -> None:
        if instance.state == "terminated":
            return
        for _, block in instance.get_block_device_mapping:
            volume = self.get_volume(block.volume_id)
            if volume.attachment is not None:
                self.release(volume.attachment)
                volume.word = "available"
                if block.delete_on_termination:
                    self.delete_volume(block.volume_id)
        for nic in list(instance.nics.values()):
            nic.stop()
            nic.delete()
        instance.become("terminated")
        instance.ended = now()
        self.world.hosts.pop(instance.id, None)
        self.world.addresses.give_back(instance.address)


def _launch_mappings(image: CloudImage, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the block devices of a launch: the image's root, and what the call changes or adds."""
    # Of the public builder images there is no content: a builder has a root of its own.
    root: dict[str, Any] = {"VolumeSize": image.root_size, "VolumeType": "gp2", "DeleteOnTermination": True}
    root["SnapshotId"] = image.root_snapshot
    devices: dict[str, dict[str, Any]] = {image.root_device_name: {"DeviceName": image.root_device_name, "Ebs": root}}
    for mapping in asked:
        if mapping.get("VirtualName") or mapping.get("NoDevice") is not None:
            continue
        given = {key: value for key, value in mapping["Ebs"].items() if value is not None}
        if mapping["DeviceName"] == image.root_device_name:
            given = {**root, **given, "SnapshotId": root["SnapshotId"]}
        devices[mapping["DeviceName"]] = {"DeviceName": mapping["DeviceName"], "Ebs": given}
    return list(devices.values())
