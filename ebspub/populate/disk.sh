# shellcheck shell=sh
# shellcheck disable=SC2154 # parameters of the task, and what the other parts set
# A whole disk written as it is: downloaded, decompressed and written in one go by the program in $program, compared, its GPT
# made that of the volume; then, with $grow, its last partition and file system made to fill it.

cleanup() {
  ! is_mounted target || umount target || umount -l target
}

find_volume() {
  phase device
  device=$(find_device "$volume_id" "$requested") || fail device "volume $volume_id is not attached as $requested or by its id"
  # After the first time, what is on it is our own.
  ours=
  [ "$(cat claimed 2>/dev/null)" != "$volume_id" ] || ours=ours
  reason=$(in_use "$device" "$ours") && fail device "volume $volume_id ($device) must not be touched: $reason"
  if [ -z "$ours" ]; then
    reason=$(surprises "$device") && fail device "volume $volume_id ($device) is not fresh: $reason"
    rm -f reach
  elif [ -b "$device" ]; then
    drop_parts
  fi
  :
}

# What is missing is said before anything is written; the tools of a file system are known only when it is there.
need_tools() {
  command -v python3 >/dev/null 2>&1 || fail builder "the builder has no python3, which writes disks: install python3 on its image"
  [ "$grow" = yes ] || return 0
  [ -b "$device" ] || fail builder "without a block device nothing can grow: the builder's login user needs sudo, or set grow = false"
  command -v sfdisk >/dev/null 2>&1 ||
    fail builder "the builder has no sfdisk, which makes partitions: install fdisk on its image, or set grow = false"
}

# disk COMMAND...: the program's word of why it failed is the task's.
disk() {
  rm -f refused
  status=0
  python3 -I -S disk.pyz "$@" || status=$?
  [ "$status" -ne 0 ] || return 0
  [ "$status" -ne 4 ] || fail builder "the builder's python3 is older than 3.8: use a newer image for builders"
  read -r code message <refused 2>/dev/null || fail script "disk.pyz $1 ended with exit status $status"
  fail "$code" "$message"
}

disk_progress() {
  cat counted 2>/dev/null || echo 0 0
}

# progressing PHASE: a phase of which the program says how far it is.
progressing() {
  phase "$1"
  rm -f counted
  ticker disk_progress
}

write_disk() {
  progressing write
  printf '%s\n' "$url" | disk pour "$device" "$virtualization" "$sha256" "$download_tries" "$download_pause" "$download_seconds" ||
    exit 1 # it is a subshell that has failed
  rm -f image
}

# need_tool PROGRAM PACKAGE
need_tool() {
  command -v "$1" >/dev/null 2>&1 ||
    fail builder "the builder has no $1, which the root file system needs to grow: install $2 on its image, or set grow = false"
}

read_layout() {
  read -r table number start sectors room <layout || fail io "the volume's partitions cannot be read"
}

grow_root() {
  phase grow
  read_layout
  grown=no
  fs_type=
  if [ "$table" = none ] || [ "$number" -gt 0 ]; then
    fs_type=$(blkid -p -O "$((start * 512))" -o value -s TYPE "$device") || fs_type=
  fi
  case $fs_type in
  ext2 | ext3 | ext4) family=ext ;;
  xfs | btrfs) family=$fs_type ;;
  *) return 0 ;; # whatever else lies last: an instance may know what to do with it
  esac
  "${family}_needs"
  [ "$family${turn:-}" != btrfsshared ] || alone "$(blkid -p -O "$((start * 512))" -o value -s UUID "$device")"
  if [ "$room" = yes ]; then
    printf ',+\n' | patiently sfdisk --quiet --force --no-reread --no-tell-kernel -N "$number" "$device" >&2 ||
      fail io "the partition cannot grow: sfdisk ended with exit status $?"
    sfdisk --dump "$device" >layout.grown || fail io "the volume's partitions cannot be read"
    sectors=$(sed -nE "s/^[^ ]+ : start= *$start, size= *([0-9]+),.*/\1/p" layout.grown)
    [ -n "$sectors" ] || fail io "the partition that grew is not where it was"
  fi
  attach_part "$start" "$sectors"
  root=$part
  exec 5<>"$root" || fail io "$root cannot be opened"
  try io losetup -d "$root"
  "${family}_grow" "$root"
  exec 5>&-
  grown=root
}

ext_needs() {
  need_tool e2fsck e2fsprogs
  need_tool resize2fs e2fsprogs
}

ext_grow() {
  status=0
  e2fsck -fp "$1" >&2 || status=$? # replays the journal
  [ "$status" -le 1 ] || fail bad-image "the disk's root file system is damaged: e2fsck ended with exit status $status"
  try grow patiently resize2fs "$1" >&2
  status=0
  e2fsck -fn "$1" >&2 || status=$?
  [ "$status" -eq 0 ] || fail verify "the root file system is not clean: e2fsck ended with exit status $status"
}

xfs_needs() {
  need_tool xfs_growfs xfsprogs
  need_tool xfs_repair xfsprogs
}

open_root() {
  mkdir -p target || fail io "no mount point"
  try builder mount -t "$fs_type" -o "nosuid,nodev,noexec,noatime$2" "$1" target
}

xfs_grow() {
  open_root "$1" ,nouuid # replays the log
  unmount target
  xfs_repair -n "$1" >log.xfs_repair 2>&1 || fail bad-image "the disk's root file system is damaged: xfs_repair ended with exit status $?"
  open_root "$1" ,nouuid
  try grow xfs_growfs -d target >&2
  unmount target
  xfs_repair -n "$1" >log.xfs_repair 2>&1 || fail verify "the root file system is not clean: xfs_repair ended with exit status $?"
}

btrfs_needs() {
  need_tool btrfs btrfs-progs
}

btrfs_grow() {
  btrfs check --readonly "$1" >log.btrfs 2>&1 || fail bad-image "the disk's root file system is damaged: btrfs check ended with exit status $?"
  open_root "$1" ""
  try grow btrfs filesystem resize max target >&2
  unmount target
  btrfs check --readonly "$1" >log.btrfs 2>&1 || fail verify "the root file system is not clean: btrfs check ended with exit status $?"
}

# What the program says of the disk is as printable as what `fact` says, and as long at most.
tell_found() {
  tr -c ' -~\n' ' ' <found | cut -c -1000 >>facts || fail io "cannot write facts"
}

flush_volume() {
  try io sync -- "$device" # and not all that lies on the builder's own disk
  [ ! -b "$device" ] || try io blockdev --flushbufs "$device"
}

main() {
  rm -f facts log.* found refused poured layout image
  cleanup
  find_volume
  need_tools
  printf '%s' "$program" | base64 -d >disk.pyz || fail io "the program cannot be written"
  write_file claimed "$volume_id" || fail io "the volume cannot be claimed"
  write_disk
  flush_volume
  progressing verify
  disk prove "$device"
  grown=no
  fs_type=
  [ "$grow" != yes ] || grow_root
  phase finish
  flush_volume
  tell_found
  fact way disk
  fact grown "$grown"
  fact fs_type "$fs_type"
  # The builder's disk is not the place to keep it; a failed task keeps it for the next start.
  rm -f artefact image
}

main
