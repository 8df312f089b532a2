#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What cannot be protected is refused with the reason and the remedy; the guest goes on as it was.
. "$(dirname "$0")/lib.sh"
need_unprotected
load_start
qemu=$(qemu_pid $P)

# refused PATTERN ARGUMENT...: colo-protect --wait ends with 1 and that error.
refused() {
    local pattern=$1 out rc
    shift
    out=$(colo $P colo-protect "$@" --wait 2>&1)
    rc=$?
    is $rc 1 && grep -qE "error: .*$pattern" <<< "$out" || { echo "exit $rc: $out"; return 1; }
}
# As before: the same QEMU without anything of ours, no copy, and the guest answers.
untouched() {
    wait_for 20 unprotected && is "$(qemu_pid $P)" "$qemu" && answers_go_on 3
}
define_other() { # the guest's definition under another name, changed by sed
    virsh_at $P dumpxml --inactive ft | sed -e 's/<name>ft</<name>other</; /<uuid>/d' -e "$1" \
        > "$TMP/other.xml"
    "$LAB" put $P "$TMP/other.xml" /run/lab/other.xml && virsh_at $P define /run/lab/other.xml
}

check "no such pair" refused "nopair" ft --pair nopair
check "unknown domain" refused "nosuch" nosuch --pair $PAIR
quiet define_other 's/x/x/'
check "a domain that is not running" refused "'other' is not running" other --pair $PAIR
virsh_at $P undefine other > /dev/null

on $S mv /var/lib/libvirt/images/ft.raw /var/lib/libvirt/images/kept.raw
check "no copy of the disk on the peer: names it, and colo-prepare" \
    refused "vda.*$S.*/var/lib/libvirt/images/ft.raw.*colo-prepare" ft --pair $PAIR
check "and nothing changed" untouched
on $S truncate -s 32M /var/lib/libvirt/images/ft.raw
check "a copy of another size: names both sizes" refused "vda.*67108864.*33554432" ft --pair $PAIR
check "and nothing changed" untouched
on $S mv /var/lib/libvirt/images/kept.raw /var/lib/libvirt/images/ft.raw

on $S sh -c 'ip link set br0 down && ip link set br0 name br9'
check "the guest's bridge is missing on the peer: names both" refused "'br0' does not exist on $S" ft --pair $PAIR
check "and nothing changed" untouched
on $S sh -c 'ip link set br9 name br0 && ip link set br0 up'

configure $S checkpoint_max_overlay_bytes '"900000G"'
daemon $S restart virtcolod
check "not enough space for overlays on the peer" refused "MiB free" ft --pair $PAIR
check "and nothing changed" untouched
configure $S checkpoint_max_overlay_bytes '"1G"'
daemon $S restart virtcolod

if [ "$(accel)" = tcg ]; then
    configure $P allow_emulation false
    daemon $P restart virtcolod
    check "emulated, without allow_emulation" refused "allow_emulation" ft --pair $PAIR
    check "and nothing changed" untouched
    configure $P allow_emulation true
    daemon $P restart virtcolod
else
    skip "emulated, without allow_emulation" "hardware: the guest runs on KVM"
fi

# The register cannot be reached: nothing begins.
"$LAB" cut witness
check "arbiter down" refused "." ft --pair $PAIR
check "and nothing changed" untouched
"$LAB" heal witness

wait_for 30 colo $P colo-pair-list > /dev/null
check "with all of it right again, it is protected" colo $P colo-protect ft --pair $PAIR --wait
check "on both hosts" wait_for 20 protected
check_load "the sessions lived through all refusals"
finish
