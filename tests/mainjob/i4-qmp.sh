#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I4: the guest's QEMU never waits for us. Its monitor answers within 50 ms all the time, while the
# guest floods, the peer's comparator stands still, the pair's link swallows everything, and a peer with
# the right key says garbage after a good handshake.
#
# The lab has both hosts, both guests and the client on the processors of one machine: QEMU, the comparator
# and those who ask get them first, and the time in which QEMU's threads wanted to go on and got none does
# not count; and a second QEMU that does nothing is asked beside it: when that one has to wait
# as well it was the machine (watch.py qmp-judge).
. "$(dirname "$0")/lib.sh"
stall=10
FIRST=-19      # nice
MARGIN_S=2     # measured before and after what is done
SWITCH=/run/lab/garbage

# first PID...: all threads of these processes of the primary.
first() {
    on "$P" sh -c 'for pid; do for task in /proc/$pid/task/*; do renice -n '$FIRST' -p "${task##*/}"; done; done' sh "$@"
}

control_start() {
    "$LAB" exec "$P" sh -c 'qemu-system-x86_64 -machine none -nodefaults -display none -S \
        -qmp unix:/run/lab/control.qmp,server=on,wait=off 2> /dev/null & echo $! > /run/lab/control.pid' < /dev/null
    wait_for 20 on "$P" test -S /run/lab/control.qmp || bail "a QEMU that does nothing"
}

control_stop() { on "$P" sh -c 'kill "$(cat /run/lab/control.pid)"; rm -f /run/lab/control.qmp'; }

# watch_start SECONDS
watch_start() {
    local name pid
    first "$(qemu_pid "$P")" "$(on "$P" cat /run/lab/control.pid)" \
        "$(on "$P" sh -c 'cut -d" " -f1 /run/lab/comparator.pid')" > /dev/null
    watches=()
    for name in ft control; do
        pid=$(on "$P" cat $([ $name = ft ] && echo /run/libvirt/qemu/ft.pid || echo /run/lab/control.pid))
        "$LAB" exec "$P" nice -n $FIRST python3 "$MJ_DIR/watch.py" qmp-socket $(($1 + 2 * MARGIN_S)) /run/lab/$name.qmp "$pid" \
            > "$TMP/$name.qmp" 2> "$TMP/$name.err" < /dev/null &
        watches+=($!)
    done
    sleep $MARGIN_S
}

# watch_end CASE
watch_end() {
    local verdict pid rc=0
    for pid in "${watches[@]}"; do
        wait "$pid" || rc=1
    done
    check "$1: both monitors were asked all the time" sh -c 'cat "$1" "$2"; exit "$3"' sh "$TMP/ft.err" "$TMP/control.err" $rc
    ! grep -q ^C "$TMP/ft.qmp" || say "$1: the other host won, and this QEMU was ended"
    verdict=$(python3 "$MJ_DIR/watch.py" qmp-judge "$TMP/ft.qmp" "$TMP/control.qmp")
    say "figure i4 $1: QMP ms $verdict"
    check "$1: the monitor answers within 50 ms" is "$(json unexplained <<< "$verdict")" 0
}

recovers() {
    check "$1: protected again" wait_for 90 protected
    check "$1: the guest answers" answers_go_on 10
}

need_protected
rm -f "$TMP"/*.log
load_start 50

control_start
watch_start $stall
on client python3 "$MJ_DIR/flood.py" $GUEST_IP $stall > "$TMP/flood"
say "flood: $(cat "$TMP/flood")"
watch_end "the guest floods"
control_stop
recovers "the guest floods"

control_start
watch_start $stall
daemon "$S" pause comparator
sleep $stall
daemon "$S" resume comparator
watch_end "the peer stands still"
control_stop
recovers "the peer stands still"

control_start
watch_start $stall
"$LAB" cut "pair:$P" > /dev/null
sleep $stall
"$LAB" heal "pair:$P" > /dev/null
watch_end "the link swallows everything"
control_stop
recovers "the link swallows everything"

# The peer's comparator again, with a mouth that can be poisoned.
shim=$TMP/garbage.so
gcc -O2 -Wall -Wextra -shared -fPIC -o "$shim" "$MJ_DIR/garbage.c" -ldl || bail "garbage.c compiles"
daemon "$S" stop comparator
printf '\0' | "$LAB" exec "$S" sh -c "cat > $SWITCH; chmod 644 $SWITCH"
"$LAB" exec "$S" env COLO_GARBAGE=$SWITCH LD_PRELOAD="$shim" "$MJ_DIR/../lab/daemons.sh" start comparator < /dev/null
check "garbage: protected with that peer first" wait_for 90 protected
control_start
watch_start $stall
generation=$(field "$P" generation)
mark=$(wc -l < "$LAB_LOG/$P/comparator.log")
printf '\1' | "$LAB" exec "$S" dd of=$SWITCH conv=notrunc status=none
sleep $stall
check "garbage: the primary names the stream and why" eval \
    "tail -n +$((mark + 1)) '$LAB_LOG/$P/comparator.log' | grep -E 'stream (packets|checkpoint).* is down: '"
watch_end "garbage"
control_stop
check "garbage: that generation is over" not is "$(field "$P" generation)-$(state "$P")" "$generation-protected"
check "garbage: the guest answers" answers_go_on 10
daemon "$S" restart comparator
recovers "garbage"
check_load "every answer came, in order and right"
check "the disk is right" disk_right
finish
