# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # the parts are one script
# The way without root, for a volume that is a plain file: the file system itself is carried over, block by block, and grown.

image_copy_progress() {
  echo "$(($(stat -c %b "$device") * 512)) $((used_blocks * block_size))"
}

image_write() {
  phase mkfs
  size=$(device_size "$device") || fail io "the volume's size cannot be read"
  # It could be made smaller first, but resize2fs then moves inodes, and with them the times of folders.
  length=$(stat -c %s image)
  [ "$length" -le "$size" ] || fail too-small "the volume has $size bytes, the image has $length (without root it must fit)"
  phase copy
  ticker image_copy_progress
  # Without -a e2image would leave file content out; what is free is a hole afterwards.
  rm -f packed
  try io e2image -ra image packed >&2
  length=$(stat -c %s packed)
  [ "$length" -le "$size" ] || fail too-small "the volume has $size bytes, the image $length"
  # Emptied and filled again in place: it stays the same file to whoever holds it.
  try io truncate -s 0 -- "$device"
  try io dd if=packed of="$device" bs=1048576 conv=notrunc,sparse 2>>log.dd
  try io truncate -s "$size" -- "$device"
  try io sync -- "$device"
}

# Before it grows, the volume must hold every block of the image's file system, read back and compared.
image_verify() {
  phase verify
  ticker verify_progress
  cmp -n "$length" packed "$device" >&2 || fail verify "the volume is not what was written to it"
  status=0
  e2fsck -fp "$device" >&2 || status=$?
  [ "$status" -le 1 ] || fail verify "the volume's file system is damaged: e2fsck ended with exit status $status"
  try mkfs resize2fs "$device" >&2
  image_dump image source
  image_dump "$device" target
  for kind in sums entries; do
    cmp "source.$kind" "target.$kind" >&2 || differ "$kind"
  done
  ext_read_super "$device" volume.super verify
  count=$(($(super volume.super 'Inode count') - $(super volume.super 'Free inodes')))
  [ "$count" -eq "$used_inodes" ] || fail verify "the volume has $count inodes in use, the image $used_inodes"
}

# image_dump FILE TREE: what every regular file holds. Owners, modes and the like were compared block by block.
image_dump() {
  drop_tree "$2"
  mkdir "$2" || fail io "no folder for the comparison"
  debugfs -R "rdump / $2" "$1" >/dev/null 2>>log.debugfs || fail verify "the files of $2 cannot be read"
  # Modes of folders may keep us out; what they guard is a copy of ours.
  chmod -R u+rwX "$2" || fail io "the files of $2 cannot be opened"
  describe_content "$2" || fail verify "the files of $2 cannot be read"
  in_tree "$2" find . -type d -printf '%y %T@ %P\0' -o -type f -printf '%y %s %T@ %P\0' >"$2.raw" ||
    fail verify "the files of $2 cannot be listed"
  try io sort -z -o "$2.entries" "$2.raw"
  drop_tree "$2"
}

drop_tree() {
  [ ! -e "$1" ] || { chmod -R u+rwX "$1" && rm -rf -- "$1"; } || fail io "$1 cannot be removed"
}

image_facts() {
  # Inodes with a name are entries; 1 to 10 are reserved (the root among them), and lost+found is one.
  fact files "$((used_inodes - 10))"
  # shellcheck disable=SC2016 # awk's own variables
  fact bytes "$(tr '\n\0' '\001\n' <target.entries | awk '$1 == "f" { sum += $2 } END { printf "%.0f", sum }')"
  digest=$(cat target.entries target.sums | sha256sum) || fail verify "the digest cannot be made"
  fact digest "${digest%% *}"
  fact xattrs compared
  rm -f packed
}
