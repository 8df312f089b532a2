#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A guest with two disks and two NICs: both are copied, compared, taken over, merged and protected
# again, there and back.
. "$(dirname "$0")/lib.sh"
export LAB_GUEST_DISKS=2 LAB_GUEST_NICS=2
lab_fresh "a guest with two disks and two NICs"
mark_logs
SECOND_IP=10.9.0.11
IMAGES="/var/lib/libvirt/images/ft.raw /var/lib/libvirt/images/ft-2.raw"

disks_right() { disk_right 0 && disk_right 1; }
# graph HOST: driver and file of every block node of the guest, also of those that no device has.
graph() {
    qmp "$1" '{"execute":"query-named-block-nodes"}' | python3 -c '
import json, sys
for line in sorted(n["drv"] + " " + n["file"] for n in json.load(sys.stdin)["return"]): print(line)'
}
plain_graph() { is "$(graph "$1")" "$PLAIN"; }
definition() { virsh_at "$1" dumpxml --inactive ft; }
same_definition() { diff "$TMP/definition" <(definition "$1"); }
copies_exist() { is "$(on $S sh -c "stat -c %s $IMAGES" | xargs)" "67108864 67108864"; }
done_already() { is "$(colo $P colo-prepare ft --pair $PAIR | grep -c 'done already')" 2; }
# Both disks are mirrored to the peer, both NICs have a filter of ours.
both_devices() {
    local jobs objects
    jobs=$(qmp $P '{"execute":"query-block-jobs"}') objects=$(qmp $P '{"execute":"qom-list","arguments":{"path":"/objects"}}')
    is "$(grep -o '"type":"mirror"' <<< "$jobs" | wc -l)" 2 &&
        is "$(grep -o 'child<filter-mirror>' <<< "$objects" | wc -l)" 2
}

PLAIN=$(graph $P)
definition $P > "$TMP/definition"
check "before: a format and a file node for each disk" is "$(wc -l <<< "$PLAIN")" 4
check "colo-prepare made both copies" copies_exist
check "and finds both the next time" done_already
load_start
load_add tick-2 tick --host $SECOND_IP --interval 20
load_add random-2 random --host $SECOND_IP --interval 20
check "both NICs answer" answers_go_on 3
check "protected while it runs" colo $P colo-protect ft --pair $PAIR --wait
check "on both hosts" wait_for 20 protected
check "two mirrors, two filters" both_devices
check "answers that differ leave through both NICs" answers_go_on 10

for way in there back; do
    GENERATION=$(field $P generation)
    mark_logs
    on $P sh -c 'kill -9 "$(cat /run/libvirt/qemu/ft.pid)"'
    check "$way: the other host serves" eval "wait_for 30 state_in $S committing alone && in_list $S && not in_list $P" || bail "no takeover"
    # Without its daemon the old host cannot be made the copy at once, which would hide the merge's end.
    daemon $P stop virtcolod > /dev/null
    check "$way: all four sessions go on" answers_go_on 10
    check "$way: both disks are right" disks_right
    check "$way: alone, both disks are merged" wait_for 30 state_is $S alone
    check "$way: ... to the graph of a guest that was never protected" wait_for 20 plain_graph $S
    check "$way: ... and no overlay is left" eval "not on $S sh -c 'ls /var/lib/libvirt/images | grep colo'"
    check "$way: the persistent definition is the first host's" same_definition $S
    daemon $P start virtcolod > /dev/null
    check "$way: protected again by itself" protected_again || bail "no protection"
    find_roles
    check "$way: two mirrors, two filters" both_devices
    check "$way: answers that differ leave through both NICs" answers_go_on 10
done
check "both disks are right" disks_right
say "longest gap $(worst_gap) ms"
check_load "every answer of both NICs came, in order and right"
# The next test's guest has one of each.
touch "$DIRTY"
finish
