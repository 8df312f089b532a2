#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Makes a tree of KVM with our patches that builds against a kernel's headers.
#   prepare.sh KERNEL-RELEASE FOLDER [--stock]
# It refuses any source but the one that the patches were made for, and any kernel that was not built from it:
# a patch that goes on with an offset may be wrong.
set -eu

fail() {
    printf 'prepare: error: %s\n  found: %s\n  remedy: %s\n' "$1" "$2" "$3" >&2
    exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
release=$1
folder=$2
stock=${3:-}
series=$(echo "$release" | cut -d. -f1,2)
patches=$here/patches/$series
tarball=/usr/src/linux-source-$series.tar.xz
headers=${KVM_HEADERS:-/lib/modules/$release/build}

[ -e "$patches/series" ] || fail "no patches for kernel $release" \
    "there are: $(cd "$here/patches" && echo *)" "run one of these kernels"
incomplete=$(sed -n 's/^incomplete //p' "$patches/source")
[ -z "$incomplete" ] || fail "the patches for kernel $release are not complete" "$incomplete" \
    "run a kernel of another series, or finish them: src/kvm/README.md"
version=$(awk '$1 == "version" { print $2 }' "$patches/source")
wanted=$(awk '$1 == "sha256" { print $2 }' "$patches/source")
[ -e "$headers/Makefile" ] || headers=/usr/src/linux-headers-$release
built=$(sed -n 's/.*LINUX_PACKAGE_ID " Debian \(.*\)"/\1/p' "$headers"/include/generated/package.h 2> /dev/null ||
    true)
[ -n "$built" ] || built=$(dpkg-query -W -f='${source:Version}' "linux-headers-$release" 2> /dev/null || true)
[ "$built" = "$version" ] || fail "kernel $release is not of the version that the patches are for" \
    "${built:-no headers of it}" "install linux-image, linux-headers-$release and linux-source-$series $version"
[ -e "$tarball" ] || fail "the source of the kernel is missing" "no $tarball" \
    "apt-get install linux-source-$series=$version"
command -v quilt > /dev/null || fail "quilt is missing" "not in $PATH" "apt-get install quilt"

rm -rf "$folder"
mkdir -p "$folder/source"
tar -xf "$tarball" -C "$folder/source" --strip-components=1 \
    "linux-source-$series"/{arch/x86/kvm,virt/kvm,Documentation/virt/kvm,tools/testing/selftests/kvm}
found=$(cd "$folder/source" && find arch/x86/kvm virt/kvm -type f | LC_ALL=C sort | xargs sha256sum |
    sha256sum | cut -d' ' -f1)
[ "$found" = "$wanted" ] || fail "$tarball is not the source that the patches are for" \
    "sha256 $found of arch/x86/kvm and virt/kvm" "apt-get install --reinstall linux-source-$series=$version"
if [ "$stock" != --stock ]; then
    (cd "$folder/source" && QUILT_PATCHES=$patches quilt --quiltrc=- push -a --fuzz=0) \
        > "$folder/quilt.log" 2>&1 || fail "a patch does not apply" "$(tail -3 "$folder/quilt.log")" \
        "see $folder/quilt.log"
    ! grep -qE 'fuzz|offset' "$folder/quilt.log" || fail "a patch does not apply exactly" \
        "$(grep -E 'fuzz|offset' "$folder/quilt.log" | head -3)" "see $folder/quilt.log"
fi

# Out of the kernel's tree: the two places of the Makefile that name it.
makefile=$folder/source/arch/x86/kvm/Makefile
sed -i -e 's#-I $(srctree)/arch/x86/kvm#-I $(src) -I $(src)/../../../virt/kvm#' \
    -e 's#include $(srctree)/virt/kvm/Makefile.kvm#include $(src)/../../../virt/kvm/Makefile.kvm#' "$makefile"
[ "$(grep -c 'src)/../../../virt/kvm' "$makefile")" = 2 ] ||
    fail "the Makefile of KVM is not as expected" "$makefile" "report this as a bug"
