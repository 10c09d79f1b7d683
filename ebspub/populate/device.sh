# shellcheck shell=sh
# Find a volume on this host by its id, and tell whether it is a fresh one. Below $EBSPUB_DEVICES instead of /dev, a plain
# file is as good as a block device.
devices=${EBSPUB_DEVICES:-/dev}

is_device() {
  [ -b "$1" ] || { [ -f "$1" ] && [ "$devices" != /dev ]; }
}

# find_device VOLUME_ID REQUESTED: print the device's path. Never by size, letter or order: Nitro numbers devices as it likes.
find_device() {
  serial=vol${1#vol-}
  link=$devices/disk/by-id/nvme-Amazon_Elastic_Block_Store_$serial
  if is_device "$link"; then
    readlink -f -- "$link"
    return
  fi
  if [ "$devices" = /dev ]; then
    for file in /sys/block/nvme*/device/serial; do
      found=$(tr -d ' \n' <"$file") || continue
      [ "$found" = "$serial" ] || continue
      name=${file#/sys/block/}
      is_device "/dev/${name%%/*}" || continue
      echo "/dev/${name%%/*}"
      return
    done
  fi
  # Xen: the name that was asked for is the volume's own, as sdf or as xvdf.
  name=${2#/dev/}
  for link in "$devices/xvd${name#sd}" "$devices/$name"; do
    is_device "$link" || continue
    real=$(readlink -f -- "$link") || continue
    case ${real##*/} in
    nvme*) ;; # an NVMe device says which volume it is, and this one did not say ours
    *)
      echo "$real"
      return
      ;;
    esac
  done
  return 1
}

device_size() {
  if [ -b "$1" ]; then
    blockdev --getsize64 "$1"
  else
    stat -c %s -- "$1"
  fi
}

# in_use DEVICE [ours]: print why it must not be touched, if so. On a volume of ours the partitions are ours, too.
in_use() {
  [ -b "$1" ] || return 1
  number=$(stat -c '0x%t 0x%T' -- "$1") || return 1
  number=$((${number% *})):$((${number#* }))
  if cut -d ' ' -f 3 /proc/self/mountinfo | grep -qxF "$number"; then
    echo "it is mounted"
  elif grep -q "^$1 " /proc/swaps 2>/dev/null; then
    echo "it is swap space"
  elif [ -n "$(ls "/sys/dev/block/$number/holders" 2>/dev/null)" ]; then
    echo "another device is built on it"
  elif [ "${2:-}" != ours ] && ls "/sys/dev/block/$number/"*/partition >/dev/null 2>&1; then
    echo "it has partitions"
  else
    return 1
  fi
}

# count_content DEVICE SIZE: bytes that are not zero in the first and last MiB, where every partition table, file system,
# RAID and LVM leaves its mark. A new EBS volume reads as zeros.
count_content() {
  skip=$(($2 / 1048576 - 1))
  [ "$skip" -ge 0 ] || skip=0
  {
    dd if="$1" bs=1048576 count=1 2>/dev/null || exit 1
    dd if="$1" bs=1048576 skip="$skip" 2>/dev/null || exit 1
    printf X
  } | tr -d '\0' | wc -c
}

# patiently COMMAND...: repeat it while the device is busy. Where an earlier task was killed, the kernel may still be taking down
# the mounts of its namespace; and udev looks into every device that was just written.
patiently() {
  tries=0
  while :; do
    status=0
    "$@" 2>busy.err || status=$?
    cat busy.err >&2
    [ "$status" -ne 0 ] || return 0
    grep -qiE 'in use|busy|mounted' busy.err && [ "$tries" -lt 30 ] || return "$status"
    tries=$((tries + 1))
    sleep 1
  done
}

# surprises DEVICE: print what a fresh volume would not have, if anything; fails if there is nothing.
surprises() {
  in_use "$1" && return 0
  size=$(device_size "$1") || {
    echo "its size cannot be read"
    return 0
  }
  case $(count_content "$1" "$size") in
  1) return 1 ;;
  0) echo "it cannot be read" ;;
  *) echo "it is not empty" ;;
  esac
}

# For the attach step: "device PATH", "surprise PATH REASON", or nothing.
report_device() {
  path=$(find_device "$1" "$2") || return 0
  if reason=$(surprises "$path"); then
    echo "surprise $path $reason"
  else
    echo "device $path"
  fi
}
