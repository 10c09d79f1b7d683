# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # parameters of the task, and what the other parts set or use
# The specification's way to fill a volume: download the published tarball, make a file system on the volume, extract the image,
# mount it, copy, sync. For HVM the file system lies in a partition, and the image's own boot loader is installed.

# In a mount namespace of the task's own this is done by its end, too; where there is none, this is all there is.
cleanup() {
  for tree in target source esp.mnt look; do
    ! is_mounted "$tree" || umount "$tree" || umount -l "$tree"
  done
  rm -f ./*.raw ./*.list
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
  elif [ -b "$device" ]; then
    drop_parts
  fi
  # An image may have more blocks than the volume, as long as they are free. But a server that never stops sending, or an
  # archive that unpacks to whatever one likes, must not keep the builder busy for hours.
  size=$(device_size "$device") || fail io "the volume's size cannot be read"
  most=$((size * 16))
}

claim_volume() {
  write_file claimed "$volume_id" || fail io "the volume cannot be claimed"
}

mount_tree() {
  mkdir -p "$2" || fail io "no mount point"
  try io mount -t "$fs_type" -o "nosuid,nodev,noexec,$3" "$1" "$2"
}

fill_block_device() {
  [ -n "$content" ] || mount_tree image source "loop,ro$source_options"
  phase mkfs
  root=
  if [ "$virtualization" = hvm ]; then
    gpt_plan "$device"
    boot_check
    claim_volume
    gpt_make "$device"
    open_parts
  else
    claim_volume
    root=$device
  fi
  "${family}_make" "$root"
  phase copy
  mount_tree "$root" target "noatime$source_options$copy_options"
  copy_tree
  if [ "$virtualization" = hvm ]; then
    phase boot
    boot_install
    # shellcheck disable=SC2086 # paths of ours, without blanks
    omit $changes
  fi
  phase verify
  # Mounted anew, so that what is compared comes from the volume and not from memory.
  unmount target
  flush_volume
  mount_tree "$root" target "ro$source_options"
  verify_trees
  [ "$virtualization" != hvm ] || boot_verify
  phase finish
  unmount target
  unmount source
  "${family}_finish" "$root"
  [ "$virtualization" != hvm ] || gpt_verify "$device"
  flush_volume
}

# The volume, and not all that lies on the builder's own disk: the artefact and the image need not be there after a power cut.
flush_volume() {
  [ "$root" = "$device" ] || try io sync -- "$root" "$esp"
  try io sync -- "$device"
  [ "$root" = "$device" ] || try io blockdev --flushbufs "$root" "$esp"
  try io blockdev --flushbufs "$device"
}

fill_file() {
  [ -z "$content" ] || fail builder "without a block device a published tree cannot be copied: the builder's login user needs sudo"
  [ "$virtualization" != hvm ] || fail builder "without a block device there are no partitions: the builder's login user needs sudo"
  [ "$family" = ext ] || fail unsupported-fs "without a block device only ext2, ext3 and ext4 can be copied, not $fs_type"
  claim_volume
  ext_mount_options source.super >source.options
  image_write
  image_verify
  phase finish
  ext_finish "$device"
  image_facts
  try io sync -- "$device"
}

main() {
  rm -f facts log.*
  cleanup
  find_volume
  [ ! -b "$device" ] || find_xattr_reader
  get_artefact
  content=
  extract
  [ -z "$content" ] || open_published_tree
  case $fs_type in
  ext*) family=ext ;;
  *) family=$fs_type ;;
  esac
  source_options=
  copy_options=
  "${family}_check_source"
  if [ -b "$device" ]; then
    fill_block_device
    fact way mounted
  else
    fill_file
    fact way blocks
  fi
  fact fs_type "$fs_type"
  fact label "$fs_label"
  fact uuid "$fs_uuid"
  fact size "${volume_size:-$size}"
  # The builder's disk is not the place to keep it; a failed task keeps it for the next start.
  rm -f artefact image published
  [ "$content" != root-tar ] || rm -rf source
}

main
