#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Collects the system calls of the sandbox from the sources into a header for sandbox.c.
#   seccomp.sh SOURCE... > sandbox-syscalls.h
# A comment line of a source says which calls the code below it makes:
#     #syscalls NAME[CONDITION,...]...     allowed, with all of the conditions if there are any
#     #syscalls-kill NAME...               no code of ours or our libraries' makes it: an attack
# CONDITION is ARG==VALUE or ARG&MASK==VALUE: the number of an argument, and C constants. A call
# may be listed often; with different conditions each of them allows it. Listed with and without
# one is an error: the condition would say nothing.
set -eu
LC_ALL=C
export LC_ALL

grep -hE '#syscalls(-kill)?([[:space:]]|$)' "$@" | awk '
function fail(text) {
    print "seccomp.sh: " text > "/dev/stderr"
    failed = 1
    exit 1
}
# {ARG, OPERATION, VALUES} of one condition.
function condition(text, call,    parts, left) {
    if (split(text, parts, "==") != 2 || parts[2] !~ /^[A-Za-z0-9_]+(\(\))?$/)
        fail(call ": no condition: " text)
    if (parts[1] ~ /^[0-5]$/)
        return "{" parts[1] ", SCMP_CMP_EQ, (scmp_datum_t)" parts[2] ", 0}"
    if (parts[1] !~ /^[0-5]&[A-Za-z0-9_]+$/)
        fail(call ": no condition: " text)
    split(parts[1], left, "&")
    return "{" left[1] ", SCMP_CMP_MASKED_EQ, " left[2] ", " parts[2] "}"
}
function allow(word,    name, text, list, n, i, row) {
    name = word
    if (match(word, /\[.*\]$/)) {
        name = substr(word, 1, RSTART - 1)
        text = substr(word, RSTART + 1, RLENGTH - 2)
    }
    if (name !~ /^[a-z_0-9]+$/)
        fail("no system call: " word)
    n = text == "" ? 0 : split(text, list, ",")
    if (n > 2)
        fail(word ": more than two conditions")
    for (i = 1; i <= n; i++)
        row = row (i > 1 ? ", " : "") condition(list[i], name)
    if (name in bare && bare[name] != (n == 0))
        fail(name " is listed with and without a condition")
    bare[name] = n == 0
    row = "{SCMP_SYS(" name "), " n ", {" (n ? row : "{0}") "}}"
    if (!(row in seen))
        allowed[++n_allowed] = row
    seen[row] = 1
}
# A line that a formatter has joined with text must not be passed over in silence.
!/^[ \t]*(\/\*|\*)[ \t]*#syscalls(-kill)?[ \t]/ {
    fail("not at the beginning of a comment line: " $0)
}
{
    gsub(/\*\//, "")
    for (f = 2; f <= NF; f++) {
        if ($f ~ /^\/?\*$/ || $f ~ /^#syscalls/)
            continue
        if ($0 ~ /#syscalls-kill/)
            kill[++n_kill] = $f
        else
            allow($f)
    }
}
END {
    if (failed)
        exit 1
    if (!n_allowed || !n_kill)
        fail("no lines found")
    print "/* Made by seccomp.sh of the sources: not to be changed by hand. */"
    print "#define COLO_SANDBOX_ALLOWED \\"
    for (i = 1; i <= n_allowed; i++)
        print "    " allowed[i] (i < n_allowed ? ", \\" : "")
    print "#define COLO_SANDBOX_KILLING \\"
    for (i = 1; i <= n_kill; i++) {
        if (kill[i] !~ /^[a-z_0-9]+$/ || kill[i] in bare)
            fail(kill[i] " cannot be both allowed and an attack, and takes no condition")
        print "    SCMP_SYS(" kill[i] ")" (i < n_kill ? ", \\" : "")
    }
}'
