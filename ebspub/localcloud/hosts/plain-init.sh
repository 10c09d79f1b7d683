#!/bin/sh
# The first process of a builder that is a plain folder (no root, no namespaces): boots it, serves SSH.
# Argument: the builder's folder.
set -eu

folder=$1
cd "$folder/home"
echo $$ >"$folder/init.pid"
rm -f "$folder/power"
trap 'echo "builder goes down"; exit 0' TERM INT
echo "builder boots"
if [ -f "$folder/bootcmd" ]; then
    sh "$folder/bootcmd" || echo "bootcmd failed: $?"
fi
"$SSHD" -D -e -f "$folder/sshd_config" &
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
