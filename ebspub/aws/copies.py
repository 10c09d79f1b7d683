"""Where else AWS keeps or takes what is said about images: buckets of S3, topics of SNS."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from ebspub import __version__
from ebspub.aws.failures import calling, preparing

#: SNS: "Subjects must be ASCII text that [...] must be less than 100 characters long."
_SUBJECT = 99


def s3(region: str | None) -> Any:
    """Return boto3's client of S3, of ``region`` or that of its own configuration. Raises AwsError."""
    return _client("s3", region, Config(user_agent_extra=f"ebspub/{__version__}", retries={"mode": "standard"}))


def publish(topic: str, subject: str, message: str, timeout: float) -> None:
    """Publish a message of at most 256 KiB to an SNS topic. ``timeout``: seconds. Raises AwsError."""
    limits = Config(
        user_agent_extra=f"ebspub/{__version__}",
        connect_timeout=timeout,
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    sns = _client("sns", topic.split(":")[3], limits)
    with calling("Publish"):
        sns.publish(TopicArn=topic, Subject=subject[:_SUBJECT], Message=message)


def _client(service: str, region: str | None, config: Config) -> Any:
    with preparing("creating a client"):
        return boto3.session.Session().client(service, region_name=region, config=config)  # type: ignore[call-overload]
