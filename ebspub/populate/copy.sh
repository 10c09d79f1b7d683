# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # the parts are one script
# Copy the mounted tree `source` to the mounted tree `target`, and prove it.

# Paths that the work itself changes in the target (see bootloader.sh) are compared otherwise; an expression of find's.
omitted=

# omit PATH...: plain paths, without blanks, below the tree.
omit() {
  omitted=
  for path in "$@"; do
    omitted="$omitted${omitted:+ -o} -path ./$path"
  done
  [ -z "$omitted" ] || omitted="( $omitted ) -prune -o"
}

# usage DIRECTORY: "used free" in bytes, free with what is reserved for root.
usage() {
  # shellcheck disable=SC2046 # three numbers
  set -- $(stat -f -c '%b %f %S' "$1")
  echo "$((($1 - $2) * $3)) $(($2 * $3))"
}

# Bytes of what is to be copied. A squashfs counts them compressed, and a folder's file system holds other things, too.
content_size() {
  if [ -n "$content" ]; then
    set -- "$(du -s -B 1 source)"
    echo "${1%%[!0-9]*}"
  else
    set -- "$(usage source)"
    echo "${1% *}"
  fi
}

copy_progress() {
  used=$(usage target)
  echo "${used% *} $wanted"
}

# cp and not a pipe of two tars: one program and one exit status, times to the nanosecond, and no limit of an archive format on
# names, sizes, ids or attributes. Spelled out instead of -a, for which attributes that cannot be kept are no error.
copy_tree() {
  wanted=$(content_size)
  room=$(usage target)
  [ "${room#* }" -ge "$wanted" ] || fail too-small "the volume has room for ${room#* } bytes, the image's content needs $wanted"
  ticker copy_progress
  if [ -d target/lost+found ] && [ ! -e source/lost+found ]; then
    try io rmdir target/lost+found
  fi
  status=0
  cp -dR --preserve=mode,ownership,timestamps,links,xattr --sparse=always source/. target/ 2>copy.err || status=$?
  tail -n 20 copy.err >&2
  [ "$status" -eq 0 ] && return
  ! grep -q 'No space left on device' copy.err || fail too-small "the image's content does not fit on the volume"
  fail copy "cp ended with exit status $status: $(tail -n 1 copy.err)"
}

# Every step by itself, because a pipe would hide the exit status of its left side.
in_tree() {
  (cd "$1" && shift && "$@")
}

# describe TREE: write what can be said of it, sorted, into TREE.entries, .devices, .links, .xattrs and .sums. NUL ends a record
# wherever a name stands as it is.
# shellcheck disable=SC2086 # $omitted is several words
describe() {
  # Type, mode, owner, size, links, time, path, target. A directory's size and links are the file system's business.
  # shellcheck disable=SC2016 # find's own format
  in_tree "$1" find . $omitted -type d -printf '%y %m %U %G - - %T@ %P\0' -o \
    -printf '%y %m %U %G %s %n %T@ %P -> %l\0' >"$1.raw" &&
    sort -z "$1.raw" >"$1.entries" &&
    in_tree "$1" find . $omitted \( -type b -o -type c \) -print0 >"$1.raw" &&
    sort -z "$1.raw" >"$1.list" &&
    in_tree "$1" xargs -0 -r stat --printf '%t:%T %n\0' -- <"$1.list" >"$1.devices" &&
    describe_links "$1" && describe_xattrs "$1" && describe_content "$1"
}

# Both programs begin a line with the sum (after a backslash where the name is an odd one), and write line ends of names otherwise.
# OpenSSL, from 3.0 on, is quicker: see `measure`.
# shellcheck disable=SC2086 # $omitted and $hash are several words
describe_content() {
  hash='sha256sum -b'
  ! openssl version 2>/dev/null | grep -q '^OpenSSL [3-9]' || hash='openssl dgst -sha256 -r'
  in_tree "$1" find . $omitted -type f -print0 >"$1.raw" &&
    sort -z "$1.raw" >"$1.list" &&
    in_tree "$1" xargs -0 -r $hash <"$1.list" >"$1.raw" &&
    sed 's/^\\//; s/^\(.\{64\}\).*/\1 */' "$1.raw" >"$1.hashes" &&
    tr '\n\0' '\001\n' <"$1.list" >"$1.raw" &&
    paste -d '\0' "$1.hashes" "$1.raw" >"$1.sums"
}

# Which names are one file: inode numbers differ between the trees, the order of their first names does not.
describe_links() {
  # shellcheck disable=SC2016,SC2086 # awk's own variables
  in_tree "$1" find . $omitted ! -type d -links +1 -printf '%i %P\0' >"$1.raw" &&
    tr '\n\0' '\001\n' <"$1.raw" >"$1.list" &&
    sort -k 2 "$1.list" >"$1.raw" &&
    awk '{ if (!($1 in first)) first[$1] = ++n; i = $1; sub(/^[0-9]+ /, ""); print first[i], $0 }' <"$1.raw" >"$1.links"
}

# Few images for builders have getfattr; most have python3, of which any since 3.5 will do.
find_xattr_reader() {
  ! command -v getfattr >/dev/null 2>&1 || { read_xattrs=xattrs_by_getfattr && return; }
  python3 -I -S -c 'import os; os.listxattr("/"), b"%03o" % 1' 2>/dev/null ||
    fail builder "the builder has neither getfattr nor a python3 to read extended attributes: install attr on its image"
  read_xattrs=xattrs_by_python
}

xattrs_by_getfattr() { xargs -0 -r getfattr -h -d -m - -e hex --; }

# In the words of getfattr, so that a tree has one digest.
xattrs_by_python() {
  python3 -I -S -c '
import errno, os, sys

def quoted(name, odd):
    for each in b"\\" + odd:
        name = name.replace(bytes([each]), b"\\%03o" % each)
    return name

for path in sys.stdin.buffer.read().split(b"\0")[:-1]:
    try:
        found = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        continue
    lines = [b"# file: " + quoted(path[2:] or path, b"\n\r")] if found else []
    for name in found:
        value = os.getxattr(path, name, follow_symlinks=False).hex().encode()
        lines.append(quoted(os.fsencode(name), b"=\n\r") + b"=0x" + value)
    sys.stdout.buffer.write(b"".join(line + b"\n" for line in lines))
'
}

# Access control lists and capabilities are extended attributes, too.
describe_xattrs() {
  # shellcheck disable=SC2016,SC2086 # awk's own variables; several words
  in_tree "$1" find . $omitted -print0 >"$1.list" &&
    in_tree "$1" "$read_xattrs" <"$1.list" >"$1.raw" &&
    awk '/^# file: / { name = $0; next } NF { print name "\t" $0 }' <"$1.raw" >"$1.list" &&
    sort "$1.list" >"$1.xattrs"
}

verify_trees() {
  ticker verify_progress
  describe source &
  other=$!
  status=0
  describe target || status=$?
  wait "$other" || fail verify "the image's tree cannot be read"
  [ "$status" -eq 0 ] || fail verify "the volume's tree cannot be read"
  for kind in entries devices links xattrs sums; do
    cmp "source.$kind" "target.$kind" >&2 || differ "$kind"
  done
  tree_facts
}

verify_progress() { echo 0 0; }

differ() {
  tr '\0' '\n' <"source.$1" >source.list
  tr '\0' '\n' <"target.$1" >target.list
  first=$(diff source.list target.list | sed -n 's/^[<>]/&/p' | head -n 4 | tee /dev/stderr | tr '\n' ' ')
  fail verify "the volume's tree is not the image's ($1): $first"
}

# shellcheck disable=SC2086 # $omitted is several words
tree_facts() {
  files=$(tr -dc '\0' <target.entries | wc -c) || fail verify "entries cannot be counted"
  in_tree target find . $omitted -type f -printf '%i %s\n' >target.raw || fail verify "sizes cannot be read"
  # shellcheck disable=SC2016 # awk's own variables
  bytes=$(awk '!($1 in seen) { seen[$1] = 1; sum += $2 } END { printf "%.0f", sum }' <target.raw) ||
    fail verify "sizes cannot be added"
  digest=$(cat target.entries target.devices target.links target.xattrs target.sums | sha256sum) ||
    fail verify "the tree's digest cannot be made"
  fact files "$((files - 1))" # the root is no entry of the tree
  fact bytes "$bytes"
  fact digest "${digest%% *}"
  fact xattrs compared
}
