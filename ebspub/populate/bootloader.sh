# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # the parts are one script
# GRUB on a volume for HVM, from the image's own packages. grub-install would look for partitions where the builder shows none;
# grub-mkimage and grub-bios-setup, which it calls, are told all that they need.
console_conf=etc/default/grub.d/60-ebspub.cfg

# Boot loaders, by firmware: bios, uefi.
grub_target() {
  case $1-$arch in
  bios-*) echo i386-pc ;;
  uefi-arm64) echo arm64-efi ;;
  *) echo x86_64-efi ;;
  esac
}

grub_package() {
  case $1 in
  bios) echo grub-pc-bin ;;
  *) echo "grub-efi-$arch-bin" ;;
  esac
}

has_loader() {
  is_own source "usr/lib/grub/$(grub_target "$1")" || return 1
  [ -f "source/usr/lib/grub/$(grub_target "$1")/kernel.img" ] || return 1
  [ "$1" != bios ] || [ -f source/usr/lib/grub/i386-pc/grub-bios-setup ]
}

# boot_check: whether the image can boot by itself, before anything is written. $firmware must be there, $optional may.
boot_check() {
  case $fs_uuid in
  '' | '<none>') fail bad-image "the image's file system has no UUID by which a boot loader could find it" ;;
  esac
  for path in boot dev proc tmp etc usr/bin usr/sbin; do
    { is_own source "$path" && [ -d "source/$path" ]; } || fail bad-image "the image has no folder /$path of its own"
  done
  for path in boot/grub boot/efi etc/fstab "$console_conf"; do
    is_own source "$path" || fail bad-image "the image's /$path is a link"
  done
  loaders=
  for one in $firmware; do
    has_loader "$one" || fail bad-image "the image has no boot loader for $one: it lacks the package $(grub_package "$one")"
    loaders="$loaders $one"
  done
  for one in $optional; do
    ! has_loader "$one" || loaders="$loaders $one"
  done
  loaders=${loaders# }
  [ -f source/usr/bin/grub-mkimage ] || fail bad-image "the image has no grub-mkimage: it lacks the package grub-common"
  newest_kernel source >/dev/null || fail bad-image "the image has no kernel in /boot: it lacks a package such as linux-image-cloud-$arch or linux-aws"
  # Only a kernel says what it runs.
  in_image source /usr/bin/grub-mkimage --version >&2 ||
    fail builder "the builder ($(uname -m)) cannot run the image's programs ($arch): take a builder image of its architecture"
  fstab_check
  name_esp
  esp_check
}

# newest_kernel TREE: its file name in /boot.
newest_kernel() {
  kernel=$(cd "$1/boot" && find . -maxdepth 1 -type f -size +0 \( -name 'vmlinuz-*' -o -name 'vmlinux-*' \) -printf '%P\n' | sort -V | tail -n 1)
  [ -n "$kernel" ] && echo "$kernel"
}

# changed PATH: this step, and nothing else, may make it other than the image's.
changed() {
  for one_ in $changes; do
    case $1/ in
    "$one_"/*) return ;;
    esac
  done
  changes="${changes:+$changes }$1"
}

# new_folder PATH: made if need be, as those above it; of new ones the uppermost counts, for it holds the others.
new_folder() {
  [ ! -d "target/$1" ] || return 0
  case $1 in
  */*) new_folder "${1%/*}" ;;
  esac
  { mkdir "target/$1" && chmod 755 "target/$1"; } || fail io "/$1 cannot be made"
  [ ! -d "source/$(dirname "$1")" ] || changed "$1"
}

boot_install() {
  changes=
  rm -rf esp.tree
  mkdir esp.tree || fail io "no folder for the EFI system partition"
  new_folder boot/grub
  changed boot/grub
  case $family in
  ext) grub_fs=ext2 ;;
  *) grub_fs=$family ;;
  esac
  mend_fstab
  for one in $loaders; do
    "install_$one"
  done
  esp_make
  esp_fill
  grub_extras
  make_grub_cfg
  # The image's folders keep their times: what is new in them is told by its own.
  for path in boot etc etc/default etc/default/grub.d; do
    [ ! -d "source/$path" ] || try io touch -r "source/$path" "target/$path"
  done
  boot_sums >boot.written || fail io "the boot loader cannot be read"
  fact boot_loader "$loaders"
  fact changed "$changes"
}

# grub_modules FIRMWARE: the image's modules in /boot/grub, from where GRUB loads what its core lacks.
grub_modules() {
  target_=$(grub_target "$1")
  rm -rf "target/boot/grub/$target_"
  try io mkdir "target/boot/grub/$target_"
  cp -d "source/usr/lib/grub/$target_/"*.mod "source/usr/lib/grub/$target_/"*.lst "target/boot/grub/$target_/" ||
    fail io "GRUB's modules cannot be copied"
  chmod -R u+rwX,go+rX "target/boot/grub/$target_" || fail io "/boot/grub cannot be written"
}

install_bios() {
  grub_modules bios
  try io cp source/usr/lib/grub/i386-pc/boot.img target/boot/grub/i386-pc/
  # An empty disk in the prefix is the one that the firmware booted from.
  try bad-image in_image target grub-mkimage -O i386-pc -o /boot/grub/i386-pc/core.img -p '(,gpt1)/boot/grub' \
    biosdisk part_gpt "$grub_fs" >&2
  try bad-image in_image target /usr/lib/grub/i386-pc/grub-bios-setup -m /dev/device.map -d /boot/grub/i386-pc \
    /dev/ebsdisk >&2
}

install_uefi() {
  grub_modules uefi
  target_=$(grub_target uefi)
  case $arch in
  arm64) name=BOOTAA64.EFI ;;
  *) name=BOOTX64.EFI ;;
  esac
  find_root_cfg >"target/boot/grub/$target_/load.cfg" || fail io "/boot/grub cannot be written"
  try bad-image in_image target grub-mkimage -O "$target_" -o "/boot/grub/$target_/core.efi" -c "/boot/grub/$target_/load.cfg" \
    -p /boot/grub part_gpt "$grub_fs" search search_fs_uuid normal configfile >&2
  try io mkdir -p esp.tree/EFI/BOOT
  try io cp "target/boot/grub/$target_/core.efi" "esp.tree/EFI/BOOT/$name"
  new_folder boot/efi
}

find_root_cfg() {
  printf '%s\n' "search.fs_uuid $fs_uuid root" "set prefix=(\$root)'/boot/grub'"
}

# What grub-install leaves beside the modules: a font, and the block to which GRUB may write.
grub_extras() {
  if [ -f source/usr/share/grub/unicode.pf2 ]; then
    try io mkdir -p target/boot/grub/fonts
    try io cp -d source/usr/share/grub/unicode.pf2 target/boot/grub/fonts/
  fi
  if [ -f source/usr/bin/grub-editenv ] && [ ! -e target/boot/grub/grubenv ]; then
    try bad-image in_image target grub-editenv /boot/grub/grubenv create >&2
  fi
  chmod -R u+rwX,go+rX target/boot/grub || fail io "/boot/grub cannot be written"
}

# The image's own grub-mkconfig, if what it writes will do; it is told of EC2's console where it has not been.
make_grub_cfg() {
  grub_cfg=own
  if ! own_grub_cfg; then
    grub_cfg=minimal
    minimal_grub_cfg >target/boot/grub/grub.cfg || fail io "grub.cfg cannot be written"
  fi
  chmod 644 target/boot/grub/grub.cfg || fail io "grub.cfg cannot be written"
  fact grub_cfg "$grub_cfg"
}

own_grub_cfg() {
  [ -f source/usr/sbin/grub-mkconfig ] || return 1
  run_mkconfig || return 1
  grep -qE '^[[:blank:]]*linux.*[[:blank:]]console=ttyS0' target/boot/grub/grub.cfg && return
  new_folder etc/default/grub.d
  changed "$console_conf"
  console_words >"target/$console_conf" || fail io "/$console_conf cannot be written"
  chmod 644 "target/$console_conf" || fail io "/$console_conf cannot be written"
  run_mkconfig && grep -qE '^[[:blank:]]*linux.*[[:blank:]]console=ttyS0' target/boot/grub/grub.cfg
}

console_words() {
  cat <<'EOF'
# EC2 shows what comes to the first serial port.
GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX console=tty1 console=ttyS0,115200"
EOF
  if [ "$arch" = arm64 ]; then
    # There GRUB finds no port by its number; UEFI's console, which it has for its own, is the serial port already.
    echo 'GRUB_TERMINAL="console"'
    return
  fi
  cat <<'EOF'
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
EOF
}

# Every kernel in it must be told the root by a name that it has on any machine, and no device of the builder's be named.
run_mkconfig() {
  rm -f target/boot/grub/grub.cfg
  in_image target grub-mkconfig -o /boot/grub/grub.cfg >&2 || return 1
  roots=$(sed -nE 's/^[[:blank:]]*linux[a-z0-9]*[[:blank:]].*[[:blank:]]root=([^[:blank:]]*).*/\1/p' target/boot/grub/grub.cfg | sort -u)
  [ -n "$roots" ] || return 1
  ! grep -qE '/dev/(ebs|loop)|^[[:blank:]]*loopback' target/boot/grub/grub.cfg || return 1
  for name in $roots; do
    root_names | grep -qxF -- "$name" || return 1
  done
}

minimal_grub_cfg() {
  kernel=$(newest_kernel target)
  version=${kernel#*-}
  for initrd in "initrd.img-$version" "initramfs-$version.img" "initrd-$version"; do
    [ ! -f "target/boot/$initrd" ] || break
    initrd=
  done
  cat <<EOF
# Written by ebspub: the image's own grub-mkconfig made none that would boot.
set timeout=0
search --no-floppy --fs-uuid --set=root $fs_uuid
menuentry '$kernel' {
  insmod gzio
  linux /boot/$kernel root=UUID=$fs_uuid ro console=tty1 console=ttyS0,115200
  ${initrd:+initrd /boot/$initrd}
}
EOF
}

# boot_sums: content of all that this step wrote: files of the tree, boot code, GRUB's core.
boot_sums() {
  # shellcheck disable=SC2086 # paths of ours, without blanks
  (cd target && find $changes -type f -print0 | sort -z | xargs -0 -r sha256sum -b --) &&
    (cd esp.tree && find . -type f -print0 | sort -z | xargs -0 -r sha256sum -b --) || return 1
  dd if="$device" bs=440 count=1 2>/dev/null | sha256sum
  [ "$arch" = arm64 ] || dd if="$device" bs=1048576 skip=$((bios_start / 2048)) count=$((bios_sectors / 2048)) 2>/dev/null | sha256sum
}

boot_verify() {
  boot_sums >boot.read || fail verify "the boot loader cannot be read"
  cmp boot.written boot.read >&2 || fail verify "the boot loader on the volume is not what was written"
  esp_verify
  fact boot_digest "$(sha256sum <boot.read | cut -d ' ' -f 1)"
}
