#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Builds the patched kvm, kvm-intel and kvm-amd, and kvm_hvfeat, for a kernel; installs nothing.
#   build.sh FOLDER [KERNEL-RELEASE]
# KVM_HEADERS: another kernel's tree, built from that same source.
# FOLDER/{kvm,kvm-intel,kvm-amd,kvm_hvfeat}.ko are the result; a second call with nothing changed is quick.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$1
release=${2:-$(uname -r)}
headers=${KVM_HEADERS:-/lib/modules/$release/build}
[ -e "$headers/Makefile" ] || headers=/usr/src/linux-headers-$release
cc=${CC:-gcc-12}
key=$(cat "$here"/prepare.sh "$here"/patches/"$(echo "$release" | cut -d. -f1,2)"/* "$here"/module/*.[ch] \
    "$here"/../../include/libvirt-colo/kvm_hvfeat.h 2> /dev/null | cat - <(echo "$release $headers") | sha256sum)

mkdir -p "$out"
exec 9> "$out/.lock"
flock 9
[ "$(cat "$out/key" 2> /dev/null)" != "$key" ] || exit 0
rm -f "$out/key"
"$here/prepare.sh" "$release" "$out/kvm-tree"
make -s -j"$(nproc)" -C "$headers" M="$out/kvm-tree/source/arch/x86/kvm" CC="$cc" modules > "$out/kvm.log" 2>&1 ||
    { tail -20 "$out/kvm.log" >&2; exit 1; }
rm -rf "$out/module"
cp -r "$here/module" "$out/module"
mkdir -p "$out/module/include/libvirt-colo"
cp "$here/../../include/libvirt-colo/kvm_hvfeat.h" "$out/module/include/libvirt-colo/"
make -s -C "$headers" M="$out/module" CC="$cc" modules > "$out/module.log" 2>&1 ||
    { tail -20 "$out/module.log" >&2; exit 1; }
cp "$out"/kvm-tree/source/arch/x86/kvm/kvm{,-intel,-amd}.ko "$out/module/kvm_hvfeat.ko" "$out/"
cp "$out/kvm-tree/source/arch/x86/kvm/Module.symvers" "$out/"
echo "$key" > "$out/key"
