#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I5: virtcolod that stands still for 5 s, as while it is upgraded, is no reason for a failover.
. "$(dirname "$0")/lib.sh"
need_protected
load_start
for host in $P $S; do
    [ $host = $P ] && who=primary || who=secondary
    remember
    daemon $host pause virtcolod
    sleep 5
    check "virtcolod of the $who stands still, the other one sees it" \
        is "$(field "$(other $host)" control)" control-lost
    check "answers and checkpoints go on meanwhile" answers_go_on 5
    daemon $host resume virtcolod
    check "virtcolod of the $who goes on: protection never ended" never_ended
    remember
    daemon $host restart virtcolod
    check "virtcolod of the $who is restarted in order: protection never ended" never_ended
done
check_load "the client saw nothing of it"
finish
