#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I3: the hosts lose each other and the arbiter: output is held, no host serves.  When the arbiter is
# back, with the hosts still apart, exactly one goes on by itself.
. "$(dirname "$0")/lib.sh"
. "$MJ_DIR/lib-split.sh"
need_protected
load_start 50
remember
"$LAB" cut witness
isolate on
check "both wait: degraded" wait_for 30 eval 'state_is primary degraded && state_is secondary degraded'
sleep 1
held=$(answers tick)
sleep 3
check "output is held: no answer comes" is "$(answers tick)" "$held"
check "no host serves" not one_winner
check "the guest is not lost: both copies are there" eval 'in_list primary && in_list secondary'
"$LAB" heal witness
wait_for 30 one_winner > /dev/null
one_winner > "$TMP/winner"
check "the arbiter is back: exactly one goes on" is "$(cat "$TMP/winner")" ""
[ -n "$WINNER" ] || finish
check "the other is fenced" wait_for 30 fenced $LOSER
check "the register names the one that goes on" is "$(register_owner)" $WINNER
check "what was held leaves, the sessions go on" answers_go_on 10
isolate off
heals
finish
