#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The survivor of a takeover loses power while it merges its disks: its virtcolod puts the disk
# together from the files of the chain, and the guest finds every block that was durable.
. "$(dirname "$0")/lib.sh"

# Kills the host $1 once its log says what matches $2 (since mark_logs), or after 20 s.
kill_when() {
    local end=$((SECONDS + 20))
    until log_since "$1" | grep -qE "$2"; do
        [ $SECONDS -lt $end ] || return 1
    done
    [ "$3" = 0 ] || sleep "$3"
    # At once: kill-host takes as long as a merge, and cleans up after it.
    kill -KILL "$(cut -d' ' -f1 "$HOST_PID")"
    "$LAB" kill-host "$1" > /dev/null
}
last_state() { log_since "$1" | grep -oE '(primary|secondary): [a-z-]+' | tail -n 1; }

# Number of the last durable block, asked until the guest is gone.
watch_disk() {
    local n
    while n=$(guest_disk durable) && [ -n "$n" ]; do
        echo "$n" > "$TMP/durable.new" && mv "$TMP/durable.new" "$TMP/durable"
    done
}
moments="committing:0"
[ "$LONG" = 1 ] && moments="failing-over:0 failing-over:0.05 committing:0 committing:0.05 committing:0.1 committing:0.15"
for moment in $moments; do
    GUEST_ARGS="disk=100" need_protected
    old=$P new=$S
    HOST_PID=$("$LAB" path state)/pids/init-$new
    [ -e "$HOST_PID" ] || HOST_PID=$("$LAB" path state)/pids/qemu-$new
    wait_for 30 eval 'at_least "$(guest_disk durable)" 200 "durable blocks"' > /dev/null
    mark_logs
    watch_disk &
    loads=($!)
    sleep 2
    "$LAB" kill-host $old > /dev/null
    check "the survivor dies ${moment#*:} s after it began ${moment%:*}" \
        kill_when $new ": ${moment%:*}" "${moment#*:}"
    check "that was before it had merged its disks" eval \
        'grep -E "failing-over|committing" <<< "$(last_state $new)" || { log_since $new; false; }'
    wait "${loads[0]}"
    loads=()
    last=$(cat "$TMP/durable")
    mark_logs
    quiet "$LAB" reboot $new
    check "booted again: the disk is put together, the domain waits for its start" \
        wait_for 60 state_in $new alone
    check "no overlay is left" no_copy $new
    check "it starts from its disk" virsh_at $new start ft
    check "the guest has judged its whole disk" wait_for 90 eval 'is "$(guest_disk ready)" 1'
    check "every block is right" is "$(guest_disk errors)" 0
    check "no durable block is missing (last seen: $last)" \
        at_least "$(guest_disk recovered)" "$last" "recovered blocks"
    quiet "$LAB" reboot $old
    P=$new S=$old GENERATION=0
    check "the other host is back: protected again" wait_for 60 protected
done
finish
