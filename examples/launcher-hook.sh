#!/bin/sh
# Called by a build launcher when a build is on the mirror:
#     launcher-hook.sh SUITE SERIAL [ARCH...]
# Publishes that build, and only that one, as EBS-root AMIs in every configured region. Calling it again is harmless:
# what is registered is not registered again.
set -eu

suite=$1
serial=$2
shift 2

# One --arch for each arch that was given.
for arch in "$@"; do
  set -- "$@" --arch "$arch"
  shift
done

status=0
ebspub run --suite "$suite" --serial "$serial" "$@" || status=$?
case $status in
0) ;;
3) ebspub status --build "$serial" >&2 ;;              # some jobs failed: say which, and why
75) echo "another process publishes $suite $serial" ;; # it will finish the work
*) echo "ebspub ended with $status" >&2 ;;
esac
exit "$status"
