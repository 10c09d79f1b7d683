"""What may happen at any moment of a simulated history, drawn from one seed; and the story of what did."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from botocore.exceptions import ClientError, ReadTimeoutError


class Killed(BaseException):
    """SIGKILL: nothing of the process runs any more. Not an Exception, so that no handler of ours survives it."""


class VirtualClock:
    """A clock that moves only when it is told to, or waited on."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float, wake: threading.Event | None = None) -> None:
        del wake
        self.time += max(0.0, seconds)


@dataclass(frozen=True)
class Weather:
    """How often what happens; rates are per call, commit or look, times in virtual seconds."""

    throttle: float = 0.0
    error_before: float = 0.0
    lost_answer: float = 0.0
    kill: float = 0.0
    pause: float = 0.0
    pause_time: float = 200.0
    builder_dies: float = 0.0
    copy_fails: float = 0.0
    ssh_drops: float = 0.0
    snapshot_error: float = 0.0
    image_fails: float = 0.0
    no_capacity: float = 0.0
    attach_sticks: float = 0.0  #: a volume stays `attaching`
    volume_error: float = 0.0
    stale: float = 0.0  #: one look shows a thing as if it had not been made, or not yet been removed, lately
    visibility: float = 0.0  #: a fresh thing is invisible for up to so many seconds
    slow: float = 1.0  #: states take up to so many times as long

    @classmethod
    def draw(cls, rng: random.Random) -> Weather:
        """Draw a weather: many are calm in most respects, some are foul in all."""

        def some(high: float) -> float:
            return rng.choice((0.0, 0.0, high / 4, high)) * rng.random()

        return cls(
            throttle=some(0.2),
            error_before=some(0.2),
            lost_answer=some(0.3),
            kill=some(0.05),
            pause=some(0.03),
            builder_dies=some(0.01),
            copy_fails=some(0.1),
            ssh_drops=some(0.3),
            snapshot_error=some(0.15),
            image_fails=some(0.15),
            no_capacity=some(0.3),
            attach_sticks=some(0.1),
            volume_error=some(0.1),
            stale=some(0.3),
            visibility=rng.choice((0.0, 5.0, 60.0, 140.0)),
            slow=rng.choice((1.0, 1.0, 4.0)),
        )


#: Weather in which everything goes wrong now and then.
FOUL = Weather(
    throttle=0.05,
    error_before=0.05,
    lost_answer=0.25,
    kill=0.04,
    pause=0.04,
    builder_dies=0.005,
    copy_fails=0.05,
    ssh_drops=0.1,
    snapshot_error=0.05,
    image_fails=0.05,
    no_capacity=0.1,
    attach_sticks=0.03,
    volume_error=0.03,
    stale=0.1,
    visibility=60.0,
)


@dataclass
class Chaos:
    """The dice, the clock and the story of one history."""

    rng: random.Random
    clock: VirtualClock
    weather: Weather
    story: list[str] = field(default_factory=list)
    #: Run while the process that draws a pause stands still: other publishers.
    during_pause: Callable[[], None] = lambda: None
    calm: bool = False
    _pausing: bool = False

    def tell(self, line: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.clock.time - 1_700_000_000.0:10.2f}  {line}")

    def happens(self, rate: float) -> bool:
        """Throw the dice once."""
        return not self.calm and rate > 0.0 and self.rng.random() < rate

    def moment(self, where: str) -> None:
        """A point at which the process may be killed, or stand still while others go on."""
        if self.calm:
            return
        if self.happens(self.weather.kill):
            self.tell(f"KILLED at {where}")
            raise Killed(where)
        if not self._pausing and self.happens(self.weather.pause):
            self.tell(f"PAUSED at {where}")
            self._pausing = True
            try:
                until = self.clock.time + self.weather.pause_time
                self.during_pause()
                self.clock.time = max(self.clock.time, until)
            finally:
                self._pausing = False
            self.tell(f"woke up at {where}")

    def before_call(self, action: str) -> None:
        """What may keep a call from taking effect."""
        self.moment(f"before {action}")
        if self.happens(self.weather.throttle):
            self.tell(f"{action}: throttled")
            raise failure(action, "RequestLimitExceeded", 503)
        if self.happens(self.weather.error_before):
            self.tell(f"{action}: internal error, no effect")
            raise failure(action, "InternalError", 500)

    def after_call(self, action: str) -> None:
        """What may keep an answer from arriving."""
        self.moment(f"after {action}")
        if self.happens(self.weather.lost_answer):
            self.tell(f"{action}: took effect, answer lost")
            raise ReadTimeoutError(endpoint_url="simulated")


def failure(action: str, code: str, status: int = 400, message: str = "simulated") -> ClientError:
    """Return what botocore raises for an error answer."""
    return ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {
                "HTTPStatusCode": status,
                "RequestId": "req-simulated",
                "HTTPHeaders": {},
                "RetryAttempts": 0,
                "HostId": "",
            },
        },
        action,
    )
