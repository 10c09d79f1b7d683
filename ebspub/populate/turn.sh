# shellcheck shell=sh
# shellcheck disable=SC2154 # set by the other parts
# On a builder that several jobs share: one volume is filled at a time. A disk that was made for one image would not hold several,
# and the volumes of one image carry the same UUIDs, of which no kernel may see two mounted.

# Only root can make a file in /run; who is not root has a folder of his own.
turn_file() {
  if [ "$(id -u)" -eq 0 ] && [ "${EBSPUB_DEVICES:-/dev}" = /dev ]; then
    echo /run/ebspub.turn
  else
    echo "$EBSPUB_WORK/../turn.lock"
  fi
}

# The lock is this process's and its children's: it ends with them, however they do.
take_turn() {
  phase queue
  exec 7>>"$(turn_file)" || fail io "the lock of the shared builder cannot be opened"
  try io flock 7
}

# alone UUID: until no other volume here has a btrfs of this id. One that was filled before is about to be detached; the kernel would
# take the two for parts of one file system, and goes on doing so until it is told to forget those that are not mounted.
alone() {
  tries=0
  while others=$(blkid -c /dev/null -o device -t "UUID=$1" | grep -vE "^$device(p?[0-9]+)?\$") && [ -n "$others" ]; do
    [ "$tries" -lt 300 ] || fail clash "other volumes of the shared builder hold the same btrfs: $(printable "$others" 100)"
    tries=$((tries + 1))
    sleep 1
  done
  btrfs device scan --forget >&2 || :
}

take_turn
