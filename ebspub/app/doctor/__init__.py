"""Is everything there that publishing needs? Looks at this machine, the account and every region; changes nothing.

Each check is a small function in a literal registry (``local.CHECKS``, ``region.CHECKS``, ``permissions.ACTIONS``) that
yields rows; every red row says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ebspub.app.accounts import accounts
from ebspub.app.doctor import local, region
from ebspub.app.doctor.region import Case
from ebspub.app.doctor.rows import Level, Row, exit_code
from ebspub.aws import account
from ebspub.aws.clients import Clients
from ebspub.aws.failures import AwsError, Cause
from ebspub.clock import Clock
from ebspub.config import Config, partition_of, partitions, select
from ebspub.config.publishing import makes_public, publishes
from ebspub.errors import EbspubError
from ebspub.spec import JobSpec

__all__ = ["Level", "Row", "doctor", "exit_code"]

_WORKERS = 16
#: Seconds of clock skew that are told, and that make AWS refuse every call (Signature Version 4: 5 minutes).
_SKEWED, _REFUSED = 30.0, 240.0
#: What a build that waits for --serial is looked at with.
_SOME_SERIAL = "20000101"
_ENABLED = ("opted-in", "opt-in-not-required")


def doctor(config: Config, clients: Clients, clock: Clock) -> list[Row]:
    """Return one row for each finding: this machine's, then the account's, then the regions' in the file's order."""
    found = local.peek(config)
    rows = local.check(config, found)
    specs, named, told = _jobs(config)
    rows += told
    regions = list(dict.fromkeys([*config.regions, *(spec.region for spec in specs)]))
    healthy = _accounts(regions, clients, clock, config, rows)
    cases = [
        Case(
            clients.region(name),
            [spec for spec in specs if spec.region == name],
            [spec for spec in named if spec.region == name],
            found.store_id,
            publishes=publishes(config, name),
            public=makes_public(config, name),
        )
        for name in healthy
        if any(spec.region == name for spec in specs)
    ]
    if cases:
        with ThreadPoolExecutor(max_workers=min(_WORKERS, len(cases))) as pool:
            for each in pool.map(region.check, cases):
                rows += each
    return rows


def _jobs(config: Config) -> tuple[list[JobSpec], list[JobSpec], list[Row]]:
    """Return the jobs of the configuration, those of them whose serial (and so whose AMI name) is known, and rows."""
    specs: dict[str, JobSpec] = {}
    named: dict[str, JobSpec] = {}
    rows: list[Row] = []
    for build in config.builds:
        serial = build.fixed_serial or _SOME_SERIAL
        try:
            chosen = select(config, suites=[build.suite], builds=[build.build], labels=[build.label], serials=[serial])
        except EbspubError as error:
            rows.append(Row("configuration", "builds", Level.YELLOW, error.what, error.todo))
            continue
        specs |= {spec.job_id: spec for spec in chosen}
        named |= {spec.job_id: spec for spec in chosen} if build.fixed_serial is not None else {}
    return list(specs.values()), list(named.values()), rows


def _accounts(regions: Sequence[str], clients: Clients, clock: Clock, config: Config, rows: list[Row]) -> list[str]:
    """Look at the credentials, the clock and the regions' opt-in status; return the regions that can be used."""
    by_partition: dict[str, list[str]] = {}
    for name in regions:
        by_partition.setdefault(partition_of(name), []).append(name)
    healthy: list[str] = []
    for listed in by_partition.values():
        healthy += _partition(listed, clients, clock, config, rows)
    return [name for name in regions if name in healthy]


def _partition(regions: Sequence[str], clients: Clients, clock: Clock, config: Config, rows: list[Row]) -> list[str]:
    """Look at what one partition's regions have in common; each that answers is looked at further."""
    found = accounts(clients, regions)
    refusals = {name: answer for name, answer in found.items() if isinstance(answer, AwsError)}
    if len(refusals) == len(found):
        # One that refuses tells more than one that is silent.
        error = min(refusals.values(), key=lambda each: each.cause is not Cause.CREDENTIALS)
        todo = error.todo or "See that the network and AWS_PROFILE are what you mean."
        rows.append(Row("account", "credentials", Level.RED, error.what, todo))
        rows += [Row(name, "region", Level.YELLOW, "not looked at: no usable credentials") for name in regions]
        return []
    answers = [name for name in regions if name not in refusals]
    rows.append(Row("account", "credentials", Level.GREEN, f"account {found[answers[0]]}"))
    statuses, refusal = _statuses(answers, clients)
    rows += _clock(answers, clients, clock)
    rows += [Row(name, "region", Level.RED, error.what, error.todo) for name, error in refusals.items()]
    if refusal is not None:
        rows.append(Row("account", "regions", Level.YELLOW, f"opt-in is not known: {refusal.what}", refusal.todo))
        return answers
    return [name for name in answers if _enabled(name, statuses, config, rows)]


def _statuses(regions: Sequence[str], clients: Clients) -> tuple[Mapping[str, str], AwsError | None]:
    """Ask the first region that answers for the opt-in status of all."""
    refusal: AwsError | None = None
    for name in regions:
        try:
            return account.opt_in(clients.region(name).reader), None
        except AwsError as error:
            refusal = error
    return {}, refusal


def _enabled(name: str, statuses: Mapping[str, str], config: Config, rows: list[Row]) -> bool:
    status = statuses.get(name, "unknown to this account")
    if status in _ENABLED:
        rows.append(Row(name, "region", Level.GREEN, status))
        return True
    table = config.regions.get(name)
    if name not in partitions() and table is not None and table.custom:
        rows.append(Row(name, "region", Level.YELLOW, "custom: its endpoint does not list it"))
        return True
    todo = "Enable the region for the account (Account, AWS Regions), or take it out of the configuration."
    rows.append(Row(name, "region", Level.RED, status, todo))
    return False


def _clock(regions: Sequence[str], clients: Clients, clock: Clock) -> list[Row]:
    """Compare this machine's clock with the first region's that tells the time."""
    for name in regions:
        try:
            ahead = account.skew(clients.region(name).reader, clock.now)
        except AwsError:
            continue
        if ahead is None:
            continue
        what = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {name}"
        todo = "Set the clock (chrony, systemd-timesyncd): AWS refuses calls that are signed 5 minutes off."
        if abs(ahead) >= _REFUSED:
            return [Row("account", "clock", Level.RED, what, todo)]
        if abs(ahead) >= _SKEWED:
            return [Row("account", "clock", Level.YELLOW, what, todo)]
        return [Row("account", "clock", Level.GREEN, f"within {_SKEWED:.0f} s of AWS's")]
    return [Row("account", "clock", Level.YELLOW, "no region tells the time")]
