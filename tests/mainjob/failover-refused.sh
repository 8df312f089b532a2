#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# colo-failover refuses what would make two owners, and changes nothing then.
. "$(dirname "$0")/lib.sh"
need_protected
remember

# refused HOST PATTERN ARGUMENT...: exit code 1 and that message.
refused() {
    local host=$1 pattern=$2 out rc
    shift 2
    out=$(colo "$host" colo-failover "$@" 2>&1)
    rc=$?
    is $rc 1 && grep -q "^error: .*$pattern" <<< "$out" || { echo "exit $rc: $out"; return 1; }
}

check "without --i-am-sure at the secondary: it names the danger and the option" \
    refused $S "'ft'.*--i-am-sure" ft
check "without --i-am-sure at the primary" refused $P "'ft'.*--i-am-sure" ft
check "at the secondary of a healthy pair" refused $S "'ft'.*protected" ft --i-am-sure
check "at the secondary of a healthy pair, also with --discard" \
    refused $S "'ft'.*protected" ft --i-am-sure --discard
check "at the primary of a healthy pair" refused $P "'ft'.*protected" ft --i-am-sure
check "at the primary of a healthy pair, also with --discard" \
    refused $P "'ft'.*protected" ft --i-am-sure --discard
check "of an unknown domain" refused $P "nosuch" nosuch --i-am-sure
check "nothing changed: protection never ended" never_ended
check "it can be unprotected" colo $P colo-unprotect ft
check "of a domain that is not protected" refused $P "'ft'" ft --i-am-sure --discard
check "the guest runs where it ran" wait_for 20 unprotected
finish
