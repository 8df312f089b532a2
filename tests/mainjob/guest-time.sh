#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Neither the guest's monotonic nor its wall clock goes back while it is protected, nor when another
# host takes it over: first the primary's QEMU is killed, then the whole host loses power.
. "$(dirname "$0")/lib.sh"
checkpoints=10

# How often the guest has told its time.
clocks() { grep -c '^R' "$TMP/time.log"; }

# The same answers, the later half first: the judgement must find that.
backwards_is_found() {
    python3 - "$MJ_DIR/../lab" "$TMP/time.log" <<'P'
import sys
sys.path.insert(0, sys.argv[1])
import client
answers = [line.split(None, 3)[3].strip() for line in open(sys.argv[2]) if line.startswith("R")]
def wrong(order):
    check = client.CheckTime()
    return sum(check.wrong(n, text) is not None for n, text in enumerate(order, 1))
half = len(answers) // 2
assert wrong(answers) == 0, "the order as it came is judged wrong"
assert wrong(answers[half:] + answers[:half]) > 0, "a clock that goes back is not found"
P
}

for how in "QEMU killed" "host cut"; do
    need_protected
    old=$P GENERATION=$(field "$P" generation)
    rm -f "$TMP/time.log"
    "$LAB" client time --interval 10 --out "$TMP/time.log" > /dev/null 2> "$TMP/time.err" &
    loads=($!)
    wait_for 30 eval 'at_least "$(clocks)" 20 answers' || bail "the guest tells its time"
    from=$(stat "$P" committed)
    check "$how: checkpoints pass before it" wait_for 60 eval \
        "at_least \"\$(stat $P committed)\" $((from + checkpoints)) checkpoints"
    case $how in
    "QEMU killed") on "$P" sh -c 'kill -9 "$(cat /run/libvirt/qemu/ft.pid)"' ;;
    "host cut") "$LAB" kill-host "$P" > "$TMP/cut" ;;
    esac
    check "$how: the other host serves" wait_for 90 state_in "$S" committing alone preparing syncing protected
    from=$(clocks)
    check "$how: its guest tells its time" wait_for 60 eval "at_least \"\$(clocks)\" $((from + 100)) answers"
    kill -TERM "${loads[0]}"
    wait "${loads[0]}"
    rc=$?
    loads=()
    say "figure guest-time $how ($old): $("$LAB" client report "$TMP/time.log" | tr -s ' ' | tr '\n' ';')"
    check "$how: no clock of the guest went back, on one TCP session" sh -c 'cat "$1"; exit "$2"' sh "$TMP/time.err" $rc
    check "$how: control: a clock that goes back would have been seen" backwards_is_found
    if [ "$how" = "QEMU killed" ]; then
        check "$how: protected again" protected_again
    fi
done
finish
