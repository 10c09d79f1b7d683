# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # the parts are one script
# The partitions of a volume for HVM, laid out as Ubuntu's: root is the first by number and the last on the disk, so that it can
# grow; 14 holds GRUB's core for BIOS; 15 is the EFI system partition. Sectors are those of EBS: 512 bytes.
bios_start=2048
bios_sectors=8192
esp_start=10240
esp_sectors=217088
root_start=227328
#: Less is no place for any tree.
root_least=32768

# derive_id WORD: a UUID (version 8, RFC 9562) that follows from the artefact: the same in every region and at every start.
derive_id() {
  printf '%s %s' "$sum" "$1" | sha256sum | sed -E 's/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/\1-\2-8\3-8\4-\5/'
}

# gpt_plan DEVICE: what fits on it, before anything is written.
gpt_plan() {
  command -v sfdisk >/dev/null 2>&1 || fail builder "the builder has no sfdisk, which makes partitions: install fdisk on its image"
  volume_size=$(device_size "$1") || fail io "the volume's size cannot be read"
  [ "$(blockdev --getss "$1")" = 512 ] || fail device "the volume's sectors do not have 512 bytes"
  # The backup of the table takes the last 33 sectors; root ends at the last whole MiB before it.
  root_sectors=$((((volume_size / 512 - 33) / 2048) * 2048 - root_start))
  [ "$root_sectors" -ge "$root_least" ] ||
    fail too-small "the volume has $volume_size bytes, its partitions need $(((root_start + root_least + 2048) * 512))"
  root_partuuid=$(derive_id root)
}

# gpt_make DEVICE: the kernel is not told, and need not know: the partitions are reached by their offsets.
gpt_make() {
  cat >layout.wanted <<EOF
label: gpt
label-id: $(derive_id disk)
first-lba: 34
1: start=$root_start, size=$root_sectors, type=$(root_type), uuid=$root_partuuid, name="root"
14: start=$bios_start, size=$bios_sectors, type=21686148-6449-6E6F-744E-656564454649, uuid=$(derive_id bios), name="bios"
15: start=$esp_start, size=$esp_sectors, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=$(derive_id esp), name="esp"
EOF
  # EC2 starts arm64 by UEFI only.
  [ "$arch" != arm64 ] || try io sed -i '/^14:/d' layout.wanted
  try mkfs patiently write_table "$1"
  try io sfdisk --dump "$1" >layout.made
}

write_table() {
  sfdisk --quiet --force --no-reread --no-tell-kernel --wipe always --wipe-partitions always "$1" <layout.wanted >&2
}

# The Discoverable Partitions Specification's types for roots; sfdisk of old knows no names for them.
root_type() {
  case $arch in
  amd64) echo 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709 ;;
  arm64) echo B921B045-1DF0-41C3-AF44-4C6F280D3FAE ;;
  *) echo 44479540-F297-41B2-9AF7-D131D5F0458A ;;
  esac
}

# What was made must be what is read from the volume, main table and backup.
gpt_verify() {
  sfdisk --dump "$1" >layout.read || fail verify "the volume's partitions cannot be read"
  cmp layout.made layout.read >&2 || fail verify "the volume's partitions are not what was made"
  sfdisk --verify "$1" >&2 || fail verify "the volume's partition table is damaged"
}

# attach_part START SECTORS: a loop device over that part of the volume. It needs no partition nodes, and no udev to make them.
attach_part() {
  part=$(losetup --find --show --offset "$(($1 * 512))" --sizelimit "$(($2 * 512))" "$device") ||
    fail builder "the builder cannot attach a part of the volume: losetup ended with exit status $?"
}

# Open in this process and in those that it starts, and detached at once: the kernel lets go when the last of them has ended,
# even by SIGKILL.
open_parts() {
  attach_part "$root_start" "$root_sectors"
  root=$part
  exec 5<>"$root" || fail io "$root cannot be opened"
  try io losetup -d "$root"
  attach_part "$esp_start" "$esp_sectors"
  esp=$part
  exec 6<>"$esp" || fail io "$esp cannot be opened"
  try io losetup -d "$esp"
}

# A task that was killed between the two words above has left them.
drop_parts() {
  for part in $(losetup -n -O NAME -j "$device"); do
    losetup -d "$part" || fail io "$part is still attached to the volume"
  done
}
