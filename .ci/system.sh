#!/bin/sh
# Check that the system has what the demo, the tests or the checks need; install what is missing where that is allowed.
#
#   .ci/system.sh python          a Python that can make a virtual environment
#   .ci/system.sh demo            that, and what `make demo` needs
#   .ci/system.sh check           that, and what `make check` needs
#   .ci/system.sh bench           that of `make demo`, and what `make bench` needs
#   .ci/system.sh test            that, and what `make demo`, `make check` and `make test` need
#   .ci/system.sh which-python    print the Python to use; nothing where there is none
#
# As root on Debian or Ubuntu it installs the missing packages. Anyone else is told the one command that does, and the
# exit status is 1. A program counts as present wherever it comes from; packages are only looked at when one is absent.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
packages=
absent=

# need PROGRAM PACKAGE
need() {
    command -v "$1" >/dev/null 2>&1 && return
    absent="$absent $1"
    case " $packages " in
        *" $2 "*) ;;
        *) packages="$packages $2" ;;
    esac
}

# need_file PATH PACKAGE
need_file() {
    [ -e "$1" ] && return
    absent="$absent $1"
    packages="$packages $2"
}

# Print a Python that we support, $PYTHON first; nothing where there is none.
find_python() {
    for python in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
}

# Debian keeps ensurepip, which a virtual environment needs, in a package of its own for each version of Python.
need_python() {
    python=$(find_python)
    if [ -z "$python" ]; then
        absent="$absent python3.11-or-later"
        packages="$packages $(python_package)"
    elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        absent="$absent python-venv"
        packages="$packages python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    fi
}

# The distribution's default Python where that is new enough, else the newest that it offers beside it.
python_package() {
    for version in 3.13 3.12 3.11; do
        if apt-cache show "python$version-venv" >/dev/null 2>&1; then
            echo "python$version python$version-venv"
            return
        fi
    done
    echo "python3 python3-venv"
}

# Debian keeps the server's programs off PATH, one folder for each version.
need_postgresql() {
    for program in /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$program" ] && return
    done
    need initdb postgresql
}

# The locator's page is tried in it. Ubuntu has it as a snap only, which no container runs: its tests are skipped there.
need_browser() {
    grep -qs '^ID=ubuntu' /etc/os-release && return
    need chromium chromium
    need chromedriver chromium-driver
}

need_demo() {
    need sshd openssh-server # the builders' SSH servers
    need ssh-keygen openssh-client
    need sudo sudo       # builders become root as on EC2
    need curl curl       # builders download with it
    need_file /usr/bin/python3 python3 # and write disks with it
    need mkfs.ext4 e2fsprogs
    need e2fsck e2fsprogs
    need debugfs e2fsprogs
    need losetup mount   # volumes as block devices
    need unshare util-linux
    need setpriv util-linux
    need blkid util-linux
    need sfdisk fdisk
    need tar tar
    need gpg gnupg       # proof of the source's checksums
    need gpgv gpgv
}

need_check() {
    need shellcheck shellcheck
}

need_bench() {
    need qemu-img qemu-utils
    need igzip isal      # the fastest decoder of gzip: builders use it where it is there
    need pigz pigz
    need xz xz-utils
    need zstd zstd
    need_browser
}

# need_library NAME PACKAGE: found wherever the loader looks for it.
need_library() {
    [ -n "$python" ] && "$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null && return
    absent="$absent $1"
    packages="$packages $2"
}

need_test() {
    need_library libisal.so.2 libisal2 # what builders unpack with
    need_library libzstd.so.1 libzstd1
    need_library liblzma.so.5 liblzma5
    need sgdisk gdisk    # says whether a moved GPT is right
    need qemu-img qemu-utils
    need pigz pigz
    need xz xz-utils
    need zstd zstd
    need bzip2 bzip2
    need qemu-system-x86_64 qemu-system-x86 # boots what was published
    need_file /usr/share/OVMF/OVMF_CODE_4M.fd ovmf # boots it with UEFI
    need qemu-system-aarch64 qemu-system-arm # and what is for arm64
    need_file /usr/share/AAVMF/AAVMF_CODE.fd qemu-efi-aarch64
    need qemu-aarch64-static qemu-user-static # runs the programs of an arm64 root on builders of tests
    need debootstrap debootstrap            # a real root file system
    need setfattr attr
    need getfacl acl
    need setcap libcap2-bin
    need mkfs.xfs xfsprogs
    need mkfs.btrfs btrfs-progs
    need mksquashfs squashfs-tools
    need mkfs.vfat dosfstools
    need mcopy mtools
    need grub-mkconfig grub-common # boot loaders of small test images
    need_file /usr/lib/grub/i386-pc/kernel.img grub-pc-bin
    need_file /usr/lib/grub/x86_64-efi/kernel.img grub-efi-amd64-bin
    need strace strace
    need openssl openssl # certificates of test servers
    need_postgresql
    need git git
    need rsync rsync # copies of the feeds
    need_browser
}

# Servers start when they are installed, and at every boot from then on. Only their programs are wanted.
policy=/usr/sbin/policy-rc.d

# install WHAT
install() {
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    look "$1" # a machine that has never heard of its packages could not say which Python it offers
    echo "Installing:$packages" >&2
    # shellcheck disable=SC2086 # a list of packages
    apt-get install -y -qq --no-install-recommends $packages
    case " $packages " in
        *" openssh-server "*) disable ssh.service ssh.socket ;;
    esac
    case " $packages " in
        *" postgresql "*) disable postgresql.service ;;
    esac
}

# disable UNIT...: not at the next boot either.
disable() {
    command -v systemctl >/dev/null 2>&1 || return 0 # a container: nothing is started at boot
    for unit in "$@"; do
        if [ -e "/usr/lib/systemd/system/$unit" ] || [ -e "/lib/systemd/system/$unit" ]; then
            systemctl disable --quiet "$unit"
        fi
    done
}

tell() {
    echo "Missing on this system:$absent" >&2
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "Install them with your package manager (Debian calls the packages:$packages), then try again." >&2
        return
    fi
    echo "This installs them; then try again:" >&2
    echo >&2
    echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends$packages" >&2
    services=
    case " $packages " in *" openssh-server "*) services="$services ssh.service ssh.socket" ;; esac
    case " $packages " in *" postgresql "*) services="$services postgresql.service" ;; esac
    if [ -n "$services" ]; then
        echo >&2
        echo "Debian then starts servers of which only the programs are needed. To stop them:" >&2
        echo "    sudo systemctl disable --now$services" >&2
    fi
}

look() {
    packages=
    absent=
    need_python
    case $1 in
        python) ;;
        demo) need_demo ;;
        check) need_check ;;
        bench)
            need_demo
            need_bench
            ;;
        test)
            need_demo
            need_check
            need_test
            ;;
        *)
            echo "usage: $0 python|demo|check|bench|test" >&2
            exit 2
            ;;
    esac
}

if [ "${1:-}" = which-python ]; then
    find_python
    exit
fi
look "${1:-}"
[ -n "$absent" ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    tell
    exit 1
fi
echo "Missing on this system:$absent" >&2
install "$1"
look "$1"
if [ -n "$absent" ]; then
    echo "Still missing after installing$packages:$absent" >&2
    exit 1
fi
