#!/bin/sh
# eval.sh NIXPKGS [MICROVM [OVERLAY]]
#
# Evaluates whole systems of NixOS with module.nix in them, with the nixpkgs and the
# microvm.nix that are checked out there, and builds none: it needs nix-instantiate,
# and no network. Where json2toml (remarshal) is at hand, which nixpkgs writes TOML
# with, vfio-bindctl judges what becomes of the options. VFIO_BINDCTL names it;
# otherwise it is that of `cargo build`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
path() { (cd "$(dirname "$1")" && echo "$(pwd)/${1##*/}"); }
if [ $# -lt 1 ] || [ $# -gt 3 ]; then
    sed -n 's/^# \(eval\.sh .*\)/usage: \1/p' "$0" >&2
    exit 2
fi
nixpkgs=$(path "$1")
microvm=null
[ -z "${2:-}" ] || microvm=$(path "$2")
overlays='[ ]'
[ -z "${3:-}" ] || overlays="[ (import $(path "$3")) ]"

evaluate() { # ATTRIBUTE
    nix-instantiate --eval --strict --json --expr "(import $here/eval.nix {
        nixpkgs = $nixpkgs; microvm = $microvm; overlays = $overlays; }).$1"
}

checks=$(evaluate checks)
echo "$checks" | sed 's/,"/\n"/g; s/[{}]//g' | {
    bad=0
    while IFS= read -r line; do
        case $line in
            *:true) echo "ok   ${line%:*}" ;;
            *) echo "FAIL ${line%:*}" && bad=1 ;;
        esac
    done
    exit $bad
}
evaluate package
evaluate toplevel

ctl=${VFIO_BINDCTL:-$here/../../target/debug/vfio-bindctl}
if ! command -v json2toml >/dev/null || [ ! -x "$ctl" ]; then
    echo "left out: json2toml and vfio-bindctl are not both there"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for name in plain all; do
    evaluate "configs.$name" >"$folder/$name.json"
    json2toml "$folder/$name.json" "$folder/$name.toml"
    "$ctl" check "$folder/$name.toml"
done
