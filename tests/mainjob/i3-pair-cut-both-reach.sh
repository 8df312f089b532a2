#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I3: the hosts lose each other both ways, the arbiter can be reached by both: exactly one goes on,
# the other is fenced.
. "$(dirname "$0")/lib.sh"
. "$MJ_DIR/lib-split.sh"
need_protected
load_start
remember
isolate on
# reaches HOST ADDRESS PORT
reaches() { on "$1" timeout 3 bash -c "exec 3<>/dev/tcp/$2/$3"; }
check "they cannot reach each other" eval 'not reaches primary 10.77.0.2 16516 && not reaches secondary 10.77.0.1 16516'
check "both reach the arbiter" eval 'reaches primary 10.77.0.3 2379 && reaches secondary 10.77.0.3 2379'
wait_for 30 one_winner > /dev/null
one_winner > "$TMP/winner"
check "exactly one goes on" is "$(cat "$TMP/winner")" ""
[ -n "$WINNER" ] || finish
say "winner: $WINNER, which was $([ $WINNER = $P ] && echo primary || echo secondary)"
check "the other is fenced and runs nothing" wait_for 30 fenced $LOSER
check "the register names the one that goes on" is "$(register_owner)" $WINNER
check "in the generation after" is "$(field $WINNER generation)" $((GENERATION + 1))
check "it serves the sessions" answers_go_on 10
sleep 3
check "the other stays fenced" fenced $LOSER
isolate off
heals
finish
