#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A peer whose virtcolod speaks another version of the control protocol: refused with both versions and
# the remedy, whoever dials, and nothing changed. The peer is played by other-version.py.
. "$(dirname "$0")/lib.sh"
need_unprotected
qemu=$(qemu_pid $P)
OTHER=$MJ_DIR/other-version.py
BOTH="$S speaks version 7 of the control protocol .*$P speaks version 1 "

untouched() { wait_for 20 plain_guest $P && is "$(qemu_pid $P)" "$qemu" && not in_list $S; }
pair_is() { is "$(colo $P colo-pair-info $PAIR --json | json state)" "$1"; }
# refused PATTERN ARGUMENT...
refused() {
    local pattern=$1 out rc
    shift
    out=$(colo $P "$@" 2>&1)
    rc=$?
    is $rc 1 && grep -qE "error: .*$pattern" <<< "$out" || { echo "exit $rc: $out"; return 1; }
}
# play MODE: other-version.py in place of the peer's virtcolod.
play() {
    on $S sh -c 'rm -f /run/lab/other.log; setsid python3 "$1" "$2" 7 > /run/lab/other.log 2>&1 & echo $! > /run/lab/other.pid' sh "$OTHER" "$1"
    wait_for 10 on $S grep -q ready /run/lab/other.log
}
stop_playing() { on $S sh -c 'kill "$(cat /run/lab/other.pid)"'; }

daemon $S stop virtcolod > /dev/null
check "the peer answers hello with version 7" play listen
wait_for 10 on $S grep -q type /run/lab/other.log
check "protect names both versions and the remedy" refused \
    "$BOTH.*install the same libvirt-colo on both hosts" colo-protect ft --pair $PAIR --wait
check "so does prepare" refused "$BOTH" colo-prepare ft --pair $PAIR
check "and a new pair, which is not defined" refused "$BOTH" colo-pair-define zz --peer $S
check "no pair is left of it" not colo $P colo-pair-info zz
check "the peer was told both versions" on $S grep -qE "$BOTH" /run/lab/other.log
check "colo-pair-info: not up" not pair_is up
check "and nothing changed" untouched
stop_playing

check "the peer refuses our version" play refuse
wait_for 10 on $S grep -q . /run/lab/other.log
check "protect says what the peer said" eval \
    "wait_for 10 refused '$P speaks version 1 of the control protocol, $S speaks version 7' colo-protect ft --pair $PAIR --wait"
check "and nothing changed" untouched
stop_playing

answer=$(on $S python3 "$OTHER" dial 7 "$P")
check "a peer of version 7 that dials is answered with both versions" eval 'grep -qE "\"error\".*$BOTH" <<< "$answer" || { echo "$answer"; false; }'
daemon $S start virtcolod > /dev/null
check "with its own virtcolod the pair is up again" wait_for 30 pair_is up
check "and protects" colo $P colo-protect ft --pair $PAIR --wait
finish
