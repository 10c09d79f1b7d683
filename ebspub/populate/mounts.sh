# shellcheck shell=sh
# Mounts in the task's folder, by their names there.

is_mounted() {
  grep -qF " $PWD/$1 " /proc/self/mountinfo
}

# A ticker that was just ended may still have a foot in the tree.
unmount() {
  tries=0
  while is_mounted "$1" && ! umount "$1"; do
    tries=$((tries + 1))
    [ "$tries" -lt 20 ] || fail io "$1 cannot be unmounted"
    sleep 0.2
  done
}
