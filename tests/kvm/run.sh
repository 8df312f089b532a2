#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Tests the KVM patches and kvm_hvfeat: Debian's kernel in a machine with emulated AMD SVM, once with the
# patched kvm modules, once with the stock ones. TAP; nothing is left running.
#   tests/kvm/run.sh [patched|stock|avic...]
set -u
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
. "$top/tests/lab/lib/common.sh"
. "$top/tests/tap.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=$LAB_CACHE/kvm-modules
mkdir -p "$cache"

need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
tree=$(lab_kernel_tree linux-image-amd64) || exit 1
release=$(basename "$tree"/lib/modules/*)

# initrd NAME LIST-OF-MODULES FILE=TARGET...: standard input is what it runs.
initrd() {
    local root=$work/$1 list=$2 module file tool
    shift 2
    mkdir -p "$root"/{bin,dev,proc,sys,tmp,lib/modules}
    cp "$(command -v busybox)" "$root/bin/busybox"
    for tool in sh mount insmod rmmod dmesg grep cut cat tail head sed echo poweroff sleep uname ls; do
        ln -s busybox "$root/bin/$tool"
    done
    install -m 755 "$here/init" "$root/init"
    cat > "$root/tests"
    echo "$list" > "$root/modules"
    for file; do
        cp "${file%%=*}" "$root/${file#*=}" || exit 1
    done
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) > "$root.initrd"
}

# The machine's time is its instructions, 4 ns each (icount): what else this machine does changes nothing.
# boot NAME SECONDS: runs the machine; its console is in $work/NAME.log, its TAP goes on as ours.
boot() {
    local name=$1 line planned=
    timeout -k 5 "$2" qemu-system-x86_64 -accel tcg,thread=single -icount shift=2,sleep=off -machine q35 -cpu EPYC -smp 1 -m 512 \
        -nodefaults -display none -no-reboot -kernel "$tree"/boot/vmlinuz-* -initrd "$work/$name.initrd" \
        -append "console=ttyS0 panic=-1 loglevel=4 mitigations=off" -serial "file:$work/$name.log" < /dev/null 2> "$work/$name.qemu"
    while IFS= read -r line; do
        line=${line%$'\r'}
        case $line in
        "ok "* | "not ok "*)
            count=$((count + 1))
            [ "${line#not}" = "$line" ] || failed=$((failed + 1))
            echo "${line%%ok*}ok $count - $name: ${line#* - }"
            ;;
        "# "*) echo "$line" ;;
        "Bail out!"*) echo "# $line" ;;
        1..*) planned=yes ;;
        esac
    done < "$work/$name.log"
    [ -n "$planned" ] || { cat "$work/$name.qemu" && tail -20 "$work/$name.log"; } | sed 's/^/# /'
    check "$name: ran to its end" test -n "$planned"
}

want() {
    [ ${#wanted[@]} = 0 ] || [[ " ${wanted[*]} " = *" $1 "* ]]
}

wanted=("$@")
stock=$tree/lib/modules/$release/kernel
base=("$stock/virt/lib/irqbypass.ko=lib/modules/irqbypass.ko"
    "$stock/drivers/crypto/ccp/ccp.ko=lib/modules/ccp.ko"
    "$cache/kvm_hvfeat.ko=lib/modules/kvm_hvfeat.ko" "$cache/kvmtest=bin/kvmtest")
list="irqbypass
ccp
kvm force_emulation_prefix=1
kvm-amd
kvm_hvfeat"

check "modules build for $release" "$top/src/kvm/build.sh" "$cache" "$release" || { finish; exit 1; }
check "the test program builds" gcc -O1 -g -Wall -Wextra -Werror -static -o "$cache/kvmtest" \
    -I"$top/include" "$here"/payload.S "$here"/*.c -lpthread || { finish; exit 1; }
check "kvm and kvm_hvfeat share one interface" \
    cmp "$cache/kvm-tree/source/arch/x86/kvm/hvf_ops.h" "$top/src/kvm/module/hvf_ops.h"
exports() {
    diff <(awk '$3 ~ /arch\/x86\/kvm\// { print $1, $2 }' "/usr/src/linux-headers-$release/Module.symvers" | sort) \
        <(awk '{ print $1, $2 }' "$cache/Module.symvers" | sort) | grep '^<'
    [ "${PIPESTATUS[1]}" = 1 ]
}
check "all exports of the stock kvm are there with their CRCs" exports

# FILE_PATH_CHANGES: the kernel's MAINTAINERS is not ours.
checkpatch() {
    tar -xf "/usr/src/linux-source-6.1.tar.xz" -C "$work" --strip-components=2 \
        linux-source-6.1/scripts/{checkpatch.pl,spelling.txt,const_structs.checkpatch} || return 1
    ! { for file in "$top"/src/kvm/patches/6.1/*.patch; do
        perl "$work/checkpatch.pl" --no-tree --terse --ignore FILE_PATH_CHANGES "$file"
    done
    perl "$work/checkpatch.pl" --no-tree --terse --max-line-length=100 -f "$top"/src/kvm/module/*.[ch]
    } | grep -E 'WARNING|ERROR|CHECK'
}
check "checkpatch finds nothing" checkpatch

if want patched; then
    initrd patched "$list" "${base[@]}" "$cache/kvm.ko=lib/modules/kvm.ko" \
        "$cache/kvm-amd.ko=lib/modules/kvm-amd.ko" <<< "kvmtest patched"
    boot patched 120
fi
if want stock; then
    initrd stock "$list" "${base[@]}" "$stock/arch/x86/kvm/kvm.ko=lib/modules/kvm.ko" \
        "$stock/arch/x86/kvm/kvm-amd.ko=lib/modules/kvm-amd.ko" <<< "kvmtest stock"
    boot stock 60
fi
# AVIC on a CPU that has none: what the switch does, not AVIC.
forced=${list/kvm-amd/kvm-amd avic=1 force_avic=1}
if want avic; then
    initrd avic "$forced" "${base[@]}" "$cache/kvm.ko=lib/modules/kvm.ko" \
        "$cache/kvm-amd.ko=lib/modules/kvm-amd.ko" <<< "kvmtest avic"
    boot avic 60
    initrd avic-stock "$forced" "${base[@]}" "$stock/arch/x86/kvm/kvm.ko=lib/modules/kvm.ko" \
        "$stock/arch/x86/kvm/kvm-amd.ko=lib/modules/kvm-amd.ko" <<< "kvmtest avic-stock"
    boot avic-stock 60
fi
finish
