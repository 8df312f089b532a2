#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I3: the primary loses both its peer and the arbiter, but not its clients: it lets nothing out, the
# secondary takes over, and when the cut heals the old primary learns that it lost.
. "$(dirname "$0")/lib.sh"
. "$MJ_DIR/lib-split.sh"
need_protected
load_start
remember
"$LAB" cut pair:$P
check "the secondary goes on" wait_for 30 serving $S
check "it serves the sessions" answers_go_on 10
check "the old primary does not own it: degraded" state_is $P degraded
# It cannot know who won: its guest may live, its output may not leave.
check "its gate is shut" eval 'is "$(stat $P gate)" hold'
released=$(stat $P counters released)
check "the sessions go on from the secondary alone" answers_go_on 20
check "nothing left the old primary meanwhile" is "$(stat $P counters released)" "$released"
isolate on # no consent between the hosts: the register alone tells
"$LAB" heal pair:$P
check "the witness is back: the old primary learns that it lost, and is fenced" wait_for 30 fenced $P
isolate off
heals
finish
