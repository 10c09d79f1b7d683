# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # the parts are one script
# ext2, ext3 and ext4: make on the volume what the image has, and nothing that the image's own kernel or boot loader may not
# know. A mke2fs of today switches on features that pv-grub or a kernel of 2010 cannot read.

# super FILE FIELD: one line of what `dumpe2fs -h` said.
super() {
  sed -n "s/^$2:[[:blank:]]*//p" "$1" | head -n 1
}

# ext_read_super DEVICE FILE CODE: write what dumpe2fs says of it into the file. The names in a superblock are printed as they
# are, line ends and all: a field that is there twice was forged by one of them. And what is no number must not get into
# arithmetic, where some shells run commands.
ext_read_super() {
  dumpe2fs -h "$1" >"$2" 2>>log.dumpe2fs || fail "$3" "dumpe2fs cannot read $1"
  twice=$(sed -n 's/^\([A-Z][^:]*\):.*/\1/p' "$2" | sort | uniq -d | head -n 1)
  [ -z "$twice" ] || fail "$3" "the superblock of $1 holds a forged field: $twice"
  for field in 'Block count' 'Free blocks' 'Reserved block count' 'Block size' 'Inode count' 'Free inodes' 'Inode size'; do
    case $(super "$2" "$field") in
    '' | *[!0-9]* | ???????????????????*) fail "$3" "the superblock of $1 has no usable $field" ;;
    esac
  done
}

# Features, one a line, without those that only say what state the file system is in.
ext_features() {
  super "$1" 'Filesystem features' | tr ' ' '\n' | grep -vxE 'needs_recovery|orphan_present|\(none\)|' | sort
}

ext_mount_options() {
  super "$1" 'Default mount options' | tr ' ' '\n' | grep -vxE '\(none\)|' | sort
}

ext_check_source() {
  status=0
  e2fsck -fp image >&2 || status=$? # replays the journal
  [ "$status" -le 1 ] || fail bad-image "the image's file system is damaged: e2fsck ended with exit status $status"
  ext_read_super image source.super bad-image
  ext_features source.super >source.features
  # What fails is done anew from the beginning: the journal need not be written every five seconds on the way.
  ! grep -qx has_journal source.features || copy_options=,commit=600
  fs_label=$(probe LABEL)
  fs_uuid=$(super source.super 'Filesystem UUID')
  block_size=$(super source.super 'Block size')
  blocks=$(super source.super 'Block count')
  inodes=$(super source.super 'Inode count')
  used_blocks=$((blocks - $(super source.super 'Free blocks')))
  used_inodes=$((inodes - $(super source.super 'Free inodes')))
}

ext_make() {
  size=$(device_size "$1") || fail io "the volume's size cannot be read"
  # Superblock, tables and journal aside, it must at least hold what is used.
  [ "$size" -ge $((used_blocks * block_size)) ] ||
    fail too-small "the volume has $size bytes, the image's content needs $((used_blocks * block_size))"
  reserved=$(($(super source.super 'Reserved block count') * 10000 / blocks))
  ratio=$((blocks * block_size / inodes))
  [ "$ratio" -ge "$block_size" ] || ratio=$block_size
  device_=$1
  set -- -F -q -t "$fs_type" -b "$block_size" -I "$(super source.super 'Inode size')" -i "$ratio" \
    -m "$((reserved / 100)).$((reserved % 100 / 10))$((reserved % 10))" -L "$fs_label" \
    -O "none$(sed 's/^/,/' source.features | tr -d '\n')"
  case $fs_uuid in
  '<none>') set -- "$@" -U clear ;;
  *) set -- "$@" -U "$fs_uuid" ;;
  esac
  ! prezeroed || set -- "$@" -E assume_storage_prezeroed=1
  ! grep -qx bigalloc source.features || set -- "$@" -C "$(super source.super 'Cluster size')"
  try mkfs patiently mke2fs "$@" "$device_" >&2
  ext_tune "$device_"
  ext_compare "$device_"
}

# prezeroed: whether mke2fs can be told that the volume reads as zeros, as a fresh one does: it need not write the zeros of the
# journal and of the inode tables then. What an earlier start may have written to is not fresh.
prezeroed() {
  [ -z "$ours" ] || return 1
  rm -f probe
  truncate -s 16M probe && mke2fs -n -q -F -E assume_storage_prezeroed=1 probe >/dev/null 2>&1
}

# What mke2fs takes from its configuration instead of from its arguments.
ext_tune() {
  ext_read_super "$1" volume.super mkfs
  ext_mount_options source.super >source.options
  ext_mount_options volume.super >volume.options
  options=$(comm -13 source.options volume.options | sed 's/^/^/')
  options="$options $(comm -23 source.options volume.options)"
  for option in $options; do
    try mkfs tune2fs -o "$option" "$1" >&2
  done
  hash=$(super source.super 'Default directory hash')
  if [ -n "$hash" ] && [ "$hash" != "$(super volume.super 'Default directory hash')" ]; then
    try mkfs tune2fs -E "hash_alg=$hash" "$1" >&2
  fi
  case $(super source.super 'Errors behavior') in
  Continue) try mkfs tune2fs -e continue "$1" >&2 ;;
  'Remount read-only') try mkfs tune2fs -e remount-ro "$1" >&2 ;;
  Panic) try mkfs tune2fs -e panic "$1" >&2 ;;
  esac
}

# The volume's file system must be the image's in kind, name and features, and fill the volume.
ext_compare() {
  ext_read_super "$1" volume.super mkfs
  ext_features volume.super >volume.features
  more=$(comm -13 source.features volume.features | tr '\n' ' ')
  [ -z "$more" ] || fail mkfs "the volume's file system has features that the image's lacks: $more"
  less=$(comm -23 source.features volume.features | grep -vxF large_file | tr '\n' ' ')
  [ -z "$less" ] || fail mkfs "the volume's file system lacks features of the image's: $less"
  ext_mount_options volume.super >volume.options
  cmp source.options volume.options >&2 || fail mkfs "the volume's default mount options are not the image's"
  for field in 'Filesystem UUID' 'Filesystem volume name' 'Block size' 'Inode size' 'Default directory hash'; do
    [ "$(super source.super "$field")" = "$(super volume.super "$field")" ] ||
      fail mkfs "the volume's $field is not the image's"
  done
  filled=$(($(super volume.super 'Block count') * block_size))
  [ $((size - filled)) -lt $((128 * 1048576)) ] || fail mkfs "the file system does not fill the volume"
}

ext_finish() {
  status=0
  e2fsck -fn "$1" >&2 || status=$?
  [ "$status" -eq 0 ] || fail verify "the volume's file system is not clean: e2fsck ended with exit status $status"
  ext_compare "$1"
}
