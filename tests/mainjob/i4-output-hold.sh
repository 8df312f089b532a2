#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I4: while nobody can decide who owns the guest, its output is held; when the bound is reached the
# vCPUs stop ("paused: output-hold") and nothing else does: QEMU answers, the comparator keeps its
# limit. When it is decided the guest goes on by itself, for the same client.
. "$(dirname "$0")/lib.sh"
HANG_MS=2000
SLACK_KIB=$((32 * 1024))
FLOOD_S=45
WATCH_S=120

held() { is "$(field "$P" reason)" "paused: output-hold"; }
guest_is() { is "$(qmp "$P" '{"execute":"query-status"}' | json return running)" "$1"; }
comparator_kib() { on "$P" sh -c 'grep VmRSS: /proc/$(cut -d" " -f1 /run/lab/comparator.pid)/status' | tr -dc 0-9; }

# The links are cut while the guest runs: a cut in the middle of a checkpoint, when its vCPUs stand,
# is another case (no output then, and no bound to reach), so that moment is passed by.
cut_while_running() {
    for _ in 1 2 3 4 5; do
        for link in "pair:$P" witness; do "$LAB" cut $link > /dev/null; done
        wait_for 60 state_in "$P" degraded failing-over || return 1
        guest_is True && return 0
        for link in "pair:$P" witness; do "$LAB" heal $link > /dev/null; done
        wait_for 90 protected || return 1
    done
    return 1
}

need_protected
GENERATION=$(field "$P" generation)
limit=$(stat "$P" limits held-bytes)
kib=$(comparator_kib)
rm -f "$TMP"/*.log
load_start 500
check "ownership is undecided, and the guest runs" cut_while_running
find_roles
qemu=$(qemu_pid "$P")
"$LAB" exec "$P" python3 "$MJ_DIR/watch.py" qmp $WATCH_S > "$TMP/qmp" 2> "$TMP/qmp.err" < /dev/null &
watch=$!
on client python3 "$MJ_DIR/flood.py" $GUEST_IP $FLOOD_S > "$TMP/flood" 2>&1 &
flood=$!
check "the bound stops it: paused, output-hold" wait_for $((FLOOD_S + 20)) held
check "its vCPUs stand" guest_is False
now=$(comparator_kib)
say "figure i4 output-hold: held $(stat "$P" held-bytes) of $limit bytes, comparator KiB $kib -> $now"
check "the comparator keeps its limit" at_least $((kib + limit / 1024 + SLACK_KIB)) "$now" "KiB allowed"
wait $flood
for link in "pair:$P" witness; do "$LAB" heal $link > /dev/null; done
check "decided: the guest goes on by itself" wait_for 60 eval 'guest_is True || not in_list "$P"'
# The clients' TCP has backed off: it asks again after as long as it has waited.
check "and serves the same clients" wait_for 150 answers_go_on 10
wait $watch
summary=$(python3 "$MJ_DIR/watch.py" qmp-summary "$TMP/qmp")
say "figure i4 output-hold: QMP ms $summary"
check "QEMU never hung" awk -v m="$(json max <<< "$summary")" -v l=$HANG_MS \
    'BEGIN { print m " ms"; exit !(m != "" && m < l) }'
check "protected again" wait_for 90 protected
is "$(qemu_pid "$P")" "$qemu" || say "the other host won"
check_load "every answer came, in order and right"
check "the disk is right" disk_right
finish
