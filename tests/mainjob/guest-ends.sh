#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A guest that is shut down or destroyed on purpose ends on both hosts: that is no failover.
. "$(dirname "$0")/lib.sh"

# Neither host runs it, and neither took over.
ended() {
    not in_list $P && not in_list $S && no_copy $S || return 1
    ! log_since $S | grep -E 'failing-over|committing|alone' || { echo "the secondary took over"; return 1; }
}
start_again() {
    virsh_at $P start ft && wait_for 60 on client timeout 5 bash -c "exec 3<>/dev/tcp/$GUEST_IP/8" &&
        wait_for 60 eval 'is "$(guest_disk ready)" 1' && is "$(guest_disk errors)" 0
}

need_protected
blocks=$(guest_disk durable)
# The guest powers itself off: it is its own kernel that ends it.
check "the guest is told to power off" "$LAB" guest down $P
check "shutdown in the guest ends both copies" wait_for 30 ended
check "it starts from its disk where it was" start_again
check "with all that was written" at_least "$(guest_disk recovered)" "$blocks" "recovered blocks"
check "and is protected again by itself" wait_for 60 protected

need_protected
check "virsh destroy at the primary" virsh_at $P destroy ft
check "virsh destroy at the primary ends both copies" wait_for 30 ended
sleep 3
check "and they stay ended" ended
check "it starts from its disk again" start_again
check "and is protected again by itself" wait_for 60 protected
finish
