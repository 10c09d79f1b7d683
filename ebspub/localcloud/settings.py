"""What can be set of the embedded cloud, and how long its states last."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Delays(BaseModel):
    """Seconds that a resource stays in a state before the next one. 0 makes the change at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instance_pending: float = Field(0.3, ge=0)
    instance_stopping: float = Field(0.3, ge=0)
    #: For how long a started instance shows the console of its boot before.
    console_posting: float = Field(0.0, ge=0)
    instance_shutting_down: float = Field(0.3, ge=0)
    volume_creating: float = Field(0.3, ge=0)
    attaching: float = Field(0.3, ge=0)
    detaching: float = Field(0.3, ge=0)
    snapshot_pending: float = Field(0.3, ge=0)
    image_pending: float = Field(0.3, ge=0)

    @classmethod
    def all(cls, seconds: float) -> Delays:
        """Return delays that are all ``seconds`` long."""
        return cls(**dict.fromkeys(cls.model_fields, seconds))


class Settings(BaseModel):
    """Settings of one embedded cloud."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delays: Delays = Delays()
    listing_lag: float = Field(0.0, ge=0, description="seconds for which a fresh resource is missing in describe calls")
    terminated_visible: float = Field(3600.0, ge=0, description="seconds for which a terminated instance is listed")
    minute: float = Field(60.0, gt=0, description="seconds of a minute after which unfinished snapshots are given up")
    snapshot_copies: int = Field(20, ge=1, description="copies of snapshots that may be on their way to one region")
    public_images: int = Field(5, ge=0, description="AMIs that may be public in one region")
    ssh_port: int | None = Field(None, ge=1, le=65535, description="default: 22 as root, 2222 otherwise")
    regions: tuple[str, ...] = Field((), description="regions that are enabled; default: all of the partition aws")
    port: int = Field(0, ge=0, le=65535, description="port of the endpoint on 127.0.0.1; 0: any free one")
