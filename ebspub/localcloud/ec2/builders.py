"""The public builder images that every region knows, and the SSM parameters that name them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import moto.ssm.urls
from moto.ssm.exceptions import ValidationException
from moto.ssm.models import Parameter, SimpleSystemManagerBackend

#: Canonical's account.
OWNER = "099720109477"
SERIAL = "20250610"
ARCHITECTURES = {"amd64": "x86_64", "arm64": "arm64"}
PARAMETER = "/aws/service/canonical/ubuntu/server/24.04/stable/current/{arch}/hvm/ebs-gp3/ami-id"
CREATED = datetime(2025, 6, 10, 12, 0, 0, tzinfo=UTC)


def image_id(region: str, arch: str) -> str:
    """Return the id of the builder image of an arch (amd64, arm64) in a region; it is the same in every cloud."""
    return "ami-" + hashlib.sha256(f"{region}/{arch}".encode()).hexdigest()[:17]


def name(arch: str) -> str:
    """Return the name of the builder image of an arch."""
    return f"ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-server-{SERIAL}"


class ParameterBackend(SimpleSystemManagerBackend):  # type: ignore[misc, unused-ignore]
    """moto's SSM with Canonical's public parameters."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self._add_parameters()

    @property
    def _url_module(self) -> Any:
        return moto.ssm.urls  # moto would look beside this module

    def put_parameter(self, name: str, description: str, value: str, *args: Any, **kwargs: Any) -> Parameter:
        """Keep a parameter. Of the data type `aws:ec2:image` it must be an AMI of the region: SSM sees to that itself.

        It does so a moment later, and then keeps the value that was there; here the call is refused.
        """
        from moto.ec2.models import ec2_backends

        typed = "aws:ec2:image" in (*args, *kwargs.values())
        if typed and value not in ec2_backends[self.account_id][self.region_name].amis:
            raise ValidationException(f"Invalid parameter value: {value} is no AMI of this Region.")
        return super().put_parameter(name, description, value, *args, **kwargs)

    def _add_parameters(self) -> None:
        for arch in ARCHITECTURES:
            parameter = PARAMETER.format(arch=arch)
            self._parameters[parameter].append(
                Parameter(  # type: ignore[abstract]
                    account_id=self.account_id,
                    name=parameter,
                    value=image_id(self.region_name, arch),
                    parameter_type="String",
                    description=None,
                    allowed_pattern=None,
                    keyid=None,
                    last_modified_date=CREATED.replace(tzinfo=None),
                    version=1,
                    data_type="aws:ec2:image",
                )
            )
