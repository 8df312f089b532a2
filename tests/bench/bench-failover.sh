#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# How long a client waits when the primary fails: its QEMU is killed, or its whole host is cut.
#   bench-failover.sh [--runs N] [--prefix DIR] [--out DIR]
# N runs of each (5).  The client asks every 10 ms in one TCP session; a second session asks for the
# guest's clocks through all runs and ends the benchmark when one of them goes back.  After each
# fault the survivor protects the guest again by itself, and the next run begins with the roles
# swapped.  QEMU has no failover of its own, so there is no peer.
usage() { sed -n '4s/^# *//p' "$0"; }
. "$(dirname "$(readlink -f "$0")")/lib.sh"
options failover 5 "$@"
HEARTBEAT_LIMIT_MS=500 # virtcolod's default: 5 of 100 ms missed
P=primary

client() { # PROGRAM LOG OPTION...
    local program=$1 log=$2
    shift 2
    "$LAB" client "$program" --out "$log" "$@" > "$log.out" 2>&1 < /dev/null &
    clients+=($!)
}

# Ends the last of the clients; fails when it found a wrong, missing or broken answer.
client_end() { # LOG
    local last=$((${#clients[@]} - 1)) rc
    kill "${clients[$last]}" 2> /dev/null
    wait "${clients[$last]}"
    rc=$?
    unset "clients[$last]"
    [ $rc = 0 ] || die "$1: $(tail -n 2 "$1.out")"
}

both_protected() { state_is primary protected && state_is secondary protected; }
serves() { state_is "$1" '\(committing\|alone\|preparing\|syncing\|protected\)'; }
answers() { [ "$(grep -c ^R "$1")" -ge 50 ]; }

# fault CASE: prints the moment (realtime, us) and does it.
fault() {
    case $1 in
    qemu-killed)
        on $P bash -c 'pid=$(</run/libvirt/qemu/ft.pid); echo "${EPOCHREALTIME/./}"; kill -9 "$pid"'
        ;;
    host-cut) "$LAB" kill-host $P | sed -n 's/^cut realtime_us=//p' ;;
    esac
}

run() { # CASE NUMBER
    local log=$OUT/$1-$2 moment survivor
    survivor=$(other $P)
    wait_for $SETTLE_S both_protected
    sleep 1.$((RANDOM % 10)) # at any phase of the checkpoints' period
    client capture "$log.pcap"
    client tick "$log.tick"
    wait_for $SETTLE_S answers "$log.tick"
    moment=$(fault "$1")
    [[ $moment =~ ^[0-9]{16}$ ]] || die "$1: no moment of the fault: $moment"
    wait_for $SETTLE_S serves "$survivor"
    sleep 3
    client_end "$log.tick"
    client_end "$log.pcap"
    say "$1 run $2: $(python3 "$BENCH_DIR/failover.py" --tick "$log.tick" --pcap "$log.pcap" \
        --fault-real "$moment" --dir "$OUT" --prefix "$1")" || exit 1
    [ "$(wc -l < "$OUT/$1-gap")" = "$2" ] || die "$1 run $2 was not measured"
    grep -q '^E' "$OUT/time" && die "$(grep -m1 '^E' "$OUT/time")"
    rm -f "$log.pcap"
    [ "$1" = host-cut ] && must "$LAB" reboot $P
    P=$survivor
}

bench_lab
LAB_GUEST_ARGS="dirty=0 disk=10" "$LAB" guest up primary || exit 1
must colo primary colo-prepare ft --pair $PAIR
protect
client time "$OUT/time" --interval 50
for case in qemu-killed host-cut; do
    for ((number = 1; number <= ROUNDS; number++)); do
        run $case "$number"
    done
done
client_end "$OUT/time"
say "one session asked for the guest's clocks $(grep -c ^R "$OUT/time") times over $((2 * ROUNDS)) failovers: neither went back"
cd "$OUT" || exit 1
stats head
stats row failover qemu-killed-gap ms qemu-killed-gap --limit 300
stats row failover qemu-killed-first-frame ms qemu-killed-first-frame
stats row failover qemu-killed-rto-wait ms qemu-killed-rto-wait
stats row failover host-cut-first-frame ms host-cut-first-frame --limit $((HEARTBEAT_LIMIT_MS + 150))
stats row failover host-cut-gap ms host-cut-gap
stats row failover host-cut-rto-wait ms host-cut-rto-wait
say "when the client's TCP transmitted in the gap, ms after the fault, r: again"
for case in qemu-killed host-cut; do
    sed "s/^/#   $case: /" $case-rto-phases >&2
done
stats plot "Failover as a client sees it" ms "$OUT/failover.svg" \
    "killed: first frame=qemu-killed-first-frame" "killed: gap=qemu-killed-gap" \
    "cut: first frame=host-cut-first-frame" "cut: gap=host-cut-gap"
