#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Answers that always differ make the domain periodic, and it says why; when they agree it goes back.
# colo-tune is in force at once, and kept over a restart of virtcolod and at the other host.
. "$(dirname "$0")/lib.sh"
need_protected
remember

mode_is() { is "$(field "$P" checkpoint-mode)" "$1"; }
tuned() { colo "$1" colo-tune ft --json | json tuning "$2"; }
policy_event() { grep -q '"event":"policy".*"mode":"periodic"' "$TMP/events"; }

check "it begins by comparing" mode_is compare
colo "$P" colo-events ft --loop --json > "$TMP/events" 2> /dev/null &
loads=($!)
# So that it does not depend on how this machine's pauses and its network compare.
check "it is tuned while it is protected" colo "$P" colo-tune ft --pause-share 1 --period-max-ms 40
check "the session has the new values" is "$(stat "$P" tuning pause-share)" 1
"$LAB" client random --interval 10 --duration 600 --out "$TMP/random.log" > /dev/null 2>&1 &
random=$!
loads+=($random)
check "answers that always differ: periodic" wait_for 120 mode_is periodic
reason=$(field "$P" checkpoint-mode-reason)
check "and colo-status says why" grep -qE '^output differed in [0-9]+ of 16 checkpoints' <<< "$reason"
say "figure checkpoint-mode: $reason; period $(stat "$P" policy period-ns) ns, skew $(stat "$P" skew-ns)"
check "an event tells" wait_for 20 policy_event
asked=$(stat "$P" counters wanted-period)
more_periods() { at_least "$(stat "$P" counters wanted-period)" $((asked + 5)) "periods"; }
check "its answers leave by periods" wait_for 60 more_periods
kill -TERM $random
wait $random 2> /dev/null
"$LAB" client tick --interval 20 --duration 600 --out "$TMP/tick.log" > /dev/null 2>&1 &
loads+=($!)
check "answers that agree: it compares again" wait_for 120 mode_is compare
check "and says why" grep -q '^output agreed' <<< "$(field "$P" checkpoint-mode-reason)"

check "set by hand" colo "$P" colo-tune ft --mode periodic
check "in force at once" mode_is periodic
check "out of order: refused" not colo "$P" colo-tune ft --period-min-ms 41
check "not at the other host" not colo "$S" colo-tune ft --mode compare
daemon "$P" kill virtcolod
daemon "$P" start virtcolod
check "virtcolod starts again" wait_for 60 mode_is periodic
check "it has kept what was changed" is "$(tuned "$P" mode) $(tuned "$P" pause-share)" "periodic 1"
check "and so has the other host" is "$(tuned "$S" mode) $(tuned "$S" pause-share)" "periodic 1"
check "protection never ended" never_ended
colo "$P" colo-tune ft --mode auto --pause-share 50 --period-max-ms 1000 > /dev/null
finish
