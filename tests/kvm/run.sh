#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Tests the KVM patches and kvm_hvfeat: Debian's kernel in a machine with emulated AMD SVM, once with the
# patched kvm modules, once with the stock ones. TAP; nothing is left running.
#   tests/kvm/run.sh [refuse|patched|hostile|stock|avic|vmx|selftests|debug|debug-vmx...]     without a name: the first five
# KVM_SERIES=6.12: the other series of patches, with Debian's kernel that it is for.
set -u
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
. "$top/tests/lab/lib/common.sh"
. "$top/tests/tap.sh"
work=$(mktemp -d)
machine=
trap '[ -z "$machine" ] || kill "$machine" 2> /dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
series=${KVM_SERIES:-6.1}
cache=$LAB_CACHE/kvm-modules
meta=linux-image-amd64
if [ "$series" != 6.1 ]; then
    cache+=-$series
    meta=linux-image-$series-amd64
fi
mkdir -p "$cache"

need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
tree=$(lab_kernel_tree "$meta") || exit 1
release=$(basename "$tree"/lib/modules/*)

# initrd NAME LIST-OF-MODULES FILE=TARGET...: standard input is what it runs.
initrd() {
    local root=$work/$1 list=$2 module file tool
    shift 2
    mkdir -p "$root"/{bin,dev,proc,sys,tmp,lib/modules}
    cp "$(command -v busybox)" "$root/bin/busybox"
    for tool in sh mount insmod rmmod dmesg grep cut cat tail head sed echo poweroff sleep uname ls tr timeout; do
        ln -s busybox "$root/bin/$tool"
    done
    install -m 755 "$here/init" "$root/init"
    cat > "$root/tests"
    echo "$list" > "$root/modules"
    for file; do
        cp "${file%%=*}" "$root/${file#*=}" || exit 1
    done
    # Debugging symbols are most of it, and an emulator reads and unpacks them for half a minute.
    strip --strip-debug "$root"/lib/modules/*.ko "$root/bin/kvmtest" || exit 1
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) > "$root.initrd"
}

# The machine's time is its instructions, 4 ns each (icount): what else this machine does changes nothing.
# machine NAME SECONDS: its console is in $work/NAME.log.
machine() {
    local name=$1
    timeout -k 5 "$2" qemu-system-x86_64 -accel tcg,thread=single -icount "shift=${shift:-2},sleep=off" -machine q35 -cpu EPYC -smp 1 -m 1024 \
        -nodefaults -display none -no-reboot -kernel "${vmlinuz:-$(echo "$tree"/boot/vmlinuz-*)}" -initrd "$work/$name.initrd" \
        -append "console=ttyS0 panic=-1 loglevel=${loglevel:-4} mitigations=off" -serial "file:$work/$name.log" < /dev/null 2> "$work/$name.qemu" &
    machine=$!
    wait $machine
    machine=
}

# boot NAME SECONDS: runs the machine, and its TAP goes on as ours.
boot() {
    machine "$@"
    report "$1"
}

# boot_vmx NAME SECONDS: the same on an emulated Intel CPU with VMX, in Bochs.
boot_vmx() {
    local name=$1 iso=$work/$1.iso.d
    mkdir -p "$iso/isolinux"
    cp "${vmlinuz:-$(echo "$tree"/boot/vmlinuz-*)}" "$iso/isolinux/vmlinuz"
    cp "$work/$name.initrd" "$iso/isolinux/initrd"
    cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$iso/isolinux/"
    cat > "$iso/isolinux/isolinux.cfg" <<- X
	DEFAULT linux
	PROMPT 0
	TIMEOUT 1
	LABEL linux
	 KERNEL vmlinuz
	 APPEND initrd=initrd console=ttyS0,115200 panic=-1 loglevel=${loglevel:-4} mitigations=off tsc=reliable tsc_early_khz=100000 ${append:-}
	X
    genisoimage -quiet -o "$work/$name.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot \
        -boot-load-size 4 -boot-info-table "$iso"
    # ips as tsc_early_khz: or KVM does without the VMX-preemption timer.
    cat > "$work/$name.bochsrc" <<- X
	config_interface: textconfig
	display_library: rfb, options="timeout=0"
	romimage: file=/usr/share/bochs/BIOS-bochs-latest
	vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
	megs: 256
	cpu: model=corei7_skylake_x, count=1, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
	clock: sync=none, time0=1700000000
	ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
	ata0-master: type=cdrom, path=$work/$name.iso, status=inserted
	boot: cdrom
	com1: enabled=1, mode=file, dev=$work/$name.log
	log: $work/$name.bochs
	panic: action=fatal
	error: action=report
	info: action=ignore
	debug: action=ignore
	speaker: enabled=0
	sound: waveoutdrv=dummy, waveout=none, waveindrv=dummy, midioutdrv=dummy
	X
    echo c > "$work/$name.commands"
    touch "$work/$name.log"
    timeout -k 5 "$2" bochs -f "$work/$name.bochsrc" -q -rc "$work/$name.commands" \
        < /dev/null > "$work/$name.qemu" 2>&1 &
    machine=$!
    # Not each Bochs ends with the machine.
    while kill -0 $machine 2> /dev/null && ! grep -q '^# done after' "$work/$name.log"; do
        sleep 1
    done
    kill $machine 2> /dev/null
    wait $machine 2> /dev/null
    machine=
    report "$name"
}

# report NAME: the machine's TAP goes on as ours.
report() {
    local name=$1 line planned=
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
    { [ ${#wanted[@]} = 0 ] && [[ $1 != @(vmx|selftests|debug|debug-vmx) ]]; } || [[ " ${wanted[*]} " = *" $1 "* ]]
}

wanted=("$@")
stock=$tree/lib/modules/$release/kernel
# Newer kernels have them compressed; the machine's insmod takes them as they are built.
for module in virt/lib/irqbypass drivers/crypto/ccp/ccp arch/x86/kvm/{kvm,kvm-amd,kvm-intel}; do
    [ -e "$stock/$module.ko" ] || xz -dk "$stock/$module.ko.xz" || exit 1
done
base=("$stock/virt/lib/irqbypass.ko=lib/modules/irqbypass.ko"
    "$stock/drivers/crypto/ccp/ccp.ko=lib/modules/ccp.ko"
    "$cache/kvm_hvfeat.ko=lib/modules/kvm_hvfeat.ko" "$work/kvmtest=bin/kvmtest")
list="irqbypass
ccp
kvm force_emulation_prefix=1
kvm-amd
kvm_hvfeat"

check "modules build for $release" "$top/src/kvm/build.sh" "$cache" "$release" || { finish; exit 1; }
check "the test program builds" gcc -O1 -g -Wall -Wextra -Werror -static -o "$work/kvmtest" \
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
    tar -xf "/usr/src/linux-source-$series.tar.xz" -C "$work" --strip-components=2 \
        "linux-source-$series"/scripts/{checkpatch.pl,spelling.txt,const_structs.checkpatch} || return 1
    ! { for file in "$top/src/kvm/patches/$series"/*.patch; do
        perl "$work/checkpatch.pl" --no-tree --terse --ignore FILE_PATH_CHANGES "$file"
    done
    perl "$work/checkpatch.pl" --no-tree --terse --max-line-length=100 -f "$top"/src/kvm/module/*.[ch]
    } | grep -E 'WARNING|ERROR|CHECK'
}
check "checkpatch finds nothing" checkpatch

if want refuse; then
    . "$here/refuse.sh"
fi
if want patched; then
    initrd patched "$list" "${base[@]}" "$cache/kvm.ko=lib/modules/kvm.ko" \
        "$cache/kvm-amd.ko=lib/modules/kvm-amd.ko" <<< "kvmtest patched"
    boot patched 600
fi
# A second of the machine's time takes several of ours.
if want hostile; then
    initrd hostile "$list" "${base[@]}" "$cache/kvm.ko=lib/modules/kvm.ko" \
        "$cache/kvm-amd.ko=lib/modules/kvm-amd.ko" <<< "kvmtest hostile ${HOSTILE_SECONDS:-2}"
    boot hostile "${HOSTILE_LIMIT:-600}"
fi
if want stock; then
    initrd stock "$list" "${base[@]}" "$stock/arch/x86/kvm/kvm.ko=lib/modules/kvm.ko" \
        "$stock/arch/x86/kvm/kvm-amd.ko=lib/modules/kvm-amd.ko" <<< "kvmtest stock"
    boot stock 400
fi
# cost NAME: instructions of an exit with all off
cost() {
    sed -n 's/^# cost of an exit, all off: \([0-9.]*\) .*/\1/p' "$work/$1.log"
}
# check_cost PATCHED STOCK
check_cost() {
    # The NOP of a static branch, and what the compiler arranged otherwise.
    cheap() {
        awk -v patched="$(cost "$1")" -v stock="$(cost "$2")" \
            'BEGIN { exit !(stock > 100 && patched > 100 && patched - stock <= 10) }'
    }
    check "off, an exit costs what it costs with the stock kvm: $(cost "$1") and $(cost "$2") instructions" cheap "$@"
}
if want patched && want stock; then
    check_cost patched stock
fi
# AVIC on a CPU that has none: what the switch does, not AVIC.
forced=${list/kvm-amd/kvm-amd avic=1 force_avic=1}
if want avic; then
    initrd avic "$forced" "${base[@]}" "$cache/kvm.ko=lib/modules/kvm.ko" \
        "$cache/kvm-amd.ko=lib/modules/kvm-amd.ko" <<< "kvmtest avic"
    boot avic 400
    initrd avic-stock "$forced" "${base[@]}" "$stock/arch/x86/kvm/kvm.ko=lib/modules/kvm.ko" \
        "$stock/arch/x86/kvm/kvm-amd.ko=lib/modules/kvm-amd.ko" <<< "kvmtest avic-stock"
    boot avic-stock 400
fi
if want selftests; then
    . "$here/selftests.sh"
fi
# Intel: needs Bochs, and minutes.
vmx=${list/ccp$'\n'/}
vmx=${vmx/kvm-amd/kvm-intel}
if want vmx; then
    initrd vmx "$vmx" "${base[@]}" "$cache/kvm.ko=lib/modules/kvm.ko" \
        "$cache/kvm-intel.ko=lib/modules/kvm-intel.ko" <<< "kvmtest ${VMX_TESTS:-vmx} ${HOSTILE_SECONDS:-2}"
    boot_vmx vmx "${VMX_SECONDS:-900}"
    if [ -z "${VMX_TESTS:-}" ]; then
        initrd vmx-stock "$vmx" "${base[@]}" "$stock/arch/x86/kvm/kvm.ko=lib/modules/kvm.ko" \
            "$stock/arch/x86/kvm/kvm-intel.ko=lib/modules/kvm-intel.ko" <<< "kvmtest vmx-stock"
        boot_vmx vmx-stock "${VMX_SECONDS:-900}"
        check_cost vmx vmx-stock
    fi
fi
if want debug || want debug-vmx; then
    . "$here/debug.sh"
fi
finish
