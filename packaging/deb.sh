#!/bin/sh
# Builds target/debian/vfio-bindd_VERSION_ARCH.deb out of this checkout.
#
# By dpkg's own tools and not by debhelper: it is one package of one crate, and
# a fresh machine has to fetch nothing but dpkg-dev for it. dpkg-shlibdeps states
# what the binaries need of the C library that they were linked with, so what is
# built on Debian 12 installs on 12 and 13, and what is built on 13 may not on 12.
set -eu
umask 022
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
maintainer=$(sed -n 's/^Maintainer: //p' packaging/debian/control)
arch=$(dpkg --print-architecture)
out=target/debian
# As dpkg-shlibdeps wants it: the package's tree beside a debian/control.
tree=$out/build/debian/vfio-bindd
control=$tree/DEBIAN
deb=$out/vfio-bindd_${version}_$arch.deb

# Same source, same package: no time but that of the commit is in it.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

# No path of the machine that built it stays in the binaries. The flags are part
# of what cargo compares, hence a target directory of its own.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)
separator=$(printf '\037')
flags=$(printf '%s' "${RUSTFLAGS:-}" | tr -s ' ' "$separator")
# What comes later is tried first, so the narrower path follows the wider one.
for pair in "$PWD=." "$cargo_home=cargo" "$sysroot/lib/rustlib/src/rust=rust"; do
    flags=$flags${flags:+$separator}--remap-path-prefix=$pair
done
CARGO_ENCODED_RUSTFLAGS=$flags "${CARGO:-cargo}" build --release --locked --bins \
    --target-dir target/package
built=target/package/release
for binary in vfio-bindd vfio-bindctl vfio-bindd-early vfio-bindd-hook; do
    if grep -qF -e "$PWD" -e "$cargo_home/" -e "$sysroot/lib/rustlib" "$built/$binary"; then
        echo "deb.sh: $binary names a directory of this machine" >&2
        exit 1
    fi
done

rm -rf "$out"
mkdir -p "$control"
put() { # MODE SOURCE TARGET
    install -D -m "$1" "$2" "$tree$3"
}
put 0755 "$built/vfio-bindd" /usr/bin/vfio-bindd
put 0755 "$built/vfio-bindctl" /usr/bin/vfio-bindctl
put 0755 "$built/vfio-bindd-hook" /usr/lib/vfio-bindd/hookscript
# The early stage for an initramfs, and what puts it into one.
put 0755 "$built/vfio-bindd-early" /usr/lib/vfio-bindd/early
put 0755 packaging/libvirt/hook /usr/lib/vfio-bindd/libvirt-hook
initramfs=/usr/share/initramfs-tools
put 0755 packaging/initramfs-tools/hook $initramfs/hooks/vfio-bindd
# Scripts run in the order of their names, and udev loads the drivers.
put 0755 packaging/initramfs-tools/init-top $initramfs/scripts/init-top/00-vfio-bindd
put 0755 packaging/initramfs-tools/local-block $initramfs/scripts/local-block/00-vfio-bindd
put 0755 packaging/initramfs-tools/panic $initramfs/scripts/panic/vfio-bindd
for script in module-setup take give-back waits-for-device; do
    put 0755 "packaging/dracut/$script.sh" "/usr/lib/dracut/modules.d/90vfio-bindd/$script.sh"
done
for unit in vfio-bindd-give-back.timer vfio-bindd-give-back.service; do
    put 0644 "packaging/dracut/$unit" "/usr/lib/dracut/modules.d/90vfio-bindd/$unit"
done
# /usr/lib and not /lib: both releases have merged them, deb-systemd-helper of
# both finds units there, and Debian 13 wants no file of a package below /lib.
for unit in vfio-bindd.service vfio-bindd-early.service \
    vfio-bindd-helper.socket vfio-bindd-helper.service \
    vfio-bindd-pve-sync.service vfio-bindd-pve-sync.path; do
    put 0644 "systemd/$unit" "/usr/lib/systemd/system/$unit"
done
for unit in microvm@ microvm-pci-devices@; do
    put 0644 systemd/after-vfio-bindd.conf "/usr/lib/systemd/system/$unit.service.d/after-vfio-bindd.conf"
done
put 0644 packaging/udev/60-vfio-bindd.rules /usr/lib/udev/rules.d/60-vfio-bindd.rules
put 0644 packaging/udev/99-vfio-bindd-nodes.rules /usr/lib/udev/rules.d/99-vfio-bindd-nodes.rules
put 0644 packaging/modules-load.d/vfio-bindd.conf /usr/lib/modules-load.d/vfio-bindd.conf
put 0644 packaging/org.vfiobindd1.conf /usr/share/dbus-1/system.d/org.vfiobindd1.conf
put 0644 packaging/org.vfiobindd1.policy /usr/share/polkit-1/actions/org.vfiobindd1.policy
put 0644 packaging/config.toml /etc/vfio-bindd/config.toml
install -d "$tree/etc/vfio-bindd/config.d"

doc=/usr/share/doc/vfio-bindd
put 0644 README.md "$doc/README.md"
put 0644 CHANGELOG.md "$doc/CHANGELOG.md"
for page in proxmox libvirt microvm sriov; do
    put 0644 "docs/$page.md" "$doc/docs/$page.md"
done
put 0644 config.example.toml "$doc/examples/config.example.toml"
put 0644 packaging/debian/copyright "$doc/copyright"
# What Debian's tools read of a package that is its own upstream.
cat >"$tree$doc/changelog" <<CHANGELOG
vfio-bindd ($version) unstable; urgency=medium

  * What changed is in CHANGELOG.md.gz.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
CHANGELOG
for page in packaging/man/*.[1-8]; do
    put 0644 "$page" "/usr/share/man/man${page##*.}/${page##*/}"
done
find "$tree/usr/share/man" "$tree$doc/changelog" "$tree$doc/CHANGELOG.md" -type f -exec gzip -9n {} +

completion() { # SHELL TARGET
    install -d "$tree${2%/*}"
    "$built/vfio-bindctl" completions "$1" >"$tree$2"
}
completion bash /usr/share/bash-completion/completions/vfio-bindctl
completion zsh /usr/share/zsh/vendor-completions/_vfio-bindctl
completion fish /usr/share/fish/vendor_completions.d/vfio-bindctl.fish

printf 'Source: vfio-bindd\n\nPackage: vfio-bindd\nArchitecture: any\n' >"$out/build/debian/control"
depends=$(cd "$out/build" && dpkg-shlibdeps -O debian/vfio-bindd/usr/bin/* \
    debian/vfio-bindd/usr/lib/vfio-bindd/early debian/vfio-bindd/usr/lib/vfio-bindd/hookscript |
    sed -n 's/^shlibs:Depends=//p')

(cd "$tree" && find usr -type f -exec md5sum {} + | LC_ALL=C sort -k 2) >"$control/md5sums"
echo /etc/vfio-bindd/config.toml >"$control/conffiles"
# As dpkg-gencontrol counts it, so that it does not hang on the file system.
size=$(find "$tree" -path "$control" -prune -o -type f -printf '%s\n' -o -printf '1\n' |
    awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$size/" -e "s/@DEPENDS@/$depends/" \
    packaging/debian/control >"$control/control"
for script in postinst prerm postrm; do
    install -m 0755 "packaging/debian/$script" "$control/$script"
done

install -m 0644 packaging/debian/triggers "$control/triggers"

# A checkout with the set-group-ID bit would hand it on, and dpkg-deb refuse it.
chmod -R g-s "$tree"
dpkg-deb --root-owner-group -Zxz --build "$tree" "$deb" >/dev/null
rm -rf "$out/build"
echo "$deb"
