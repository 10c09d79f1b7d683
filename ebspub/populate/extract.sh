# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # the parts are one script
# From the file `artefact` to the file `image`: one bare file system, sparse. No name from the archive meets the shell.

magic() {
  head -c "$2" "$1" | od -An -v -tx1 | tr -d ' \n'
}

unpack() {
  # shellcheck disable=SC2094 # both only read it
  case $(magic artefact 6) in
  1f8b*) gzip -dc ;;
  fd377a585a00) xz -dc ;;
  425a68*) bzip2 -dc ;;
  28b52ffd*) zstd -dc ;;
  *) cat ;;
  esac <artefact
}

# At most one byte more than there may be.
unpack_some() {
  unpack | head -c $((most + 1))
}

is_tar() {
  [ "$(unpack 2>/dev/null | head -c 262 | tail -c 5)" = ustar ]
}

# The one member that an archive must have, by a pattern that tar itself applies: listing and reading see the same.
choose_member() {
  status=0
  unpack_some | tar -tv --numeric-owner --quoting-style=escape --wildcards -f - '*.img' >members 2>members.err || status=$?
  cat members.err >&2
  [ "$status" -eq 0 ] || [ "$(unpack_some 2>/dev/null | wc -c)" -le "$most" ] || too_large "the archive unpacks to"
  if grep -q 'Not found in archive' members.err; then
    is_root_tar || fail bad-image "the archive holds no *.img, and no root file system"
    content=root-tar
    return
  fi
  [ "$status" -eq 0 ] || fail bad-image "the archive cannot be read: tar ended with exit status $status"
  count=$(wc -l <members)
  # A whole system may hold files of that name, too.
  if grep -qE ' (\./)?(usr|lib|boot)/' members && is_root_tar; then
    content=root-tar
    return
  fi
  [ "$count" -eq 1 ] || fail bad-image "the archive holds $count members *.img instead of one"
  read -r kind _ member_size _ <members
  case $kind in
  -*) ;;
  *) fail bad-image "the archive's *.img is no regular file" ;;
  esac
  # A sparse member may say any size: that many zeros would be written.
  [ "$member_size" -le "$most" ] 2>/dev/null || too_large "the archive's *.img has"
}

# is_root_tar: whether the archive is that of a system's tree.
is_root_tar() {
  tar -t --quoting-style=escape -f artefact >names 2>/dev/null || return 1
  [ "$(grep -cxE '(\./|/)?(etc|usr|var)/?' names)" -ge 2 ]
}

extract_progress() {
  echo "$(stat -c %s image 2>/dev/null || echo 0) ${member_size:-0}"
}

# A pipe's exit status is that of its right side only: the left side leaves its own in a file.
sparsely() {
  rm -f image left
  # shellcheck disable=SC2216 # cp does read stdin
  {
    status=0
    "$@" || status=$?
    echo "$status" >left
  } | head -c $((most + 1)) | cp --sparse=always /dev/stdin image 2>copy.err || not_written "$?"
  [ "$(stat -c %s image)" -le "$most" ] || too_large "the artefact unpacks to"
  read -r status <left || fail io "the image was not read to its end"
  [ "$status" -eq 0 ] || fail bad-image "the artefact cannot be unpacked: exit status $status"
}

not_written() {
  cat copy.err >&2
  ! grep -q 'No space left on device' copy.err || disk_full "the image fills the builder's disk"
  fail io "the image cannot be written: cp ended with exit status $1"
}

extract() {
  phase extract
  member_size=0
  if is_tar; then
    choose_member
    [ "${content:-}" != root-tar ] || return 0
    # How much of it are zeros, which take no room, is seen only when it is written.
    NEEDED="${NEEDED:+$NEEDED, }its image up to $member_size"
    ticker extract_progress
    sparsely tar -xO --wildcards -f artefact '*.img'
    [ "$(stat -c %s image)" = "$member_size" ] || fail bad-image "the archive's *.img is shorter than the archive says"
  else
    ticker extract_progress
    sparsely unpack
  fi
  identify
}

# What `blkid -p` finds in the image itself; empty if nothing.
probe() {
  blkid -p -o value -s "$1" image
}

identify() {
  [ -s image ] || fail bad-image "the image is empty"
  [ "$(magic image 4)" != 514649fb ] || fail bad-image "the image is a qcow2 disk, not a bare file system"
  fs_type=$(probe TYPE)
  table=$(probe PTTYPE)
  if [ -z "$fs_type" ] && [ -n "$table" ]; then
    fail bad-image "the image is a disk with a partition table ($table), not a bare file system"
  fi
  case $fs_type in
  ext2 | ext3 | ext4 | xfs | btrfs) ;;
  squashfs) content=squashfs ;;
  '') fail bad-image "the image holds no file system that blkid knows" ;;
  *) fail unsupported-fs "the image holds $(printable "$fs_type" 40), which cannot be copied" ;;
  esac
}
