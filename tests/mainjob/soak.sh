#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Protected operation under load for 2 minutes (MJ_LONG=1: 30): no panic of the guest, no wrong byte,
# no corrupt block or page, protection without a break, and neither daemon's memory grows on
# either host: it is sampled, printed, and the last quarter judged against the second.
. "$(dirname "$0")/lib.sh"
seconds=${MJ_SOAK_S:-120}
[ "$LONG" = 1 ] && seconds=${MJ_SOAK_S:-1800}
SAMPLE_S=5
# Medians of quarters: an allocator's noise, far less than one leaked frame or message a checkpoint
# (thousands of checkpoints) would be.
GROWTH_KIB=1024

# guest_says COMMAND: the answer of the guest's control port.
guest_says() {
    on client timeout 40 bash -c "exec 3<>/dev/tcp/$GUEST_IP/11; echo '$1' >&3; read -r -t 30 line <&3; echo \"\$line\""
}

no_trouble_at() {
    local console
    console=$("$LAB" guest console "$1" 2> /dev/null) || return 0 # this host has no console of it
    ! grep -aE 'DISK-CORRUPT|MEM-CORRUPT|DISK-FAIL|GUEST-FAIL|Kernel panic|Oops|BUG:' <<< "$console"
}

small_growth() {
    local found
    found=$(json "$1" growth <<< "$growth") || { echo "no figures of $1"; return 1; }
    [ "$found" -le $GROWTH_KIB ] || { echo "$1 grew by $found KiB, over $GROWTH_KIB"; return 1; }
}

need_protected
check "memory load begins" grep -q '^ok' <<< "$(guest_says 'dirty 10')"
load_start 50
"$LAB" client http --interval 1000 --timeout 60 --out "$TMP/http.log" > /dev/null 2> "$TMP/http.err" &
http=$!
remember
watch=()
for host in primary secondary; do
    "$LAB" exec $host python3 "$MJ_DIR/watch.py" rss "$seconds" $SAMPLE_S > "$TMP/$host.rss" < /dev/null &
    watch[${#watch[@]}]=$!
done
wait "${watch[@]}"
check "memory was dirtied, and all of it read back right" is \
    "$(guest_says mem | sed -n 's/.* pages=[1-9][0-9]* errors=\([0-9]*\).*/\1/p')" 0
kill -TERM $http
wait $http; rc=$?
check "every download was right ($(grep -c '^R' "$TMP/http.log"))" sh -c 'cat "$1"; exit "$2"' sh "$TMP/http.err" $rc
check "downloads came" at_least "$(grep -c '^R' "$TMP/http.log")" 3 downloads
check_load "every answer came, in order and right ($(answers tick), $(answers random))"
check "the disk is right" disk_right
check "protection never ended" never_ended
for host in primary secondary; do check "nothing wrong on the console at $host" no_trouble_at $host; done

growth=$(python3 "$MJ_DIR/watch.py" growth "$TMP/primary.rss" "$TMP/secondary.rss")
for host in primary secondary; do
    for name in virtcolod comparator; do
        say "rss $host $name KiB: $(awk -v d=$name '$3 == d { printf "%s ", $5 }' "$TMP/$host.rss")"
        say "figure soak $host $name: $(json $host-$name <<< "$growth")"
        check "$name at $host lived through it" is "$(json $host-$name same-process <<< "$growth")" True
        check "$name at $host does not grow" small_growth $host-$name
    done
done
say "figure soak checkpoints in $seconds s: $(($(stat "$P" committed) - CHECKPOINTS)), pauses ns $(stat "$P" pause-ns)"
check "memory load ends" grep -q '^ok' <<< "$(guest_says 'dirty 0')"
finish
