#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# With tcp_rewrite a new connection needs no checkpoint, and lives on when the primary is killed
# before the next one: its sequence numbers are mapped at the survivor, beside the next protection
# and through a second takeover, until it ends. Then nothing of that is left.
. "$(dirname "$0")/lib.sh"
PERIOD_MS=3000

# The filters of ours in the guest at HOST, and how many sets of them there are.
filters() { qmp "$1" '{"execute":"qom-list","arguments":{"path":"/objects"}}' | grep -oE 'colo-[a-z]+-[a-z0-9]+\.[0-9]+'; }
sets() { filters "$1" | sed 's/.*\.//' | sort -u | wc -l; }
sets_are() { is "$(sets "$1")" "$2"; }

# Connections that begin in the epoch that the kill ends, at the side of those of "many".
late_sessions() {
    local i
    for i in 1 2 3 4 5; do
        load_add "late$1-$i" tick --interval 20
    done
    wait_for 30 at_least_mapped 1
}
at_least_mapped() { at_least "$(stat "$S" rewritten)" "$1" "mapped connections"; }

# Sessions that stayed in the path of their guest at HOST after a takeover, as its helper tells.
stayed() { grep -c 'gate closed -> alone' "$LAB_LOG/$1/comparator.log"; }

# Sets STAYS: 1 when connections were mapped in the moment of the kill; 0 when a checkpoint was
# complete just before it.
kill_primary() {
    local before
    before=$(stayed "$S")
    GENERATION=$(field "$P" generation)
    on "$P" sh -c 'kill -9 "$(cat /run/libvirt/qemu/ft.pid)"'
    check "$1: the other host serves" wait_for 60 state_in "$S" committing alone preparing syncing protected
    check "$1: all connections go on" answers_go_on 20
    STAYS=$(($(stayed "$S") - before))
    say "figure $1: sessions that stay in the path: $STAYS"
}

need_unprotected
for host in primary secondary; do
    configure $host tcp_rewrite true
    configure $host checkpoint_period_ms $PERIOD_MS
    daemon $host restart virtcolod
done
need_protected
# Only the period ends an epoch: however slow the copies are here.
quiet colo "$P" colo-tune ft --mode compare --unanswered-max-ms 5000 --unanswered-min-ms 5000
loads=() load_names=()
load_add tick tick --interval 20
load_add many many --interval 10
wait_for 30 answers_go_on 10 > /dev/null || bail "the guest answers the load"

before=$(stat "$P" counters checkpoints) asked=$(stat "$P" counters diverged-syn)
wait_for 60 at_least_answers many $(($(answers many) + 200)) > /dev/null || bail "new connections are answered"
after=$(stat "$P" counters checkpoints)
say "figure new connections: 200 opened in $((after - before)) checkpoints of $PERIOD_MS ms"
check "new connections ask for no checkpoint" is "$(($(stat "$P" counters diverged-syn) - asked))" 0

quiet colo "$P" colo-checkpoint ft
check "late connections are mapped" late_sessions 1
kill_primary "first kill"
daemon "$S" restart virtcolod
check "I5: they go on while virtcolod is restarted" answers_go_on 20
check "protected again, the mapping stays beside it" protected_again
find_roles
check "as many sets of filters as are needed" sets_are "$P" $((1 + STAYS))
check "all connections go on under both" answers_go_on 20
quiet colo "$P" colo-checkpoint ft
check "late connections are mapped again" late_sessions 2
kill_primary "second kill"
check "protected again after the second" protected_again
check_load "all answers of all connections came, in order and right"
find_roles
check "as many sets of filters as were needed" sets_are "$P" $((1 + STAYS))
daemon "$P" kill comparator
daemon "$P" start comparator
check "I5: after the comparator's death the guest serves, and is protected anew with one set" \
    wait_for 60 eval 'protected && sets_are "$P" 1'
load_names=()
load_add last tick --interval 20
check "new connections are answered" answers_go_on 20
check_load "and all their answers are right"
check "the disk is right" disk_right

for host in primary secondary; do
    on $host sed -i "/^ *\(tcp_rewrite\|checkpoint_period_ms\) *=/d" $CONF
done
touch "$DIRTY" # the mapping stays for minutes: the next test begins with a fresh lab
finish
