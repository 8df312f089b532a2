# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# The patched modules in a kernel that looks for its own mistakes (debug.config), built from Debian's source:
# nothing may be in its log. Sourced by run.sh, uses its functions.

debug=$LAB_CACHE/kvm-debug
linux=$debug/linux

# Builds the kernel unless that is done for this version and configuration.
debug_kernel() {
    local version key
    version=$(awk '$1 == "version" { print $2 }' "$top/src/kvm/patches/6.1/source")
    key=$(cat "$here/debug.config" <(echo "$version") | sha256sum)
    [ "$(cat "$debug/key" 2> /dev/null)" != "$key" ] || return 0
    need flex flex
    need bison bison
    rm -rf "$debug"
    mkdir -p "$linux"
    tar -xf /usr/src/linux-source-6.1.tar.xz -C "$linux" --strip-components=1 || return 1
    # The package's version is what prepare.sh looks at.
    set -- nice make -s -j"$(nproc)" -C "$linux" CC=gcc-12 HOSTCC=gcc-12 LOCALVERSION= DISTRIBUTION_OFFICIAL_BUILD=1 \
        DISTRIBUTOR=Debian DISTRIBUTION_VERSION="$version"
    { "$@" tinyconfig && (cd "$linux" && scripts/kconfig/merge_config.sh -m .config "$here/debug.config") &&
        "$@" olddefconfig && "$@" bzImage modules; } > "$debug/log" 2>&1 || { tail -5 "$debug/log" && return 1; }
    echo "$key" > "$debug/key"
}

# All that was asked for is in it: an option whose dependencies are not met is dropped in silence.
debug_config() {
    ! grep '^CONFIG_' "$here/debug.config" | grep -vxFf "$linux/.config"
}

debug_modules() {
    KVM_HEADERS=$linux "$top/src/kvm/build.sh" "$debug/modules" "$(cat "$linux/include/config/kernel.release")"
}

# debug_boot NAME SECONDS WHAT: WHAT must end, lockdep must not have found anything (then it is off), and
# the whole log, from the boot on, holds no complaint.
debug_boot() {
    local name=$1 vmlinuz=$linux/arch/x86/boot/bzImage loglevel=8
    initrd "$name" "${list/ccp$'\n'/}" "$linux/virt/lib/irqbypass.ko=lib/modules/irqbypass.ko" \
        "$debug"/modules/kvm.ko=lib/modules/kvm.ko "$debug"/modules/kvm-amd.ko=lib/modules/kvm-amd.ko \
        "$debug"/modules/kvm_hvfeat.ko=lib/modules/kvm_hvfeat.ko "$work/kvmtest=bin/kvmtest" << Y
kvmtest $3
echo "# \$(grep -w debug_locks /proc/lockdep_stats)"
Y
    boot "$name" "$2"
    check "$name: KASAN was there" grep -q 'KernelAddressSanitizer initialized' "$work/$name.log"
    check "$name: lockdep was there to the end" grep -q '^# *debug_locks: *1' "$work/$name.log"
    check "$name: nothing in the kernel's log" debug_clean "$name"
}

debug_clean() {
    local complaint='WARNING|BUG|Oops|KASAN:|INFO: |Call Trace|general protection|unchecked MSR|detected stall|ODEBUG'
    ! grep -qaE "$complaint" "$work/$1.log" || {
        grep -aE -A30 "$complaint" "$work/$1.log" | head -80
        return 1
    }
}

check "the kernel that looks for mistakes builds (minutes)" debug_kernel || { finish; exit 1; }
check "it has all that it should look with" debug_config
check "modules build for it" debug_modules || { finish; exit 1; }
# An instruction takes 1 ns here, not 4 (costs that it prints are a quarter): all takes some 15 times as many, and a
# quantum of 1 ms must still be that.
shift=0 debug_boot debug-patched "${DEBUG_LIMIT:-900}" patched
debug_boot debug-hostile "${HOSTILE_LIMIT:-900}" "hostile ${HOSTILE_SECONDS:-2}"
