#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I5: as i5-comparator-killed, with the arbiter back-end "manual".
. "$(dirname "$0")/lib.sh"
. "$MJ_DIR/lib-comparator.sh"
touch "$DIRTY" 2> /dev/null # a lab of its own: its registers and its configuration fit no other test
GUEST_ARGS= need_unprotected
for host in primary secondary; do
    configure $host arbiter '"manual"'
    daemon $host restart virtcolod
done
check "protected with the arbiter manual" colo $P colo-protect ft --pair $PAIR --wait
touch "$DIRTY"
load_start
for who in primary secondary; do
    [ $who = primary ] && host=$P || host=$S
    comparator_killed $host $who "manual"
    check "manual: protection returns by itself" protected_again
    check "manual: and compares again" answers_go_on 5
done
check_load "the sessions lived through all of it"
finish
