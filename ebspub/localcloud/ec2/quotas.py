"""Service Quotas: of EC2's, the one of public AMIs."""

from __future__ import annotations

from typing import Any, ClassVar

import moto.servicequotas.urls
from moto.servicequotas.models import ServiceQuotasBackend

from ebspub.localcloud.world import World

_PUBLIC_AMIS = "L-0E3CBAB9"


class QuotaBackend(ServiceQuotasBackend):  # type: ignore[misc, unused-ignore]
    """moto's Service Quotas, which know those of VPCs only."""

    world: ClassVar[World]

    @property
    def _url_module(self) -> Any:
        return moto.servicequotas.urls  # moto would look beside this module

    def get_service_quota(self, service_code: str, quota_code: str) -> dict[str, Any]:
        if (service_code, quota_code) != ("ec2", _PUBLIC_AMIS):
            return super().get_service_quota(service_code, quota_code)
        value = float(self.world.settings.public_images)
        return {"ServiceCode": "ec2", "QuotaCode": _PUBLIC_AMIS, "QuotaName": "Public AMIs", "Value": value}
