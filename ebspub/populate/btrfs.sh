# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # the parts are one script
# Btrfs: made on the volume with the image's features, block sizes and profiles. A copy of files knows nothing of subvolumes.

btrfs_super() {
  btrfs inspect-internal dump-super "$1" 2>>log.btrfs
}

btrfs_field() {
  sed -n "s/^$2[[:blank:]]\{1,\}\([^[:blank:]]*\).*/\1/p" "$1" | head -n 1
}

# Features, one a line, without those that only say what has been stored so far.
btrfs_features() {
  sed -n '/^\(incompat\|compat_ro\)_flags/,/)$/p' "$1" | grep -oE '[A-Z][A-Z0-9_]{3,}' |
    grep -vxE 'COMPRESS_.*|DEFAULT_SUBVOL|BIG_METADATA|FREE_SPACE_TREE_VALID' | sort
}

btrfs_check_source() {
  for program in btrfs mkfs.btrfs btrfstune; do
    command -v "$program" >/dev/null 2>&1 || fail builder "the builder has no $program: install btrfs-progs on its image"
  done
  status=0
  btrfs check --readonly image >log.btrfs_check 2>&1 || status=$?
  tail -n 5 log.btrfs_check >&2
  [ "$status" -eq 0 ] || fail bad-image "the image's file system is damaged: btrfs check ended with exit status $status"
  btrfs_super image >source.super || fail bad-image "the image's btrfs cannot be read"
  btrfs_features source.super >source.features
  fs_label=$(probe LABEL)
  fs_uuid=$(btrfs_field source.super fsid)
  [ -z "${turn:-}" ] || alone "$fs_uuid"
  # Two file systems of one UUID cannot be mounted at once: the image, which is ours, gets another, and the volume its own.
  try io btrfstune -f -U "$(derive_id image)" image >&2
  btrfs_look_inside
}

# Mounted to be written once, it replays its log.
btrfs_look_inside() {
  mkdir -p look || fail io "no mount point"
  try builder mount -t btrfs -o nosuid,nodev,noexec,loop,subvolid=5 image look
  found=$(btrfs subvolume list look | sed -n 's/.* path //p' | head -n 3 | tr '\n' ' ')
  profiles=$(btrfs filesystem df look)
  unmount look
  [ -z "$found" ] || fail unsupported-fs "the image's btrfs has subvolumes ($found), which a copy of its files cannot keep: use the method disk"
}

btrfs_profile() {
  printf '%s\n' "$profiles" | sed -n "s/^$1, \([^:]*\):.*/\1/p" | tr '[:upper:]' '[:lower:]' | sort -u | head -n 1
}

# btrfs_switch FLAG NAME: how mkfs.btrfs is told to have it or not.
btrfs_switch() {
  if grep -qxF "$1" source.features; then echo ",$2"; else echo ",^$2"; fi
}

# Before 6.3, mkfs.btrfs took some features by another option.
btrfs_runtime() {
  if mkfs.btrfs -O list-all 2>&1 | grep -q '^free-space-tree'; then echo -O; else echo -R; fi
}

btrfs_make() {
  size=$(device_size "$1") || fail io "the volume's size cannot be read"
  [ "$size" -ge $((128 * 1048576)) ] || fail too-small "the volume has $size bytes, btrfs needs 128 MiB"
  switches=$(btrfs_switch EXTENDED_IREF extref)$(btrfs_switch SKINNY_METADATA skinny-metadata)
  switches=$switches$(btrfs_switch NO_HOLES no-holes)
  ! grep -qx BLOCK_GROUP_TREE source.features || switches=$switches,block-group-tree
  device_=$1
  set -- -f -q -U "$fs_uuid" -s "$(btrfs_field source.super sectorsize)" -n "$(btrfs_field source.super nodesize)" \
    --csum "$(sed -n 's/^csum_type.*(\([a-z0-9]*\)).*/\1/p' source.super)" -O "${switches#,}" \
    "$(btrfs_runtime)" "$(btrfs_switch FREE_SPACE_TREE free-space-tree | tr -d ,)"
  if grep -qx MIXED_GROUPS source.features; then
    set -- "$@" -M -d "$(btrfs_profile 'Data+Metadata')" -m "$(btrfs_profile 'Data+Metadata')"
  else
    set -- "$@" -d "$(btrfs_profile Data)" -m "$(btrfs_profile Metadata)"
  fi
  [ -z "$fs_label" ] || set -- "$@" -L "$fs_label"
  # What an earlier start left has the same UUID, of which mkfs.btrfs takes no second one.
  try mkfs patiently wipefs -q -a "$device_" >&2
  try mkfs patiently mkfs.btrfs "$@" "$device_" >&2
  btrfs_compare "$device_"
}

btrfs_compare() {
  btrfs_super "$1" >volume.super || fail mkfs "the volume's btrfs cannot be read"
  btrfs_features volume.super >volume.features
  cmp source.features volume.features >&2 ||
    fail mkfs "the volume's btrfs is not made as the image's: $(diff source.features volume.features | tr '\n' ' ')"
  for field in csum_type sectorsize nodesize; do
    [ "$(btrfs_field source.super "$field")" = "$(btrfs_field volume.super "$field")" ] || fail mkfs "the volume's $field is not the image's"
  done
  [ "$(btrfs_field volume.super fsid)" = "$fs_uuid" ] || fail mkfs "the volume's UUID is not the image's"
  [ "$(blkid -p -o value -s LABEL "$1")" = "$fs_label" ] || fail mkfs "the volume's label is not the image's"
}

btrfs_finish() {
  status=0
  btrfs check --readonly "$1" >log.btrfs_check 2>&1 || status=$?
  tail -n 5 log.btrfs_check >&2
  [ "$status" -eq 0 ] || fail verify "the volume's btrfs is not clean: btrfs check ended with exit status $status"
  btrfs_compare "$1"
}
