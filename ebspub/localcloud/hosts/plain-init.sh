#!/bin/sh
# The first process of a builder that is a plain folder (no root, no namespaces): boots it, serves SSH.
# Arguments: the builder's folder, the path of sshd.
set -eu

folder=$1
program=$2
cd "$folder/home"
echo $$ >"$folder/init.pid"
rm -f "$folder/power"
trap 'echo "builder goes down"; exit 0' TERM INT
echo "builder boots"
if [ -f "$folder/bootcmd" ]; then
    sh "$folder/bootcmd" || echo "bootcmd failed: $?"
fi
setpriv --pdeathsig KILL "$program" -D -e -f "$folder/sshd_config" &
sshd=$!
if [ -f "$folder/runcmd" ] && [ ! -e "$folder/runcmd.done" ]; then
    touch "$folder/runcmd.done"
    "$folder/runcmd" &
fi
echo "builder is up"
while kill -0 "$sshd" 2>/dev/null; do
    wait "$sshd" || true
done
echo "sshd ended"
exit 1
