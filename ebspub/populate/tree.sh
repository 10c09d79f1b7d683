# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # the parts are one script
# Published trees: tarballs and squashfs. They become `source`, as an image does that is mounted. What file system they belong in they
# do not say themselves; their /etc/fstab may, and `image` becomes an empty model of it.

open_published_tree() {
  phase extract
  case $content in
  root-tar) unpack_root_tar ;;
  squashfs) mount_squashfs ;;
  esac
  { is_own source etc && [ -d source/etc ]; } || fail bad-image "the published tree holds no folder /etc: it is no root file system"
  is_own source etc/fstab || fail bad-image "the published tree's /etc/fstab is a link"
  make_model
}

# tar says of an attribute that it could not set no more than a warning.
unpack_root_tar() {
  rm -rf source
  mkdir source || fail io "no folder for the tree"
  rm -f left
  status=0
  {
    left_=0
    unpack || left_=$?
    echo "$left_" >left
  } | tar -xp -C source --numeric-owner --same-owner --xattrs '--xattrs-include=*' --acls -f - 2>tar.err || status=$?
  tail -n 20 tar.err >&2
  ! grep -q 'No space left on device' tar.err || fail io "the builder's disk has no room for the published tree: raise root_size"
  [ "$(cat left)" = 0 ] || fail bad-image "the artefact cannot be unpacked: exit status $(cat left)"
  [ "$status" -eq 0 ] || fail bad-image "the published tree cannot be unpacked: $(tail -n 1 tar.err)"
  ! grep -qiE "(cannot|can't) (set|restore)" tar.err || fail io "attributes of the published tree cannot be set: $(tail -n 1 tar.err)"
}

mount_squashfs() {
  mv -f image published || fail io "the published tree is lost"
  mkdir -p source || fail io "no mount point"
  if grep -qsw squashfs /proc/filesystems || modprobe -q squashfs 2>/dev/null; then
    try bad-image mount -t squashfs -o nosuid,nodev,noexec,loop,ro published source
  elif command -v unsquashfs >/dev/null 2>&1; then
    rm -rf source
    try bad-image unsquashfs -quiet -no-progress -dest source published >&2
  else
    fail builder "the builder's kernel mounts no squashfs and it has no unsquashfs: install squashfs-tools on its image"
  fi
}

# make_model: as the tree's fstab says of its root; ext4 labelled as Ubuntu's where it says nothing. Without what only GRUB and kernels
# of these years can read.
make_model() {
  fs_type=$(fstab_type source /)
  label=cloudimg-rootfs
  uuid=$(derive_id filesystem)
  case $(fstab_device source /) in
  LABEL=*) label=$(fstab_device source / | sed 's/^LABEL=//') ;;
  UUID=*) uuid=$(fstab_device source / | sed 's/^UUID=//' | tr 'A-F' 'a-f') ;;
  esac
  printf '%s\n' "$uuid" | grep -qxE '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' || uuid=$(derive_id filesystem)
  rm -f image
  try io truncate -s 1G image
  case $fs_type in
  ext3) try mkfs mke2fs -q -F -t ext3 -I 256 -L "$label" -U "$uuid" image >&2 ;;
  xfs)
    [ "${#label}" -le 12 ] || label=rootfs
    try mkfs mkfs.xfs -q -f -L "$label" -m "uuid=$uuid,crc=1,finobt=1,reflink=1" image >&2
    ;;
  btrfs)
    command -v mkfs.btrfs >/dev/null 2>&1 || fail builder "the builder has no mkfs.btrfs: install btrfs-progs on its image"
    try mkfs mkfs.btrfs -q -f -L "$label" -U "$uuid" image >&2
    ;;
  *)
    fs_type=ext4
    try mkfs mke2fs -q -F -t ext4 -I 256 -L "$label" -U "$uuid" -O \
      none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum \
      image >&2
    ;;
  esac
}
