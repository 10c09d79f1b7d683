"""Who may use images and snapshots: the quota of public images, what an account forbids itself, and permissions."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult

from ebspub.localcloud.ec2.base import NounResponse
from ebspub.localcloud.ec2.errors import refuse

_EVERYBODY = {"Group": "all"}
_KEYS = ("Group", "UserId", "OrganizationArn", "OrganizationalUnitArn")
_OFF = "unblocked"
_IMAGE_STATES = {"block-new-sharing"}
_SNAPSHOT_STATES = {"block-new-sharing", "block-all-sharing"}


class AccessResponse(NounResponse):
    """Calls about permissions, which moto answers in part: of organizations it knows one each, of blocks nothing."""

    def modify_image_launch(self, image: Any) -> None:
        """Change who may launch ``image``: all forms of the call, everybody only where that is allowed."""
        add, remove = self._launch_changes()
        if _EVERYBODY in add and _EVERYBODY not in image.launch_permissions:
            self._refuse_public_image(image)
        for item in add:
            if item not in image.launch_permissions:
                image.launch_permissions.append(item)
        image.launch_permissions[:] = [item for item in image.launch_permissions if item not in remove]

    def _launch_changes(self) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        told = self._get_param("LaunchPermission", {}) or {}
        add, remove = list(told.get("Add", [])), list(told.get("Remove", []))
        listed = [{"Group": each} for each in self._get_param("UserGroups", [])]
        listed += [{"UserId": each} for each in self._get_param("UserIds", [])]
        listed += [{"OrganizationArn": each} for each in self._get_param("OrganizationArns", [])]
        listed += [{"OrganizationalUnitArn": each} for each in self._get_param("OrganizationalUnitArns", [])]
        {"add": add, "remove": remove, None: []}[self._get_param("OperationType")].extend(listed)
        return [_whole(item) for item in add], [_whole(item) for item in remove]

    def _refuse_public_image(self, image: Any) -> None:
        if self.cloud.images_blocked != _OFF:
            refuse(
                "OperationNotPermitted",
                "You can't publicly share this image because block public access for AMIs is enabled for this account.",
            )
        if any(mapping.get("Ebs", {}).get("Encrypted") for mapping in image.mappings):
            refuse("InvalidParameter", "Images with encrypted snapshots can't be shared publicly.")
        amis: Any = self.cloud.amis.values()
        mine = [each for each in amis if each.owner_id == self.cloud.account_id and each.is_public]
        if len(mine) >= self.cloud.world.settings.public_images:
            refuse("ResourceLimitExceeded", "You have reached your quota for the number of public images.")

    def modify_snapshot_attribute(self) -> ActionResult:
        self.error_on_dryrun()
        snapshot = self.cloud.get_snapshot(self._get_param("SnapshotId"))
        groups = self._get_param("GroupNames", [])
        if groups and self._get_param("UserIds", []):
            refuse("InvalidParameterCombination", "Groups and users cannot be changed in one call.")
        public = self._get_param("OperationType") == "add" and groups
        if public and self.cloud.snapshots_blocked != _OFF:
            refuse(
                "OperationNotPermitted",
                "You can't publicly share this snapshot: block public access for snapshots is on in this Region.",
            )
        if public and snapshot.encrypted:
            refuse("OperationNotPermitted", "Encrypted snapshots cannot be shared publicly.")
        return super().modify_snapshot_attribute()

    def create_tags(self) -> ActionResult:
        self.error_on_dryrun()
        return super().create_tags()

    def get_image_block_public_access_state(self) -> ActionResult:
        return ActionResult({"ImageBlockPublicAccessState": self.cloud.images_blocked})

    def enable_image_block_public_access(self) -> ActionResult:
        self.error_on_dryrun()
        self.cloud.images_blocked = _state(self._get_param("ImageBlockPublicAccessState"), _IMAGE_STATES)
        return ActionResult({"ImageBlockPublicAccessState": self.cloud.images_blocked})

    def disable_image_block_public_access(self) -> ActionResult:
        self.error_on_dryrun()
        self.cloud.images_blocked = _OFF
        return ActionResult({"ImageBlockPublicAccessState": _OFF})

    def get_snapshot_block_public_access_state(self) -> ActionResult:
        return ActionResult({"State": self.cloud.snapshots_blocked, "ManagedBy": "account"})

    def enable_snapshot_block_public_access(self) -> ActionResult:
        self.error_on_dryrun()
        self.cloud.snapshots_blocked = _state(self._get_param("State"), _SNAPSHOT_STATES)
        return ActionResult({"State": self.cloud.snapshots_blocked})

    def disable_snapshot_block_public_access(self) -> ActionResult:
        self.error_on_dryrun()
        self.cloud.snapshots_blocked = _OFF
        return ActionResult({"State": _OFF})


def _whole(item: dict[str, str]) -> dict[str, str]:
    """Return a permission as DescribeImageAttribute gives it back."""
    found = {key: item[key] for key in _KEYS if item.get(key)}
    if len(found) != 1 or found.get("Group", "all") != "all":
        refuse("InvalidAMIAttributeItemValue", "Invalid attribute item value for launchPermission.")
    account = found.get("UserId", "0" * 12)
    if len(account) != 12 or not account.isdigit():
        refuse("InvalidAMIAttributeItemValue", f'Invalid attribute item value "{account}" for userId item type.')
    return found


def _state(asked: str, possible: set[str]) -> str:
    if asked not in possible:
        refuse("InvalidParameterValue", f"Value ({asked}) is not one of {sorted(possible)}.")
    return asked
