# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # the parts are one script
# XFS: made on the volume with the geometry flags that the image has, no more.

# Flags as lines of key=value. Sizes that follow from the volume's own size are left out.
xfs_flags() {
  xfs_info "$1" 2>>log.xfs | tr -s ', ' '\n' |
    grep -E '^(isize|crc|finobt|sparse|rmapbt|reflink|bigtime|inobtcount|nrext64|exchange|parent|metadir|projid32bit|ascii-ci|ftype)='
  xfs_db -r -c 'sb 0' -c 'p blocksize' "$1" | tr -d ' '
}

xfs_check_source() {
  source_options=,nouuid # the volume gets the image's UUID while the image is mounted
  xfs_flags image >source.flags
  [ -s source.flags ] || fail bad-image "the image's XFS cannot be read"
  fs_label=$(probe LABEL)
  fs_uuid=$(probe UUID)
  # Mounted to be written once, it replays its log.
  mkdir -p look || fail io "no mount point"
  if [ -b "$device" ]; then
    try bad-image mount -t xfs -o nosuid,nodev,noexec,loop,nouuid image look
    unmount look
  fi
}

xfs_flag() {
  sed -n "s/^$1=//p" source.flags
}

# xfs_options KEY...: those that the image has, as mkfs.xfs takes them.
xfs_options() {
  list=
  for key in "$@"; do
    value=$(xfs_flag "$key")
    [ -z "$value" ] || list=$list,$key=$value
  done
  printf '%s' "${list#,}"
}

xfs_make() {
  size=$(device_size "$1") || fail io "the volume's size cannot be read"
  set -- "$1" -f -q -b "size=$(xfs_flag blocksize)" -m "uuid=$fs_uuid,$(xfs_options crc finobt rmapbt reflink bigtime inobtcount)" \
    -i "size=$(xfs_flag isize),$(xfs_options sparse projid32bit nrext64 exchange parent)" -n "$(xfs_options ftype)"
  [ -z "$fs_label" ] || set -- "$@" -L "$fs_label"
  device_=$1
  shift
  [ "$size" -ge $((300 * 1048576)) ] || fail too-small "the volume has $size bytes, XFS needs 300 MiB"
  try mkfs patiently mkfs.xfs "$@" "$device_" >&2
  xfs_compare "$device_"
}

xfs_compare() {
  xfs_flags "$1" >volume.flags
  cmp source.flags volume.flags >&2 || fail mkfs "the volume's XFS is not made as the image's: $(diff source.flags volume.flags | tr '\n' ' ')"
  [ "$(blkid -p -o value -s UUID "$1")" = "$fs_uuid" ] || fail mkfs "the volume's UUID is not the image's"
  [ "$(blkid -p -o value -s LABEL "$1")" = "$fs_label" ] || fail mkfs "the volume's label is not the image's"
}

xfs_finish() {
  status=0
  xfs_repair -n "$1" >log.xfs_repair 2>&1 || status=$?
  [ "$status" -eq 0 ] || fail verify "the volume's XFS is not clean: xfs_repair ended with exit status $status"
  xfs_compare "$1"
}
