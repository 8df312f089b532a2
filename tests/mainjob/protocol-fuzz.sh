#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Clients that break libvirt's protocol and ours, at the sockets of a virtcolod that protects a guest:
# those of protocol-cases.py, one by one, then a fuzzer (tests/fuzz/fuzz-daemon.c) as root and as
# somebody who may only look, a minute, with MJ_LONG half an hour, and those of protocol-cases.py again
# beside them. Afterwards it is the same process, nothing is left in it or in libvirtd, protection never
# ended.
# With a prefix of `configure --enable-sanitizers` what they report fails it as well.
. "$(dirname "$0")/lib.sh"
SOCKET=/run/libvirt/virtcolod-sock
RUN_S=60 WARM_S=10
# Registrations for events in connections that end now and then end libvirtd 9.0 itself (a pointer to nothing
# when it frees a client's callbacks), through us as at qemu:///: they are left out.
EVENTS=--no-events
[ "$LONG" = 1 ] && RUN_S=1800
SEED=${COLO_FUZZ_SEED:-$((EPOCHSECONDS * 1000 + $$ % 1000))}
# Of the daemon's resident memory: what malloc keeps of frames of 32 MiB that it had at one time.
GROWTH_KIB=65536
PATIENCE_S=30

virtcolod_pid() { daemon "$P" status virtcolod | sed -n 's/^virtcolod running //p'; }
rss_of() { on "$P" sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$1/status"; }
clients_of_libvirtd() { on "$P" sh -c 'virt-admin -q client-list libvirtd | grep -c unix'; }
# What its FDs are, sockets with both their ends, a line each. Without the handles that it keeps to ask etcd, one or more:
# a connection and a pair of sockets, by which libcurl wakes itself, each.
kinds_of() {
    on "$P" sh -c 'ls -l /proc/"$1"/fd | sed -n "s/.* -> //p" | grep -v "^socket:"; ss -xtanpH | grep "pid=$1,"' sh "$1" |
        awk '$1 != "u_str" && $1 != "tcp" { sub(/:\[[0-9]+\]$/, ""); print; next }
            $1 == "tcp" { if ($6 !~ /:2379$/) print $1, $2, $5, $6; next }
            { name[$6] = $5; peer[$6] = $8; state[$6] = $2 }
            END { for (i in peer) if (!(peer[i] in peer)) print "unix", state[i], name[i] }' | sort
}
fds_of() { kinds_of "$1" | wc -l; }
settled() {
    [ "$(fds_of "$PID")" -le "$FDS" ] ||
        { echo "FDs: $(fds_of "$PID"), before: $FDS"; diff "$TMP/kinds" <(kinds_of "$PID"); return 1; }
    [ "$(clients_of_libvirtd)" -le "$CLIENTS" ] || { echo "clients of libvirtd: $(clients_of_libvirtd), before: $CLIENTS"; return 1; }
}
fuzz() { on "$P" nice -n 10 "$@" "$SOCKET" ft "$UUID"; }
same_process() { is "$(virtcolod_pid)" "$PID"; }
figure() { sed -n "s/.*\b$1 \([0-9]*\).*/\1/p" "$2"; }
cases() { "$LAB" exec "$P" timeout 300 python3 "$MJ_DIR/protocol-cases.py" $SOCKET $PATIENCE_S < /dev/null 2>&1; }
# check_cases WHAT FILE: what cases() said
check_cases() {
    local name
    for name in $(python3 "$MJ_DIR/protocol-cases.py" --list); do
        check "$1: ${name//_/ }" eval "grep '^ok $name ' '$2' || { cat '$2'; false; }"
    done
}
logged() { grep -qF "$1" "$TMP/logged" || { echo "not in the log: $1"; return 1; }; }

need_protected
gcc -std=gnu11 -O2 -Wall -Wextra -o "$TMP/fuzz-daemon" "$MJ_DIR"/../fuzz/{fuzz-daemon,daemon-frames}.c || bail "fuzz-daemon compiles"
chmod 755 "$TMP" "$TMP/fuzz-daemon"
UUID=$(virsh_at "$P" domuuid ft)
PID=$(virtcolod_pid)
sanitized=$(grep -c __asan_init "$PREFIX/sbin/virtcolod")
# Its quarantine of freed memory is 256 MiB.
[ "$sanitized" = 0 ] || GROWTH_KIB=$((600 * 1024))
remember
kinds_of "$PID" > "$TMP/kinds"
FDS=$(fds_of "$PID") CLIENTS=$(clients_of_libvirtd)
say "seed $SEED, virtcolod $PID: $FDS FDs, $(rss_of "$PID") KiB; libvirtd: $CLIENTS clients"

# Alone: the log leaves lines out when many clients are closed.
cases > "$TMP/cases"
check_cases "client" "$TMP/cases"
log_since "$P" > "$TMP/logged"
for line in "above the limit of 33554436" "below the header of 28" "a frame with more FDs than libvirt allows" \
    "more FDs at once than libvirt allows" "an FD that belongs to no frame" "a serial from the range of our own calls" \
    "a CONNECT_OPEN that is no plain call" "a frame was begun and not ended" "it has not said a whole frame in"; do
    check "logged: $line" logged "$line"
done
check "a short run" fuzz "$TMP/fuzz-daemon" $EVENTS --seconds $WARM_S --seed "$SEED"
RSS=$(rss_of "$PID")
cases > "$TMP/cases-beside" &
beside=$!
fuzz "$TMP/fuzz-daemon" $EVENTS --seconds $RUN_S --seed $((SEED + 1)) > "$TMP/rw" 2>&1 &
rw=$!
"$LAB" exec "$P" nice -n 10 setpriv --reuid 65534 --regid 65534 --clear-groups "$TMP/fuzz-daemon" $EVENTS --seconds $RUN_S \
    --seed $((SEED + 2)) --connections 20 --readonly $SOCKET ft "$UUID" < /dev/null > "$TMP/ro" 2>&1 &
ro=$!
loads+=("$beside" "$rw" "$ro")
wait $beside
wait $rw
rw_rc=$?
wait $ro
ro_rc=$?
loads=()
check_cases "beside them" "$TMP/cases-beside"
say "root: $(tail -n 1 "$TMP/rw")"
say "nobody, read-only: $(tail -n 1 "$TMP/ro")"
check "a fuzzer of $RUN_S s: framed answers, new clients are served" eval "cat '$TMP/rw'; [ $rw_rc = 0 ]"
check "and one that may only look" eval "cat '$TMP/ro'; [ $ro_rc = 0 ]"
check "it got far" eval 'at_least "$(figure replies "$TMP/rw")" $((RUN_S * 10)) replies && at_least "$(figure mutated "$TMP/rw")" $((RUN_S * 50)) "mutated frames"'
check "virtcolod is the same process" same_process
check "none of its descriptors and of libvirtd's clients is left" wait_for $((PATIENCE_S + 30)) settled
say "virtcolod: $(fds_of "$PID") FDs, $(rss_of "$PID") KiB; libvirtd: $(clients_of_libvirtd) clients"
check "its memory: not $GROWTH_KIB KiB more than after the short run" eval '[ $(($(rss_of "$PID") - RSS)) -lt $GROWTH_KIB ]'
check "a fresh virsh works" eval 'is "$(on "$P" timeout 60 virsh -q -c colo:///system domstate ft)" running'
check "a fresh virsh-colo works" grep -qw "$S" <<< "$(colo "$P" colo-pair-list)"
check "protection never ended" never_ended
check "it stops and starts as always" eval 'daemon "$P" restart virtcolod && wait_for $SETTLE_S protected'
check "and no sanitizer had something to say" eval '! grep -aE "Sanitizer|runtime error:" "$LAB_LOG/$P/virtcolod.log"'
finish
