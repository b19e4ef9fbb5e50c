#!/bin/sh
# Builds target/debian/vfio-bindd_VERSION_ARCH.deb out of this checkout.
#
# By dpkg's own tools and not by debhelper: it is one package of one crate, and
# a fresh machine has to fetch nothing but dpkg-dev for it. Built on Debian 12
# it runs on 12 and 13; dpkg-shlibdeps states what it needs.
set -eu
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
arch=$(dpkg --print-architecture)
out=target/debian
# As dpkg-shlibdeps wants it: the package's tree beside a debian/control.
tree=$out/build/debian/vfio-bindd
deb=$out/vfio-bindd_${version}_$arch.deb

# No path of the machine that built it stays in the binaries. The flags are part
# of what cargo compares, hence a target directory of its own.
sources=$(rustc --print sysroot)/lib/rustlib/src/rust
RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=. --remap-path-prefix=$sources=rust \
--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
    "${CARGO:-cargo}" build --release --locked --bins --target-dir target/package
built=target/package/release
for binary in vfio-bindd vfio-bindctl; do
    if grep -qF -e "$PWD" -e "$HOME/" "$built/$binary"; then
        echo "deb.sh: $binary names a directory of this machine" >&2
        exit 1
    fi
done

rm -rf "$out"
control=$tree/DEBIAN
mkdir -p "$control"
put() { # MODE SOURCE TARGET
    install -D -m "$1" "$2" "$tree$3"
}
put 0755 "$built/vfio-bindd" /usr/bin/vfio-bindd
put 0755 "$built/vfio-bindctl" /usr/bin/vfio-bindctl
put 0644 systemd/vfio-bindd.service /usr/lib/systemd/system/vfio-bindd.service
for unit in microvm@ microvm-pci-devices@; do
    put 0644 systemd/after-vfio-bindd.conf "/usr/lib/systemd/system/$unit.service.d/after-vfio-bindd.conf"
done
put 0644 packaging/modules-load.d/vfio-bindd.conf /usr/lib/modules-load.d/vfio-bindd.conf
put 0644 packaging/org.vfiobindd1.conf /usr/share/dbus-1/system.d/org.vfiobindd1.conf
put 0644 packaging/config.toml /etc/vfio-bindd/config.toml
install -d "$tree/etc/vfio-bindd/config.d"

doc=/usr/share/doc/vfio-bindd
put 0644 README.md "$doc/README.md"
put 0644 config.example.toml "$doc/examples/config.example.toml"
put 0644 packaging/debian/copyright "$doc/copyright"
put 0644 CHANGELOG.md "$doc/changelog"
for page in packaging/man/*.[1-8]; do
    put 0644 "$page" "/usr/share/man/man${page##*.}/${page##*/}"
done
find "$tree/usr/share/man" "$tree$doc/changelog" -type f -exec gzip -9n {} +

completion() { # SHELL TARGET
    install -d "$tree${2%/*}"
    "$built/vfio-bindctl" completions "$1" >"$tree$2"
}
completion bash /usr/share/bash-completion/completions/vfio-bindctl
completion zsh /usr/share/zsh/vendor-completions/_vfio-bindctl
completion fish /usr/share/fish/vendor_completions.d/vfio-bindctl.fish

printf 'Source: vfio-bindd\n\nPackage: vfio-bindd\nArchitecture: any\n' >"$out/build/debian/control"
depends=$(cd "$out/build" && dpkg-shlibdeps -O debian/vfio-bindd/usr/bin/* |
    sed -n 's/^shlibs:Depends=//p')

(cd "$tree" && find usr -type f -exec md5sum {} + | LC_ALL=C sort -k 2) >"$control/md5sums"
echo /etc/vfio-bindd/config.toml >"$control/conffiles"
size=$(du -sk --exclude=DEBIAN "$tree" | cut -f 1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$size/" -e "s/@DEPENDS@/$depends/" \
    packaging/debian/control >"$control/control"
for script in postinst prerm postrm; do
    install -m 0755 "packaging/debian/$script" "$control/$script"
done

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
dpkg-deb --root-owner-group -Zxz --build "$tree" "$deb" >/dev/null
rm -rf "$out/build"
echo "$deb"
