#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seccomp.sh: what it reads from sources, and what it refuses rather than makes a hole of.
set -u
src=${abs_top_srcdir:-.}
script=$src/src/comparator/seccomp.sh
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
. "$src/tests/tap.sh"
evidence() { cat "$dir/out" "$dir/error"; }

# collect LINE...: the header of a source with these comment lines, into out.
collect() {
    printf '/* %s */\n' '#syscalls-kill execve' "$@" > "$dir/source.c"
    "$script" "$dir/source.c" > "$dir/out" 2> "$dir/error"
}
has() { grep -qF -- "$1" "$dir/out"; }
refuses() {
    ! collect "$@" && grep -q '^seccomp.sh: ' "$dir/error"
}

collect '#syscalls sendto recvfrom'
has '{SCMP_SYS(sendto), 0, {{0}}}' && has '{SCMP_SYS(recvfrom), 0, {{0}}}' && has 'SCMP_SYS(execve)'
result "calls of a line are allowed" $?

collect '#syscalls ioctl[1==SIOCOUTQ]'
has '{SCMP_SYS(ioctl), 1, {{1, SCMP_CMP_EQ, (scmp_datum_t)SIOCOUTQ, 0}}}'
result "an argument's value" $?

collect '#syscalls mmap[2&PROT_EXEC==0]'
has '{SCMP_SYS(mmap), 1, {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}}'
result "an argument's bits" $?

collect '#syscalls setsockopt[1==IPPROTO_TCP,2==TCP_NODELAY]'
has '{{1, SCMP_CMP_EQ, (scmp_datum_t)IPPROTO_TCP, 0}, {2, SCMP_CMP_EQ, (scmp_datum_t)TCP_NODELAY, 0}}'
result "two conditions hold together" $?

collect '#syscalls close' '#syscalls close'
[ "$(grep -c 'SCMP_SYS(close)' "$dir/out")" = 1 ]
result "a call that is listed twice is allowed once" $?

refuses 'Text that a formatter has joined with #syscalls open'
result "a line that is not seen as one is refused" $?
refuses '#syscalls fcntl fcntl[1==F_GETFL]'
result "with and without a condition is refused" $?
refuses '#syscalls fcntl[1=F_GETFL]'
result "a condition that is none is refused" $?
refuses '#syscalls fcntl[6==F_GETFL]'
result "an argument that no call has is refused" $?
refuses '#syscalls execve'
result "an attack cannot be allowed" $?
refuses '#syscalls close,open'
result "a name that is none is refused" $?
: > "$dir/source.c"
! "$script" "$dir/source.c" > "$dir/out" 2> "$dir/error"
result "sources without lines are refused" $?

finish
