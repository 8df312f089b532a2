#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I4: the peer's comparator, then the peer's QEMU, stops for a while (SIGSTOP) under a flood from
# the guest. QEMU of the primary answers all the time, the queues keep their limits, and when the
# peer goes on so does everything, in the same processes and for the same client.
. "$(dirname "$0")/lib.sh"
stall=10
[ "$LONG" = 1 ] && stall=30
HANG_MS=2000       # of QMP: no latency is asserted, only that nothing hangs
SLACK_KIB=$((32 * 1024)) # rings of the streams, allocator

rss_max() { awk -v d="$2" '$3 == d && $5 > m { m = $5 } END { print m + 0 }' "$1"; }
rss_first() { awk -v d="$2" '$3 == d { print $5; exit }' "$1"; }

stop_peer() { case $1 in comparator) daemon "$S" pause comparator ;; QEMU) on "$S" sh -c 'kill -STOP "$(cat /run/libvirt/qemu/ft.pid)"' ;; esac; }
cont_peer() { case $1 in comparator) daemon "$S" resume comparator ;; QEMU) on "$S" sh -c 'kill -CONT "$(cat /run/libvirt/qemu/ft.pid)"' ;; esac; }

# The primary's held bytes and frames, every half second: BYTES FRAMES a line.
watch_held() {
    while :; do
        colo "$P" colo-stats ft --json | json stats | tr "'" '"' | sed 's/True/true/g; s/False/false/g' |
            python3 -c 'import json, sys; s = json.load(sys.stdin); print(s["held-bytes"], s["held-frames"])'
        sleep 0.5
    done 2> /dev/null
}

# A peer that stalls in the middle of a checkpoint leaves the guest standing: no flood then.
held_or_stood() {
    [ "$(json states colo <<< "$summary" || echo 0)" -gt $(($(json answers <<< "$summary") / 4)) ] ||
        at_least "${held%% *}" 1000000 "held bytes"
}

for part in comparator QEMU; do
    need_protected
    pids="$(daemon "$P" status comparator) $(daemon "$P" status virtcolod) $(qemu_pid "$P")"
    limit=$(stat "$P" limits held-bytes) released=$(stat "$P" limits release) frames=$(stat "$P" limits held-frames)
    dropped=$(stat "$P" counters output-dropped-full)
    rm -f "$TMP"/*.log
    load_start 50
    watch_held > "$TMP/held" &
    loads+=($!)
    "$LAB" exec "$P" python3 "$MJ_DIR/watch.py" qmp $((stall + 6)) > "$TMP/qmp" 2> "$TMP/qmp.err" < /dev/null &
    qmp=$!
    "$LAB" exec "$P" python3 "$MJ_DIR/watch.py" rss $((stall + 6)) 0.5 > "$TMP/rss" < /dev/null &
    rss=$!
    sleep 1
    stop_peer $part
    on client python3 "$MJ_DIR/flood.py" $GUEST_IP $((stall - 1)) > "$TMP/flood"
    check "$part of the peer stalled: nobody gave the guest up or killed it" in_list "$P"
    cont_peer $part
    wait $qmp; rc=$?
    wait $rss
    summary=$(python3 "$MJ_DIR/watch.py" qmp-summary "$TMP/qmp")
    held=$(sort -n "$TMP/held" | tail -1)
    say "figure i4 $part stalled $stall s: QMP ms $summary"
    say "figure i4 $part stalled: flood $(cat "$TMP/flood"); held at most $held (bytes, frames) of $limit, $frames"
    say "figure i4 $part stalled: comparator KiB $(rss_first "$TMP/rss" comparator) -> $(rss_max "$TMP/rss" comparator), dropped $(($(stat "$P" counters output-dropped-full) - dropped))"
    check "$part stalled: QEMU was asked all the time" is $rc 0
    check "$part stalled: QEMU never hangs" awk -v m="$(json max <<< "$summary")" -v l=$HANG_MS \
        'BEGIN { print m " ms"; exit !(m != "" && m < l) }'
    check "$part stalled: the flood was held, or the guest stood in a checkpoint" held_or_stood
    check "$part stalled: held bytes stay within the limit" at_least "$limit" "${held%% *}" "limit"
    check "$part stalled: so does the comparator's memory" at_least \
        $(($(rss_first "$TMP/rss" comparator) + (limit + released) / 1024 + SLACK_KIB)) "$(rss_max "$TMP/rss" comparator)" "KiB allowed"
    check "$part goes on: so do the sessions" answers_go_on 20
    check "$part goes on: protected" wait_for 60 protected
    check "$part goes on: no daemon of the primary and no guest died" is \
        "$(daemon "$P" status comparator) $(daemon "$P" status virtcolod) $(qemu_pid "$P")" "$pids"
    kill "${loads[2]}"
    unset 'loads[2]'
    check_load "$part stalled: every answer came, in order and right"
done
finish
