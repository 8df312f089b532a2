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
    "$LAB" kill-host "$1" > /dev/null
}

# Number of the last durable block, asked until the guest is gone.
watch_disk() {
    local n
    while n=$(guest_disk durable) && [ -n "$n" ]; do
        echo "$n" > "$TMP/durable.new" && mv "$TMP/durable.new" "$TMP/durable"
    done
}
moments="0"
[ "$LONG" = 1 ] && moments="0 0.02 0.05 0.1 0.2 0.5"
for moment in $moments; do
    GUEST_ARGS="disk=100" need_protected
    old=$P new=$S
    virsh_at $old qemu-monitor-command --hmp ft info status > /dev/null
    wait_for 30 eval 'at_least "$(guest_disk durable)" 200 "durable blocks"' > /dev/null
    mark_logs
    watch_disk &
    loads=($!)
    sleep 2
    "$LAB" kill-host $old > /dev/null
    check "the takeover merges, and $moment s later the survivor dies" \
        kill_when $new 'primary: committing' $moment
    wait "${loads[0]}"
    loads=()
    last=$(cat "$TMP/durable")
    say "the last state before: $(log_since $new | grep -E 'primary: [a-z]+' | tail -n 1 | sed 's/.*notice: //')"
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
