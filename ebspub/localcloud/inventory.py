"""What there is in the cloud, over all regions, read beside the API: no call is logged for it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Resource(BaseModel):
    """One resource. ``state`` is empty for kinds that have none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    region: str
    state: str = ""
    name: str = ""
    tags: dict[str, str] = {}


class InstanceItem(Resource):
    """An instance and how to reach it."""

    type: str
    address: str
    client_token: str = ""


class VolumeItem(Resource):
    """A volume, in GiB, and the instance that it is attached to."""

    size: int
    attached_to: str = ""


class SnapshotItem(Resource):
    """A snapshot, in GiB, and the volume that it was taken of."""

    size: int
    volume_id: str


class ImageItem(Resource):
    """An image of our own; ``name`` is its AMI name."""

    snapshots: list[str]
    public: bool


class Inventory(BaseModel):
    """Everything but what EC2 provides itself (default groups, public builder images, root volumes count)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instances: list[InstanceItem] = []
    volumes: list[VolumeItem] = []
    snapshots: list[SnapshotItem] = []
    images: list[ImageItem] = []
    security_groups: list[Resource] = []
    key_pairs: list[Resource] = []

    def leftovers(self) -> list[str]:
        """Return the ids of all but images, their snapshots and terminated instances: what a job must not leave."""
        needed = {snapshot for image in self.images for snapshot in image.snapshots}
        rest: list[Resource] = [i for i in self.instances if i.state != "terminated"]
        rest += [*self.volumes, *(s for s in self.snapshots if s.id not in needed)]
        rest += [*self.security_groups, *self.key_pairs]
        return [resource.id for resource in rest]
