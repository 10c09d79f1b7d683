#!/bin/sh
# The first process of a builder that is a namespace: builds its view of the machine, boots it, serves SSH.
# Run by unshare in fresh mount, pid and uts namespaces. Arguments: the builder's root folder, its host name, a file
# name: the file in /run says that /proc/PID/root is the builder's root from now on.
set -eu

root=$1
name=$2
ready=$3
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

mount --bind "$root" "$root"
cd "$root"
mount --bind /usr usr
mount -o remount,bind,ro usr
for part in alternatives ssl ca-certificates ld.so.conf.d; do
    if [ -d "/etc/$part" ]; then
        mkdir -p "etc/$part"
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
mount -t tmpfs -o mode=755,size=4m tmpfs dev
tar -C dev -xpf var/lib/ec2/dev.tar
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/sshd run/lock run/sudo

pivot_root . .old
cd /
umount -l /.old
hostname "$name"
: >"/run/$ready"

sshd=
# A pid 1 gets no signal without a handler; this one ends the builder, and the kernel ends all that runs in it.
trap 'echo "builder goes down"; exit 0' TERM INT
rm -f /var/lib/ec2/power
echo "builder $name boots"
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
# Orphans of the builder end up here: wait for them, too, until SSH itself is gone.
while kill -0 "$sshd" 2>/dev/null; do
    wait "$sshd" || true
done
echo "sshd ended"
exit 1
