#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Hardware features of a protected guest on two real KVM hosts with our kernel modules: negotiated,
# refused by name, on in both VMs, locked after protection, and still so after the host is lost.
# The back-end must be kvm. COLO_KVM_MODULES: folder of kvm.ko, kvm-amd.ko and kvm_hvfeat.ko for the
# hosts' kernel; else src/kvm/build.sh makes them in the lab's cache.
if [ "${COLO_LAB_BACKEND:-auto}" != kvm ]; then
    echo "1..0 # SKIP hardware features need the back-end kvm"
    exit 0
fi
. "$(dirname "$0")/lib.sh"
DESC=descriptor-table-exiting QUANTUM=preemption-quantum
need_unprotected
release=$(on $P uname -r)
modules=${COLO_KVM_MODULES:-${COLO_LAB_CACHE:-/var/tmp/libvirt-colo-cache}/kvm-modules}
if [ -z "${COLO_KVM_MODULES:-}" ] && [ -x "$MJ_DIR/../../src/kvm/build.sh" ]; then
    quiet "$MJ_DIR/../../src/kvm/build.sh" "$modules" "$release" || bail "the modules build for $release"
fi
if [ ! -e "$modules/kvm_hvfeat.ko" ]; then
    skip "features of a protected guest" "no modules in $modules: see src/kvm"
    finish
fi

# load HOST: our kvm instead of the distribution's; no guest may run there.
load() {
    on "$1" sh -c 'rmmod kvm_amd kvm; for m in kvm kvm-amd kvm_hvfeat; do insmod "$1/$m.ko" || exit 1; done' sh "$modules"
}
usable() { colo "$1" colo-features --json | python3 -c '
import json, sys
print(" ".join(f["name"] for f in json.load(sys.stdin)["features"] if f["usable"]))'; }
# What colo-stats says of a feature in that host's VM: in_vm HOST FEATURE MEMBER
in_vm() { stat "$1" features "$2" "$3"; }
in_vm_is() { is "$(in_vm "$1" "$2" "$3")" "$4"; }
in_vm_at_least() { at_least "$(in_vm "$1" "$2" "$3")" "$4" "$2 $3 on $1"; }
both() { local host; for host in $P $S; do wait_for 20 in_vm_is $host "$@" || return 1; done; }
# The guest's kernel loads LDTR: what became of that.
ldt() {
    on client timeout 30 bash -c "exec 3<>/dev/tcp/$GUEST_IP/11; echo ldt >&3; read -r -t 25 line <&3; echo \"\$line\""
}
ldt_is() { is "$(ldt)" "ldt $1"; }
error_names() { field "$1" error | grep "$2" | grep -q "$3"; }

check "without the module it says what to install" eval \
    "colo $P colo-features | grep '$DESC' | grep -q 'modprobe kvm_hvfeat'"
check "and nothing is usable" is "$(usable $P)" ""
quiet virsh_at $P destroy ft
check "the modules load" load $P
check "descriptor tables and quantum are usable there" is "$(usable $P)" "$DESC $QUANTUM"
quiet guest_start || bail "the guest starts on them"
check "colo-pair-features names the host that cannot" eval \
    "colo $P colo-pair-features $PAIR | grep '$QUANTUM' | grep -q 'host $S: '"
check "so does the refusal of what is required" eval \
    "not colo $P colo-protect ft --pair $PAIR --wait --features $DESC=require:count,$QUANTUM=require:10000 2>&1 |
     grep \"feature '$DESC': host $S: .*modprobe kvm_hvfeat\""
check "the guest runs on, unprotected" wait_for 20 unprotected
check "the modules load at the peer" load $S
check "out of bounds: refused" eval \
    "not colo $P colo-protect ft --pair $PAIR --wait --features $QUANTUM=require:1 2>&1 | grep 'it takes'"
quiet colo $P colo-protect ft --pair $PAIR --wait --features $QUANTUM=require:10000 || bail "protected with both required"
check "protected with both required" wait_for 60 protected
check "counting is on in both VMs" both $DESC param 1
check "the quantum is on in both VMs" both $QUANTUM param 10000
# Two emulated hosts on one machine: a checkpoint takes a second, so no answers that need one each.
loads=() load_names=()
load_add tick tick --interval 50
check "the guest answers" wait_for 120 answers_go_on 3
check "the guest's kernel may load LDTR" ldt_is ok
check "counted on the primary" wait_for 20 in_vm_at_least $P $DESC lldt 1
check "and on the copy" wait_for 20 in_vm_at_least $S $DESC lldt 1
check "locked while it is protected" colo $P colo-tune ft --features $DESC=require:count+lock
check "in both VMs" both $DESC param 5
check "the guest's kernel gets #GP" ldt_is killed
check "denied on both" eval "wait_for 20 in_vm_at_least $P $DESC denied 1 && wait_for 20 in_vm_at_least $S $DESC denied 1"
counted=$(in_vm $S $DESC lldt)
sleep $((LONG ? 60 : 10))
check "the sessions go on" answers_go_on 5
say "figure features: checkpoints $(stat $S loaded), loaded without their state $(stat $S counters states-missed)"
remember
old=$P new=$S
"$LAB" kill-host $old > /dev/null
check "the primary host is lost: the copy goes on" wait_for 60 state_is $new alone
check "the sessions live" answers_go_on 5
check "the lock is on there" wait_for 20 in_vm_is $new $DESC param 5
check "and so is the quantum" in_vm_is $new $QUANTUM param 10000
check "counters go on from the checkpoint's" in_vm_at_least $new $DESC lldt "$counted"
check "the guest's kernel gets #GP there" ldt_is killed
quiet "$LAB" reboot $old
check "the old host comes back without modules: refused by name" wait_for 60 error_names $new "$DESC" "host $old: "
check "the modules load there" load $old
check "protected again by itself" wait_for 180 protected
check "with the lock in both VMs" eval "find_roles && both $DESC param 5"
check_load "the sessions lived through it"
colo "$P" colo-tune ft --features $DESC=off,$QUANTUM=off > /dev/null
check "switched off in both VMs: LDTR may be loaded" ldt_is ok
touch "$DIRTY" # the next test's hosts are without our modules
finish
