# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# For the tests that kill colo-comparator: sourced after lib.sh.

# comparator_killed HOST WHO CASE: the primary goes on alone by consent; protection is back after the
# comparator is started.  Needs load_start.
comparator_killed() {
    local host=$1 who=$2 case=$3 from
    remember
    from=$(date +%s%N)
    from=${from%???}
    daemon "$host" kill comparator
    check "$case: comparator of the $who killed: the primary goes on alone" wait_for 30 state_is $P alone
    check "$case: ... by consent of the secondary" eval \
        "log_since $S | grep -q 'relinquished generation $GENERATION' || { log_since $S; false; }"
    check "$case: ... with its filters removed" wait_for 20 plain_guest $P
    check "$case: ... and serves its sessions" answers_go_on 10
    check "$case: ... the copy is gone" wait_for 20 no_copy $S
    say "output gap, comparator of the $who killed, $case: $("$LAB" client report "$TMP/tick.log" \
        --since-real "$from" --json 2> /dev/null | json gap_ms max) ms"
    daemon "$host" start comparator
}
