#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# virsh-colo against a made-up daemon: what it prints for people and for programs, how it exits.
# Every check compares with what must stand there; each command of the table has at least one.
set -u
top=${abs_top_builddir:-.}
cli=${COLO_CLI:-$top/tools/virsh-colo}
daemon=${COLO_CLI_DAEMON:-$top/tests/unit/test-cli-daemon}
dir=$(mktemp -d)
. "${abs_top_srcdir:-.}/tests/tap.sh"
evidence() {
    echo "exit code $code; standard output and error:"
    cat "$dir/stdout" "$dir/stderr"
}
export LC_ALL=C.UTF-8 LANGUAGE='' COLO_SOCKET="$dir/sock"

cleanup() {
    exec 7>&- 8<&-
    [ -n "${pid:-}" ] && wait "$pid" 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

mkfifo "$dir/in" "$dir/out"
"$daemon" "$COLO_SOCKET" <"$dir/in" >"$dir/out" 7>&- 8<&- &
pid=$!
exec 7>"$dir/in" 8<"$dir/out"
if ! read -r -t 10 word <&8 || [ "$word" != ready ]; then
    echo "Bail out! the test daemon did not start"
    exit 1
fi

# run ARGS...: the command, its output to files, its exit code to $code.
run() {
    "$cli" "$@" >"$dir/stdout" 2>"$dir/stderr" </dev/null
    code=$?
}

# expect NAME CODE STDOUT STDERR ARGS...: whole output must be equal.
expect() {
    local name=$1 want=$2 out=$3 err=$4
    shift 4
    run "$@"
    [ "$code" = "$want" ] && [ "$(cat "$dir/stdout")" = "$out" ] &&
        [ "$(cat "$dir/stderr")" = "$err" ]
    result "$name" $?
}

# pairs of hosts
expect 'pair-list: table as virsh prints it' 0 ' Name   Peer   Port    State
------------------------------
 ab     beta   16520   up' '' colo-pair-list
expect 'pair-list -q: rows alone' 0 ' ab   beta   16520   up' '' -q colo-pair-list
expect 'pair-list --json' 0 \
    '{"pairs":[{"name":"ab","peer":"beta","port":16520,"state":"up","local-host":"alpha"}]}' '' \
    colo-pair-list --json
expect 'pair-define' 0 "Pair 'cd' defined" '' colo-pair-define cd --peer gamma --port 16520
expect 'pair-define twice: the daemon refuses' 1 '' "error: pair 'cd' is there" \
    colo-pair-define cd --peer gamma
expect 'pair-define --json' 0 '{"name":"ef"}' '' colo-pair-define --json ef --peer=delta
expect 'pair-undefine' 0 "Pair 'cd' has been undefined" '' colo-pair-undefine cd
expect 'pair-undefine of no pair' 1 '' "error: Pair not found: no pair 'cd'" colo-pair-undefine cd
expect 'pair-undefine -q prints nothing' 0 '' '' -q colo-pair-undefine ef
expect 'pair-info' 0 'Name:              ab
This host:         alpha
Peer:              beta
Port:              16520
State:             up
Peer'\''s version:    0.1.0
Last heard:        40 ms ago
Pool map:          default=fast, vms=vms2
Certificate until: 2027-01-01' '' colo-pair-info ab
run colo-pair-info ab --json
grep -q '"peer-version":"0.1.0"' "$dir/stdout" && [ $code = 0 ] &&
    grep -q '"pool-map":{"default":"fast","vms":"vms2"}' "$dir/stdout"
result 'pair-info --json' $?

expect 'pair-features: both hosts and the outcome' 0 \
    ' Feature              Policy          alpha   beta   Outcome          Reason
-------------------------------------------------------------------------------------
 preemption-quantum   require:10000   yes     no     refused          host beta: no
 avic                 prefer          yes     no     on / untouched   -

CPU model of both hosts: EPYC' '' colo-pair-features ab
expect 'pair-features of no pair' 1 '' "error: Pair not found: no pair 'xy'" colo-pair-features xy
run colo-pair-features ab --domain web1 --json
[ $code = 0 ] && grep -q '^{"pair":"ab".*"outcome":{"alpha":"refused"' "$dir/stdout"
result 'pair-features --json' $?

# prepare and protect
expect 'prepare: what is open' 0 ' Host    Object   Action                         Done
-------------------------------------------------------
 beta    vda      create a copy                  yes
 alpha   net0     driver qemu instead of vhost   no' '' colo-prepare web1 --pair ab
expect 'prepare -q --fix' 0 ' beta    vda    create a copy                  yes
 alpha   net0   driver qemu instead of vhost   yes' '' -q colo-prepare web1 --pair ab --fix
run colo-prepare web1 --pair ab --json
grep -q '^{"actions":\[{"host":"beta"' "$dir/stdout" && [ $code = 0 ]
result 'prepare --json' $?
expect 'unprotect of an unprotected domain' 1 '' \
    "error: Requested operation is not valid: domain 'web1' is not protected" colo-unprotect web1
expect 'protect starts and returns' 0 "Protection of domain 'web1' started; see colo-status" '' \
    colo-protect web1 --pair ab
expect 'unprotect' 0 "Domain 'web1' is no longer protected" '' colo-unprotect web1
expect 'protect --json' 0 '{"job":"started"}' '' colo-protect --domain web1 --pair ab --json
expect 'protect --features' 0 "Protection of domain 'web1' started; see colo-status" '' \
    colo-protect web1 --pair ab --features descriptor-table-exiting=require:count+lock
expect 'unprotect --json' 0 '{"name":"web1"}' '' colo-unprotect web1 --json

run colo-protect web1 --pair ab --wait
[ $code = 0 ] && [ "$(cat "$dir/stdout")" = "Domain 'web1' is protected" ] &&
    tr '\r' '\n' <"$dir/stderr" | grep -v '^$' >"$dir/bars" &&
    printf '%s\n' 'Disk: [  0.00 %]' 'Disk: [ 50.00 %]' 'Memory: [ 50.00 %]' 'Memory: [100.00 %]' |
    cmp -s - "$dir/bars"
result 'protect --wait: a bar for the disk, one for memory, the verdict' $?
run colo-protect web1 --pair ab --wait --json
[ $code = 0 ] && grep -q '^{"name":"web1".*"state":"protected"' "$dir/stdout" &&
    [ ! -s "$dir/stderr" ]
result 'protect --wait --json: the status at the end' $?
run colo-protect broken --pair ab --wait
[ $code = 1 ] && [ ! -s "$dir/stdout" ] &&
    [ "$(tail -n1 "$dir/stderr")" = \
        "error: disk 'vda' of domain 'broken': no space left on beta" ]
result 'protect --wait ends with the error of the daemon' $?
run colo-protect slow --pair ab --wait --timeout 1
[ $code = 1 ] && grep -q "^error: domain 'slow' is syncing after 1000 ms: protection goes on" \
    "$dir/stderr"
result 'protect --wait --timeout gives up' $?
expect 'protect --timeout alone is refused' 2 '' 'error: option --timeout needs --wait' \
    colo-protect web1 --pair ab --timeout 5
expect 'protect with no such pair' 1 '' "error: Pair not found: no pair 'xy'" \
    colo-protect web1 --pair xy
expect 'protect of no domain' 1 '' \
    "error: Domain not found: no domain with matching name 'web2'" colo-protect web2 --pair ab

# owner
expect 'checkpoint' 0 "Domain 'web1': checkpoint 18 taken" '' colo-checkpoint web1
expect 'checkpoint --json' 0 '{"name":"web1","checkpoints":18}' '' colo-checkpoint web1 --json
expect 'failover without --i-am-sure' 1 '' \
    'error: no arbiter is configured: make sure, then say --i-am-sure' colo-failover web1
expect 'failover' 0 "Domain 'web1' belongs to this host now (generation 4, alone)" '' \
    colo-failover web1 --i-am-sure
expect 'failover --discard says what is lost, also with -q' 0 'Lost: 41 s of disk writes' '' \
    -q colo-failover web1 --i-am-sure --discard
expect 'switchover' 0 "Domain 'web1' runs on the other host now (generation 4)" '' \
    colo-switchover web1
expect 'switchover --json' 0 '{"name":"web1","generation":4}' '' colo-switchover web1 --json
expect 'tune shows' 0 ' Parameter     Value      Default
-----------------------------------
 mode          auto       auto
 pause-share   40         40
 features      avic=off   -' '' colo-tune web1
expect 'tune changes features' 0 "Domain 'web1' is tuned" '' \
    colo-tune web1 --features preemption-quantum=require:10000,avic=off
expect 'tune changes' 0 "Domain 'web1' is tuned" '' colo-tune web1 --pause-share 20
expect 'tune --json' 0 \
    '{"name":"web1","tuning":{"mode":"compare","pause-share":40},"defaults":{"mode":"auto","pause-share":40},"features":"avic=off","live":true}' \
    '' colo-tune web1 --mode compare --json
expect 'tune out of bounds' 2 '' \
    "error: Numeric value '91' for <pause-share> option is malformed or out of range" \
    colo-tune web1 --pause-share 91

# watching
expect 'list' 0 ' Name   Pair   Role      State       Generation
-------------------------------------------------
 web1   ab     primary   protected   3' '' colo-list
run colo-list --json
grep -q '^{"domains":\[{"name":"web1"' "$dir/stdout" && [ $code = 0 ]
result 'list --json' $?
run colo-protect web1 --pair ab --wait
expect 'status' 0 'Name:            web1
UUID:            f6a0a30e-7c23-44c4-8f43-1a1ad0f9a2b1
Pair:            ab
Peer:            beta
Role:            primary
State:           protected
Progress (%):    100
Generation:      3
Owner:           alpha
Control channel: up
Checkpoints:     17
Last checkpoint: 120 ms ago
Pauses:          median 3.5 ms, p95 6.0 ms, longest 11.0 ms
Divergences:     4
Checkpoint mode: periodic
Mode reason:     set by colo-tune
Held frames:     2
Held bytes:      128
Disk vda:        1.00 MiB of 1.00 MiB, copying
Memory:          0.00 B remaining of 1000.00 B
Features:        descriptor-table-exiting, preemption-quantum' '' colo-status web1
run colo-status web1 --json
grep -q '^{"name":"web1","uuid":"f6a0a30e' "$dir/stdout" && [ $code = 0 ]
result 'status --json' $?
expect 'status of no domain' 1 '' \
    "error: Domain not found: no domain with matching name 'web2'" colo-status web2
"$cli" colo-status web1 --watch --json >"$dir/stdout" 2>"$dir/stderr" &
watcher=$!
for _ in $(seq 100); do
    [ "$(wc -l <"$dir/stdout")" -ge 2 ] && break
    sleep 0.1
done
kill -TERM "$watcher"
wait "$watcher"
code=$?
[ $code = 0 ] && [ "$(grep -c '^{"name":"web1"' "$dir/stdout")" -ge 2 ]
result 'status --watch repeats until it is ended, then succeeds' $?
expect 'stats' 0 "Domain: 'web1'
  colo.checkpoints=17
  colo.pause.max=11" '' colo-stats web1
expect 'stats --json' 0 '{"name":"web1","stats":{"checkpoints":17,"pause":{"max":11}}}' '' \
    colo-stats web1 --json
expect 'doctor: an error makes it fail and names the fix' 1 ' Host    Result   Check         Found
----------------------------------------------------
 alpha   PASS     certificate   expires 2027-01-01
 beta    WARN     clock         900 ms off
 beta    FAIL     bridge br0    forward delay 15 s

To fix '\''clock'\'' on beta: run chronyd
To fix '\''bridge br0'\'' on beta: ip link set br0 type bridge forward_delay 0
1 errors, 1 warnings' '' colo-doctor
expect 'doctor: all well' 0 ' Host    Result   Check         Found
----------------------------------------------------
 alpha   PASS     certificate   expires 2027-01-01

0 errors, 0 warnings' '' colo-doctor good
expect 'features: yes, no and not known' 0 \
    ' Feature              Hardware   Firmware   Kernel   Per VM   Reason
-----------------------------------------------------------------------------------------------
 preemption-quantum   yes        yes        yes      yes      -
 avic                 no         ?          ?        no       this processor does not have it' '' \
    colo-features
run colo-features --json
[ $code = 0 ] && grep -q '^{"host":"alpha".*"firmware":null' "$dir/stdout"
result 'features --json' $?
run colo-doctor --json
[ $code = 1 ] && grep -q '^{"findings":\[{"host":"alpha"' "$dir/stdout"
result 'doctor --json exits as without' $?

"$cli" colo-events web1 --timeout 20 >"$dir/stdout" 2>"$dir/stderr" &
watcher=$!
for _ in $(seq 100); do # until it listens: the event of an earlier moment is not kept
    "$cli" -q colo-protect web1 --pair ab >/dev/null
    [ "$(wc -l <"$dir/stdout")" -ge 1 ] && break
    sleep 0.1
done
wait "$watcher"
code=$?
[ $code = 0 ] && [ "$(cat "$dir/stdout")" = "event 'state' for domain 'web1' state=preparing
events received: 1" ]
result 'events: the first one' $?
"$cli" colo-events slow --timeout 20 >"$dir/stdout" 2>"$dir/stderr" &
watcher=$!
for _ in $(seq 100); do
    "$cli" -q colo-protect slow --pair ab >/dev/null
    [ "$(wc -l <"$dir/stdout")" -ge 1 ] && break
    sleep 0.1
done
wait "$watcher"
[ "$(head -n1 "$dir/stdout")" = \
    "event 'state' for domain 'slow' state=preparing reason=a [2Jb event 'state' for domain 'web1'" ]
result 'events: no control characters, no second line' $?
expect 'events that do not come' 1 'event loop timed out
events received: 0' '' colo-events other --timeout 1

# usage
expect 'no command, and nothing on standard input' 0 '' ''
expect 'unknown command of ours' 2 '' "error: unknown command: 'colo-nothing'" colo-nothing
expect 'missing argument' 2 '' "error: command 'colo-status' requires <domain> option" colo-status
expect 'missing option' 2 '' "error: command 'colo-protect' requires --pair option" \
    colo-protect web1
expect 'unknown option' 2 '' "error: command 'colo-list' doesn't support option --all" \
    colo-list --all
expect 'too many words' 2 '' "error: unexpected data 'x'" colo-list x
expect 'option without its value' 2 '' 'error: expected syntax: --peer <string>' \
    colo-pair-define x --peer
expect 'option twice' 2 '' 'error: option --json already seen' colo-list --json --json
expect 'flag with a value' 2 '' "error: invalid '=' after option --json" colo-list --json=1
for port in 0 65536 -1 1x '' 99999999999999999999; do
    expect "port '$port' is refused" 2 '' \
        "error: Numeric value '$port' for <port> option is malformed or out of range" \
        colo-pair-define x --peer y "--port=$port"
done
expect 'name of a domain that begins with dashes' 1 '' \
    "error: Domain not found: no domain with matching name '--json'" colo-status -- --json
run --no-such-option
[ $code = 2 ]
result 'unknown global option' $?

# help comes from the table, and each command of it can be called
run help
[ $code = 0 ] && commands=$(awk '$1 ~ /^colo-/ { print $1 }' "$dir/stdout") &&
    [ "$(echo "$commands" | wc -w)" -ge 15 ]
result 'help lists the commands' $?
for command in $commands; do
    run help "$command"
    [ $code = 0 ] && grep -q '^  SYNOPSIS' "$dir/stdout" && grep -q -- '--json' "$dir/stdout"
    result "help $command" $?
    run "$command" web1 --pair ab --peer x --timeout 1
    grep -q 'failed to connect' "$dir/stderr" && code=3
    [ $code != 3 ]
    result "$command has a handler" $?
done

# connection
expect 'nobody listens' 3 '' "error: failed to connect to virtcolod
error: Failed to connect socket to '$dir/none': No such file or directory" \
    -c "colo:///system?socket=$dir/none" colo-list
expect 'socket in the URI' 0 ' web1   ab   primary   protected   3' '' \
    -q -c "colo:///system?socket=$dir/sock" colo-list
expect 'a URI that is not ours' 3 '' "error: failed to connect to virtcolod
error: URI 'qemu:///system' is not colo:///system or colo:///system?socket=PATH" \
    -c qemu:///system colo-list
run --version
[ $code = 0 ] && grep -q '^virsh-colo [0-9]' "$dir/stdout" &&
    grep -q '^virtcolod [0-9]' "$dir/stdout"
result 'version of both' $?

# everything else goes to virsh
mkdir "$dir/bin"
printf '#!/bin/sh\nprintf "<%%s>" "$@"; exit 7\n' >"$dir/bin/virsh"
chmod +x "$dir/bin/virsh"
PATH="$dir/bin:$PATH" expect 'other commands go to virsh at the same daemon' 7 \
    "<-c><colo:///system?socket=$dir/sock><list><--all>" '' list --all
PATH="$dir/bin:$PATH" expect 'with -q, -r and the URI' 7 \
    '<-c><colo:///system><-r><-q><dominfo><x y>' '' -r -q -c colo:///system dominfo 'x y'
PATH="$dir/bin:$PATH" expect 'help of their commands is theirs' 7 \
    '<-c><qemu:///x><help><list>' '' -c qemu:///x help list

# several commands
row=' web1   ab   primary   protected   3'
PATH="$dir/bin:$PATH" expect 'a line of commands, ours and theirs' 7 \
    "$row

<-c><colo:///system?socket=$dir/sock><-q><dominfo><a; b>" '' -q 'colo-list; dominfo "a; b"'
expect 'quit ends the line' 0 "$row" '' -q 'colo-list; quit; colo-list'
expect 'a quote that does not end' 2 '' 'error: Text ended before matching quote was found for ". (The text was “dominfo "a”)' 'dominfo "a'
lines() { printf "$1" | PATH="$dir/bin:$PATH" "$cli" "${@:2}" >"$dir/stdout" 2>"$dir/stderr"; code=$?; }
lines 'colo-list\n\n  colo-pair-list ;colo-list\n' -q
[ $code = 0 ] && [ "$(cat "$dir/stdout")" = "$row

 ab   beta   16520   up

$row" ]
result 'commands from standard input' $?
lines 'colo-list\nlist\nexit\ncolo-list\n' -q
[ $code = 7 ] && [ "$(grep -c web1 "$dir/stdout")" = 1 ] && grep -q '<list>' "$dir/stdout"
result 'exit ends them, with the code of the last' $?

# completion
printf '#!/bin/sh\nfor w; do last=$w; done\ncase "$*" in *"complete -- dominfo "*) printf "web1\\nweb2\\nother\\n" ;; *"complete -- "*) printf "list\\ndominfo\\n" ;; esac\n' >"$dir/bin/virsh"
completes() { # NAME WANTED WORDS...
    local name=$1 want=$2
    shift 2
    PATH="$dir/bin:$PATH" run complete -- "$@"
    [ $code = 0 ] && [ "$(tr '\n' ' ' <"$dir/stdout")" = "$want" ] && [ ! -s "$dir/stderr" ]
    result "completion: $name" $?
}
completes 'our commands' 'colo-pair-define colo-pair-undefine colo-pair-list colo-pair-info colo-pair-features ' colo-pair-
completes 'theirs' 'list ' li
completes 'domains' 'web1 web2 ' colo-status w
completes 'options' '--features --wait --timeout --json ' colo-protect web1 --pair ab --
completes 'pairs' 'ab ' colo-protect web1 --pair ''
completes 'features' 'preemption-quantum= ' colo-tune web1 --features p
completes 'further features' 'avic=off,preemption-quantum= ' colo-tune web1 --features avic=off,p
completes 'what may be said of a feature' 'avic=require avic=prefer avic=off avic=default ' \
    colo-tune web1 --features avic=
completes 'the name of a pair' 'ab ' colo-pair-info a
completes 'arguments of theirs' 'web1 web2 ' dominfo we
completes 'nothing' '' colo-nonsense x
PATH="$dir/bin:$PATH" COLO_SOCKET=$dir/none completes 'without a daemon: no word of it' '--json ' colo-pair-info ''
(
    . "${abs_top_srcdir:-.}/tools/bash-completion/virsh-colo"
    PATH="$dir/bin:$PATH" COMP_WORDS=("$cli" -q colo-status we) COMP_CWORD=3
    export PATH
    _virsh_colo "$cli"
    [ "${COMPREPLY[*]}" = $'web1\nweb2' ] || [ "${COMPREPLY[*]}" = 'web1 web2' ]
)
result 'completion in bash' $?
mkdir "$dir/path" # everything but virsh: the build tree's virsh-colo may be libtool's script
ln -s /usr/bin/* "$dir/path/"
rm -f "$dir/path/virsh"
env PATH="$dir/path" "$cli" list >"$dir/stdout" 2>"$dir/stderr"
code=$?
[ $code = 1 ] && [ "$(cat "$dir/stderr")" = 'error: cannot run virsh: No such file or directory' ]
result 'virsh is missing' $?

# the daemon goes away
exec 7>&-
wait "$pid"
pid=
expect 'the daemon is gone' 3 '' "error: failed to connect to virtcolod
error: Failed to connect socket to '$dir/sock': No such file or directory" colo-list

finish
