"""Who may use images and snapshots: what is granted is shown, and what EC2 refuses is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ebspub.localcloud import Settings
from tests.localcloud.conftest import SETTINGS
from tests.localcloud.lab import Lab
from tests.localcloud.test_images import described, registration

FRIEND, OTHER = "111122223333", "444455556666"
ARNS = [
    "arn:aws:organizations::111122223333:organization/o-abcdefghij",
    "arn:aws:organizations::111122223333:organization/o-klmnopqrst",
]
UNIT = "arn:aws:organizations::111122223333:ou/o-abcdefghij/ou-abcd-12345678"


@contextmanager
def refused(code: str) -> Iterator[None]:
    """What is called in the block is refused with ``code``."""
    with pytest.raises(ClientError) as told:
        yield
    assert told.value.response["Error"]["Code"] == code


@pytest.fixture
def image(ec2: Any, snapshot: str, name: str) -> str:
    return str(ec2.register_image(**registration(name, snapshot))["ImageId"])


def launchers(ec2: Any, image: str) -> list[dict[str, str]]:
    found = ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")["LaunchPermissions"]
    return sorted(found, key=str)


def allow(ec2: Any, image: str, *items: dict[str, str], key: str = "Add") -> None:
    permission = {key: list(items)}
    ec2.modify_image_attribute(ImageId=image, Attribute="launchPermission", LaunchPermission=permission)


def available(lab: Lab, ec2: Any, image: str) -> None:
    del lab
    ec2.get_waiter("image_available").wait(ImageIds=[image], WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_every_kind_of_principal_is_kept_and_taken_back(lab: Lab, ec2: Any, image: str) -> None:
    available(lab, ec2, image)
    items = [{"Group": "all"}, {"UserId": FRIEND}, {"OrganizationalUnitArn": UNIT}]
    items += [{"OrganizationArn": arn} for arn in ARNS]
    allow(ec2, image, *items)
    allow(ec2, image, *items)  # once more is no error
    assert launchers(ec2, image) == sorted(items, key=str)
    assert described(ec2, image)["Public"] is True
    allow(ec2, image, *items[:-1], {"UserId": OTHER}, key="Remove")
    assert launchers(ec2, image) == [{"OrganizationArn": ARNS[1]}]
    with refused("InvalidAMIAttributeItemValue"):
        allow(ec2, image, {"UserId": "me"})
    allow(ec2, image, {"OrganizationArn": ARNS[1]}, key="Remove")


def test_nothing_is_made_public_where_the_account_forbids_it(lab: Lab, ec2: Any, image: str, snapshot: str) -> None:
    available(lab, ec2, image)
    share = {"SnapshotId": snapshot, "Attribute": "createVolumePermission", "OperationType": "add"}
    ec2.enable_image_block_public_access(ImageBlockPublicAccessState="block-new-sharing")
    ec2.enable_snapshot_block_public_access(State="block-new-sharing")
    try:
        state = ec2.get_image_block_public_access_state()["ImageBlockPublicAccessState"]
        assert (state, ec2.get_snapshot_block_public_access_state()["State"]) == ("block-new-sharing",) * 2
        with refused("OperationNotPermitted"):
            allow(ec2, image, {"Group": "all"})
        with refused("OperationNotPermitted"):
            ec2.modify_snapshot_attribute(**share, GroupNames=["all"])
        allow(ec2, image, {"UserId": FRIEND})
        ec2.modify_snapshot_attribute(**share, UserIds=[FRIEND])
        assert launchers(ec2, image) == [{"UserId": FRIEND}]
    finally:
        ec2.disable_image_block_public_access()
        ec2.disable_snapshot_block_public_access()
    assert ec2.get_image_block_public_access_state()["ImageBlockPublicAccessState"] == "unblocked"
    with refused("InvalidParameterCombination"):
        ec2.modify_snapshot_attribute(**share, UserIds=[FRIEND], GroupNames=["all"])


def test_the_quota_of_public_images_holds(lab: Lab, ec2: Any, image: str) -> None:
    available(lab, ec2, image)
    lab.cloud.configure(Settings(delays=SETTINGS.delays, public_images=0))
    told = lab.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode="L-0E3CBAB9")["Quota"]
    assert told["Value"] == 0.0
    with refused("ResourceLimitExceeded"):
        allow(ec2, image, {"Group": "all"})


def test_a_parameter_of_the_type_image_holds_an_image_that_there_is(lab: Lab, image: str, name: str) -> None:
    ssm = lab.client("ssm")
    told = {"Name": f"/test/{image}", "Type": "String", "DataType": "aws:ec2:image", "Overwrite": True}
    ssm.put_parameter(**told, Value=image)
    found = ssm.get_parameters(Names=[told["Name"]])["Parameters"]
    assert [(each["Value"], each["DataType"]) for each in found] == [(image, "aws:ec2:image")], name
    with refused("ValidationException"):
        ssm.put_parameter(**told, Value="ami-00000000000000000")
