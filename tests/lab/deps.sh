#!/bin/bash
# Installs what the build, the tests and the lab need on a Debian-like machine.
# Does nothing where everything is there; says what is missing when not root.
set -euo pipefail

needed=(
    build-essential pkg-config libudev-dev
    dbus mandoc
    mmdebstrap qemu-system-x86 e2fsprogs util-linux
)

missing=()
for package in "${needed[@]}"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} == 0 ]] && exit 0

if [[ $(id -u) != 0 ]]; then
    echo "deps.sh: missing packages: ${missing[*]}" >&2
    echo "deps.sh: install them, or run this as root" >&2
    exit 1
fi

echo "deps.sh: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
install=(apt-get install --yes --quiet --no-install-recommends "${missing[@]}")
# A fresh machine has no package lists, and old lists name files that are gone.
if ! "${install[@]}" >&2; then
    apt-get update --quiet >&2
    "${install[@]}" >&2
fi
