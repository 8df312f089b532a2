#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Protection ends and begins again under load: the guest, its sessions and its disk see nothing.
. "$(dirname "$0")/lib.sh"
need_protected
load_start
qemu=$(qemu_pid $P)
was=$(field $P generation)
check "refused at the secondary, which names the primary" eval \
    "out=\$(not colo $S colo-unprotect ft 2>&1) && grep -q \"^error: .*'ft'.*$P\" <<< \"\$out\" || { echo \"\$out\"; false; }"
check "still protected" protected
check "unprotected" colo $P colo-unprotect ft
check "nothing of it is left in the guest and on the peer" unprotected
check "the guest is the same process" is "$(qemu_pid $P)" "$qemu"
check "it serves" answers_go_on 10
check "unprotected again: refused" not colo $P colo-unprotect ft
check "and stays unprotected: nothing protects it by itself" eval "sleep 4; state_is $P unprotected && no_copy $S"
check "protected again" colo $P colo-protect ft --pair $PAIR --wait
check "on both hosts" wait_for 20 protected
check "in a later generation: the copy of the last one can never serve" \
    at_least "$(field $P generation)" $((was + 1)) generation
check "the guest is still the same process" is "$(qemu_pid $P)" "$qemu"
check "it serves, compared" answers_go_on 10
check_load "the sessions lived through it"
check "the disk is right" disk_right
finish
