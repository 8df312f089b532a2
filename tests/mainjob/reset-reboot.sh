#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Reset and reboot of a protected guest, by its host and by itself: it boots anew where it ran, nobody
# takes over, and both hosts protect it in the end.
. "$(dirname "$0")/lib.sh"

uptime_ns() {
    on client timeout 5 bash -c "exec 3<>/dev/tcp/$GUEST_IP/10; echo >&3; head -n 1 <&3" 2> /dev/null | cut -d ' ' -f 1
}
# Its clock began again: by ours it would be past that by now.
booted_anew() {
    local now
    now=$(uptime_ns) && [ -n "$now" ] && [ "$now" -lt "$before" ]
}

# Its answer may not come any more.
reboots_itself() { on client timeout 5 bash -c "exec 3<>/dev/tcp/$GUEST_IP/11; echo reboot >&3; read -r -t 2 line <&3; :"; }
# boots WHAT COMMAND...
boots() {
    local what=$1 from
    shift
    from=$P before=$(uptime_ns)
    mark_logs
    [ -n "$before" ] || { check "$what: the guest answers before it" false; return; }
    check "$what" "$@"
    check "$what: the guest boots anew" wait_for 60 booted_anew
    check "$what: protected, on both hosts" wait_for $SETTLE_S protected
    check "$what: with a copy whose devices work" wait_for $SETTLE_S protected_well
    find_roles
    check "$what: where it ran, and nobody took over" eval \
        'is "$P" "$from" && not grep -E "failing-over|committing" <<< "$(log_since "$S")"'
    check "$what: its disk has what was written" wait_for 60 eval 'is "$(guest_disk ready)" 1 && is "$(guest_disk errors)" 0'
}

need_unprotected
# The lab's domain ends at a reboot; a copy is made from what the guest runs with.
quiet virsh_at "$P" set-lifecycle-action ft reboot restart --live || bail "a reboot restarts the guest"
quiet colo "$P" colo-protect ft --pair $PAIR --wait || bail "protected"
wait_for $SETTLE_S protected > /dev/null && find_roles
boots "virsh reset" on "$P" virsh -q -c colo:///system reset ft
boots "its own reboot" reboots_itself
boots "virsh reboot" on "$P" virsh -q -c colo:///system reboot ft --mode acpi
finish
