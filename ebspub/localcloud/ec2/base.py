"""What the nouns' backends share: the world behind moto's EC2 backend, and the listing lag in front of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import moto.ec2.urls
from moto.core.responses import ActionResult
from moto.ec2.models import EC2Backend
from moto.ec2.responses import EC2Response

from ebspub.localcloud.ec2.errors import refuse
from ebspub.localcloud.ec2.tokens import Tokens
from ebspub.localcloud.world import World

if TYPE_CHECKING:
    from ebspub.localcloud.ec2.backend import CloudBackend

T = TypeVar("T")


class NounBackend(EC2Backend):  # type: ignore[misc, unused-ignore]
    """Base of the backends: one instance per region, all of them in one world."""

    world: ClassVar[World]
    #: Whether the account forbids itself to make anything public in the region: EC2's words.
    images_blocked = snapshots_blocked = "unblocked"

    def __init__(self, region_name: str, account_id: str) -> None:
        self.tokens = Tokens()
        super().__init__(region_name, account_id)

    @property
    def _url_module(self) -> Any:
        return moto.ec2.urls  # moto would look beside this module


class NounResponse(EC2Response):  # type: ignore[misc, unused-ignore]
    """Base of the responses: answers one call."""

    @property
    def cloud(self) -> CloudBackend:
        """The backend of the region that was called."""
        backend: CloudBackend = self.ec2_backend
        return backend

    def once(self, action: str, make: Callable[[], str]) -> str:
        """Return the id of what ``make`` makes, or made when it was called with the same client token before."""
        token = self._get_param("ClientToken")
        known = self.cloud.tokens.find(action, token, self.params)
        if known is None:
            known = make()
            self.cloud.tokens.remember(action, token, self.params, known)
        return known

    def seen(self, resources: Iterable[T], asked: Iterable[str], code: str) -> list[T]:
        """Return the resources that the listing lag does not hide; ``code`` when one that was asked for is hidden."""
        world = self.cloud.world
        listed: list[Any] = [r for r in resources if world.listed(getattr(r, "born", 0.0))]
        missing = set(asked) - {r.id for r in listed}
        if missing:
            refuse(code, f"The ID '{', '.join(sorted(missing))}' does not exist")
        return listed


def outcome(result: ActionResult) -> Any:
    """Return what moto's own response method answers; its parts have no common type."""
    return result.result


def now() -> float:
    """Return the time that births and lags are measured in (monotonic seconds)."""
    return time.monotonic()
