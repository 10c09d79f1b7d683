# shellcheck shell=sh
# The leader of a task: holds its lock, runs its script, writes its result. Started by control.sh in a session of its own.
cd "$EBSPUB_WORK" || exit 1

# The lock ends with this process, however that dies; no child inherits it.
exec 9>>run.lock || exit 1
flock -w 10 9 || exit 0
[ ! -e result ] || exit 0
rm -f progress failure facts
# Room for what must be said on a disk that the work has filled. Without it there is only less of it.
head -c 65536 /dev/urandom >reserve || rm -f reserve
write_file leader "$(boot_id) $$ $(started_at $$)
" || exit 1

# What is mounted in a mount namespace of its own is unmounted when the last process in it has gone, even by SIGKILL, and
# nothing else on the builder can keep it busy.
isolate=
if [ "$(id -u)" -eq 0 ] && unshare -m true 2>/dev/null; then
  isolate='unshare -m'
fi

status=0
$isolate sh ./script 9>&- || status=$?

if [ "$status" -eq 0 ] && [ ! -e failure ]; then
  result="outcome=succeeded
status=0
$(sed 's/^/fact./' facts 2>/dev/null)
"
elif [ -e failure ]; then
  result="outcome=failed
status=$status
$(cat failure)
"
else
  code=script
  [ "$status" -le 128 ] || code=vanished # ended by a signal
  full=
  ! disk_is_full || code=disk-full full="the builder's disk is full (see builder.root_size): "
  result="outcome=failed
status=$status
code=$code
phase=$(sed -n 's/^phase=//p' progress 2>/dev/null)
message=${full}the task ended with exit status $status before it said why
"
fi
must_write result "$result"
rm -f reserve
