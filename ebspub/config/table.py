"""What every table of the configuration file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A table of the file: frozen, strict, and without room for unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
