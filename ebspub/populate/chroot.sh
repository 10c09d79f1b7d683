# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # the parts are one script
# Programs of the image, run in its own tree.

# It is read-only, but for /boot/grub: no program of the image can change what was copied. In /dev are the volume and its root,
# nothing else of the builder's; there is no network; and all that is mounted or started ends with the command.
# shellcheck disable=SC2016 # for the other shell
enter_tree='
set -eu
tree=$1 disk=$2 root=$3 uuid=$4
shift 4
mount --bind "$tree" chroot
mount -o remount,bind,ro,nosuid,exec chroot
[ "$tree" = source ] || mount --bind "$tree/boot/grub" chroot/boot/grub
node() {
  mknod "chroot/dev/$2" b "$((0x$(stat -L -c %t -- "$1")))" "$((0x$(stat -L -c %T -- "$1")))"
}
mount -t tmpfs -o mode=755,nosuid,noexec,size=1m tmpfs chroot/dev
for device in null:3 zero:5 full:7 random:8 urandom:9; do
  mknod -m 666 "chroot/dev/${device%:*}" c 1 "${device#*:}"
done
if [ -n "$root" ]; then
  node "$disk" ebsdisk
  node "$root" ebsroot
  echo "(hd0) /dev/ebsdisk" >chroot/dev/device.map
  # grub-mkconfig would take a loop device for a disk image in a file of some other file system.
  ln -s ebsroot "chroot/dev/${root##*/}"
  # Where this is missing, it names the root by the device that it is here.
  mkdir -p chroot/dev/disk/by-uuid
  ln -s ../../ebsroot "chroot/dev/disk/by-uuid/$uuid"
fi
mount -t proc -o nosuid,nodev,noexec proc chroot/proc
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec,size=64m tmpfs chroot/tmp
exec chroot chroot /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C TERM=dumb \
  "EBSPUB_TASK=${EBSPUB_TASK:-}" "$@"
'

# in_image TREE COMMAND...: the command is the image's own, TREE is source or target.
in_image() {
  mkdir -p chroot || fail io "no mount point"
  tree_=$1
  shift
  timeout 600 unshare --mount --pid --fork --kill-child --net --ipc --uts \
    sh -c "$enter_tree" sh "$tree_" "$device" "${root:-}" "$fs_uuid" "$@" </dev/null
}

# is_own TREE PATH: no part of it is a link, which might lead out of the tree.
is_own() {
  at_=$1
  rest_=$2
  while [ -n "$rest_" ]; do
    at_=$at_/${rest_%%/*}
    [ ! -L "$at_" ] || return 1
    case $rest_ in
    */*) rest_=${rest_#*/} ;;
    *) rest_= ;;
    esac
  done
}
