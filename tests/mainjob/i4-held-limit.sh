#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I4 while the domain is protected: the peer's QEMU has stopped, so nothing confirms the guest's
# output and no checkpoint comes. What is held reaches its limit under a flood: the peer is given up
# then, long before its missing checkpoints alone would do it, and the flood gets its answers.
. "$(dirname "$0")/lib.sh"
FLOOD_S=25
ALONE_S=20  # 5 of them from the limit on (evidence.c); reaching it takes the rest
STALL_S=32  # when the peer would be given up anyway

need_protected
qemu=$(qemu_pid "$P")
old=$P
limit=$(stat "$P" limits held-bytes)
rm -f "$TMP"/*.log
load_start 50
"$LAB" exec "$P" python3 "$MJ_DIR/watch.py" qmp $((FLOOD_S + 2)) > "$TMP/qmp" 2> "$TMP/qmp.err" < /dev/null &
watch=$!
# In a checkpoint the guest stands and floods nothing: between two of them.
pid=$(qemu_pid "$S")
on "$S" kill -STOP "$pid"
begin=$SECONDS
on client python3 "$MJ_DIR/flood.py" $GUEST_IP $FLOOD_S > "$TMP/flood" 2>&1 &
flood=$!
check "the limit of held output is reached" wait_for $ALONE_S eval \
    'at_least "$(stat "$P" counters overflows-held)" 1 overflows'
check "the copy that confirms nothing is given up" wait_for $ALONE_S eval 'not state_is "$P" protected'
took=$((SECONDS - begin))
check "for that reason" eval \
    'log_since "$P" | grep -q "held output is at its limit and no checkpoint comes"'
check "before its missing checkpoints would do it" at_least $STALL_S $((took + 2)) "seconds allowed"
wait $flood
wait $watch; rc=$?
summary=$(python3 "$MJ_DIR/watch.py" qmp-summary "$TMP/qmp")
say "figure i4 held-limit: given up after $took s, flood $(cat "$TMP/flood"), limit $limit bytes, QMP ms $summary"
check "QEMU was asked all the time" is $rc 0
check "the guest serves the same clients" answers_go_on 10
check "protected again" wait_for 90 protected
check "on the same host, in the same QEMU" is "$P $(qemu_pid "$P")" "$old $qemu"
check_load "every answer came, in order and right"
check "the disk is right" disk_right
finish
