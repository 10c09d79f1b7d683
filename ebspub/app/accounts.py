"""Whose credentials are these? Asked of the regions that a command is about, before it begins.

No region decides for another one: one whose STS does not answer, or that is not enabled for the account, is its own
jobs' trouble. The credentials are bad only where no region of a partition accepts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ebspub.aws.clients import Clients
from ebspub.aws.failures import AwsError, Cause
from ebspub.config import partition_of
from ebspub.errors import ConfigError, UsageError
from ebspub.store import Job

_WORKERS = 16


def accounts(clients: Clients, regions: Iterable[str]) -> dict[str, str | AwsError]:
    """Return for each of ``regions`` the id of the account, or why it is not known there.

    The first region of a partition that answers tells it for all that did not refuse the credentials themselves.
    """
    wanted = list(dict.fromkeys(regions))
    by_partition: dict[str, list[str]] = {}
    for region in wanted:
        by_partition.setdefault(partition_of(region), []).append(region)
    for first, *others in by_partition.values():
        # Another one is asked only where the first does not know; side by side, because silence takes its time.
        if others and isinstance(_ask(clients, first), AwsError):
            with ThreadPoolExecutor(max_workers=min(_WORKERS, len(others))) as pool:
                list(pool.map(lambda region: _ask(clients, region), others))
    return {region: _ask(clients, region) for region in wanted}


def usable(clients: Clients, regions: Iterable[str]) -> dict[str, str | AwsError]:
    """Return :func:`accounts`. Raises ConfigError where a region refuses the credentials, and no other accepts them."""
    found = accounts(clients, regions)
    known = {partition_of(region) for region, answer in found.items() if isinstance(answer, str)}
    for region, answer in found.items():
        if isinstance(answer, AwsError) and answer.cause is Cause.CREDENTIALS and partition_of(region) not in known:
            raise ConfigError(f"AWS credentials: {answer.message}", todo=answer.todo) from answer
    return found


def refuse_others(jobs: Sequence[Job], found: Mapping[str, str | AwsError]) -> None:
    """Raise UsageError for a job that was begun in another account than its region's in ``found``.

    With the wrong credentials everything of a job would look lost, and it would be made again elsewhere.
    """
    for job in jobs:
        account = found.get(job.spec.region)
        if isinstance(account, str) and job.account not in (None, account):
            raise UsageError(
                f"{job.id} was begun in account {job.account}; the credentials in use are for {account}",
                todo="Use the credentials (AWS_PROFILE) of that account, or another state database.",
            )


def _ask(clients: Clients, region: str) -> str | AwsError:
    try:
        return clients.account(region)
    except AwsError as error:
        return error
