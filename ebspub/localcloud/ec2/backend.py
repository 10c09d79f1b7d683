"""The parts put together, and put in the place of moto's."""

from __future__ import annotations

from typing import Any

import moto.ec2.models.elastic_block_store as moto_volumes
import moto.ec2.models.instances as moto_instances
import moto.ec2.urls as moto_urls
from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend, Zone
from moto.ec2.utils import filter_dict_attribute_mapping
from moto.servicequotas.models import servicequotas_backends
from moto.ssm.models import ssm_backends

from ebspub.localcloud.ec2.access import AccessResponse
from ebspub.localcloud.ec2.base import NounResponse, outcome
from ebspub.localcloud.ec2.builders import ParameterBackend
from ebspub.localcloud.ec2.images import ImageResponse
from ebspub.localcloud.ec2.instance_calls import InstanceResponse
from ebspub.localcloud.ec2.instances import CloudInstance, InstanceBackend
from ebspub.localcloud.ec2.quotas import QuotaBackend
from ebspub.localcloud.ec2.snapshots import CloudSnapshot, SnapshotResponse
from ebspub.localcloud.ec2.volumes import CloudVolume, VolumeResponse
from ebspub.localcloud.world import World


class CloudBackend(InstanceBackend):
    """EC2 in one region."""


class RegionResponse(NounResponse):
    """Calls about regions."""

    def describe_regions(self) -> ActionResult:
        enabled = self.cloud.world.regions
        everything = self._get_bool_param("AllRegions", False)
        regions: list[Any] = outcome(super().describe_regions())["Regions"]
        return ActionResult({"Regions": [_region(r, enabled) for r in regions if everything or r.name in enabled]})


def _region(region: Any, enabled: frozenset[str]) -> dict[str, str]:
    status = region.opt_in_status
    if status != "opt-in-not-required":
        status = "opted-in" if region.name in enabled else "not-opted-in"
    return {"RegionName": region.name, "Endpoint": region.endpoint, "OptInStatus": status}


class CloudResponse(InstanceResponse, VolumeResponse, SnapshotResponse, ImageResponse, AccessResponse, RegionResponse):
    """Every call that EC2 answers."""


def install(world: World) -> None:
    """Let moto, in this process, serve this world. Must be called before the first request."""
    CloudBackend.world = world
    ec2_backends.backend = CloudBackend
    ssm_backends.backend = ParameterBackend
    QuotaBackend.world = world
    servicequotas_backends.backend = QuotaBackend
    moto_volumes.Volume = CloudVolume  # type: ignore[misc, unused-ignore]
    moto_volumes.Snapshot = CloudSnapshot  # type: ignore[misc, unused-ignore]
    moto_instances.Instance = CloudInstance  # type: ignore[misc, unused-ignore]
    moto_urls.url_paths["{0}/"] = CloudResponse.dispatch
    for region in world.regions:
        # moto does not know the zones of the youngest regions.
        RegionsAndZonesBackend.zones.setdefault(region, [_zone(region, number) for number in (1, 2, 3)])
    filter_dict_attribute_mapping["client-token"] = "client_token"
    filter_dict_attribute_mapping["instance-state-code"] = "state_code"


def _zone(region: str, number: int) -> Zone:
    return Zone(region_name=region, name=region + "_abc"[number], zone_id=f"{region}-az{number}")


def backends() -> list[tuple[str, CloudBackend]]:
    """Return every region that was used so far, with its backend."""
    return [
        (region, backend) for _, region, backend in ec2_backends.iter_backends() if isinstance(backend, CloudBackend)
    ]
