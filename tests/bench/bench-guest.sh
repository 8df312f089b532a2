#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What protection costs the clients of a guest.
#   bench-guest.sh [--rounds N] [--seconds S] [--prefix DIR] [--out DIR]
# Set-ups of the same guest take turns, each from a fresh start, N rounds (3):
#   ours     protected, as users get it
#   strict   the same with tcp_rewrite = false (new connections only)
#   qemu     QEMU's documented COLO with its comparator in the primary's QEMU, vnet headers, plain TCP
#   alone    not protected
# download: 10 MB over HTTP. echo: 2 MB to the guest and back. connect: a new connection until the
# first byte of its answer. random: an answer that differs between the copies, S seconds (6) one after
# the other, in each checkpoint mode, also as a multiple of the checkpoint pauses (STOP to RESUME at
# the primary) of the same seconds.
usage() { sed -n '4s/^# *//p' "$0"; }
. "$(dirname "$(readlink -f "$0")")/lib.sh"
. "$BENCH_DIR/qemu-colo.sh"
options guest 3 "$@"
window=${SECONDS_A_ROUND:-6}
PERIOD_MS=500 # virtcolod's default, and so QEMU's here
GUEST_IP=10.9.0.10
DOWNLOADS=3 ECHOES=2 CONNECTS=20
CONF=/etc/libvirt-colo/virtcolod.conf

# client FILE WORD...: the client's figures are added to FILE.
client() {
    local out=$OUT/$1
    shift
    "$LAB" exec client python3 "$BENCH_DIR/guest.py" "$@" < /dev/null >> "$out" 2> "$OUT/client.err" ||
        die "guest.py $*: $(tail -1 "$OUT/client.err")"
}

# random CASE ROUND: times of answers, and their median as a multiple of that of the pauses.
random() {
    local name=$1-random
    rm -f "$OUT/$name.now"
    events "$OUT/$name.events" $((window + 2)) &
    local events=$!
    client "$name.now" random $GUEST_IP "$window"
    wait $events
    stats pauses "$OUT/$name.events" > "$OUT/$name.pauses"
    [ -s "$OUT/$name.pauses" ] || die "$1: no checkpoint in $window s of answers that differ"
    cat "$OUT/$name.now" >> "$OUT/$name"
    cat "$OUT/$name.pauses" >> "$OUT/$1-pause"
    awk -v a="$(stats median "$OUT/$name.now")" -v p="$(stats median "$OUT/$name.pauses")" \
        'BEGIN { print a / p }' >> "$OUT/$name-in-pauses"
    say "round $2 $1: $(wc -l < "$OUT/$name.now") answers, median $(stats median "$OUT/$name.now") ms," \
        "pause $(stats median "$OUT/$name.pauses") ms"
}

transfers() { # CASE
    client "$1-download" download $GUEST_IP $DOWNLOADS
    client "$1-echo" echo $GUEST_IP $ECHOES
    client "$1-connect" connect $GUEST_IP $CONNECTS
}

counter() { colo primary colo-stats ft --json | grep -o "\"$1\": *[0-9]*" | grep -o '[0-9]*$'; }

protected_guest() {
    must colo primary colo-prepare ft --pair $PAIR
    protect
    sleep 2
}

end_ours() {
    must colo primary colo-unprotect ft
    no_guest
    on secondary sh -c 'rm -f /var/lib/libvirt/images/ft.*'
}

measure_ours() {
    local mode
    protected_guest
    transfers ours
    say "round $1 ours: windows narrowed $(counter narrowed-window), acknowledgements clamped $(counter clamped-ack)"
    for mode in compare periodic auto; do
        must colo primary colo-tune ft --mode $mode
        sleep 1
        random "ours-$mode" "$1"
    done
    end_ours
}

# set_rewrite true|false: virtcolod of both hosts begins anew with it.
set_rewrite() {
    local host
    for host in primary secondary; do
        on $host sh -c 'sed -i "/^ *tcp_rewrite *=/d" '$CONF' && echo "tcp_rewrite = '"$1"';" >> '$CONF
        must "$LAB" daemon $host restart virtcolod
    done
    wait_for $SETTLE_S colo primary colo-pair-list
}

measure_strict() {
    set_rewrite false
    protected_guest
    client strict-connect connect $GUEST_IP $CONNECTS
    end_ours
    set_rewrite true
}

measure_qemu() {
    qemu_colo_start tcp $PERIOD_MS
    sleep 2
    transfers qemu
    random qemu "$1"
    qemu_colo_end
}

measure_alone() {
    transfers alone
    no_guest
}

bench_lab
for ((round = 1; round <= ROUNDS; round++)); do
    for case in ours strict qemu alone; do
        idle_guest
        measure_$case "$round"
        on primary sh -c 'rm -f /var/lib/libvirt/images/ft.*'
    done
done
stats head
cd "$OUT" || exit 1
# A time of ours may be 1/0.8 of QEMU's: 0.8 of its throughput.
stats row guest download-10MB ms ours-download qemu-download --limit 1.25 --of ratio
stats row guest download-10MB-vs-alone ms ours-download alone-download
stats row guest echo-2MB ms ours-echo qemu-echo
stats row guest echo-2MB-vs-alone ms ours-echo alone-echo
stats row guest connect ms ours-connect qemu-connect
stats row guest connect-vs-alone ms ours-connect alone-connect
stats row guest connect-strict ms strict-connect qemu-connect
for mode in compare periodic auto; do
    stats row guest random-$mode ms ours-$mode-random qemu-random
    stats row guest random-$mode-in-pauses pauses ours-$mode-random-in-pauses qemu-random-in-pauses --limit 3
done
stats row guest random-pause ms ours-compare-pause qemu-pause
