"""User data of a builder: its host key, our login key, and a timer that ends it when no publisher comes back.

The text is a function of its arguments alone (RunInstances reissued with its client token must carry the same bytes).
It is written as JSON, which cloud-init's YAML parser reads and in which no value can turn into structure.

The host key is readable to everybody on the builder through the metadata service. It is worth nothing anywhere else: it
proves one builder of one attempt for as long as that lives.
"""

from __future__ import annotations

import json

from ebspub.errors import ConfigError
from ebspub.remote.keys import Key

#: EC2's limit for user data before base64.
LIMIT = 16 * 1024

#: What the heartbeat of `control.sh` and the timer agree on: a file with the boot's id and the uptime in whole seconds.
#: Uptime, because wall time jumps when the builder's clock is set; boot's id, because /run may be a plain folder.
_DEAD_MAN = """\
set -u
PATH=$PATH:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
read -r boot </proc/sys/kernel/random/boot_id || exit 1
run=/run/ebspub
# A host that offers its volumes elsewhere than below /dev is a folder of somebody's machine, whose /run is not its own.
[ -z "${EBSPUB_DEVICES:-}" ] && mkdir -p "$run" 2>/dev/null && [ -w "$run" ] || run=${HOME:-/nonexistent}/.ebspub-run
mkdir -p "$run" || exit 1
mkdir "$run/dead-man-$boot" 2>/dev/null || exit 0
read -r now _ </proc/uptime || exit 1
began=${now%%.*}
lonely() {
  read -r now _ </proc/uptime || return 1
  now=${now%%.*}
  last=$began
  if read -r id at _ 2>/dev/null <"$run/alive" && [ "$id" = "$boot" ]; then
    case $at in
    '' | *[!0-9]* | ???????????*) ;;
    *) [ "$at" -le "$began" ] || last=$at ;;
    esac
  fi
  [ $((now - last)) -ge @LIMIT@ ]
}
watch() {
  until lonely; do sleep @PAUSE@; done
  why='ebspub: no publisher for @LIMIT@ s, shutting down'
  { echo "$why" >/dev/console; } 2>/dev/null
  sync &
  sleep 5
  shutdown -h now "$why" || poweroff
  sleep 60
  poweroff -f || { echo o >/proc/sysrq-trigger; }
}
# A subshell, because a shell that redirects a function keeps the old files open, and cloud-init may wait for them.
(watch) </dev/null >/dev/null 2>&1 &
"""


def user_data(host_key: Key, client_key: Key, dead_man_seconds: int) -> str:
    """Return the cloud-config for a builder that shuts down after ``dead_man_seconds`` without a publisher.

    The instance must have been launched with ``InstanceInitiatedShutdownBehavior=terminate``. The last thing that it
    writes to its console is then ``ebspub: no publisher for N s, shutting down``.
    """
    config = {
        "ssh_deletekeys": True,
        "ssh_genkeytypes": [],
        "ssh_keys": {"ecdsa_private": host_key.pem, "ecdsa_public": host_key.public_line},
        "ssh_authorized_keys": [client_key.public_line],
        "ssh_pwauth": False,
        "disable_root": True,
        "package_update": False,
        "package_upgrade": False,
        "package_reboot_if_required": False,
        "bootcmd": [["setsid", "sh", "-c", dead_man_script(dead_man_seconds)]],
    }
    text = "#cloud-config\n" + json.dumps(config, indent=1, sort_keys=True) + "\n"
    if len(text.encode()) > LIMIT:
        raise ConfigError(f"the builder's user data has more than {LIMIT} bytes")
    return text


def dead_man_script(seconds: int) -> str:
    """Return the POSIX sh program that leaves the timer behind and returns; a second one in a boot does nothing."""
    if seconds < 1:
        raise ValueError(f"not a time without a publisher: {seconds} s")
    pause = max(1, min(30, seconds // 4))
    return _DEAD_MAN.replace("@LIMIT@", str(seconds)).replace("@PAUSE@", str(pause))
