#!/bin/bash
# Builds the disk, kernel and initrd of a lab guest and prints their directory.
#
#   image.sh RELEASE         a virtualization host: systemd, udev, D-Bus, QEMU, libvirt
#   image.sh RELEASE disks   a host with all that disks can be made into, without
#                            QEMU and libvirt; its initrd opens a root on LVM on LUKS
#
# RELEASE is trixie or bookworm, of which the latter has the older systemd and kernel.
#
# A finished image is kept under the hash of this script and its name, so that
# a change of the recipe builds a new one and nothing else does. It comes from
# the package mirror that this machine itself uses; VFIO_BINDD_LAB_MIRROR names
# another one (needed where the machine is no Debian).
set -euo pipefail

name=${1:?usage: image.sh trixie|bookworm [disks]}${2:+-$2}
case $name in
    trixie | bookworm | trixie-disks | bookworm-disks) release=$1 ;;
    *) echo "image.sh: unknown image '$*' (trixie or bookworm, with or without 'disks')" >&2; exit 2 ;;
esac

cache=${VFIO_BINDD_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vfio-bindd-lab}
key=$( { cat "${BASH_SOURCE[0]}"; echo "$name"; } | sha256sum | cut -c1-16)
image=$cache/$name-$key

if [[ -e $image/disk.img ]]; then
    echo "$image"
    exit 0
fi

if [[ $(id -u) != 0 ]]; then
    echo "image.sh: building a guest image needs root" >&2
    exit 1
fi

# mmdebstrap and mke2fs may live in sbin, which is not on everyone's path.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

mkdir -p "$cache"
# Two runs at once would build the same thing twice; the second waits.
exec 9>"$cache/.lock-$name"
flock 9
if [[ -e $image/disk.img ]]; then
    echo "$image"
    exit 0
fi

# The mirror of this machine's own release; the security archive has another
# layout and is not enough by itself.
mirror=${VFIO_BINDD_LAB_MIRROR:-}
if [[ -z $mirror ]]; then
    codename=$(. /etc/os-release; echo "${VERSION_CODENAME:-}")
    mirror=$(apt-get indextargets --format '$(CODENAME) $(SITE)' 'Created-By: Packages' |
        awk -v codename="$codename" '$1 == codename { print $2; exit }')
fi
if [[ -z $mirror ]]; then
    echo "image.sh: no mirror found in this machine's apt sources; set VFIO_BINDD_LAB_MIRROR" >&2
    exit 1
fi

packages=(
    systemd systemd-sysv udev dbus kmod pciutils iproute2 procps
    linux-image-amd64 initramfs-tools zstd e2fsprogs jq libglib2.0-bin
)
if [[ $name == *-disks ]]; then
    packages+=(lvm2 cryptsetup mdadm btrfs-progs fdisk)
else
    packages+=(
        polkitd
        qemu-system-x86 seabios ipxe-qemu
        libvirt-daemon-system libvirt-clients
        # Makes the other kind of initrd, and is in nobody's way.
        dracut-core
    )
fi

work=$(mktemp -d "$cache/.build-$name.XXXXXX")
trap 'rm -rf "$work"' EXIT
tree=$work/tree
setup=$work/setup.sh
finish=$work/finish.sh

# Before the kernel is installed: a small initrd unpacks much faster under
# emulation. The drivers of the lab's devices are in it, as they would be on a
# real host, where the native driver binds before the root file system is there.
cat >"$setup" <<'SETUP'
#!/bin/sh
set -eu
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/etc/initramfs-tools/hooks"
echo 'MODULES=list' >"$1/etc/initramfs-tools/conf.d/lab"
cat >"$1/etc/initramfs-tools/hooks/lab" <<'HOOK'
#!/bin/sh
[ "${1:-}" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_blk ext4 e1000e nvme
HOOK
chmod +x "$1/etc/initramfs-tools/hooks/lab"
SETUP

# A root on LVM on LUKS needs the container opened, here with a key that lies in
# the initrd; lvm2's own scripts do the rest. `root=` asks for it. There is no
# grep in this initrd.
if [[ $name == *-disks ]]; then
    cat >>"$setup" <<'SETUP'
printf 'no secret at all' >"$1/etc/lab.key"
cat >"$1/etc/initramfs-tools/hooks/lab-luks" <<'HOOK'
#!/bin/sh
[ "${1:-}" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
copy_exec /usr/sbin/cryptsetup
copy_file key /etc/lab.key
manual_add_modules dm_mod dm_crypt xts aesni_intel
HOOK
mkdir -p "$1/etc/initramfs-tools/scripts/local-top"
cat >"$1/etc/initramfs-tools/scripts/local-top/lab-luks" <<'SCRIPT'
#!/bin/sh
[ "${1:-}" = prereqs ] && exit 0
read -r line </proc/cmdline
case $line in *root=/dev/mapper/lab-root*) ;; *) exit 0 ;; esac
. /scripts/functions
wait_for_udev 30
cryptsetup open --key-file /etc/lab.key \
    /dev/disk/by-uuid/c0ffee00-0000-4000-8000-000000000001 luks-lab
SCRIPT
chmod +x "$1/etc/initramfs-tools/hooks/lab-luks" \
    "$1/etc/initramfs-tools/scripts/local-top/lab-luks"
SETUP
fi

# After all packages: a root without a password, a shell on each serial port,
# nothing that works in the background on its own.
cat >"$finish" <<'FINISH'
#!/bin/sh
set -eu
root=$1
chroot "$root" passwd -d root >/dev/null
echo lab >"$root/etc/hostname"
echo '127.0.0.1 localhost lab' >"$root/etc/hosts"
echo 'LABEL=lab-root / ext4 defaults 0 1' >"$root/etc/fstab"
mkdir -p "$root/mnt/share"
: >"$root/etc/motd"

# The first port is for people: log in as root without a question.
mkdir -p "$root/etc/systemd/system/serial-getty@ttyS0.service.d"
cat >"$root/etc/systemd/system/serial-getty@ttyS0.service.d/lab.conf" <<'UNIT'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --keep-baud 115200 %I vt220
UNIT

# The second port is for the lab's driver. systemd 252 cannot put its own debug
# shell on a port of choice, so the lab has one: no echo, no line editing, no
# limit on the length of a line; Ctrl-C ends it and it starts anew.
cat >"$root/etc/systemd/system/lab-shell.service" <<'UNIT'
[Unit]
Description=Root shell for the lab's driver
DefaultDependencies=no
IgnoreOnIsolate=yes
ConditionPathExists=/dev/ttyS1

[Service]
Environment=TERM=dumb HOME=/root LC_ALL=C.UTF-8 PAGER=cat SYSTEMD_PAGER=
WorkingDirectory=/root
ExecStart=/bin/sh -c 'stty -icanon -echo -opost -ixon -icrnl; exec /bin/bash --noprofile --norc -s'
Restart=always
RestartSec=0
StartLimitIntervalSec=0
StandardInput=tty-force
StandardOutput=tty
StandardError=journal
TTYPath=/dev/ttyS1
TTYReset=yes
KillMode=process
IgnoreSIGPIPE=no
OOMPolicy=continue
UNIT
mkdir -p "$root/etc/systemd/system/sysinit.target.wants"
ln -s /etc/systemd/system/lab-shell.service "$root/etc/systemd/system/sysinit.target.wants/"

for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer fstrim.timer e2scrub_reap.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# For comparison, and not installed: its rules would work in every scenario.
mkdir -p "$root/usr/share/lab"
(cd "$root/usr/share/lab" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q download driverctl)

# The exclusions were for the build only: a package under test is installed whole.
rm -f "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/usr/share/locale/*
FINISH
chmod +x "$setup" "$finish"

echo "image.sh: building the $name guest (once; a minute or two)" >&2
included=$(IFS=,; echo "${packages[*]}")
mmdebstrap --quiet --variant=minbase --mode=root --format=directory \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --essential-hook="$setup \"\$1\"" \
    --customize-hook="$finish \"\$1\"" \
    --include="$included" "$release" "$tree" "$mirror" >&2

out=$work/out
mkdir "$out"
# The kernel and initrd start the guest directly; there is no boot loader in it.
cp "$tree"/boot/vmlinuz-* "$out/vmlinuz"
cp "$tree"/boot/initrd.img-* "$out/initrd.img"
truncate --size=4G "$out/disk.img"
# No journal: the disk is thrown away after each run.
mke2fs -q -t ext4 -O ^has_journal -L lab-root -d "$tree" "$out/disk.img" >&2
chmod 0755 "$out"
# The rename is the last step, so that a directory with this name is complete.
mv "$out" "$image"
echo "$image"
