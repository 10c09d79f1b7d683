# shellcheck shell=sh
# What every task's script begins with: its parameters as shell variables, and the words to report in.
cd "$EBSPUB_WORK" || exit 1
# shellcheck source=/dev/null
. ./parameters || exit 1
PHASE=start
# What is told of a disk that is full: bytes that were free at first, and what the task has found to need, in words.
FREE=$(free_space) || FREE=
NEEDED=
TICKER=

# printable TEXT: one line of printable ASCII.
printable() {
  printf '%s' "$1" | tr -c ' -~' ' ' | head -c "${2:-500}"
}

# progress DONE TOTAL (bytes; 0 0 if unknown)
progress() {
  write_file progress "phase=$PHASE
done=$1
total=$2
at=$(uptime_seconds)
"
}

# phase NAME: what follows belongs to this part of the work.
phase() {
  no_ticker
  PHASE=$1
  progress 0 0
  echo "[$(uptime_seconds)] $1" >&2
}

# fail CODE MESSAGE: the task has failed. The first reason counts; later ones follow from it. On a full disk it is the disk,
# whatever failed for it, and what was read from it or written to it proves nothing.
fail() {
  echo "[$(uptime_seconds)] $PHASE failed: $1: $2" >&2
  [ ! -e failure ] || exit 1
  [ "$1" = disk-full ] || ! disk_is_full || set -- disk-full "the builder's disk is full: $2"
  [ "$1" != disk-full ] || set -- "$1" "$2 (${NEEDED:+$NEEDED; }free at first: ${FREE:-unknown} bytes): see builder.root_size"
  must_write failure "code=$1
phase=$PHASE
message=$(printable "$2")
"
  exit 1
}

# try CODE COMMAND...: the command's failure is the task's.
try() {
  code=$1
  shift
  "$@" || fail "$code" "$1 ended with exit status $?"
}

# fact KEY VALUE
fact() {
  printf '%s=%s\n' "$1" "$(printable "$2" 1000)" >>facts || fail io "cannot write facts"
}

# ticker COMMAND...: until the next phase, report what the command prints ("done total") every second.
ticker() {
  no_ticker
  (
    trap - EXIT
    while sleep 1 && kill -0 $$ 2>/dev/null; do
      # shellcheck disable=SC2046 # two words
      progress $("$@" || echo 0 0)
    done
  ) </dev/null >/dev/null 2>&1 &
  TICKER=$!
}

no_ticker() {
  [ -n "$TICKER" ] || return 0
  # A milder signal is lost if it comes before the new shell has taken off our traps.
  kill -KILL "$TICKER" 2>/dev/null
  wait "$TICKER" 2>/dev/null
  TICKER=
}

# Tasks that have something to undo define this again.
cleanup() { :; }

at_exit() {
  status=$?
  trap - EXIT
  no_ticker
  cleanup
  exit "$status"
}
trap at_exit EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
