#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I5: virtcolod may be killed on either host or on both; protection goes on without it, and the new
# one finds everything again.
. "$(dirname "$0")/lib.sh"
need_protected
load_start
for hosts in $P $S "$P $S"; do
    case $hosts in "$P") who="of the primary" ;; "$S") who="of the secondary" ;; *) who="of both hosts" ;; esac
    remember
    for host in $hosts; do daemon $host kill virtcolod; done
    check "virtcolod $who is gone" not colo ${hosts%% *} colo-list
    # Each answer of the random service is in a checkpoint of its own before it leaves.
    check "killed virtcolod $who: answers and checkpoints go on" answers_go_on 5
    for host in $hosts; do daemon $host start virtcolod; done
    check "virtcolod $who adopts what it finds: protection never ended" never_ended
    check "the guest serves under the new virtcolod $who" answers_go_on 10
done
check_load "the client saw nothing of it"
check "nor did the disk" disk_right
finish
