#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Wrong commands and arguments: the documented exit code, an error that names the object, nothing done.
. "$(dirname "$0")/lib.sh"
need_protected
remember

# fails CODE PATTERN ARGUMENT...
fails() {
    local code=$1 pattern=$2 out rc
    shift 2
    out=$(colo $P "$@" 2>&1)
    rc=$?
    is $rc "$code" && grep -qE "^error: .*($pattern)" <<< "$out" || { echo "exit $rc: $out"; return 1; }
}
check "unknown command: 2" fails 2 "colo-nosuch" colo-nosuch
check "unknown option: 2" fails 2 "nosuch" colo-protect ft --pair $PAIR --nosuch
check "missing argument: 2" fails 2 "." colo-protect ft
check "missing domain: 2" fails 2 "." colo-status
check "a number that is none: 2" fails 2 "port|number" colo-pair-define x --peer secondary --port many
check "too many arguments: 2" fails 2 "." colo-status ft ft2
check "no daemon at the socket: 3" fails 3 "." -c 'colo:///system?socket=/run/nosuch' colo-list
check "unknown domain, status: 1" fails 1 "nosuch" colo-status nosuch
check "unknown domain, protect: 1" fails 1 "nosuch" colo-protect nosuch --pair $PAIR
check "unknown domain, unprotect: 1" fails 1 "nosuch" colo-unprotect nosuch
check "unknown domain, checkpoint: 1" fails 1 "nosuch" colo-checkpoint nosuch
check "already protected: 1" fails 1 "'ft' is already protected" colo-protect ft --pair $PAIR
check "no such pair: 1" fails 1 "nopair" colo-pair-info nopair
check "a pair that is in use: 1, names the domain" fails 1 "'ft'" colo-pair-undefine $PAIR
check "a pair defined twice with another peer: 1" fails 1 "$PAIR" colo-pair-define $PAIR --peer nohost
check "a peer that does not exist: 1, and no pair is left" fails 1 "nohost" colo-pair-define zz --peer nohost
check "no pair is left of it" eval 'not colo $P colo-pair-info zz && ! colo $P colo-pair-list | grep -w zz'
check "nothing changed: protection never ended" never_ended
finish
