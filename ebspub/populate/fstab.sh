# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # the parts are one script
# What an image's own /etc/fstab says, and what must be changed in it for a volume of ours.

# fstab_device TREE MOUNT_POINT: what is mounted there; empty if nothing.
fstab_device() {
  [ -f "$1/etc/fstab" ] || return 0
  AT=$2 awk '$1 !~ /^#/ && $2 == ENVIRON["AT"] { gsub(/"/, "", $1); print $1; exit }' "$1/etc/fstab"
}

# fstab_type TREE MOUNT_POINT
fstab_type() {
  [ -f "$1/etc/fstab" ] || return 0
  AT=$2 awk '$1 !~ /^#/ && $2 == ENVIRON["AT"] { print $3; exit }' "$1/etc/fstab"
}

# Names that the root will have, one a line.
root_names() {
  echo "UUID=$fs_uuid"
  echo "/dev/disk/by-uuid/$fs_uuid"
  echo "PARTUUID=$root_partuuid"
  [ -z "$fs_label" ] || printf '%s\n' "LABEL=$fs_label" "/dev/disk/by-label/$fs_label"
}

esp_names() {
  printf '%s\n' "LABEL=$esp_label" "UUID=$esp_serial" "/dev/disk/by-label/$esp_label" "/dev/disk/by-uuid/$esp_serial"
}

# The EFI system partition gets the name by which the image's own fstab looks for it, if that is one that it can have.
name_esp() {
  esp_label=UEFI
  esp_serial=$(derive_id esp | tr 'a-f' 'A-F' | sed -E 's/^(.{4})(.{4}).*/\1-\2/')
  name=$(fstab_device source /boot/efi)
  case $name in
  LABEL=*)
    ! printf '%s\n' "${name#LABEL=}" | grep -qxE '[A-Z0-9][A-Z0-9_-]{0,10}' || esp_label=${name#LABEL=}
    ;;
  UUID=*)
    ! printf '%s\n' "${name#UUID=}" | grep -qxE '[0-9A-F]{4}-[0-9A-F]{4}' || esp_serial=${name#UUID=}
    ;;
  esac
}

# A boot would wait for a partition that the volume does not have, and end in a rescue shell.
fstab_check() {
  [ -f source/etc/fstab ] || return 0
  foreign=$(NAMES=$(root_names) awk '
    BEGIN { n = split(ENVIRON["NAMES"], list, "\n"); for (i = 1; i <= n; i++) ours[list[i]] = 1 }
    $1 ~ /^#/ || NF < 2 || $2 !~ /^\// || $2 == "/" || $2 == "/boot/efi" || $3 == "swap" { next }
    { gsub(/"/, "", $1) }
    $1 !~ /^((PART)?(LABEL|UUID)=|\/dev\/disk\/)/ || ($1 in ours) { next }
    ("," $4 ",") ~ /,(nofail|noauto),/ { next }
    { print $1 " at " $2; exit }' source/etc/fstab)
  [ -z "$foreign" ] || fail bad-image "the image's /etc/fstab mounts $foreign, which its file system does not hold: the volume would not boot"
}

# mend_fstab: in `target`, the lines of / and /boot/efi name what they shall; all others stay as they are, byte for byte.
mend_fstab() {
  fstab=target/etc/fstab
  if [ ! -e "$fstab" ]; then
    : >"$fstab" || fail io "/etc/fstab cannot be written"
  fi
  efi_line=
  case " $loaders " in
  *' uefi '*) efi_line="UUID=$esp_serial /boot/efi vfat umask=0077,nofail 0 1" ;;
  esac
  ROOT="UUID=$fs_uuid" ESP="UUID=$esp_serial" ROOT_NAMES=$(root_names) ESP_NAMES=$(esp_names) \
    ROOT_LINE="UUID=$fs_uuid / $fs_type defaults 0 1" ESP_LINE=$efi_line awk '
    function keep(word, names, list, n, i) {
      gsub(/"/, "", word)
      n = split(ENVIRON[names], list, "\n")
      for (i = 1; i <= n; i++) if (word == list[i]) return 1
      return 0
    }
    $1 !~ /^#/ && $2 == "/" { roots++; if (!keep($1, "ROOT_NAMES")) sub(/[^ \t]+/, ENVIRON["ROOT"]) }
    $1 !~ /^#/ && $2 == "/boot/efi" { esps++; if (!keep($1, "ESP_NAMES")) sub(/[^ \t]+/, ENVIRON["ESP"]) }
    { print }
    END {
      if (!roots) print ENVIRON["ROOT_LINE"]
      if (!esps && ENVIRON["ESP_LINE"] != "") print ENVIRON["ESP_LINE"]
    }' "$fstab" >fstab.new || fail io "/etc/fstab cannot be read"
  # Without a line break at its end the last line is given one, which is no change worth having.
  if [ "$(cat fstab.new)" != "$(cat "$fstab")" ] || [ ! -e source/etc/fstab ]; then
    cat fstab.new >"$fstab" || fail io "/etc/fstab cannot be written"
    changed etc/fstab
  fi
}
