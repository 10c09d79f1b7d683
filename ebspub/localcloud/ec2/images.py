"""Images: what RegisterImage was told is what DescribeImages answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import InvalidAMIIdError
from moto.ec2.models.amis import Ami
from moto.ec2.utils import random_ami_id

from ebspub.localcloud.ec2 import builders
from ebspub.localcloud.ec2.access import AccessResponse
from ebspub.localcloud.ec2.base import now, outcome
from ebspub.localcloud.ec2.direct import DirectBackend
from ebspub.localcloud.ec2.errors import refuse

#: EC2 API reference, RegisterImage, Name.
_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")
_ARCHITECTURES = {"i386", "x86_64", "arm64", "x86_64_mac", "arm64_mac"}
_BOOT_MODES = {None, "legacy-bios", "uefi", "uefi-preferred"}


class CloudImage(Ami):  # type: ignore[misc, unused-ignore]
    """An image with all that it was registered with. moto's own constructor would make a volume and a snapshot."""

    def __init__(self, backend: Any, image_id: str, params: Mapping[str, Any], *, owner_id: str) -> None:
        self.ec2_backend = backend
        self.born = now()
        self.id = image_id
        self.name = params["Name"]
        self.state = "pending"
        self.description = params.get("Description") or ""
        self.owner_id = owner_id
        self.owner_alias = None
        self.architecture = params.get("Architecture") or "i386"
        self.virtualization_type = params.get("VirtualizationType") or "paravirtual"
        self.root_device_name = params.get("RootDeviceName") or "/dev/sda1"
        self.root_device_type = "ebs"
        self.kernel_id = params.get("KernelId")
        self.ramdisk_id: str | None = params.get("RamdiskId")
        self.mappings: list[dict[str, Any]] = params.get("BlockDeviceMappings", [])
        self.ena_support: bool = params.get("EnaSupport") or False
        self.sriov_net_support: str | None = params.get("SriovNetSupport")
        self.boot_mode = cast(str, params.get("BootMode"))  # moto knows no image without
        self.imds_support: str | None = params.get("ImdsSupport")
        self.tpm_support: str | None = params.get("TpmSupport")
        self.uefi_data: str | None = params.get("UefiData")
        self.creation_date = datetime.now(UTC).replace(tzinfo=None)
        self.deprecation_time: datetime | None = None
        self.launch_permissions = []
        self.image_type, self.hypervisor, self.platform = "machine", "xen", None
        self.product_codes = set()
        self.instance_id = None

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        """The mappings as DescribeImages gives them."""
        return self.mappings

    @property
    def snapshot_ids(self) -> set[str]:
        """Every snapshot that the image needs."""
        return {m["Ebs"]["SnapshotId"] for m in self.mappings if m.get("Ebs", {}).get("SnapshotId")}

    @property
    def root_snapshot(self) -> str | None:
        """The snapshot that an instance's root is made of; None for the public builder images: they have no content."""
        found = next((m["Ebs"]["SnapshotId"] for m in self.mappings if m["DeviceName"] == self.root_device_name), None)
        return found if found in self.ec2_backend.snapshots else None

    @property
    def root_size(self) -> int:
        """Size of the root volume in GiB."""
        size: int = next(m["Ebs"]["VolumeSize"] for m in self.mappings if m["DeviceName"] == self.root_device_name)
        return size

    def described(self) -> dict[str, Any]:
        """Return the image as DescribeImages answers it."""
        return {
            "ImageId": self.id,
            "Name": self.name,
            "Description": self.description,
            "State": self.state,
            "StateReason": {"Code": "Server.InternalError", "Message": "it failed"} if self.state == "failed" else None,
            "OwnerId": self.owner_id,
            "ImageOwnerAlias": self.owner_alias,
            "ImageLocation": f"{self.owner_id}/{self.name}",
            "Public": self.is_public,
            "Architecture": self.architecture,
            "ImageType": self.image_type,
            "VirtualizationType": self.virtualization_type,
            "Hypervisor": self.hypervisor,
            "RootDeviceName": self.root_device_name,
            "RootDeviceType": self.root_device_type,
            "BlockDeviceMappings": self.mappings,
            "KernelId": self.kernel_id,
            "RamdiskId": self.ramdisk_id,
            "EnaSupport": self.ena_support,
            "SriovNetSupport": self.sriov_net_support,
            "BootMode": self.boot_mode,
            "ImdsSupport": self.imds_support,
            "TpmSupport": self.tpm_support,
            "CreationDate": self.creation_date,
            "DeprecationTime": self.deprecation_time and self.deprecation_time.strftime("%Y-%m-%dT%H:%M:00.000Z"),
            "Tags": self.tag_set,
        }

    def get_filter_value(self, filter_name: str, method_name: str | None = None) -> Any:
        if filter_name == "block-device-mapping.snapshot-id":
            return list(self.snapshot_ids) or [""]
        return super().get_filter_value(filter_name, method_name)


class ImageBackend(DirectBackend):
    """Images of one region."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        for arch, architecture in builders.ARCHITECTURES.items():
            self._add_builder(arch, architecture)

    def register(self, params: Mapping[str, Any]) -> CloudImage:
        """Register what ``params`` (RegisterImage's) say; the image is pending at first."""
        self._check_name(params.get("Name") or "")
        if (params.get("Architecture") or "i386") not in _ARCHITECTURES:
            refuse("InvalidParameterValue", f"Invalid value '{params['Architecture']}' for architecture.")
        if params.get("BootMode") not in _BOOT_MODES:
            refuse("InvalidParameterValue", f"Invalid value '{params['BootMode']}' for bootMode.")
        if params.get("TpmSupport") and params.get("BootMode") != "uefi":
            refuse("InvalidParameterCombination", "TpmSupport is for images with the boot mode uefi only.")
        if params.get("UefiData") and params.get("BootMode") not in {"uefi", "uefi-preferred"}:
            refuse("InvalidParameterCombination", "UefiData is for images that boot by UEFI only.")
        mappings = [self._mapping(given) for given in params.get("BlockDeviceMappings", [])]
        root = params.get("RootDeviceName") or "/dev/sda1"
        if not any(m["DeviceName"] == root and m.get("Ebs", {}).get("SnapshotId") for m in mappings):
            refuse("InvalidBlockDeviceMapping", f"The root device '{root}' has no snapshot in the mappings.")
        complete = {**params, "BlockDeviceMappings": mappings}
        image = CloudImage(self, random_ami_id(), complete, owner_id=self.account_id)
        self._appears(image)
        return image

    def copy_image(
        self, source_image_id: str, source_region: str, name: str | None = None, description: str | None = None
    ) -> CloudImage:
        # CopyImage does not enforce unique names.
        there = cast(ImageBackend, self.in_region(source_region))
        origin = there.available_image(source_image_id)
        params = origin.described() | {"Name": name or origin.name, "Description": description or origin.description}
        params["UefiData"] = origin.uefi_data
        params["BlockDeviceMappings"] = [self._copied(mapping, source_region) for mapping in origin.mappings]
        image = CloudImage(self, random_ami_id(), params, owner_id=self.account_id)
        self._appears(image)
        return image

    def image(self, image_id: str) -> CloudImage:
        """Return the image; ``InvalidAMIID.NotFound`` or ``.Malformed`` when there is none."""
        if not image_id.startswith("ami-"):
            refuse("InvalidAMIID.Malformed", f'Invalid id: "{image_id}"')
        if image_id not in self.amis:
            raise InvalidAMIIdError(image_id)
        return cast(CloudImage, self.amis[image_id])

    def available_image(self, image_id: str) -> CloudImage:
        """Return the image if it is available; ``InvalidAMIID.Unavailable`` otherwise."""
        image = self.image(image_id)
        if image.state != "available":
            refuse("InvalidAMIID.Unavailable", f"The image ID '{image_id}' is {image.state}.")
        return image

    def _appears(self, image: CloudImage) -> None:
        self.amis[image.id] = image
        end = "failed" if self.world.is_doomed("image") else "available"

        def settle() -> None:
            if image.state == "pending":
                if any(self.get_snapshot(s).status == "pending" for s in image.snapshot_ids):
                    self.world.timers.later(0.1, self.world.locked(settle))
                else:
                    image.state = end

        self.world.later(self.world.settings.delays.image_pending, settle)

    def _check_name(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            refuse("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long of EC2's set.")
        for other in self.amis.values():
            if other.name == name and other.owner_id == self.account_id:
                refuse("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {other.id}")

    def _mapping(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a mapping of RegisterImage with what EC2 fills in."""
        if "Ebs" not in given:
            return dict(given)
        ebs = dict(given["Ebs"])
        if snapshot_id := ebs.get("SnapshotId"):
            snapshot = self.get_snapshot(snapshot_id)
            if "Encrypted" in ebs or "KmsKeyId" in ebs:
                # API reference: with a snapshot, the state of encryption cannot be told.
                refuse("InvalidParameterCombination", "The encryption of a snapshot's volume cannot be specified.")
            if snapshot.status != "completed":
                refuse("IncorrectState", f"Snapshot '{snapshot_id}' is {snapshot.status}, not completed.")
            if ebs.setdefault("VolumeSize", snapshot.volume_size) < snapshot.volume_size:
                refuse("InvalidBlockDeviceMapping", f"Volume is smaller than snapshot '{snapshot_id}'.")
        ebs.setdefault("VolumeType", "standard")
        ebs.setdefault("DeleteOnTermination", True)
        ebs.setdefault("Encrypted", bool(snapshot_id) and self.get_snapshot(str(snapshot_id)).encrypted)
        return {**given, "Ebs": ebs}

    def _copied(self, mapping: Mapping[str, Any], source_region: str) -> dict[str, Any]:
        snapshot_id = mapping.get("Ebs", {}).get("SnapshotId")
        if snapshot_id is None:
            return dict(mapping)
        copy = self.copy_snapshot(snapshot_id, source_region, f"Copied from {snapshot_id}", None)
        return {**mapping, "Ebs": {**mapping["Ebs"], "SnapshotId": copy.id}}

    def _add_builder(self, arch: str, architecture: str) -> None:
        image_id = builders.image_id(self.region_name, arch)
        root = {"SnapshotId": "snap-" + image_id.removeprefix("ami-"), "VolumeSize": 8, "VolumeType": "gp3"}
        params = {
            "Name": builders.name(arch),
            "Description": f"Canonical, Ubuntu, 24.04, {arch} noble image",
            "Architecture": architecture,
            "VirtualizationType": "hvm",
            "BlockDeviceMappings": [
                {"DeviceName": "/dev/sda1", "Ebs": {**root, "DeleteOnTermination": True, "Encrypted": False}},
                {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"},
            ],
            "EnaSupport": True,
            "SriovNetSupport": "simple",
            "BootMode": "uefi-preferred" if arch == "amd64" else "uefi",
            "ImdsSupport": "v2.0",
        }
        image = CloudImage(self, image_id, params, owner_id=builders.OWNER)
        image.owner_alias, image.state, image.born = "amazon", "available", float("-inf")
        image.creation_date = builders.CREATED.replace(tzinfo=None)
        image.launch_permissions.append({"Group": "all"})
        self.amis[image_id] = image


class ImageResponse(AccessResponse):
    """Calls about images."""

    def register_image(self) -> ActionResult:
        tags = self._parse_tag_specification("image").get("image", {})
        self.error_on_dryrun()
        image = self.cloud.register(self.params)
        image.add_tags(tags)
        return ActionResult({"ImageId": image.id})

    def copy_image(self) -> ActionResult:
        self.error_on_dryrun()
        tags = self._parse_tag_specification().get("image", {})

        def make() -> str:
            image_id: str = outcome(super(ImageResponse, self).copy_image())["ImageId"]
            self.cloud.image(image_id).add_tags(tags)
            return image_id

        return ActionResult({"ImageId": self.once("CopyImage", make)})

    def describe_images(self) -> ActionResult:
        asked = self._get_param("ImageIds", [])
        for image_id in asked:
            self.cloud.image(image_id)
        images = outcome(super().describe_images())["Images"]
        filtered = asked if not self._get_param("Filters") and not self._get_param("Owners") else []
        return ActionResult({"Images": [i.described() for i in self.seen(images, filtered, "InvalidAMIID.NotFound")]})

    def modify_image_attribute(self) -> ActionResult:
        self.error_on_dryrun()
        image = self.cloud.available_image(self._get_param("ImageId"))
        description = self._get_param("Description.Value")
        if description is None:
            self.modify_image_launch(image)
            return EmptyResult()
        result = super().modify_image_attribute()
        if description is not None:
            image.description = description
        return result

    def describe_image_attribute(self) -> ActionResult:
        image = self.cloud.image(self._get_param("ImageId"))
        if self._get_param("Attribute") == "uefiData":
            return ActionResult({"ImageId": image.id, "UefiData": {"Value": image.uefi_data or ""}})
        return super().describe_image_attribute()

    def enable_image_deprecation(self) -> ActionResult:
        image = self.cloud.available_image(self._get_param("ImageId"))
        self.error_on_dryrun()
        image.deprecation_time = self._get_param("DeprecateAt")
        return ActionResult({"Return": True})

    def disable_image_deprecation(self) -> ActionResult:
        image = self.cloud.image(self._get_param("ImageId"))
        self.error_on_dryrun()
        image.deprecation_time = None
        return ActionResult({"Return": True})
