"""SSM parameters that hold AMI ids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebspub.aws.answers import listed, said, text
from ebspub.aws.failures import AwsError, calling
from ebspub.aws.tags import chunks

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

#: The data type with which EC2 takes a parameter's name for an AMI (`resolve:ssm:/name`), and SSM checks the id.
IMAGE = "aws:ec2:image"
#: GetParameters: "Array Members: Minimum number of 1 item. Maximum number of 10 items."
_AT_ONCE = 10


def image_id(ssm: SSMClient, image: str) -> str:
    """Return the AMI id that ``image`` names: itself, or the value of the parameter after ``ssm:``."""
    if not image.startswith("ssm:"):
        return image
    with calling("GetParameter"):
        return text(ssm.get_parameter(Name=image.removeprefix("ssm:")).get("Parameter", {}), "Value")


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a parameter holds; ``data_type`` is `aws:ec2:image` where EC2 takes its name for an AMI."""

    value: str
    data_type: str


def read(ssm: SSMClient, names: Iterable[str]) -> dict[str, Parameter]:
    """Return those of some parameters that exist."""
    found: dict[str, Parameter] = {}
    for some in chunks(names, _AT_ONCE):
        with calling("GetParameters"):
            answer = ssm.get_parameters(Names=some)
            for item in listed(answer, "Parameters"):
                found[text(item, "Name")] = Parameter(text(item, "Value"), said(item, "DataType"))
    return found


def put(ssm: SSMClient, name: str, image: str) -> None:
    """Let a parameter hold an AMI id, whatever it held. Parameter Store sees by itself that there is such an AMI."""
    with calling("PutParameter"):
        ssm.put_parameter(Name=name, Value=image, Type="String", DataType=IMAGE, Overwrite=True)


def delete(ssm: SSMClient, name: str) -> None:
    """Remove a parameter; one that is gone already is no error."""
    try:
        with calling("DeleteParameter"):
            ssm.delete_parameter(Name=name)
    except AwsError as error:
        if not error.missing:
            raise
