#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I5: libvirtd may be restarted or killed on either host while a domain is protected.
. "$(dirname "$0")/lib.sh"
need_protected
load_start
for host in $P $S; do
    [ $host = $P ] && who=primary || who=secondary
    for how in restart kill; do
        remember
        daemon $host $how libvirtd
        check "libvirtd of the $who, $how: answers and checkpoints go on" answers_go_on 5
        [ $how = kill ] && daemon $host start libvirtd
        # colo-checkpoint goes through the new libvirtd to QEMU.
        check "libvirtd of the $who is back after $how: protection never ended" never_ended
    done
done
check_load "the client saw nothing of it"
# What is done with the domain after all this goes through connections made before it.
check "protection can be ended" colo $P colo-unprotect ft
check "nothing of it is left, the guest runs" wait_for 20 unprotected
finish
