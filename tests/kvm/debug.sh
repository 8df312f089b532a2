# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# The patched modules in a kernel that looks for its own mistakes, built from Debian's source: nothing may be in
# its log. Sourced by run.sh, uses its functions.

# debug_kernel NAME CONFIG...: builds it unless that is done for this version and configuration.
debug_kernel() {
    local debug=$LAB_CACHE/kvm-$1 version key
    shift
    version=$(awk '$1 == "version" { print $2 }' "$top/src/kvm/patches/6.1/source")
    key=$(cat "$@" <(echo "$version") | sha256sum)
    [ "$(cat "$debug/key" 2> /dev/null)" != "$key" ] || return 0
    need flex flex
    need bison bison
    rm -rf "$debug"
    mkdir -p "$debug/linux"
    tar -xf /usr/src/linux-source-6.1.tar.xz -C "$debug/linux" --strip-components=1 || return 1
    # The package's version is what prepare.sh looks at.
    make=(nice make -s -j"$(nproc)" -C "$debug/linux" CC=gcc-12 HOSTCC=gcc-12 LOCALVERSION= DISTRIBUTION_OFFICIAL_BUILD=1
        DISTRIBUTOR=Debian DISTRIBUTION_VERSION="$version")
    { "${make[@]}" tinyconfig && (cd "$debug/linux" && scripts/kconfig/merge_config.sh -m .config "$@") &&
        "${make[@]}" olddefconfig && "${make[@]}" bzImage modules; } > "$debug/log" 2>&1 ||
        { tail -5 "$debug/log" && return 1; }
    echo "$key" > "$debug/key"
}

# All that was asked for is in it: an option whose dependencies are not met is dropped in silence.
debug_config() {
    local linux=$LAB_CACHE/kvm-$1/linux
    shift
    ! grep -h '^CONFIG_' "$@" | grep -vxFf "$linux/.config"
}

debug_modules() {
    local debug=$LAB_CACHE/kvm-$1
    KVM_HEADERS=$debug/linux "$top/src/kvm/build.sh" "$debug/modules" "$(cat "$debug/linux/include/config/kernel.release")"
}

# debug_ready NAME CONFIG...
debug_ready() {
    check "$1: the kernel that looks for mistakes builds (minutes)" debug_kernel "$@" || return 1
    check "$1: it has all that it should look with" debug_config "$@"
    check "$1: modules build for it" debug_modules "$1"
}

# debug_initrd KERNEL NAME LIST-OF-MODULES WHAT: what $work/NAME.initrd runs in it
debug_initrd() {
    local debug=$LAB_CACHE/kvm-$1
    initrd "$2" "${3/ccp$'\n'/}" "$debug/linux/virt/lib/irqbypass.ko=lib/modules/irqbypass.ko" \
        "$debug"/modules/kvm.ko=lib/modules/kvm.ko "$debug"/modules/kvm-amd.ko=lib/modules/kvm-amd.ko \
        "$debug"/modules/kvm-intel.ko=lib/modules/kvm-intel.ko \
        "$debug"/modules/kvm_hvfeat.ko=lib/modules/kvm_hvfeat.ko "$work/kvmtest=bin/kvmtest" << Y
kvmtest $4
echo "# \$(grep -w debug_locks /proc/lockdep_stats)"
Y
}

debug_clean() {
    local complaint='WARNING|BUG|Oops|KASAN:|INFO: |Call Trace|general protection|unchecked MSR|detected stall|ODEBUG'
    ! grep -qaE "$complaint" "$work/$1.log" || {
        grep -aE -A30 "$complaint" "$work/$1.log" | head -80
        return 1
    }
}

# debug_log NAME: lockdep must not have found anything (then it is off), and the whole log, from the boot on, holds no
# complaint.
debug_log() {
    check "$1: lockdep was there to the end" grep -q '^# *debug_locks: *1' "$work/$1.log"
    check "$1: nothing in the kernel's log" debug_clean "$1"
}

# Random guests for so many seconds of ours, a boot for each seed. QEMU 7.2 gives up where its nested guest is in
# virtual-8086 mode with a TR that is none, and is interrupted ("invalid tss"): a CPU would shut the guest down. That
# ends a boot, but the kernel under test has not failed: its log must be as clean, and the next boot goes on.
debug_hostile() {
    local begin=$SECONDS seed=0 boots=0 ended=0 name
    local want=${HOSTILE_OURS:-300}
    while [ $((SECONDS - begin)) -lt "$want" ] && [ $seed -lt 60 ]; do
        seed=$((seed + 1))
        name=debug-hostile-$seed
        debug_initrd debug $name "$list" "hostile ${HOSTILE_SECONDS:-20} $seed"
        loglevel=8 vmlinuz=$LAB_CACHE/kvm-debug/linux/arch/x86/boot/bzImage machine $name "${HOSTILE_LIMIT:-900}"
        boots=$((boots + 1))
        if grep -q 'fatal: invalid tss' "$work/$name.qemu"; then
            ended=$((ended + 1))
            echo "# $name: QEMU gave up: $(grep -o 'fatal: .*' "$work/$name.qemu")"
            check "$name: it ran, and nothing in the kernel's log until then" eval \
                "grep -q KernelAddressSanitizer $work/$name.log && debug_clean $name"
        else
            report $name
            debug_log $name
        fi
        rm -rf "${work:?}/$name" "$work/$name.initrd"
    done
    echo "# figure hostile guests under KASAN and lockdep: $((SECONDS - begin)) s in $boots boots, asked 300; QEMU ended $ended of them"
    check "hostile guests for $want s, and not all boots ended early" test $((SECONDS - begin)) -ge "$want" -a $ended -lt $boots
}

if want debug; then
    debug_ready debug "$here/debug.config" "$here/kasan.config" || { finish; exit 1; }
    debug_initrd debug debug-patched "$list" patched
    # An instruction takes 1 ns here, not 4 (costs that it prints are a quarter): all takes some 15 times as many, and a
    # quantum of 1 ms must still be that.
    shift=0 loglevel=8 vmlinuz=$LAB_CACHE/kvm-debug/linux/arch/x86/boot/bzImage boot debug-patched "${DEBUG_LIMIT:-900}"
    check "debug-patched: KASAN was there" grep -q 'KernelAddressSanitizer initialized' "$work/debug-patched.log"
    debug_log debug-patched
    debug_hostile
fi
# Without KASAN: see kasan.config. Without XSAVE and PML, of which Bochs' own make a stock kernel complain: of sizes that do
# not add up, and of logged addresses that are not those of pages.
if want debug-vmx; then
    debug_ready debug-vmx "$here/debug.config" || { finish; exit 1; }
    for what in eptp "eptp-hostile ${HOSTILE_SECONDS:-100}"; do
        name=debug-${what%% *}
        debug_initrd debug-vmx "$name" "${vmx/kvm-intel/kvm-intel pml=0}" "$what"
        append=noxsave loglevel=8 vmlinuz=$LAB_CACHE/kvm-debug-vmx/linux/arch/x86/boot/bzImage \
            boot_vmx "$name" "${VMX_SECONDS:-1800}"
        debug_log "$name"
    done
fi
