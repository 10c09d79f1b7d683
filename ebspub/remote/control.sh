# shellcheck shell=sh
# shellcheck disable=SC2154 # set by the caller
# Start, watch and end one task. Needs $task (its name); start also $again, $script, $runner and $parameters.

# A host that offers its volumes elsewhere than below /dev is a folder of somebody's machine, whose /var is not its own.
find_work() {
  if [ "$(id -u)" -eq 0 ] && [ "${EBSPUB_DEVICES:-/dev}" = /dev ]; then
    parent=/var/tmp
    work=/var/tmp/ebspub-$task
  else
    if [ -d "${HOME:-}" ] && [ -w "${HOME:-}" ]; then
      parent=$HOME/.ebspub
    else
      parent=${TMPDIR:-/tmp}/ebspub-$(id -u)
    fi
    work=$parent/$task
  fi
}

# The folder must be ours: /var/tmp and /tmp take folders from everybody.
work_is_ours() {
  [ -d "$work" ] && [ ! -L "$work" ] && [ "$(stat -c %u "$work")" = "$(id -u)" ]
}

lock_work() {
  exec 8>>"$work/start.lock" || return 1
  flock -w 60 8
}

# The leader recorded itself as "boot pid start"; it lives if all three still name one process.
leader_lives() {
  { read -r was_boot was_pid was_start <"$work/leader"; } 2>/dev/null || return 1
  [ "$was_boot" = "$(boot_id)" ] || return 1
  [ "$(started_at "$was_pid")" = "$was_start" ]
}

# Pids of everything that an earlier start left: known by a mark in the environment, which is inherited and never reused.
marked() {
  grep -lzxF "EBSPUB_TASK=$work" /proc/[0-9]*/environ 2>/dev/null | sed 's,^/proc/\([0-9]*\)/.*,\1,'
}

# end_marked SIGNAL TENTHS: signal all of them until none is left; fails if some remain.
end_marked() {
  tenths=$2
  pids=$(marked)
  while [ -n "$pids" ]; do
    [ "$tenths" -gt 0 ] || return 1
    # shellcheck disable=SC2086 # one argument each; one that is gone by now is no failure
    kill -s "$1" $pids 2>/dev/null
    sleep 0.1
    tenths=$((tenths - 1))
    pids=$(marked)
  done
}

make_work() {
  mkdir -p "$parent" && { [ -d "$work" ] || mkdir "$work" || [ -d "$work" ]; } || return 1
  work_is_ours || {
    echo "$work belongs to somebody else" >&2
    return 1
  }
  chmod 700 "$work" && lock_work
}

start_task() {
  make_work || return 1
  if [ -e "$work/result" ]; then
    [ "$again" = yes ] && ! grep -qx outcome=succeeded "$work/result" || return 0
    leader_lives || rm -f "$work/result" || return 1
  fi
  leader_lives && return 0
  end_marked KILL 300 || {
    echo "processes of an earlier start do not end" >&2
    return 1
  }
  rm -f "$work/leader" || return 1
  write_file "$work/parameters" "$parameters" && write_file "$work/script" "$script" &&
    write_file "$work/runner" "$runner" || return 1
  EBSPUB_TASK=$work EBSPUB_WORK=$work setsid sh "$work/runner" </dev/null >>"$work/log" 2>&1 8>&- &
  waited=0
  until [ -e "$work/leader" ] || [ -e "$work/result" ]; do
    [ "$waited" -lt 200 ] || {
      echo "the task did not come up" >&2
      return 1
    }
    sleep 0.1
    waited=$((waited + 1))
  done
}

# Take the publisher's own file as the task's $file: say how much of it is here. $identity names the very file and
# $size its bytes; what is here of another one is thrown away. upload.py appends to $file.part.
begin_upload() {
  make_work && cd "$work" || return 1
  if [ "$(cat upload 2>/dev/null)" != "$identity" ]; then
    rm -f "$file" "$file.part" && write_file upload "$identity" || return 1
  fi
  if [ ! -e "$file" ]; then
    : >>"$file.part" && here=$(stat -c %s "$file.part") || return 1
    [ "$here" -le "$size" ] || { : >"$file.part" && here=0; } || return 1
    if [ "$here" -lt "$size" ]; then
      echo "upload $here $work"
      return 0
    fi
    mv -f "$file.part" "$file" || return 1
  fi
  echo "upload $size $work"
}

# Nothing but a plain file is told of: a link says what is in another file, a pipe keeps us waiting.
is_plain() {
  [ -f "$1" ] && [ ! -L "$1" ]
}

# prefixed WORD FILE: its lines, each with the word before it, so that none can pass for another kind of line.
prefixed() {
  ! is_plain "$2" || head -c 65536 "$2" | sed "s/^/$1/" | head -c 65536
  echo
}

poll_task() {
  echo "ebspub-report 1"
  state=absent
  if work_is_ours; then
    if [ -e "$work/result" ]; then
      state=ended
    elif leader_lives; then
      state=running
    elif [ -e "$work/leader" ]; then
      # It may have ended between the two looks.
      if [ -e "$work/result" ]; then state=ended; else state=vanished; fi
    fi
  fi
  echo "state $state"
  echo "now $(uptime_seconds)"
  if [ "$state" != absent ]; then
    prefixed 'progress ' "$work/progress"
    [ "$state" != ended ] || prefixed 'result ' "$work/result"
    ! is_plain "$work/log" || tail -n 30 "$work/log" | tail -c 4096 | sed 's/^/log /'
    echo
  fi
  echo "end"
}

cancel_task() {
  work_is_ours || return 0
  lock_work || return 1
  [ -e "$work/script" ] || [ -e "$work/result" ] || return 0
  # A task that is asked first unmounts what it mounted.
  end_marked TERM 150 || end_marked KILL 150 || {
    echo "the task's processes do not end" >&2
    return 1
  }
  [ -e "$work/result" ] || write_file "$work/result" "outcome=failed
status=143
code=cancelled
phase=
message=cancelled by the publisher
"
}

# End the task for good; its big files make room for others on a builder that goes on.
clear_task() {
  cancel_task || return 1
  work_is_ours || return 0
  find "$work" -maxdepth 1 -type f -size +128k -exec rm -f {} +
}

find_work
heartbeat
