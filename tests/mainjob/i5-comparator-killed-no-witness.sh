#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I5: as i5-comparator-killed, while no arbiter can be reached: consent needs none.  The register
# follows when it is back, and only then a new session begins.
. "$(dirname "$0")/lib.sh"
. "$MJ_DIR/lib-comparator.sh"
need_protected
load_start
for who in primary secondary; do
    [ $who = primary ] && host=$P || host=$S
    "$LAB" cut witness
    comparator_killed $host $who "etcd down"
    sleep 4
    check "etcd down: it does not protect again without the register" eval \
        "state_in $P alone preparing && no_copy $S"
    "$LAB" heal witness
    check "etcd back: protection returns by itself" protected_again
    check "etcd back: and compares again" answers_go_on 5
done
check_load "the sessions lived through all of it"
finish
