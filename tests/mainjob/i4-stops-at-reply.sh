#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I4: the peer's QEMU stops for good in the worst moment, when it has said REPLY: the primary's QEMU
# stops its guest then, drains and flushes the disk over NBD, and holds its big lock meanwhile. The
# copy is given up, the monitor is back in time, the guest goes on for the same clients.
. "$(dirname "$0")/lib.sh"
WATCH_S=20
HANG_MS=3000 # two seconds for the peer (disk.c), and a loaded machine

stop_at_reply() {
    local pid tid out
    pid=$(qemu_pid "$S")
    tid=$(on "$S" sh -c "grep -l '^COLO incoming' /proc/$pid/task/*/comm" | cut -d/ -f5)
    [ -n "$tid" ] || { echo "QEMU of $S has no thread 'COLO incoming'"; return 1; }
    out=$(on "$S" timeout 30 "$TMP/stop-at-reply" "$pid" "$tid" 2>&1)
    is "$out" stopped
}

gcc -O2 -Wall -Wextra -D_GNU_SOURCE -o "$TMP/stop-at-reply" "$MJ_DIR/stop-at-reply.c" || bail "stop-at-reply.c compiles"
need_protected
qemu=$(qemu_pid "$P")
old=$P
rm -f "$TMP"/*.log
load_start 50
"$LAB" exec "$P" python3 "$MJ_DIR/watch.py" qmp $WATCH_S > "$TMP/qmp" 2> "$TMP/qmp.err" < /dev/null &
watch=$!
sleep 1
check "the peer's QEMU stops at REPLY" stop_at_reply
check "its copy is given up" wait_for 20 eval 'not protected'
wait $watch; rc=$?
summary=$(python3 "$MJ_DIR/watch.py" qmp-summary "$TMP/qmp")
say "figure i4 stops-at-reply: QMP ms $summary"
log_since "$P" | grep -E 'WARN|ERR|disk|stream' | tail -n 5 | sed 's/^/#   /'
check "QEMU was asked all the time" is $rc 0
check "QEMU never hangs" awk -v m="$(json max <<< "$summary")" -v l=$HANG_MS \
    'BEGIN { print m " ms"; exit !(m != "" && m < l) }'
check "the guest serves the same clients" answers_go_on 10
check "protected again" wait_for 90 protected
check "on the same host, in the same QEMU" is "$P $(qemu_pid "$P")" "$old $qemu"
check_load "every answer came, in order and right"
check "the disk is right" disk_right
finish
