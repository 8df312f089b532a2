# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# TAP for test scripts: sourced at their beginning; the last command is `finish`.
count=0
failed=0

# What result prints when a test failed; a script has its own.
evidence() { :; }

# result NAME STATUS: one TAP line.
result() {
    count=$((count + 1))
    if [ "$2" = 0 ]; then
        echo "ok $count - $1"
    else
        failed=$((failed + 1))
        echo "not ok $count - $1"
        evidence | sed 's/^/# /'
        return 1
    fi
}

# check NAME COMMAND...: the same of a command; its output follows when it failed.
check() {
    local name=$1 out
    shift
    count=$((count + 1))
    if out=$("$@" 2>&1); then
        echo "ok $count - $name"
    else
        failed=$((failed + 1))
        echo "not ok $count - $name"
        printf '%s\n' "$out" | sed 's/^/#   /'
        return 1
    fi
}

# skip NAME REASON
skip() {
    count=$((count + 1))
    echo "ok $count - $1 # SKIP $2"
}

finish() {
    echo "1..$count"
    [ $failed = 0 ]
}
