#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What colo:///system adds to libvirt's calls, beside qemu:///system in the same run.
#   bench-relay.sh [--rounds N] [--prefix DIR] [--out DIR]
# call: the smallest call, 100 a round in turn (N rounds, 40): median, and what is added at the median
# and at the 99th percentile. list: 1,000 defined domains. upload, download: a volume of 256 MiB.
# idle: processor time of virtcolod with 200 connections that say nothing, ms a second, and without.
usage() { sed -n '4s/^# *//p' "$0"; }
. "$(dirname "$(readlink -f "$0")")/lib.sh"
options relay 40 "$@"
DOMAINS=1000 LISTS=15 VOLUME_MIB=256 COPIES=5 IDLE=200 IDLE_S=10

in_host() { "$LAB" exec primary "$@" < /dev/null; }

# times CASE COMMAND...: lines "URI US" of relay-calls into CASE-ours and CASE-direct, ms.
times() {
    local case=$1
    shift
    in_host "$OUT/relay-calls" "$@" > "$OUT/$case.raw" || die "relay-calls $*"
    awk '$1 ~ /^colo:/ { print $2 / 1000 }' "$OUT/$case.raw" > "$OUT/$case-ours"
    awk '$1 ~ /^qemu:/ { print $2 / 1000 }' "$OUT/$case.raw" > "$OUT/$case-direct"
}

# added CASE PERCENT FILE: ours less direct at that percentile, us.
added() {
    local side value=()
    for side in ours direct; do
        value[${#value[@]}]=$(sort -n "$OUT/$1-$side" | awk -v p="$2" '{ v[NR] = $1 } END { i = int(NR * p / 100); print v[i < 1 ? 1 : i] * 1000 }')
    done
    awk -v a="${value[0]}" -v b="${value[1]}" 'BEGIN { print a - b }' > "$OUT/$3"
}

# copy DIRECTION SIDE: one volume through the stream of that URI, ms.
copy() {
    local uri=qemu begin
    [ "$2" = ours ] && uri=colo
    begin=$(now_us)
    must in_host virsh -q -c $uri:///system "vol-$1" relay-bench /tmp/relay-bench.img --pool default
    awk -v us=$(($(now_us) - begin)) 'BEGIN { print us / 1000 }' >> "$OUT/$1-$2"
}

cpu_ms() { in_host sh -c 'awk -v hz="$(getconf CLK_TCK)" "{ print (\$14 + \$15) * 1000 / hz }" "/proc/$(cut -d" " -f1 /run/lab/virtcolod.pid)/stat"'; }

bench_lab
gcc -O2 -Wall -o "$OUT/relay-calls" "$BENCH_DIR/relay-calls.c" $(pkg-config --cflags --libs libvirt) ||
    die "relay-calls.c does not build"
times call calls colo:///system qemu:///system "$ROUNDS"
times list list colo:///system qemu:///system $LISTS $DOMAINS
added call 50 call-added-median
added call 99 call-added-p99

must in_host sh -c "virsh -q -c qemu:///system pool-list | grep -q default ||
    { virsh -q -c qemu:///system pool-create-as default dir --target /var/lib/libvirt/images; }"
must in_host sh -c "head -c $((VOLUME_MIB << 20)) /dev/urandom > /tmp/relay-bench.img"
must virsh_at primary -c qemu:///system vol-create-as default relay-bench ${VOLUME_MIB}M --format raw
for ((i = 0; i < COPIES; i++)); do
    for direction in upload download; do
        if [ $((i % 2)) = 0 ]; then copy $direction ours; copy $direction direct; else copy $direction direct; copy $direction ours; fi
    done
done
must virsh_at primary -c qemu:///system vol-delete relay-bench --pool default
in_host rm -f /tmp/relay-bench.img

before=$(cpu_ms)
sleep $IDLE_S
awk -v a="$before" -v b="$(cpu_ms)" -v s=$IDLE_S 'BEGIN { print (b - a) / s }' > "$OUT/idle-without"
"$LAB" exec primary "$OUT/relay-calls" idle colo:///system $IDLE $((IDLE_S + 5)) > "$OUT/idle.out" < /dev/null &
clients+=($!)
wait_for 30 grep -q ready "$OUT/idle.out"
before=$(cpu_ms)
sleep $IDLE_S
awk -v a="$before" -v b="$(cpu_ms)" -v s=$IDLE_S 'BEGIN { print (b - a) / s }' > "$OUT/idle"

stats head
cd "$OUT" || exit 1
stats row relay call ms call-ours call-direct
stats row relay call-added-median us call-added-median --limit 20
stats row relay call-added-p99 us call-added-p99 --limit 60
stats row relay list-$DOMAINS ms list-ours list-direct --limit 1.1 --of ratio
# 0.95 of the throughput.
for direction in upload download; do
    stats row relay $direction-${VOLUME_MIB}MiB ms $direction-ours $direction-direct --limit 1.053 --of ratio
done
stats row relay idle-$IDLE-clients ms/s idle idle-without
