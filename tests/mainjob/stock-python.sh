#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# python3-libvirt at colo:///system: calls, errors, streams, file descriptors, events, 50 clients in one
# event loop; and the examples of both doors.
. "$(dirname "$0")/lib.sh"
EXAMPLES=$MJ_DIR/../../examples
python() { on "$P" timeout 120 /usr/bin/python3 "$@" 2>&1; }
client() { python "$MJ_DIR/python-client.py" "$1"; }

/usr/bin/python3 -c 'import libvirt' 2> /dev/null || bail "python3-libvirt is installed"
need_unprotected
check "the same answers and errors as at qemu:///system" client same
check "streams, there and back" client streams
check "a file descriptor reaches QEMU" client fd
check "events" client events
check "50 clients in one event loop" client crowd
check "door 2, from Python: colo-protect" python "$EXAMPLES/door2.py" ft colo-protect "pair=$PAIR"
check "protected" wait_for $SETTLE_S protected
check "door 2: colo-status" is "$(python "$EXAMPLES/door2.py" ft | json state)" protected
check "its errors are Python's" eval '! out=$(python "$EXAMPLES/door2.py" ft colo-nonsense) && grep -q "^error: there is no command" <<< "$out"'
check "door 2: colo-unprotect" python "$EXAMPLES/door2.py" ft colo-unprotect
check "the C library's example builds with pkg-config" eval \
    'PKG_CONFIG_PATH="$PREFIX/lib/pkgconfig" gcc -Wall -Wextra -Werror "$EXAMPLES/protect.c" -o "$TMP/protect" $(PKG_CONFIG_PATH="$PREFIX/lib/pkgconfig" pkg-config --cflags --libs libvirt-colo)'
check "and protects" on "$P" env LD_LIBRARY_PATH="$PREFIX/lib" "$TMP/protect" ft $PAIR
check "protected again" wait_for $SETTLE_S protected
finish
