"""`[notify]`: who is told of builds that were published, of jobs that failed, and of runs that did not succeed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ebspub.config import values as v
from ebspub.config.table import Table

Occasion = Literal["published", "failed", "finished"]
OCCASIONS: tuple[Occasion, ...] = ("published", "failed", "finished")

Variable = Annotated[str, v.matching(r"[A-Za-z_][A-Za-z0-9_]{0,127}", "the name of an environment variable")]
HeaderName = Annotated[str, v.matching(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", "the name of an HTTP header")]
Topic = Annotated[
    str,
    v.matching(
        r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}",
        "the ARN of an SNS topic (arn:aws:sns:us-east-1:123456789012:images)",
    ),
]


class NotifyTable(Table):
    """Who is told what happened. What cannot be told is logged, and changes no outcome."""

    on: Annotated[tuple[Occasion, ...], v.LIST, v.ONCE, v.SOME, v.SEVERAL] = Field(
        default=OCCASIONS,
        description='of what: "published" (a build), "failed" (a job), "finished" (a run with failures) (all of them)',
    )
    command: Annotated[tuple[v.Plain, ...], v.LIST, v.SOME] | None = Field(
        default=None, description="program and its arguments, as a list; gets the JSON document on stdin; no shell"
    )
    webhook: Annotated[str, v.web(query=True)] | None = Field(
        default=None, description="URL to which the JSON document is posted"
    )
    webhook_env: Variable | None = Field(
        default=None, description="environment variable with that URL instead, where the URL itself is a secret"
    )
    headers: dict[HeaderName, Variable] = Field(
        default_factory=dict,
        description='headers of it, each with the environment variable that holds its value: { Authorization = "X" }',
    )
    sns: Topic | None = Field(default=None, description="ARN of the SNS topic to which the JSON document is published")
    timeout: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = Field(
        default=30.0, description="seconds for each of them"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.webhook is not None and self.webhook_env is not None:
            raise v.refuse("one of webhook and webhook_env", key="webhook_env")
        return self
