"""Hosts that take commands: keys, user data, SSH, and work that goes on without a connection.

========== ==============================================================
keys       key pairs per job and attempt, derived from one secret
userdata   what a builder is launched with
shell      the protocols `Shell` and `Connect`
ssh        `connect` for real hosts, host key pinned
detached   work that survives connection and publisher: start, poll, attend, cancel
upload     a file of the publisher's, sent to such work in slices
report     what a builder says of such work, read with distrust
========== ==============================================================
"""

from ebspub.remote.detached import Task, attend, cancel, poll, start
from ebspub.remote.keys import Key, Keyring
from ebspub.remote.report import Absent, Failed, Report, Running, Succeeded
from ebspub.remote.shell import Completed, Connect, Shell
from ebspub.remote.ssh import connect
from ebspub.remote.userdata import user_data

__all__ = [
    "Absent",
    "Completed",
    "Connect",
    "Failed",
    "Key",
    "Keyring",
    "Report",
    "Running",
    "Shell",
    "Succeeded",
    "Task",
    "attend",
    "cancel",
    "connect",
    "poll",
    "start",
    "user_data",
]
