#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I5: virtcolod is killed while it protects a domain: after its restart the attempt is rolled back or
# has been completed; the guest has seen nothing, and protection can be had.
. "$(dirname "$0")/lib.sh"
need_unprotected
load_start
qemu=$(qemu_pid $P)

# Kills virtcolod of $1 once the primary's log says $2, $3 s later.
kill_at() {
    local end=$((SECONDS + 20))
    mark_logs
    colo $P colo-protect ft --pair $PAIR > /dev/null || return 1
    until log_since $P | grep -qE "$2"; do
        [ $SECONDS -lt $end ] || { echo "never: $2"; return 1; }
    done
    sleep "$3"
    daemon "$1" kill virtcolod
}
settled() { protected > /dev/null || { wait_for 5 unprotected && virtcolod_knows; }; }
virtcolod_knows() { colo $S colo-list; }

moments="$P:preparing:0 $P:copying_disks:0.3 $P:copying_disks:1 $S:preparing:0.1 $S:copying_disks:0.5"
[ "$LONG" = 1 ] && moments="$moments $P:preparing:0.3 $P:copying_disks:0 $P:copying_disks:0.6
$P:copying_disks:1.3 $P:copying_disks:1.6 $P:copying_disks:2 $P:primary._protected:0
$S:copying_disks:0 $S:copying_disks:1 $S:copying_disks:1.5 $S:primary._protected:0"
for moment in $moments; do
    IFS=: read -r host phase delay <<< "$moment"
    [ $host = $P ] && who=primary || who=secondary
    check "virtcolod of the $who is killed while $phase, $delay s" kill_at $host "${phase//_/ }" $delay
    check "the guest serves meanwhile" answers_go_on 3
    daemon $host start virtcolod
    check "after its restart it is rolled back or protected" wait_for 60 settled
    say "outcome: $(state $P)"
    check "the guest is the same and serves" eval 'is "$(qemu_pid $P)" "$qemu" && answers_go_on 3'
    if ! protected > /dev/null; then
        check "it can be protected" colo $P colo-protect ft --pair $PAIR --wait
    fi
    check "and unprotected" colo $P colo-unprotect ft
    wait_for 20 unprotected > /dev/null
done
check_load "the sessions lived through all of it"
check "the disk is right" disk_right
finish
