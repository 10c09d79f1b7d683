"""What a job is asked to do: one frozen document, written with the job when it is planned.

A job in flight never looks at the configuration again, so that editing the file between a crash and ``ebspub resume``
cannot change what is registered. Only ``ebspub run`` hands it a corrected document: whole while nothing of the job is
in EC2, and later no more than how builders are launched, and the limits. Documents are stored as JSON; fields that a
later version adds carry defaults, so that older documents stay readable.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Arch = Literal["amd64", "arm64", "i386"]
#: EC2's names for Ubuntu's arches.
EC2_ARCHITECTURE: dict[str, Literal["x86_64", "arm64", "i386"]] = {
    "amd64": "x86_64",
    "arm64": "arm64",
    "i386": "i386",
}

#: Volume types that are told how many IOPS to have; gp3 has 3000 untold.
PROVISIONED = frozenset({"gp3", "io1", "io2"})


class Document(BaseModel):
    """A frozen value; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Document):
    """The published artefact that a build starts from."""

    url: str = Field(description="http(s) URL from which the artefact is downloaded; file:/// for one of this host.")
    sha256: str | None = Field(default=None, description="Expected SHA-256 of the artefact, 64 hex digits.")
    sums_url: str | None = Field(
        default=None, description="URL of a SHA256SUMS file that names the artefact; used where sha256 is absent."
    )
    verify: Literal["signature", "sha256", "none"] = Field(
        default="sha256",
        description="What proved the artefact: a signed SHA256SUMS, a checksum, or nothing because `none` was written.",
    )
    signer: str | None = Field(default=None, description="Fingerprint of the OpenPGP key that signed SHA256SUMS.")
    signature_url: str | None = Field(
        default=None, description="URL of the detached signature of sums_url or index; None: the file carries its own."
    )
    keyring: str | None = Field(default=None, description="File of the OpenPGP keys that may sign.")
    fingerprint: str | None = Field(
        default=None, description="The one key of the keyring that may sign, 40 hex digits."
    )
    index: str | None = Field(default=None, description="URL of the simplestreams index that `url` was found in.")
    product: str | None = Field(default=None, description="Id of the product in the index.")
    item: str | None = Field(default=None, description="Name or ftype of the product's item.")


class Builder(Document):
    """The EC2 instance on which the volume is populated."""

    image: str = Field(description="AMI id, or `ssm:/parameter/name` that holds one.")
    instance_types: tuple[str, ...] = Field(description="In the order in which they are tried.", min_length=1)
    zones: tuple[str, ...] = Field(default=(), description="Availability zones in the order tried; empty: EC2 chooses.")
    subnets: tuple[str, ...] = Field(default=(), description="Subnet ids in the order tried; excludes zones.")
    security_groups: tuple[str, ...] = Field(
        default=(), description="Existing security group ids; empty: a temporary group open to ssh_cidr is made."
    )
    ssh_cidr: str = Field(description="IPv4 network from which the temporary security group admits SSH.")
    ssh_user: str = Field(default="ubuntu", description="Login user of the builder image; needs sudo.")
    ssh_port: int = Field(default=22, ge=1, le=65535, description="TCP port of the builder's SSH server.")
    address: Literal["public", "private"] = Field(
        default="public", description="Which of the builder's addresses the publisher connects to."
    )
    root_size: int | None = Field(default=None, ge=1, description="GiB of the builder's own root; default: its AMI's.")
    instance_profile: str | None = Field(
        default=None, description="IAM instance profile name, if the builder needs one."
    )
    dead_man: int = Field(default=1800, ge=60, description="Seconds without a publisher after which it shuts down.")
    http_proxy: str | None = Field(default=None, description="Proxy through which it downloads, a URL.")
    shared: bool = Field(default=False, description="Whether jobs of one region with the same document share one.")


class Volume(Document):
    """The EBS volume that becomes the AMI's root snapshot."""

    size: int = Field(ge=1, le=16384, description="GiB.")
    type: Literal["standard", "gp2", "gp3", "io1", "io2"] = "gp3"
    iops: int | None = Field(default=None, ge=100)
    throughput: int | None = Field(default=None, ge=125, description="MiB/s, gp3 only.")
    encrypted: bool = Field(default=False, description="Whether the volume, and so its snapshot, is encrypted.")
    kms_key: str | None = Field(default=None, description="KMS key (id, ARN or alias); None: the account's for EBS.")


class Registration(Document):
    """What RegisterImage is told."""

    name: str = Field(min_length=3, max_length=128)
    description: str = Field(default="", max_length=255)
    architecture: Literal["x86_64", "arm64", "i386"]
    virtualization: Literal["hvm", "paravirtual"] = "hvm"
    kernel_id: str | None = None
    ramdisk_id: str | None = None
    root_device: str = "/dev/sda1"
    volume_type: Literal["standard", "gp2", "gp3", "io1", "io2"] = "gp3"
    ephemeral: tuple[tuple[str, str], ...] = Field(
        default=(), description="Pairs of device and virtual name: (`/dev/sdb`, `ephemeral0`)."
    )
    ena: bool = False
    sriov: bool = False
    boot_mode: Literal["legacy-bios", "uefi", "uefi-preferred"] | None = None
    imds: Literal["v1.0", "v2.0"] | None = None
    tpm: Literal["v2.0"] | None = None
    uefi_data: str | None = Field(
        default=None, repr=False, max_length=64000, description="Base64 of the UEFI variable store."
    )


#: How the artefact gets onto a volume, or into a snapshot.
Method = Literal["filesystem", "disk", "direct"]
#: The way of a job through its states: that of its method, or by a copy of the snapshot that a job elsewhere made so.
Way = Literal["filesystem", "disk", "direct", "copy"]
Tags = Annotated[dict[str, str], Field(default_factory=dict)]


class FanOut(Document):
    """That another region's job makes the snapshot, and this one may copy it: what was wished, and what was decided.

    Decided once, when the job is planned, and kept with it: prices and sizes that are known better later do not send a
    job that is under way another way.
    """

    region: str = Field(description="Region of the primary job; it differs from this one in nothing else.")
    when: Literal["cheaper", "always"] = Field(description="When to copy; `cheaper`: than to fill one here.")
    copies: bool = Field(description="Whether this job copies. As long as `why` is empty: whether it could.")
    why: str = Field(default="", description="In words, for `plan` and the history; empty: not decided yet.")


class Limits(Document):
    """Time limits and tries of one job, in seconds unless said otherwise."""

    launch: float = Field(default=900.0, gt=0, description="Builder running and SSH answering.")
    attach: float = Field(default=600.0, gt=0)
    populate: float = Field(default=7200.0, gt=0)
    snapshot: float = Field(default=7200.0, gt=0)
    register_: float = Field(default=1800.0, gt=0, alias="register")
    attempts: int = Field(default=3, ge=1, description="Builders and volumes that a job may use up before it fails.")
    listing_lag: float = Field(
        default=150.0, ge=0, description="How long EC2 may hide what was made (AWS: up to 2.5 minutes)."
    )

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class JobSpec(Document):
    """One build in one region for one arch.

    The identity of a job is (suite, build, serial, arch, region). The label is not part of it: promoting a daily to
    a release gives the same build another label and must never register it again.
    """

    suite: str
    build: str
    label: str
    serial: str
    version: str
    arch: Arch
    region: str
    source: Source
    builder: Builder
    volume: Volume
    registration: Registration
    method: Method = "filesystem"
    grow: bool = Field(default=True, description="disk: the last partition and its file system fill the volume.")
    parent: Literal["none", "previous"] = Field(
        default="none", description="direct: what a snapshot is a change of: nothing, or the build published before."
    )
    fan_out: FanOut | None = Field(default=None, description="None: nothing is to be copied from another region.")
    tags: Tags
    limits: Limits = Limits()

    @property
    def job_id(self) -> str:
        """The job's id, readable and unique: `lucid-server-20101020-amd64-us-east-1`."""
        return self._id_in(self.region)

    def _id_in(self, region: str) -> str:
        return f"{self.suite}-{self.build}-{self.serial}-{self.arch}-{region}"

    @property
    def primary(self) -> str | None:
        """The id of the job whose snapshot this one copies; None where it copies none.

        ``method`` stays what filled that snapshot: what is published is its work, and is tagged and judged as such.
        """
        return self._id_in(self.fan_out.region) if self.fan_out is not None and self.fan_out.copies else None

    @property
    def way(self) -> Way:
        """The way through the states."""
        return self.method if self.primary is None else "copy"

    def step_limit(self, step: str) -> float:
        """Return the seconds that ``step`` may take.

        A copy's first step waits for the primary, which may use up all its attempts.
        """
        if step == "launch" and self.primary is not None:
            each = self.limits.launch + self.limits.attach + self.limits.populate + self.limits.snapshot
            return each * self.limits.attempts
        return float(getattr(self.limits, "register_" if step == "register" else step))
