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
from botocore.exceptions import BotoCoreError

from ebspub import __version__
from ebspub.aws.answers import require_answer, text
from ebspub.aws.failures import AwsError, Cause, calling, preparing

if TYPE_CHECKING:
    from mypy_boto3_ebs import EBSClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ssm import SSMClient

#: Both together less than the default lease: a process cannot be in a call that long after it lost a job.
_TIMEOUTS = {"connect_timeout": 10, "read_timeout": 45}
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
        """Return the clients of a region, always the same ones.

        Raises AwsError (OPT_IN) for a region that is known to refuse what another one of its partition accepts.
        """

    def account(self, region: str) -> str:
        """Return the id of the account that the credentials belong to in the region's partition.

        A region that was asked and gave no answer has that of any other one of its partition that did. Raises AwsError:
        OPT_IN where another one accepts the credentials and this one refuses them, else this one's own refusal.
        """


class BotoClients:
    """Clients by boto3's standard configuration."""

    def __init__(self, *, workers: int = 16) -> None:
        with preparing("reading the AWS configuration"):
            self._session = boto3.session.Session()
        self._lock = threading.Lock()
        self._regions: dict[str, RegionClients] = {}
        self._accounts: dict[str, str] = {}
        #: What regions answered that did not tell it.
        self._refusals: dict[str, AwsError] = {}
        self._no_credentials: AwsError | None = None
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
        """Return the clients of ``region``. See :meth:`Clients.region`."""
        refusal = self._not_enabled(region) if region in self._refusals else None
        if refusal is not None:
            raise refusal
        # boto3 sessions are not thread-safe while they make clients; the clients themselves are.
        with self._lock:
            if region not in self._regions:
                with preparing("creating a client"):
                    found = RegionClients(
                        region=region,
                        reader=self._session.client("ec2", region_name=region, config=self._reading),
                        writer=self._session.client("ec2", region_name=region, config=self._writing),
                        ssm=self._session.client("ssm", region_name=region, config=self._reading),
                        ebs=self._session.client("ebs", region_name=region, config=self._putting),
                    )
                for client in (found.reader, found.writer):
                    client.meta.events.register("before-parse.ec2", require_answer)
                self._regions[region] = found
            return self._regions[region]

    def account(self, region: str) -> str:
        """Return the account id. See :meth:`Clients.account`.

        One region of a partition is enough to know it, and a region is asked once, whatever it answers: a service that
        is down is not waited for by every job anew.
        """
        if self._no_credentials is not None:
            raise self._no_credentials
        partition = self._partition(region)
        if partition not in self._accounts and region not in self._refusals:
            answer = self._ask_account(region)
            if not isinstance(answer, AwsError):
                self._accounts[partition] = answer
            else:
                self._refusals[region] = answer
                self._no_credentials = answer if answer.unsigned else self._no_credentials
        if partition not in self._accounts:
            raise self._refusals[region]
        refusal = self._not_enabled(region) if region in self._refusals else None
        if refusal is not None:
            raise refusal
        return self._accounts[partition]

    def _partition(self, region: str) -> str:
        with preparing("looking the region up"), self._lock:
            return self._session.get_partition_for_region(region)

    def _not_enabled(self, region: str) -> AwsError | None:
        """Return what a region's refusal means once another one has accepted the credentials; None for no refusal.

        The STS of a region that is not enabled for the account knows none of its keys.
        """
        told = self._refusals[region]
        if told.cause is not Cause.CREDENTIALS or self._partition(region) not in self._accounts:
            return None
        if isinstance(told.__cause__, BotoCoreError | ValueError):
            return None  # it was not the region that said so: nothing was sent
        message = f"{region} refuses the credentials that other regions accept: {told.message}"
        return AwsError(told.action, Cause.OPT_IN, code=told.code, message=message, request_id=told.request_id)

    def _ask_account(self, region: str) -> str | AwsError:
        try:
            with preparing("creating a client"), self._lock:
                sts = self._session.client("sts", region_name=region, config=self._asking)
            with calling("GetCallerIdentity"):
                return text(sts.get_caller_identity(), "Account")
        except AwsError as error:
            return error
