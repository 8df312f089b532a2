#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Stock virsh at colo:///system with a protected domain: calls that COLO cannot bear are refused with
# the command that helps, the copy is not listed and not touched, door 2 answers without QEMU, and
# clients do not hear of checkpoints.
. "$(dirname "$0")/lib.sh"

at() { local host=$1; shift; on "$host" timeout 60 virsh -q -c colo:///system "$@" 2>&1; }
names() { on "$1" timeout 60 virsh -q -c "$2:///system" list --all --name; }

# refused HOST TEXT COMMAND...: it fails, and says so.
refused() {
    local host=$1 text=$2 out
    shift 2
    ! out=$(at "$host" "$@") || { echo "it was done: $out"; return 1; }
    grep -qF "Requested operation is not valid: domain 'ft'" <<< "$out" && grep -qF "$text" <<< "$out" || { echo "$out"; return 1; }
}

# What door 2 says in QMP: member KEY... of its return.
door() { local command=$1; shift; at "$P" qemu-monitor-command ft "$command" | json return "$@"; }

# events URI: how many lifecycle events its clients hear in 3 s.
events() { on "$P" timeout 20 virsh -q -c "$1:///system" event ft lifecycle --loop --timeout 3 2> /dev/null | grep -c "^event 'lifecycle'"; }

need_protected
load_start 50
check "where it runs it is listed" grep -qx ft <<< "$(names "$P" colo)"
check "its copy is not" not grep -qx ft <<< "$(names "$S" colo)"
check "but at qemu:///" grep -qx ft <<< "$(names "$S" qemu)"
on "$P" sh -c 'virsh -q -c qemu:///system dumpxml ft > /tmp/ft.xml
    echo "<memory model=\"dimm\"><target><size>65536</size></target></memory>" > /tmp/device.xml'
while read -r line; do
    # shellcheck disable=SC2086
    check "virsh $line: refused, with the remedy" refused "$P" "virsh-colo colo-unprotect ft" $line
done << 'LIST'
resume ft
attach-device ft /tmp/device.xml
detach-device ft /tmp/device.xml
setmem ft 65536 --live
setvcpus ft 1 --live
snapshot-create-as ft s1 --disk-only
blockcopy ft vda /tmp/copy.raw
blockjob ft vda --abort
domjobabort ft
define /tmp/ft.xml
undefine ft
LIST
for line in "destroy ft" "suspend ft" "shutdown ft" "qemu-monitor-command ft {\"execute\":\"cont\"}"; do
    # shellcheck disable=SC2086
    check "virsh $line at the copy: refused" refused "$S" "is the copy of the guest that runs on" $line
done
check "nothing of it has changed anything" no_state_change
check "the clients noticed nothing" answers_go_on 5

check "door 2: colo-status" is "$(door '{"execute":"colo-status"}' state)" protected
before=$(field "$P" checkpoints)
check "door 2: colo-checkpoint" eval "at '$P' qemu-monitor-command ft '{\"execute\":\"colo-checkpoint\"}' | json return"
check "and it came" wait_for 10 eval "at_least \"\$(field '$P' checkpoints)\" $((before + 1)) checkpoints"
check "door 2 by HMP" grep -q "^state: protected" <<< "$(at "$P" qemu-monitor-command ft --hmp colo-status)"
check "door 2: an unknown command is an error of ours" grep -q "there is no command 'colo-nonsense'" \
    <<< "$(at "$P" qemu-monitor-command ft '{"execute":"colo-nonsense"}')"
check "QEMU's own commands reach QEMU" is "$(door '{"execute":"query-name"}' name)" ft

check "virsh domstats knows COLO" grep -q 'colo.state="\?protected' <<< "$(at "$P" domstats ft)"
check "so does Prometheus" grep -q '^libvirt_colo_domain_info{domain="ft".*state="protected"} 1' \
    <<< "$(on "$P" curl -s http://127.0.0.1:16517/metrics)"
check "with the counters of its comparator" grep -q '^libvirt_colo_events_total{domain="ft",event="released-equal"} [1-9]' \
    <<< "$(on "$P" curl -s http://127.0.0.1:16517/metrics)"
check "at qemu:/// each checkpoint is two events" at_least "$(events qemu)" 4 events
check "at colo:/// none is" is "$(events colo)" 0
check_load "every answer came, in order and right"

check "door 2: colo-unprotect" is "$(door '{"execute":"colo-unprotect"}' name)" ft
check "then virsh may suspend it" at "$P" suspend ft
check "and resume it" at "$P" resume ft
check "door 2: colo-protect" eval "at '$P' qemu-monitor-command ft '{\"execute\":\"colo-protect\",\"arguments\":{\"pair\":\"$PAIR\"}}' | json return"
check "protected again" wait_for $SETTLE_S protected
finish
