#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I3: the primary loses power; the secondary goes on.  Booted again, cut off and with autostart asked
# for, the old primary does not start its stale copy; when it is heard again it becomes the secondary.
. "$(dirname "$0")/lib.sh"
. "$MJ_DIR/lib-split.sh"
need_protected
on $P virsh -q autostart ft
old=$P new=$S
load_start
remember
blocks=$(guest_disk durable)
"$LAB" kill-host $old > /dev/null
check "the secondary goes on" wait_for 30 serving $new
check "it serves the sessions" answers_go_on 10
check "with the disk as it was, and merged" wait_for 30 state_is $new alone
check "no block that was durable is missing" at_least "$(guest_disk durable)" "$blocks" "durable blocks"
check "it is defined there for good, without anything of ours" eval \
    "xml=\$(virsh_at $new dumpxml --inactive ft) && not grep -E 'qemu:arg value=.*colo|colo-q' <<< \"\$xml\""
"$LAB" cut pair:$old
quiet "$LAB" reboot $old
check "the old primary is back, cut off" on $old true
sleep 3
check "it has not started its stale copy" not in_list $old
check "and says that it waits or is fenced" state_in $old manual fenced
check "the sessions go on at the survivor" answers_go_on 10
"$LAB" heal pair:$old
check "it is heard again: protected, with the roles swapped" protected_again
find_roles
check "the survivor is the primary" is "$P" $new
heals
finish
