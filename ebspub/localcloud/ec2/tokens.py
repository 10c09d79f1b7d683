"""Client tokens: the same call again answers with the same resource.

EC2's rules: same token and same parameters, same resource; other parameters, ``IdempotentParameterMismatch``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ebspub.localcloud.ec2.errors import refuse

_LIMIT = 64


class Tokens:
    """The client tokens that one region has seen."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[str, str]] = {}

    def find(self, action: str, token: str | None, params: Mapping[str, Any]) -> str | None:
        """Return the id that the token stands for, or None for a new token.

        Answers ``IdempotentParameterMismatch`` when the token came with other parameters.
        """
        if not token:
            return None
        if len(token) > _LIMIT or not token.isascii():
            refuse("InvalidParameterValue", f"Invalid value for ClientToken: at most {_LIMIT} ASCII characters")
        known = self._seen.get((action, token))
        if known is None:
            return None
        digest, resource_id = known
        if digest != _digest(params):
            refuse(
                "IdempotentParameterMismatch",
                f"The client token '{token}' was used with other parameters. ({action})",
            )
        return resource_id

    def remember(self, action: str, token: str | None, params: Mapping[str, Any], resource_id: str) -> None:
        """Note that the call with this token made ``resource_id``."""
        if token:
            self._seen[action, token] = (_digest(params), resource_id)


def _digest(params: Mapping[str, Any]) -> str:
    relevant = {key: value for key, value in params.items() if key not in {"ClientToken", "DryRun"}}
    return json.dumps(relevant, sort_keys=True, default=str)
