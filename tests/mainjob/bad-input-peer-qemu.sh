#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A peer with another QEMU, or without the guest's machine type: prepare tells it, protect is refused
# with what each host has and the remedy, and nothing changed. The peer's libvirtd believes its cache of
# the emulator's capabilities, in which the test writes another QEMU down.
. "$(dirname "$0")/lib.sh"
need_unprotected
qemu=$(qemu_pid $P)
CACHE=/var/cache/libvirt/qemu/capabilities
here=$(virsh_at $P version | sed -n 's/^Running hypervisor: QEMU //p')
machine=$(virsh_at $P dumpxml ft | sed -n "s/.*machine='\([^']*\)'.*/\1/p")

refused() {
    local out rc
    out=$(colo $P colo-protect ft --pair $PAIR --wait 2>&1)
    rc=$?
    is $rc 1 && grep -qE "error: .*$1" <<< "$out" || { echo "exit $rc: $out"; return 1; }
}
# tells PATTERN: colo-prepare succeeds and lists that as not done.
tells() {
    local out
    out=$(colo $P colo-prepare ft --pair $PAIR 2>&1) && grep -E "$1" <<< "$out" | grep -q "no *$" || { echo "$out"; return 1; }
}
untouched() { wait_for 20 plain_guest $P && is "$(qemu_pid $P)" "$qemu" && no_copy $S; }
# pretend SED: changes what the peer's libvirtd knows of its QEMU.
pretend() {
    on $S sh -c 'cp -a "$1" "$1.kept" && sed -i "$2" "$1"/*.xml' sh $CACHE "$1" && daemon $S restart libvirtd > /dev/null &&
        wait_for 30 virsh_at $S version
}
as_it_is() {
    on $S sh -c 'rm -r "$1" && mv "$1.kept" "$1"' sh $CACHE && daemon $S restart libvirtd > /dev/null &&
        wait_for 30 virsh_at $S version
}

check "the peer's libvirtd says QEMU 6.2.0" eval \
    'pretend "s#<version>.*#<version>6002000</version>#" && grep -q "QEMU 6.2.0" <<< "$(virsh_at $S version)"'
differ="domain 'ft': QEMU: host $P has $here, host $S has 6.2.0; install the same version of QEMU on both"
check "another version: prepare tells both" tells "$differ"
check "another version: protect is refused, names both and the remedy" refused "$differ"
check "and nothing changed" untouched
as_it_is

check "the peer's libvirtd knows no $machine" eval \
    'pretend "/<machine .*name=.$machine./d" && ! grep -q "$machine" <<< "$(virsh_at $S capabilities)"'
differ="domain 'ft': machine type $machine: host $S does not have it; install the same QEMU on both hosts"
check "no such machine: prepare tells it" tells "$differ"
check "no such machine: protect is refused" refused "$differ"
check "and nothing changed" untouched
as_it_is

check "with its own QEMU again, it is protected" colo $P colo-protect ft --pair $PAIR --wait
check "on both hosts" wait_for 20 protected
finish
