"""`[publish]`: how a build is made public, and whom it is shared with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ebspub.config import values as v
from ebspub.config.table import Table


class SharingTable(Table):
    """Whom a published AMI is shared with, and by which names it is found."""

    public: bool | None = Field(default=None, description="everybody may launch it and copy its snapshot (false)")
    accounts: v.AccountIds | None = Field(
        default=None, description="accounts that may launch it and copy its snapshot; [] for none"
    )
    organizations: v.Organizations | None = Field(
        default=None, description="ARNs of organizations that may launch it (not its snapshot: EC2 has no such thing)"
    )
    organizational_units: v.Units | None = Field(
        default=None, description="ARNs of organizational units that may launch it"
    )
    parameters: v.ParameterTemplates | None = Field(
        default=None,
        description="paths of SSM parameters that hold the AMI id; templates, also of {virtualization} and "
        "{volume_type}; one without {serial} holds that of the newest build and is written last",
    )
    tags: dict[v.TagKey, v.Template] | None = Field(
        default=None, description="tags of AMI and snapshot from then on, values are templates; {} for none"
    )


class PublishTable(SharingTable):
    """How `ebspub publish` makes a build public."""

    when: Literal["manual", "auto"] | None = Field(
        default=None, description='"auto": `run` publishes a build that is complete at its end ("manual")'
    )
    verify: bool | None = Field(
        default=None, description="publish only what `ebspub verify` has booted with success (false)"
    )
    quorum: int | None = Field(
        default=None,
        ge=1,
        le=200,
        description="regions that must be complete, with all arches, before a build is published (all of them)",
    )
    required: v.RegionNames | None = Field(
        default=None, description="regions that must be complete, instead of a quorum or of all of them"
    )
    patience: v.Seconds | None = Field(
        default=None, description="seconds for which a call may be refused for the moment, throttled say (300)"
    )


def _in_short(value: Any) -> Any:
    return {"when": value} if isinstance(value, str) else value


Publishing = Annotated[PublishTable, BeforeValidator(_in_short)]
