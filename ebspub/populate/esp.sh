# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # the parts are one script
# The EFI system partition: the folder `esp.tree` in a FAT file system, by the kernel's vfat or, where there is none, by mtools.

mounts_vfat() {
  grep -qsw vfat /proc/filesystems || {
    modprobe -q vfat 2>/dev/null
    grep -qsw vfat /proc/filesystems
  }
}

# esp_check: what the builder lacks is told before anything is written.
esp_check() {
  if mounts_vfat; then
    esp_way=mount
  elif command -v mcopy >/dev/null 2>&1; then
    esp_way=mtools
  else
    fail builder "the builder's kernel mounts no vfat and it has no mcopy: install mtools on its image"
  fi
  command -v mkfs.vfat >/dev/null 2>&1 || command -v mformat >/dev/null 2>&1 ||
    fail builder "the builder has neither mkfs.vfat nor mformat: install dosfstools or mtools on its image"
}

# FAT32 in clusters of one sector, as the UEFI specification wants it of so small a partition.
esp_make() {
  if command -v mkfs.vfat >/dev/null 2>&1; then
    try mkfs patiently mkfs.vfat -F 32 -s 1 -n "$esp_label" -i "$(echo "$esp_serial" | tr -d -)" "$esp" >&2
  else
    try mkfs patiently mformat -i "$esp" -F -c 1 -T "$esp_sectors" -N "$(echo "$esp_serial" | tr -d -)" -v "$esp_label" :: >&2
  fi
  [ "$(blkid -p -o value -s UUID "$esp")" = "$esp_serial" ] || fail mkfs "the EFI system partition has another serial number than it was given"
  [ "$(blkid -p -o value -s LABEL "$esp")" = "$esp_label" ] || fail mkfs "the EFI system partition has another label than it was given"
}

# MTOOLS_SKIP_CHECK: disks of many small clusters are no floppies, whatever mtools thinks.
with_mtools() {
  TZ=UTC MTOOLS_SKIP_CHECK=1 MTOOLSRC=/dev/null "$@"
}

mount_esp() {
  mkdir -p esp.mnt || fail io "no mount point"
  try io mount -t vfat -o "nosuid,nodev,noexec,$1" "$esp" esp.mnt
}

esp_fill() {
  if [ "$esp_way" = mount ]; then
    mount_esp rw
    cp -R esp.tree/. esp.mnt/ || fail io "the EFI system partition cannot be filled: cp ended with exit status $?"
    unmount esp.mnt
  elif [ -d esp.tree/EFI ]; then
    try io with_mtools mcopy -i "$esp" -s -o esp.tree/EFI ::/ >&2
  fi
}

# What was written must be what is read back, and nothing else is there.
esp_verify() {
  rm -rf esp.read
  mkdir esp.read || fail io "no folder for the comparison"
  if [ "$esp_way" = mount ]; then
    mount_esp ro
    cp -R esp.mnt/. esp.read/ || fail verify "the EFI system partition cannot be read"
    unmount esp.mnt
  elif [ -d esp.tree/EFI ]; then
    try verify with_mtools mcopy -i "$esp" -s -n '::/EFI' esp.read/ >&2
  fi
  diff -r esp.tree esp.read >&2 || fail verify "the EFI system partition does not hold what was written to it"
  if command -v fsck.vfat >/dev/null 2>&1; then
    fsck.vfat -n "$esp" >&2 || fail verify "the EFI system partition is not clean: fsck.vfat ended with exit status $?"
  fi
}
