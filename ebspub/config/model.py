"""What the configuration file may say: one class a table, one described field a key.

Unknown keys and loosely typed values are refused. Where a table can be given in several places (``[builder]`` and
``[regions.us-east-1.builder]``), every key is optional in all of them; ``expand.py`` lays them on one another and
says what is missing then.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import Field, PrivateAttr, model_validator
from sqlalchemy.engine import URL, make_url

from ebspub.config import values as v
from ebspub.config.feeds import FeedsTable
from ebspub.config.notify import NotifyTable
from ebspub.config.sharing import Publishing, PublishTable, SharingTable
from ebspub.config.table import Table
from ebspub.errors import ConfigError
from ebspub.spec import Arch, Limits, Method

T = TypeVar("T")
VolumeType = Literal["standard", "gp2", "gp3", "io1", "io2"]


class PerArch(Table, Generic[T]):
    """One value for each of Ubuntu's arches."""

    amd64: T | None = Field(default=None, description="for amd64 (EC2: x86_64)")
    arm64: T | None = Field(default=None, description="for arm64")
    i386: T | None = Field(default=None, description="for i386")

    def of(self, arch: str) -> T | None:
        """Return the value of ``arch``, or None."""
        value: T | None = getattr(self, arch)
        return value


Images = PerArch[v.ImageId]
Types = PerArch[v.InstanceTypes]
Kernels = PerArch[v.KernelId]
Ramdisks = PerArch[v.RamdiskId]


class StoreTable(Table):
    """Where jobs are written down."""

    url: v.StoreUrl | None = Field(
        default=None, description="SQLAlchemy URL of the state database; default: ebspub.db in the state folder"
    )
    folder: v.Folder | None = Field(
        default=None, description="state folder (database, key secret); default: $XDG_STATE_HOME/ebspub"
    )


class LimitsTable(Table):
    """Time limits (seconds) and tries of one job."""

    launch: v.Seconds = Field(default=900.0, description="seconds until the builder runs and answers SSH")
    attach: v.Seconds = Field(default=600.0, description="seconds until the volume is attached")
    populate: v.Seconds = Field(default=7200.0, description="seconds to fill the volume")
    snapshot: v.Seconds = Field(default=7200.0, description="seconds until the snapshot is completed")
    register_: v.Seconds = Field(default=1800.0, alias="register", description="seconds until the AMI is available")
    attempts: int = Field(default=3, ge=1, le=20, description="builders that a job may use up before it fails")
    listing_lag: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        default=150.0, description="seconds for which EC2 may hide what was made"
    )

    def document(self) -> Limits:
        """Return the limits as they are written with a job."""
        return Limits.model_validate(self.model_dump(by_alias=True))


class EngineTable(Table):
    """How the publisher itself works."""

    poll_interval: v.Seconds = Field(default=5.0, description="seconds between two looks at EC2")
    workers: int = Field(default=16, ge=1, le=256, description="threads for calls and SSH work")
    lease: v.Seconds = Field(default=60.0, description="seconds after which the jobs of a dead publisher are free")

    @model_validator(mode="after")
    def _lease_outlives_a_poll(self) -> Self:
        if self.lease < 2 * self.poll_interval:
            if "lease" in self.model_fields_set:
                raise v.refuse(f"at least two poll_intervals ({self.poll_interval:g} s each)", key="lease")
            raise v.refuse(f"at most half of lease ({self.lease:g} s)", key="poll_interval")
        return self


class BuilderTable(Table):
    """The instance on which a volume is populated."""

    images: Images | None = Field(default=None, description="AMI id or ssm:/parameter/name per arch")
    instance_types: Types | None = Field(default=None, description="instance types per arch, in the order tried")
    zones: v.Zones | None = Field(default=None, description="availability zones in the order tried")
    subnets: v.Subnets | None = Field(default=None, description="subnet ids in the order tried; excludes zones")
    security_groups: v.SecurityGroups | None = Field(
        default=None, description="existing security groups; none: a temporary one, open to ssh_cidr, is made"
    )
    ssh_cidr: v.Cidr | None = Field(
        default=None,
        description="IPv4 network from which the temporary security group admits SSH; 0.0.0.0/0 (everybody) is "
        "taken only because it is written here, there is no default",
    )
    ssh_user: v.Login | None = Field(default=None, description="login of the builder image, may sudo (ubuntu)")
    ssh_port: int | None = Field(default=None, ge=1, le=65535, description="TCP port of its SSH server (22)")
    address: Literal["public", "private"] | None = Field(default=None, description="address to connect to (public)")
    root_size: int | None = Field(default=None, ge=1, le=16384, description="GiB of the builder's own root")
    instance_profile: v.ProfileName | None = Field(default=None, description="name of its IAM instance profile")
    dead_man: int | None = Field(
        default=None,
        ge=60,
        le=604800,
        description="seconds without a publisher after which it shuts down (1800, or limits.launch where that is more; "
        "never less than limits.launch)",
    )
    shared: bool | None = Field(
        default=None,
        description="one builder for all jobs of a region that need the same one, instead of one each (false)",
    )
    http_proxy: v.ProxyUrl | None = Field(
        default=None, description='proxy through which it downloads, "http://proxy.example.com:3128"; "" for none'
    )


class VolumeTable(Table):
    """The volume that becomes the AMI's root snapshot."""

    size: int | None = Field(default=None, ge=1, le=16384, description="GiB (8)")
    type: VolumeType | None = Field(default=None, description="EBS volume type (gp3)")
    iops: int | None = Field(default=None, ge=100, le=256000, description="IOPS; io1, io2 and gp3 only")
    throughput: int | None = Field(default=None, ge=125, le=2000, description="MiB/s; gp3 only")
    encrypted: bool | None = Field(default=None, description="the volume, and so its snapshot, is encrypted (false)")
    kms_key: v.KmsKey | None = Field(
        default=None, description="KMS key: id, ARN, or alias/name (the account's for EBS); one of the region"
    )


class RegistrationKeys(Table):
    """What RegisterImage is told, for all arches or for one."""

    virtualization: Literal["hvm", "paravirtual"] | None = Field(default=None, description="hvm or paravirtual (hvm)")
    root_device: v.Device | None = Field(default=None, description="root device (/dev/sda1)")
    volume_type: VolumeType | None = Field(default=None, description="root volume type (that of [volume])")
    ephemeral: dict[v.EphemeralName, v.Device] | None = Field(
        default=None,
        description='instance store mappings, { ephemeral0 = "/dev/sdb" }; {} for none; default: Ubuntu\'s, '
        "/dev/sda2 for paravirtual i386 and /dev/sdb for the others",
    )
    ena: bool | None = Field(default=None, description="enhanced networking, ENA (true for hvm)")
    sriov: bool | None = Field(default=None, description="enhanced networking, SR-IOV (true for hvm)")
    boot_mode: Literal["legacy-bios", "uefi", "uefi-preferred"] | None = Field(
        default=None, description="boot mode (arm64: uefi; others: EC2's default)"
    )
    imds: Literal["v1.0", "v2.0"] | None = Field(default=None, description="instance metadata version required")
    tpm: Literal["v2.0"] | None = Field(default=None, description="NitroTPM; needs boot_mode uefi")
    uefi_data: v.FilePath | None = Field(
        default=None,
        description="file with the UEFI variable store (Secure Boot keys), bare or in Base64, relative to this file",
    )


class RegistrationTable(RegistrationKeys):
    """Registration for all arches, with overrides per arch."""

    amd64: RegistrationKeys | None = Field(default=None, description="overrides for amd64")
    arm64: RegistrationKeys | None = Field(default=None, description="overrides for arm64")
    i386: RegistrationKeys | None = Field(default=None, description="overrides for i386")


class SourceKeys(Table):
    """The published artefact, for all arches or for one."""

    url: v.UrlTemplate | None = Field(
        default=None, description="http(s) URL or absolute path of the artefact; a template; or directory, or index"
    )
    directory: v.FolderTemplate | None = Field(
        default=None,
        description="URL or path of a tree in Ubuntu's layout (holds <suite>/<serial>/ and releases/); or, with "
        "{serial} in it, of one build's folder; a template",
    )
    file: v.FileTemplate | None = Field(
        default=None, description="name of the artefact in directory; a template, {suite}-server-cloudimg-{arch}.tar.gz"
    )
    index: v.UrlTemplate | None = Field(
        default=None, description="URL or path of a simplestreams index (.json or .sjson) of downloads; a template"
    )
    product: v.Template | None = Field(
        default=None, description="product in the index; a template (com.ubuntu.cloud[.daily]:{build}:{version}:{arch})"
    )
    item: v.ItemName | None = Field(default=None, description='ftype or key of the item in the index, "disk1.img"')
    sha256: v.Sha256 | None = Field(default=None, description="SHA-256 of the artefact")
    sha256sums: v.UrlTemplate | None = Field(
        default=None, description="URL or path of the SHA256SUMS that names the artefact (directory's); a template"
    )
    signature: v.SignatureTemplate | None = Field(
        default=None,
        description='URL or path of the detached OpenPGP signature of sha256sums (its URL + ".gpg"); "inline" where '
        "sha256sums is clear-signed; a template",
    )
    keyring: v.FilePath | None = Field(
        default=None, description="file with the OpenPGP keys that may sign, relative to this file"
    )
    fingerprint: v.Fingerprint | None = Field(
        default=None, description="the one key of the keyring that may sign, or its subkey (any key of it)"
    )
    verify: Literal["none"] | None = Field(
        default=None, description='"none": published without proof of where it comes from; nothing else may be written'
    )


class SourceTable(SourceKeys):
    """The artefact for all arches, with overrides per arch."""

    amd64: SourceKeys | None = Field(default=None, description="overrides for amd64")
    arm64: SourceKeys | None = Field(default=None, description="overrides for arm64")
    i386: SourceKeys | None = Field(default=None, description="overrides for i386")


class FanOutTable(Table):
    """Fill a volume in one region only, and copy its snapshot to the others."""

    primary: v.Plain = Field(description="the region in which the image is made; one of the build's regions")
    when: Literal["cheaper", "always"] = Field(
        default="cheaper",
        description='"cheaper": each other region copies where that is estimated to cost less than to make the image '
        'there, which `plan` shows; "always": no builder is needed there, nor a builder image',
    )


Tags = dict[v.TagKey, v.TagValue]


class RegionTable(Table):
    """What is different in one region."""

    custom: bool = Field(default=False, description="true: a region that botocore does not know (other clouds)")
    builder: BuilderTable | None = Field(default=None, description="overrides of [builder]")
    volume: VolumeTable | None = Field(default=None, description="overrides of [volume]")
    kernel_ids: Kernels | None = Field(default=None, description="kernel ids (aki-) of paravirtual images per arch")
    ramdisk_ids: Ramdisks | None = Field(default=None, description="ramdisk ids (ari-) of paravirtual images per arch")
    publish: SharingTable | None = Field(default=None, description="overrides of [publish]: sharing and names only")
    tags: Tags | None = Field(default=None, description="additional tags")


class Build(Table):
    """One published image: all its arches in all its regions."""

    suite: v.Suite = Field(description='codename of the release, such as "lucid"')
    build: v.BuildName = Field(default="server", description="build name (server)")
    label: v.Label = Field(description='a label: "release", "daily", "beta2"')
    version: v.Version = Field(description='version of the release in quotes, such as "10.04"')
    serial: v.SerialOrCurrent | None = Field(
        default=None, description='YYYYMMDD or YYYYMMDD.N; "current": the newest one; absent: --serial gives it'
    )
    arches: Annotated[tuple[Arch, ...], v.LIST, v.ONCE, v.SOME, v.SEVERAL] = Field(
        description='list of arches, such as ["amd64", "arm64"]'
    )
    regions: v.RegionNames | None = Field(default=None, description="regions; default: all [regions] tables")
    name: v.Template | None = Field(default=None, description="AMI name, a template; default: Ubuntu's convention")
    description: v.Template | None = Field(
        default=None, description="AMI description, a template; default: Ubuntu's convention"
    )
    method: Method = Field(default="filesystem", description="how the volume is filled")
    grow: bool | None = Field(
        default=None, description="disk: the last partition and its file system are made to fill the volume (true)"
    )
    parent: Literal["none", "previous"] = Field(
        default="none", description='direct: "previous" sends only what changed since the build published before'
    )
    fan_out: FanOutTable | None = Field(
        default=None, description='made in one region, copied to the others: { primary = "us-east-1" }'
    )
    source: SourceTable = Field(description="the artefact to start from ([builds.source])")
    builder: BuilderTable | None = Field(default=None, description="overrides of [builder]")
    volume: VolumeTable | None = Field(default=None, description="overrides of [volume]")
    registration: RegistrationTable | None = Field(default=None, description="overrides of [registration]")
    kernel_ids: dict[v.Plain, Kernels] | None = Field(
        default=None, description="kernel ids of this build: region, arch, aki-"
    )
    ramdisk_ids: dict[v.Plain, Ramdisks] | None = Field(
        default=None, description="ramdisk ids of this build: region, arch, ari-"
    )
    publish: Publishing | None = Field(
        default=None, description='overrides of [publish]; "auto" or "manual" stands for { when = "auto" }'
    )
    tags: Tags | None = Field(default=None, description="additional tags")

    @property
    def fixed_serial(self) -> str | None:
        """Return the serial that the file names; None where it is looked for, or given on the command line."""
        return None if self.serial == "current" else self.serial


class VerifyTable(Table):
    """The test boot of `ebspub verify`. Where it boots (subnets, groups, addresses) is [builder]'s to say."""

    instance_types: Types | None = Field(
        default=None, description="instance types per arch: each boots once (t3.micro; arm64: t4g.micro)"
    )
    ssh_user: v.Login = Field(default="ubuntu", description="login that the published images make")
    ssh_port: int = Field(default=22, ge=1, le=65535, description="TCP port of their SSH server")
    console: v.Plain | None = Field(
        default=None,
        description='images without cloud-init: what their console says when they are up, "login:"; no SSH then',
    )
    boot: v.Seconds = Field(default=900.0, description="seconds until the instance says that it is up, each time")
    stop: v.Seconds = Field(default=600.0, description="seconds until it is stopped, and until it is gone")
    dead_man: int = Field(
        default=3600, ge=60, le=604800, description="seconds without a publisher after which it shuts down"
    )


class Config(Table):
    """The whole file."""

    store: StoreTable = Field(default_factory=StoreTable, description="where jobs are written down")
    limits: LimitsTable = Field(default_factory=LimitsTable, description="time limits and tries of a job")
    engine: EngineTable = Field(default_factory=EngineTable, description="how the publisher itself works")
    builder: BuilderTable = Field(default_factory=BuilderTable, description="the builder, for all regions")
    volume: VolumeTable = Field(default_factory=VolumeTable, description="the root volume, for all builds")
    registration: RegistrationTable = Field(
        default_factory=RegistrationTable, description="registration, for all builds"
    )
    verify: VerifyTable = Field(default_factory=VerifyTable, description="the test boot of published AMIs")
    publish: PublishTable = Field(default_factory=PublishTable, description="how builds are made public")
    feeds: FeedsTable = Field(default_factory=FeedsTable, description="files about what is published")
    notify: NotifyTable = Field(default_factory=NotifyTable, description="who is told what happened")
    tags: Tags = Field(default_factory=dict, description="tags of everything that is made")
    regions: dict[v.Plain, RegionTable] = Field(default_factory=dict, description="regions and what differs there")
    builds: tuple[Build, ...] = Field(default=(), strict=False, description="what is to be published")

    _origin: str = PrivateAttr(default="configuration")

    @property
    def origin(self) -> str:
        """Return the file that this was read from, for messages."""
        return self._origin

    def state_folder(self, env: Mapping[str, str] = os.environ) -> Path:
        """Return the folder of the database and of the file ``secret``; it need not exist yet.

        In this order: ``[store] folder``, ``$XDG_STATE_HOME/ebspub`` (where absolute), ``~/.local/state/ebspub``.
        """
        state = env.get("XDG_STATE_HOME", "")
        base = self.store.folder or (f"{state}/ebspub" if state.startswith("/") else "~/.local/state/ebspub")
        try:
            return Path(base).expanduser()
        except RuntimeError as error:
            raise ConfigError(
                f"{self.origin}: store.folder: no home folder is known for ~", todo="Write an absolute path."
            ) from error

    def store_url(self, env: Mapping[str, str] = os.environ) -> str:
        """Return the SQLAlchemy URL of the state database. It may hold a password: never print it."""
        if self.store.url is not None:
            return self.store.url.get_secret_value()
        # Rendered, not pasted: a folder's name may hold a question mark.
        return URL.create("sqlite", database=str(self.state_folder(env) / "ebspub.db")).render_as_string(False)

    def store_url_redacted(self, env: Mapping[str, str] = os.environ) -> str:
        """Return :meth:`store_url` for messages and logs: without password and query."""
        return make_url(self.store_url(env)).set(query={}).render_as_string(hide_password=True)
