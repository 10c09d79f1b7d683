#!/bin/sh
# The first process of a builder that is a namespace: builds its view of the machine, boots it, serves SSH.
# Run by unshare in fresh mount, pid and uts namespaces, with the builder's root file system as a tar archive on standard
# input. Arguments: an empty folder, the folder of what lies on disk, the builder's host name, a file name (the file in
# /run says that /proc/PID/root is the builder's root from now on), and the names of the folders that lie on disk.
set -eu

root=$1
disk=$2
name=$3
ready=$4
shift 4
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022

mount -t tmpfs -o mode=755,size=256m tmpfs "$root"
cd "$root"
for folder in "$@"; do
    mkdir -p "$folder"
    mount --bind "$disk/$folder" "$folder"
done
tar -xp --numeric-owner -f -
exec </dev/null
mount --bind /usr usr
mount -o remount,bind,ro usr
for part in alternatives ssl ca-certificates ld.so.conf.d; do
    if [ -d "/etc/$part" ]; then
        mount --bind "/etc/$part" "etc/$part"
        mount -o remount,bind,ro "etc/$part"
    fi
done
mount --bind var/lib/ec2/sbin usr/local/sbin
for stub in shutdown poweroff reboot halt; do
    if [ -e "usr/sbin/$stub" ]; then
        mount --bind "var/lib/ec2/sbin/$stub" "usr/sbin/$stub"
    fi
done
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
# Block devices of this machine are not the builder's: what it may see is in its own /dev.
mount -t tmpfs -o mode=755,size=1m tmpfs sys/block
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/sshd run/lock run/sudo
# Every boot has an id of its own, which this machine's kernel does not know of.
cat proc/sys/kernel/random/uuid >run/boot_id
mount --bind run/boot_id proc/sys/kernel/random/boot_id
# What is written to the console goes to the boot log, as all that this script prints.
mkfifo -m 600 dev/console
rm -f var/lib/ec2/power
# An instance of a registered image is what its root volume says, and keeps there what is to outlast a stop. Its
# programs are this machine's all the same. Without a root file system its kernel gets nowhere.
panic=
if [ -n "${EC2_ROOT:-}" ]; then
    mkdir -p mnt/root
    if mount -o "loop,offset=$EC2_ROOT_OFFSET" "$EC2_ROOT" mnt/root && [ -d mnt/root/etc ]; then
        rm -f etc/os-release
        mkdir -p etc/cloud mnt/root/var/tmp
        chmod 1777 mnt/root/var/tmp
        for file in etc/os-release etc/lsb-release etc/cloud/build.info; do
            if [ -f "mnt/root/$file" ]; then
                cp "mnt/root/$file" "$file"
            fi
        done
        mount --bind mnt/root/var/tmp var/tmp
    else
        panic=yes
    fi
    unset EC2_ROOT EC2_ROOT_OFFSET
fi

pivot_root . .old
cd /
umount -l /.old
hostname "$name"
: >"/run/$ready"

# A pid 1 gets no signal without a handler; this one ends the builder, and the kernel ends all that runs in it.
trap 'echo "builder goes down"; exit 0' TERM INT
cat <>/dev/console &
echo "builder $name boots"
while [ -n "$panic" ]; do
    echo "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(202,1)"
    sleep 3600 &
    wait "$!"
done
if [ -f /var/lib/ec2/bootcmd ]; then
    sh /var/lib/ec2/bootcmd || echo "bootcmd failed: $?"
fi
# -e: log to the console; -D: stay, so that its end is seen.
/usr/sbin/sshd -D -e -f /etc/ssh/sshd_config &
sshd=$!
if [ -f /var/lib/ec2/runcmd ] && [ ! -e /var/lib/ec2/runcmd.done ]; then
    touch /var/lib/ec2/runcmd.done
    /var/lib/ec2/runcmd &
fi
echo "builder $name is up"
echo "$name login:"
# Orphans of the builder end up here: wait for them, too, until SSH itself is gone.
while kill -0 "$sshd" 2>/dev/null; do
    wait "$sshd" || true
done
echo "sshd ended"
exit 1
