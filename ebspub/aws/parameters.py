"""SSM parameters that hold AMI ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebspub.aws.answers import text
from ebspub.aws.failures import calling

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient


def image_id(ssm: SSMClient, image: str) -> str:
    """Return the AMI id that ``image`` names: itself, or the value of the parameter after ``ssm:``."""
    if not image.startswith("ssm:"):
        return image
    with calling("GetParameter"):
        return text(ssm.get_parameter(Name=image.removeprefix("ssm:")).get("Parameter", {}), "Value")
