#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I5: colo-comparator is killed on either host, the arbiter can be reached: the primary goes on alone
# by consent, protection returns by itself.
. "$(dirname "$0")/lib.sh"
. "$MJ_DIR/lib-comparator.sh"
need_protected
load_start
for who in primary secondary; do
    [ $who = primary ] && host=$P || host=$S
    comparator_killed $host $who "etcd"
    check "etcd: protection returns by itself" protected_again
    check "etcd: and compares again" answers_go_on 5
done
check_load "the sessions lived through all of it"
check "the disk is right" disk_right
finish
