"""Volumes and their attachments: sparse files that take time to appear."""

from __future__ import annotations

import os
from typing import Any, cast

from moto.core.responses import ActionResult
from moto.ec2.exceptions import VolumeInUseError
from moto.ec2.models.elastic_block_store import Volume, VolumeAttachment

from ebspub.localcloud import sparse
from ebspub.localcloud.ec2.base import NounBackend, NounResponse, now, outcome
from ebspub.localcloud.ec2.errors import refuse
from ebspub.localcloud.hosts.base import Attached

_GP3_THROUGHPUT = 125
_LARGEST = 65536
_BUSY_AGAIN = 0.1


class CloudVolume(Volume):  # type: ignore[misc, unused-ignore]
    """A volume with the states that moto leaves out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.born = now()
        self.word = "creating"

    @property
    def status(self) -> str:
        """EC2's state: creating, available, in-use, error."""
        return "in-use" if self.attachment else self.word


class VolumeBackend(NounBackend):
    """Volumes of one region."""

    def create_volume(
        self, size: int | None, zone_name: str, snapshot_id: str | None = None, *args: Any, **kwargs: Any
    ) -> CloudVolume:
        if self.get_zone_by_name(zone_name) is None:
            refuse("InvalidZone.NotFound", f"The zone '{zone_name}' does not exist.")
        snapshot = self.get_snapshot(snapshot_id) if snapshot_id else None
        if snapshot is not None:
            if snapshot.status != "completed":
                refuse("IncorrectState", f"Snapshot '{snapshot_id}' is not 'completed'.")
            size = size or snapshot.volume_size
            if size < snapshot.volume_size:
                refuse("InvalidParameterValue", f"Volume of {size}GiB is smaller than snapshot '{snapshot_id}'.")
        if size is not None and not 1 <= size <= _LARGEST:
            refuse("InvalidParameterValue", f"Volume of {size}GiB is too small or too large.")
        made: Any = super().create_volume(size, zone_name, snapshot_id, *args, **kwargs)  # type: ignore[arg-type]
        volume: CloudVolume = made
        if volume.volume_type == "gp3" and volume.throughput is None:
            volume.throughput = _GP3_THROUGHPUT
        if snapshot is None:
            sparse.create(self.world.volume_file(volume.id), volume.size * sparse.GIB)
            self._becomes_available(volume)
        else:
            source = os.open(self.world.snapshot_file(snapshot.id), os.O_RDONLY | os.O_CLOEXEC)
            self.world.background(lambda: self._fill(volume, source))
        return volume

    def get_volume(self, volume_id: str) -> CloudVolume:
        volume: Any = super().get_volume(volume_id)
        return cast(CloudVolume, volume)

    def attach_volume(
        self, volume_id: str, instance_id: str, device_path: str, delete_on_termination: bool = False
    ) -> VolumeAttachment:
        volume, instance = self.get_volume(volume_id), self.get_instance(instance_id)
        if volume.attachment:
            raise VolumeInUseError(volume_id, volume.attachment.instance.id)
        if volume.status != "available":
            refuse("IncorrectState", f"Volume '{volume_id}' is '{volume.status}', not 'available'.")
        if instance.state not in {"running", "stopped"}:
            refuse("IncorrectState", f"Instance '{instance_id}' is not 'running'.")
        if volume.zone.name != instance.placement.zone:
            refuse("InvalidVolume.ZoneMismatch", f"The volume '{volume_id}' is not in the zone of '{instance_id}'.")
        if device_path in instance.block_device_mapping:
            refuse("InvalidParameterValue", f"Invalid value '{device_path}' for unixDevice: it is already in use.")
        attachment = self.attach_at_launch(volume, instance_id, device_path, delete_on_termination)
        if not self.world.is_doomed("attachment"):
            self.world.later(self.world.settings.delays.attaching, lambda: self.plug(attachment))
        return attachment

    def attach_at_launch(
        self, volume: CloudVolume, instance_id: str, device_path: str, delete_on_termination: bool
    ) -> VolumeAttachment:
        """Attach without the checks; the volume stays `attaching` until :meth:`plug`."""
        attachment: Any = super().attach_volume(volume.id, instance_id, device_path, delete_on_termination)
        attachment.status = "attaching"
        return cast(VolumeAttachment, attachment)

    def plug(self, attachment: VolumeAttachment) -> None:
        """Let the builder see the volume; does nothing when it is being detached already."""
        volume, instance = attachment.volume, attachment.instance
        if volume.attachment is not attachment or attachment.status not in {"attaching", "attached"}:
            return
        host = self.world.hosts.get(instance.id)
        file = self.world.volume_file(volume.id)
        if host is not None and instance.state == "running" and attachment.device != instance.root_device_name:
            host.plug(Attached(volume.id, attachment.device, file))
        attachment.status = "attached"

    def detach_volume(
        self, volume_id: str, instance_id: str | None = None, device_path: str | None = None, *, force: bool = False
    ) -> VolumeAttachment:
        volume = self.get_volume(volume_id)
        attachment = volume.attachment
        if attachment is None:
            refuse("IncorrectState", f"Volume '{volume_id}' is in the '{volume.status}' state.")
        if (instance_id and instance_id != attachment.instance.id) or (
            device_path and device_path != attachment.device
        ):
            refuse("InvalidAttachment.NotFound", f"Volume '{volume_id}' is not attached to '{instance_id}' so.")
        instance = attachment.instance
        if attachment.device == instance.root_device_name and instance.state == "running":
            refuse("OperationNotPermitted", f"Unable to detach root volume '{volume_id}' from '{instance.id}'.")
        if attachment.status not in {"detaching", "busy"}:
            attachment.status = "detaching"
            self.world.later(self.world.settings.delays.detaching, lambda: self._unplug(attachment, force=force))
        return attachment

    def release(self, attachment: VolumeAttachment) -> None:
        """End an attachment at once, on the books only: the builder has let go of the volume."""
        attachment.instance.block_device_mapping.pop(attachment.device, None)
        if attachment.volume.attachment is attachment:
            attachment.volume.attachment = None

    def delete_volume(self, volume_id: str) -> Volume:
        volume = super().delete_volume(volume_id)
        self.world.volume_file(volume_id).unlink(missing_ok=True)
        return volume

    def modify_volume(self, volume_id: str, *args: Any, **kwargs: Any) -> Volume:
        volume = super().modify_volume(volume_id, *args, **kwargs)
        sparse.grow(self.world.volume_file(volume_id), volume.size * sparse.GIB)
        return volume

    def _fill(self, volume: CloudVolume, source: int) -> None:
        """Copy a snapshot's content (the open file ``source``) into the volume."""
        file = self.world.volume_file(volume.id)
        try:
            sparse.copy(source, file)
        finally:
            os.close(source)
        with self.world.lock:
            if volume.id in self.volumes:
                sparse.grow(file, volume.size * sparse.GIB)
                self._becomes_available(volume)
            else:
                file.unlink()

    def _becomes_available(self, volume: CloudVolume) -> None:
        def available() -> None:
            volume.word = "available"

        self.world.later(self.world.settings.delays.volume_creating, available)

    def _unplug(self, attachment: VolumeAttachment, *, force: bool) -> None:
        """Take the device away when the builder no longer uses it."""
        if attachment.volume.attachment is not attachment:
            return
        host = self.world.hosts.get(attachment.instance.id)
        volume_id = attachment.volume.id
        if host is not None and not force and host.busy(volume_id):
            attachment.status = "busy"
            self.world.timers.later(_BUSY_AGAIN, self.world.locked(lambda: self._unplug(attachment, force=force)))
            return

        def unplug() -> None:
            if host is not None:
                host.unplug(volume_id)
            with self.world.lock:
                self.release(attachment)

        self.world.background(unplug)


class VolumeResponse(NounResponse):
    """Calls about volumes."""

    def create_volume(self) -> ActionResult:
        self.error_on_dryrun()

        def make() -> str:
            volume_id: str = outcome(super(VolumeResponse, self).create_volume()).id
            return volume_id

        return ActionResult(self.cloud.get_volume(self.once("CreateVolume", make)))

    def describe_volumes(self) -> ActionResult:
        asked = self._get_param("VolumeIds", [])
        volumes = outcome(super().describe_volumes())["Volumes"]
        return ActionResult({"Volumes": self.seen(volumes, asked, "InvalidVolume.NotFound")})

    def detach_volume(self) -> ActionResult:
        self.error_on_dryrun()
        attachment = self.cloud.detach_volume(
            self._get_param("VolumeId"),
            self._get_param("InstanceId"),
            self._get_param("Device"),
            force=self._get_bool_param("Force", False),
        )
        return ActionResult(
            {
                "VolumeId": attachment.volume.id,
                "InstanceId": attachment.instance.id,
                "Device": attachment.device,
                "State": attachment.status,
                "AttachTime": attachment.attach_time,
            }
        )
