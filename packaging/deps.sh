#!/bin/sh
# Installs what is missing of Debian packages, given as PACKAGE:FILE-OF-IT.
# Does nothing and needs no root where every file is there.
set -eu
missing=
for pair in "$@"; do
    [ -e "${pair#*:}" ] || missing="$missing ${pair%%:*}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "these packages are missing: apt-get install$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
exec apt-get install -qq -y --no-install-recommends $missing
