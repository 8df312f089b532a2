#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Lays out the DKMS packages libvirt-colo-kvm (patched kvm) and libvirt-colo-kvm-hvfeat below a folder.
#   dkms.sh [FOLDER]        default: /usr/src; then: dkms install libvirt-colo-kvm/VERSION, and the other
set -eu
here=$(cd "$(dirname "$0")" && pwd)
to=${1:-/usr/src}
version=$(sed -n 's/^#define HVFEAT_VERSION\t"\(.*\)"/\1/p' "$here/module/private.h")

kvm=$to/libvirt-colo-kvm-$version
rm -rf "$kvm"
mkdir -p "$kvm"
cp -r "$here/prepare.sh" "$here/patches" "$kvm/"
sed "s/@VERSION@/$version/" "$here/dkms/kvm.conf" > "$kvm/dkms.conf"

hvfeat=$to/libvirt-colo-kvm-hvfeat-$version
rm -rf "$hvfeat"
mkdir -p "$hvfeat/include/libvirt-colo"
cp "$here"/module/* "$hvfeat/"
cp "$here/../../include/libvirt-colo/kvm_hvfeat.h" "$hvfeat/include/libvirt-colo/"
sed "s/@VERSION@/$version/" "$here/dkms/kvm-hvfeat.conf" > "$hvfeat/dkms.conf"
echo "$version"
