#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I1: an answer that differs on the two copies leaves only after the commit of a checkpoint that was
# taken after it was produced. Judged from outside: frames captured at the client, against the
# times of the commits. The counting service, whose answers are equal, is the negative control:
# what it says needs no checkpoint, and the same judgement must say so.
. "$(dirname "$0")/lib.sh"
seconds=10
[ "$LONG" = 1 ] && seconds=120

# Appends the primary's last commits to a file, often enough to miss none.
watch_commits() {
    while :; do
        colo "$P" colo-stats ft --json | json stats commits >> "$1"
        sleep 0.3
    done
}

judge() { on client python3 "$MJ_DIR/i1-check.py" capture "$TMP/vm.pcap" "$1" "$TMP/$2.log" "$TMP/commits"; }

need_protected
"$LAB" client capture --out "$TMP/vm.pcap" > "$TMP/capture.out" &
loads=($!)
wait_for 10 grep -q capturing "$TMP/capture.out" || bail "capture at the client"
watch_commits "$TMP/commits" &
loads+=($!)
wait_for 20 test -s "$TMP/commits" || bail "the primary tells its commits"
equal=$(stat "$P" counters released-equal) later=$(stat "$P" counters released-commit)
"$LAB" client random --interval 100 --duration $seconds --out "$TMP/random.log" > /dev/null 2>&1 &
random=$!
# Longer than the diverging load: its checkpoints would separate most of these answers too.
"$LAB" client tick --interval 20 --duration $((seconds + 4)) --out "$TMP/tick.log" > /dev/null 2>&1 &
tick=$!
wait $random; random=$?
wait $tick; tick=$?
check "every diverging answer came" is $random 0
check "every equal answer came" is $tick 0
sleep 2 # one more checkpoint, and its commit is noted
equal=$(($(stat "$P" counters released-equal) - equal)) later=$(($(stat "$P" counters released-commit) - later))
for pid in "${loads[@]}"; do kill -TERM "$pid"; wait "$pid"; done 2> /dev/null
loads=()
check "no frame was lost by the capture" grep -q 'dropped=0' "$TMP/capture.out"

result=$(judge 9 random 2>&1)
say "figure i1 diverging answers: $result"
check "the answers can be judged" json answers <<< "$result"
check "no diverging answer left before the commit of a checkpoint taken after its question" \
    is "$(json without-commit <<< "$result")" 0
result=$(judge 8 tick 2>&1)
say "figure i1 equal answers: $result"
check "control: the same judgement finds answers without a checkpoint where they are equal" \
    at_least "$(json without-commit <<< "$result")" 1 "equal answers without a commit"
say "figure i1 frames released as equal: $equal, by a commit: $later"
check "the comparator says the same: frames left as equal" at_least "$equal" 1 released-equal
check "and others by commits" at_least "$later" 1 released-commit
finish
