"""boto3 clients, one pair per region and process.

Readers are retried by botocore (adaptive mode: one client-side rate budget, shared by all callers in the region).
Writers are not: botocore would repeat a CreateSnapshot whose answer was lost, and make a second one. What may be
repeated, and how, is the engine's to decide. boto3's standard configuration applies: profiles, environment,
AWS_ENDPOINT_URL, partitions.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import boto3
from botocore.config import Config

from ebspub import __version__
from ebspub.aws.failures import AwsError, calling

if TYPE_CHECKING:
    from mypy_boto3_ebs import EBSClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ssm import SSMClient

_TIMEOUTS = {"connect_timeout": 10, "read_timeout": 60}
_AGENT = f"ebspub/{__version__}"
#: How many blocks an upload puts at a time, and how many uploads a process has at a time: more would share one line.
PUTS = 32
UPLOADS = 3


@dataclass(frozen=True)
class RegionClients:
    """The clients of one region: ``reader`` may repeat a call by itself, ``writer`` and ``ebs`` never do.

    ``ebs``: the EBS direct APIs, with as many connections as blocks are put at a time.
    """

    region: str
    reader: EC2Client
    writer: EC2Client
    ssm: SSMClient
    ebs: EBSClient


class Clients(Protocol):
    """Where clients come from; a simulation supplies its own."""

    def region(self, region: str) -> RegionClients:
        """Return the clients of a region, always the same ones."""

    def account(self, region: str) -> str:
        """Return the id of the account that the credentials belong to in the region's partition."""


class BotoClients:
    """Clients by boto3's standard configuration."""

    def __init__(self, *, workers: int = 16) -> None:
        with calling("reading the AWS configuration"):
            self._session = boto3.session.Session()
        self._lock = threading.Lock()
        self._regions: dict[str, RegionClients] = {}
        self._accounts: dict[str, str | AwsError] = {}
        pool = max(10, workers)
        self._reading = Config(
            retries={"mode": "adaptive", "total_max_attempts": 4},
            max_pool_connections=pool,
            user_agent_extra=_AGENT,
            **_TIMEOUTS,  # type: ignore[arg-type]
        )
        self._asking = Config(
            retries={"mode": "standard", "total_max_attempts": 2},
            user_agent_extra=_AGENT,
            connect_timeout=5,
            read_timeout=10,
        )
        self._writing = Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=pool,
            user_agent_extra=_AGENT,
            **_TIMEOUTS,  # type: ignore[arg-type]
        )

        # Whoever puts a block repeats it: botocore would, too, but nobody could stop it meanwhile.
        self._putting = self._writing.merge(Config(max_pool_connections=PUTS * UPLOADS, read_timeout=20))

    def region(self, region: str) -> RegionClients:
        """Return the clients of ``region``."""
        # boto3 sessions are not thread-safe while they make clients; the clients themselves are.
        with self._lock:
            if region not in self._regions:
                with calling("creating a client"):
                    self._regions[region] = RegionClients(
                        region=region,
                        reader=self._session.client("ec2", region_name=region, config=self._reading),
                        writer=self._session.client("ec2", region_name=region, config=self._writing),
                        ssm=self._session.client("ssm", region_name=region, config=self._reading),
                        ebs=self._session.client("ebs", region_name=region, config=self._putting),
                    )
            return self._regions[region]

    def account(self, region: str) -> str:
        """Return the account id, asked for once per partition."""
        with calling("looking the region up"):
            partition = self._session.get_partition_for_region(region)
        with self._lock:
            if partition not in self._accounts:
                self._accounts[partition] = self._ask_account(region)
            known = self._accounts[partition]
        if isinstance(known, AwsError):
            raise known
        return known

    def _ask_account(self, region: str) -> str | AwsError:
        """Ask once, whatever the answer: a service that is down is not waited for by every job anew."""
        try:
            with calling("GetCallerIdentity"):
                sts = self._session.client("sts", region_name=region, config=self._asking)
                return sts.get_caller_identity()["Account"]
        except AwsError as error:
            return error
