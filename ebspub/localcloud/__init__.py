"""An EC2 look-alike with real disks and real SSH hosts, for the demo and the tests.

moto gives the control plane; this package corrects it (``ec2``), gives it builders (``hosts``), disks (``loops``,
``sparse``) and time (``timers``), and runs it all as a process of its own (``server``), so that killing the publisher
does not kill the cloud. ``control`` starts, stops and steers it.
"""

from ebspub.localcloud.control import Cloud, CloudError, Status, find, running, start, status, stop
from ebspub.localcloud.faults import Effect, Rule
from ebspub.localcloud.settings import Delays, Settings

__all__ = [
    "Cloud",
    "CloudError",
    "Delays",
    "Effect",
    "Rule",
    "Settings",
    "Status",
    "find",
    "running",
    "start",
    "status",
    "stop",
]
