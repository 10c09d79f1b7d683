# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034,SC2094 # the parts are one script; what is read was written before
# From the file `artefact` to the file `image`: one bare file system, sparse. No name from the archive meets the shell. $unpacker: the
# Python program, in Base64.

magic() {
  head -c "$2" "$1" | od -An -v -tx1 | tr -d ' \n'
}

# fastest PROGRAM...: print the first that is here; the last one if none is.
fastest() {
  for program_ in "$@"; do
    ! command -v "$program_" >/dev/null 2>&1 || break
  done
  echo "$program_"
}

unpack() {
  # shellcheck disable=SC2046,SC2094 # one word; both only read it
  case $(magic artefact 6) in
  1f8b*) $(fastest igzip pigz gzip) -dc ;;
  fd377a585a00) xz -dc -T0 ;;
  425a68*) $(fastest lbzip2 pbzip2 bzip2) -dc ;;
  28b52ffd*) zstd -dcq --long=31 ;;
  *) cat ;;
  esac <artefact
}

# at_most BYTES [WORD...]: hand on so many bytes of stdin, in large pieces: small ones cost more than unpacking does.
at_most() {
  most_=$1
  shift
  dd bs=65536 iflag=fullblock,count_bytes count="$most_" status=none "$@"
}

# At most one byte more than there may be.
unpack_some() {
  unpack | at_most $((most + 1))
}

is_tar() {
  [ "$(unpack 2>/dev/null | head -c 262 | tail -c 5)" = ustar ]
}

# The one member that an archive must have, by a pattern that tar itself applies: in one pass it is listed, and unpacked to
# stdout. Status: tar's; that of unpacking is left in a file.
unpack_member() {
  {
    status=0
    unpack || status=$?
    echo "$status" >unpacked
  } | at_most $((most + 1)) |
    tar -xOvv -b 2048 --numeric-owner --quoting-style=escape --wildcards -f - '*.img' 2>members.err
}

# What tar listed is among its messages: each line begins with a type and a mode.
choose_member() {
  cat members.err >&2
  grep -E '^[^t ][-rwxsStT]{9} ' members.err >members
  read -r unpacked <unpacked || unpacked=lost
  [ "$left/$unpacked" = 0/0 ] || [ "$(unpack_some 2>/dev/null | wc -c)" -le "$most" ] || too_large "the archive unpacks to"
  if grep -q 'Not found in archive' members.err; then
    is_root_tar || fail bad-image "the archive holds no *.img, and no root file system"
    content=root-tar
    return
  fi
  # A whole system may hold files of that name, too.
  if grep -qE ' (\./)?(usr|lib|boot)/' members && is_root_tar; then
    content=root-tar
    return
  fi
  [ "$left" -eq 0 ] || fail bad-image "the archive cannot be read: tar ended with exit status $left"
  [ "$unpacked" = 0 ] || fail bad-image "the artefact cannot be unpacked: exit status $unpacked"
  count=$(wc -l <members)
  [ "$count" -eq 1 ] || fail bad-image "the archive holds $count members *.img instead of one"
  read -r kind _ member_size _ <members
  case $kind in
  -*) ;;
  *) fail bad-image "the archive's *.img is no regular file" ;;
  esac
  [ "$member_size" -le "$most" ] 2>/dev/null || too_large "the archive's *.img has"
  [ "$(stat -c %s image)" = "$member_size" ] || fail bad-image "the archive's *.img is shorter than the archive says"
}

# is_root_tar: whether the archive is that of a system's tree.
is_root_tar() {
  unpack_some 2>/dev/null | tar -t -b 2048 --quoting-style=escape -f - >names 2>/dev/null || return 1
  [ "$(grep -cxE '(\./|/)?(etc|usr|var)/?' names)" -ge 2 ]
}

# The size of the first member that is a file.
listed_size() {
  sed -n 's/^-[-rwxsStT]\{9\} [^ ]* *\([0-9]\{1,15\}\) .*/\1/p' members.err 2>/dev/null | head -n 1
}

extract_progress() {
  ! cat counted 2>/dev/null || return 0
  size_=$(listed_size)
  echo "$(stat -c %s image 2>/dev/null || echo 0) ${size_:-0}"
}

# sparsely COMMAND...: what it writes becomes the image. A pipe's exit status is that of its right side only: the left side
# leaves its own in a file.
sparsely() {
  rm -f image left members.err
  {
    status=0
    "$@" || status=$?
    echo "$status" >left
  } | at_most $((most + 1)) of=image conv=sparse 2>copy.err || not_written "$?"
  [ "$(stat -c %s image)" -le "$most" ] || too_large "the artefact unpacks to"
  read -r left <left || fail io "the image was not read to its end"
}

not_written() {
  cat copy.err >&2
  # How much of it are zeros, which take no room, is seen only when it is written.
  size_=$(listed_size)
  NEEDED="$NEEDED${NEEDED:+${size_:+, }}${size_:+its image up to $size_}"
  ! grep -q 'No space left on device' copy.err || disk_full "the image fills the builder's disk"
  fail io "the image cannot be written: dd ended with exit status $1"
}

# The program that writes disks leaves an image's zeros out of every pipe. It takes what is beyond doubt; the programs that every
# builder has take whatever else there is, and find out what is wrong with it.
unpack_quickly() {
  rm -f image counted
  command -v python3 >/dev/null 2>&1 || return 1
  printf '%s' "$unpacker" | base64 -d >disk.pyz || return 1
  quickly=yes
  python3 -I -S disk.pyz unpack "$most" || quickly=no
  rm -f counted disk.pyz
  [ "$quickly" = yes ]
}

extract() {
  phase extract
  ticker extract_progress
  if unpack_quickly; then
    :
  elif is_tar; then
    sparsely unpack_member
    choose_member
    [ "${content:-}" != root-tar ] || return 0
  else
    sparsely unpack
    [ "$left" -eq 0 ] || fail bad-image "the artefact cannot be unpacked: exit status $left"
  fi
  identify
}

# What `blkid -p` finds in the image itself; empty if nothing.
probe() {
  blkid -p -o value -s "$1" image
}

identify() {
  [ -s image ] || fail bad-image "the image is empty"
  case $(magic image 8) in
  514649fb*) fail bad-image "the image is a qcow2 disk, not a bare file system" ;;
  7668647866696c65) fail bad-image "the image is a VHDX disk, not a bare file system" ;;
  23204469736b2044 | 4b444d56*) fail bad-image "the image is a VMDK disk or its descriptor, not a bare file system" ;;
  esac
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
