"""What things cost, for orientation: a small table of list prices of us-east-1 in US dollars.

On-demand Linux prices of 2025, without taxes, discounts, free tiers, provisioned IOPS and throughput; other regions
cost up to twice as much. A snapshot is counted with the size of its volume: EC2 bills only the blocks that it holds.
Good enough to tell a forgotten builder from a forgotten security group, and a copy from a builder; never a bill.

What they are of: AWS's pages "EC2 On-Demand Pricing" (instances, transfer between regions, IPv4 addresses) and "EBS
Pricing" (volumes, snapshots, direct APIs; the price of a PutSnapshotBlock is in the EBS User Guide, too).
"""

from __future__ import annotations

from ebspub.states import Kind

#: Hours of a month as AWS counts them.
HOURS = 730.0

#: Dollars per GiB and month.
VOLUME: dict[str, float] = {
    "gp3": 0.08,
    "gp2": 0.10,
    "io1": 0.125,
    "io2": 0.125,
    "st1": 0.045,
    "sc1": 0.015,
    "standard": 0.05,
}
SNAPSHOT = 0.05

#: Dollars per hour of the size `large` by family; the longest prefix of a type counts.
LARGE: dict[str, float] = {
    "t2": 0.0928,
    "t3": 0.0832,
    "t3a": 0.0752,
    "t4g": 0.0672,
    "m1": 0.175,
    "m3": 0.133,
    "m4": 0.10,
    "m5": 0.096,
    "m5a": 0.086,
    "m6a": 0.0864,
    "m6g": 0.077,
    "m6i": 0.096,
    "m7a": 0.1159,
    "m7g": 0.0816,
    "m7i": 0.1008,
    "m8g": 0.0898,
    "c3": 0.105,
    "c4": 0.10,
    "c5": 0.085,
    "c6a": 0.0765,
    "c6g": 0.068,
    "c6i": 0.085,
    "c7g": 0.0725,
    "c7i": 0.0893,
    "r5": 0.126,
    "r6g": 0.1008,
    "r6i": 0.126,
    "r7g": 0.1071,
    "r7i": 0.1323,
    "i3": 0.156,
}
#: Within a family the price follows the size.
SIZES: dict[str, float] = {"nano": 1 / 16, "micro": 1 / 8, "small": 1 / 4, "medium": 1 / 2, "large": 1.0, "xlarge": 2.0}


#: Dollars per GiB that leaves a region for another one, by the beginning of its name; the longest counts. It is what a
#: copy of a snapshot costs. From us-east-1 to us-east-2 it is half of that; China and GovCloud have their own prices.
TRANSFER: dict[str, float] = {
    "": 0.09,
    "us-": 0.02,
    "ca-": 0.02,
    "mx-": 0.02,
    "eu-": 0.02,
    "il-": 0.08,
    "me-": 0.11,
    "sa-": 0.138,
    "af-": 0.147,
    "ap-": 0.09,
}
#: Dollars per block that is put into a snapshot by the EBS direct APIs (0.006 per thousand PutSnapshotBlock).
PUT = 0.006 / 1000
#: Dollars per hour of a public IPv4 address.
ADDRESS = 0.005


def transfer(region: str) -> float:
    """Return what a GiB costs that leaves ``region`` for another one, in dollars."""
    return TRANSFER[max((each for each in TRANSFER if region.startswith(each)), key=len)]


def monthly(kind: Kind, *, kind_of: str = "", size: float = 0.0) -> float | None:
    """Return what a thing costs in dollars a month; None where the table does not know it.

    ``kind_of``: the instance type or the volume type. ``size``: GiB of a volume or snapshot. AMIs and security groups
    cost nothing: what is paid for an AMI is its snapshot.
    """
    if kind is Kind.INSTANCE:
        price = hourly(kind_of)
        return None if price is None else price * HOURS
    if kind is Kind.VOLUME:
        price = VOLUME.get(kind_of)
        return None if price is None else price * size
    return SNAPSHOT * size if kind is Kind.SNAPSHOT else 0.0


def hourly(instance_type: str) -> float | None:
    """Return what an instance costs in dollars an hour; None where the table does not know its type."""
    family, _, size = instance_type.partition(".")
    known = max((each for each in LARGE if family.startswith(each)), key=len, default=None)
    factor = _factor(size)
    return None if known is None or factor is None else LARGE[known] * factor


def _factor(size: str) -> float | None:
    """Return how many times `large` a size is: `2xlarge` is 4."""
    number = size.removesuffix("xlarge")
    if number != size and number.isdigit():
        return 2.0 * int(number)
    return SIZES.get(size)
