#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I1 end to end: the primary's QEMU is killed at random moments of a diverging load. Every answer
# that the client got is known to the survivor, whose own answers would have been others; the TCP
# sessions go on, also those that began just before: for these the copies chose other initial
# sequence numbers, and checkpoints fall between SYN and ACK.
. "$(dirname "$0")/lib.sh"
rounds=2
[ "$LONG" = 1 ] && rounds=10
RANDOM=${MJ_SEED:-$$}
say "seed ${MJ_SEED:-$$} (MJ_SEED)"

for ((round = 1; round <= rounds; round++)); do
    need_protected
    GENERATION=$(field "$P" generation)
    old=$P
    rm -f "$TMP"/*.log "$TMP/capture.out"
    "$LAB" client capture --out "$TMP/vm.pcap" > "$TMP/capture.out" &
    capture=$!
    wait_for 10 grep -q capturing "$TMP/capture.out" || bail "capture at the client"
    load_start 10
    load_add many many --interval 4
    wait_for 60 at_least_answers random 20 > /dev/null || bail "the guest answers"
    sleep "$(printf '1.%03d' $((RANDOM % 1000)))"
    before=$(answers random)
    on "$P" sh -c 'kill -9 "$(cat /run/libvirt/qemu/ft.pid)"'
    check "round $round: the other host serves" wait_for 60 state_in "$S" committing alone preparing syncing protected
    check "round $round: the TCP sessions go on" answers_go_on 20
    check_load "round $round: all answers of all connections came, in order and right"
    kill -TERM $capture
    wait $capture
    headers=$(on client python3 "$MJ_DIR/i1-check.py" headers "$TMP/vm.pcap" 2>&1)
    say "figure i1 round $round, TCP headers at the client: $headers; $(tail -1 "$TMP/capture.out")"
    for word in ack tsval edge; do
        check "round $round: no $word that the client saw went back" is "$(json $word-back <<< "$headers")" 0
    done
    result=$(on client python3 "$MJ_DIR/i1-check.py" known "$TMP/random.log" 2>&1)
    say "figure i1 round $round, $old killed after $before answers: $result; gap $(worst_gap) ms"
    check "round $round: the survivor knows every answer" is "$(json unknown <<< "$result")" 0
    check "round $round: control: it does not know an answer that nobody gave" \
        is "$(json stranger-known <<< "$result")" False
    check "round $round: protected again" protected_again
done
check "the disk is right" disk_right
finish
