#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Hardware features of a protected guest on two real KVM hosts with our kernel modules: negotiated,
# refused by name, on in both VMs, locked after protection, and still so after the host is lost.
# The back-end must be kvm. COLO_LAB_KVM_MODULES: folder of the modules; else src/kvm/build.sh makes
# them in the lab's cache.
if [ "${COLO_LAB_BACKEND:-auto}" != kvm ]; then
    echo "1..0 # SKIP hardware features need the back-end kvm"
    exit 0
fi
export COLO_LAB_KVM_MODULES=${COLO_LAB_KVM_MODULES:-build}
. "$(dirname "$0")/lib.sh"
DESC=descriptor-table-exiting QUANTUM=preemption-quantum
SETTLE_S=240
lab_fresh "its hosts must have our modules"
modules=$(sed -n 's/^LAB_KVM_MODULES=//p' "$("$LAB" path state)/env")

usable() { colo "$1" colo-features --json | python3 -c '
import json, sys
print(" ".join(f["name"] for f in json.load(sys.stdin)["features"] if f["usable"]))'; }
# What colo-stats says of a feature in that host's VM: in_vm HOST FEATURE MEMBER
in_vm() { stat "$1" features "$2" "$3"; }
in_vm_is() { is "$(in_vm "$1" "$2" "$3")" "$4"; }
in_vm_at_least() { at_least "$(in_vm "$1" "$2" "$3")" "$4" "$2 $3 on $1"; }
both() { wait_for 60 in_vm_is $P "$@" && wait_for 60 in_vm_is $S "$@"; }
# The guest's kernel loads LDTR: what became of that.
ldt_is() {
    local line
    line=$(on client timeout 90 bash -c "exec 3<>/dev/tcp/$GUEST_IP/11; echo ldt >&3; read -r -t 80 line <&3; echo \"\$line\"")
    is "$line" "ldt $1"
}

check "descriptor tables and quantum are usable on the primary" is "$(usable $P)" "$DESC $QUANTUM"
check "and on the secondary" is "$(usable $S)" "$DESC $QUANTUM"
quiet on $S rmmod kvm_hvfeat
check "without the module it says what to install" eval \
    "colo $S colo-features | grep '$DESC' | grep -q 'modprobe kvm_hvfeat'"
check "colo-pair-features names the host that cannot" eval \
    "colo $P colo-pair-features $PAIR | grep '$QUANTUM' | grep 'host $S: '"
check "so does the refusal of what is required" eval \
    "not colo $P colo-protect ft --pair $PAIR --wait --features $DESC=require:count,$QUANTUM=require:10000 2>&1 |
     grep \"feature '$DESC': host $S: .*modprobe kvm_hvfeat\""
check "the guest runs on, unprotected" wait_for 60 state_is $P unprotected
quiet on $S insmod "$modules/kvm_hvfeat.ko"
check "out of bounds: refused" eval \
    "not colo $P colo-protect ft --pair $PAIR --wait --features $QUANTUM=require:1 2>&1 | grep 'it takes'"
quiet colo $P colo-tune ft --features $QUANTUM=require:10000
quiet colo $P colo-protect ft --pair $PAIR
check "protected with both required" wait_for 600 protected
find_roles
check "counting is on in both VMs" both $DESC param 1
check "the quantum is on in both VMs" both $QUANTUM param 10000
# Two emulated hosts on one machine: a checkpoint takes a second, so no answers that need one each.
loads=() load_names=()
load_add tick tick --interval 50
check "the guest answers" wait_for 240 answers_go_on 3
check "the guest's kernel may load LDTR" ldt_is ok
check "counted on the primary" wait_for 60 in_vm_at_least $P $DESC lldt 1
check "and on the copy" wait_for 60 in_vm_at_least $S $DESC lldt 1
check "locked while it is protected" colo $P colo-tune ft --features $DESC=require:count+lock
check "in both VMs" both $DESC param 5
counted=$(in_vm $S $DESC lldt)
sleep 60
check "the session goes on" answers_go_on 5
say "figure hvfeat: checkpoints $(stat $S loaded), of them not counted as their state did not come" \
    "$(stat $P counters states-awaited), set late $(stat $S counters states-late)"
check "no checkpoint counts without its state" is "$(stat $P counters states-missed)" 0
old=$P new=$S
"$LAB" kill-host $old > /dev/null
check "the primary host is lost: the copy goes on" wait_for 120 state_is $new alone
check "the session lives" answers_go_on 5
check "the lock is on there" wait_for 60 in_vm_is $new $DESC param 5
check "and so is the quantum" in_vm_is $new $QUANTUM param 10000
check "counters go on from the checkpoint's" in_vm_at_least $new $DESC lldt "$counted"
quiet "$LAB" reboot $old
check "the old host is back: protected again by itself" wait_for 600 protected
find_roles
check "with the lock in both VMs" both $DESC param 5
check_load "the session lived through it"
# It does not survive that: its scheduler loads LDTR as well when it goes on to the next process.
check "the guest's kernel may not load LDTR" not ldt_is ok
check "denied on the new primary" wait_for 60 in_vm_at_least $P $DESC denied 1
check "and on its copy" wait_for 60 in_vm_at_least $S $DESC denied 1
check "the guest's kernel got #GP" eval "\"$LAB\" guest console $P | grep -a 'native_set_ldt'"
touch "$DIRTY" # the next test's hosts are those of the distribution
finish
