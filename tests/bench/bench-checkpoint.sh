#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# How long a checkpoint stops the guest, and what protection costs a running guest at its beginning.
#   bench-checkpoint.sh [--rounds N] [--seconds S] [--prefix DIR] [--out DIR]
# Three set-ups of the same idle guest with a disk take turns, each from a fresh start:
#   ours       both comparators and TLS between the hosts
#   qemu-tcp   QEMU's documented set-up (docs/COLO-FT.txt), plain TCP between the hosts
#   qemu-unix  the same over bare unix sockets
# A pause is STOP to RESUME at the primary by QEMU's own clock; a round's sample is the median of its
# pauses over S seconds (12), N rounds (5).  `enable` is colo-protect --wait of a guest with a 64 MiB
# disk; enable-pause is the longest pause until it returned.
usage() { sed -n '4s/^# *//p' "$0"; }
. "$(dirname "$(readlink -f "$0")")/lib.sh"
. "$BENCH_DIR/qemu-colo.sh"
options checkpoint 5 "$@"
window=${SECONDS_A_ROUND:-12}
PERIOD_MS=500 # virtcolod's default; QEMU's own 20 s would make its checkpoints rare, not shorter

# settle_and_measure CASE ROUND: all pauses of the window, and their median as a sample.
settle_and_measure() {
    sleep 2
    events "$OUT/$1-$2.events" "$window"
    stats pauses "$OUT/$1-$2.events" > "$OUT/$1-$2.ms"
    [ "$(wc -l < "$OUT/$1-$2.ms")" -ge $((window * 1000 / PERIOD_MS / 3)) ] ||
        die "$1: $(wc -l < "$OUT/$1-$2.ms") checkpoints in $window s: it does not run"
    cat "$OUT/$1-$2.ms" >> "$OUT/$1.all"
    stats median "$OUT/$1-$2.ms" >> "$OUT/$1"
    say "round $2 $1: median $(tail -1 "$OUT/$1") ms of $(wc -l < "$OUT/$1-$2.ms"), load $(cut -d' ' -f1 /proc/loadavg)"
}

measure_ours() {
    local begin end events
    must colo primary colo-prepare ft --pair $PAIR
    events "$OUT/enable-$1.events" 8 &
    events=$!
    sleep 1
    begin=$(now_us)
    protect
    end=$(now_us)
    wait $events
    awk -v us=$((end - begin)) 'BEGIN { print us / 1000 }' >> "$OUT/enable"
    stats pauses "$OUT/enable-$1.events" --first "$begin" --last "$end" | sort -n | tail -1 >> "$OUT/enable-pause"
    settle_and_measure ours "$1"
    must colo primary colo-unprotect ft
    no_guest
    on secondary sh -c 'rm -f /var/lib/libvirt/images/ft.*'
}

measure_qemu() { # ROUND tcp|unix
    qemu_colo_start "$2" $PERIOD_MS "$sockets"
    settle_and_measure "qemu-$2" "$1"
    qemu_colo_end
}

bench_lab
sockets=$OUT/sockets
mkdir -p "$sockets"
for ((round = 1; round <= ROUNDS; round++)); do
    for case in ours tcp unix; do
        idle_guest
        if [ $case = ours ]; then measure_ours "$round"; else measure_qemu "$round" $case; fi
        on primary sh -c 'rm -f /var/lib/libvirt/images/ft.*'
    done
done
rm -rf "$sockets"
say "checkpoint pause, STOP to RESUME at the primary; samples are medians of $window s"
stats head
cd "$OUT" || exit 1
stats row checkpoint pause-vs-qemu-tcp ms ours qemu-tcp --limit 0.25 --of ratio
stats row checkpoint pause-vs-qemu-unix ms ours qemu-unix --limit 3 --of ratio
say "all pauses"
stats row checkpoint pause-each ms ours.all qemu-tcp.all
say "protection of a running guest with a 64 MiB disk"
stats row checkpoint enable ms enable --limit 3000
stats row checkpoint enable-pause ms enable-pause --limit 100
stats plot "Checkpoint pause, idle guest with disk" ms "$OUT/checkpoint.svg" \
    "ours (TLS)=ours.all" "QEMU, TCP=qemu-tcp.all" "QEMU, unix=qemu-unix.all"
