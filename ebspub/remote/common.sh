# shellcheck shell=sh
# Read first by every program that runs on a builder. POSIX sh plus coreutils, util-linux, grep, sed and /proc of Linux.
set -u
umask 077
LC_ALL=C
export LC_ALL
PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin
export PATH

# Whole seconds since boot: the one clock here that nobody sets.
uptime_seconds() {
  read -r up _ </proc/uptime || return 1
  echo "${up%%.*}"
}

boot_id() {
  read -r boot </proc/sys/kernel/random/boot_id || return 1
  echo "$boot"
}

# write_file NAME TEXT: the whole text under this name, or what was there before.
write_file() {
  printf '%s' "$2" >"$1.$$.tmp" && mv -f -- "$1.$$.tmp" "$1" && return
  rm -f -- "$1.$$.tmp"
  return 1
}

# free_space: print how many bytes this user can still write in the current folder.
free_space() {
  # shellcheck disable=SC2046 # three numbers
  set -- $(stat -f -c '%f %a %S' .)
  [ $# -eq 3 ] || return 1
  if [ "$(id -u)" -eq 0 ]; then echo $(($1 * $3)); else echo $(($2 * $3)); fi
}

# disk_is_full: whether so little is left that what failed may have failed for it. What is written last may still have fitted
# where what came before it did not.
disk_is_full() {
  free=$(free_space) && [ "$free" -lt 1048576 ]
}

# must_write NAME TEXT: on a full disk a task's big files make room for its last words, or the reserve that was kept for them.
must_write() {
  write_file "$@" && return
  find . -maxdepth 1 -type f -size +128k -exec rm -f {} +
  write_file "$@" && return
  rm -f reserve
  write_file "$@"
}

# Print the start time (clock ticks since boot) of a process that is alive; with the pid it names a process for good.
started_at() {
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  stat=${stat##*) } # the name before may hold blanks and parentheses
  # shellcheck disable=SC2086 # fields
  set -- $stat
  case $1 in
  Z | X) return 1 ;;
  esac
  echo "${20}"
}

# Tell the builder's dead-man timer that a publisher is there (see userdata.py). No timer, no file.
heartbeat() {
  for run in /run/ebspub "${HOME:-/nonexistent}/.ebspub-run"; do
    if [ -d "$run" ] && [ -w "$run" ]; then
      write_file "$run/alive" "$(boot_id) $(uptime_seconds)
"
    fi
  done
}
