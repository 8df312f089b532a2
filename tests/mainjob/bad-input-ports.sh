#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Garbage, a length of 4 GiB and half a handshake on the control and the data port of both hosts:
# the daemons live, protection goes on.
. "$(dirname "$0")/lib.sh"
need_protected
load_start
remember

pids() { local h; for h in primary secondary; do daemon $h status virtcolod; daemon $h status comparator; done; }
address() { [ "$1" = primary ] && echo 10.77.0.1 || echo 10.77.0.2; }
cat > "$TMP/send.py" <<'P'
import os, socket, sys
address, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
garbage = {
    "random bytes": os.urandom(65536),
    "a length of 4 GiB": b"\xff\xff\xff\xff" + b"{" * 4096,
    "a TLS record of the greatest length": b"\x16\x03\x01\xff\xff" + b"\x01" * 65535,
    "plain JSON": b"\x00\x00\x00\x1a" + b'{"id":1,"method":"hello"}\n',
    "a TLS hello that stops half way": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(40),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "nothing": b"",
}[kind]
s = socket.create_connection((address, port), timeout=5)
s.settimeout(2)
answer = b""
try:
    s.sendall(garbage)
    while chunk := s.recv(4096):
        answer += chunk
except OSError:
    pass
s.close()
# A TLS alert (record type 21) is all that may come back.
sys.exit(1 if answer and answer[0] != 21 else 0)
P
# send PORT HOST KIND: from the witness, which shares their network.
send() { on witness timeout 20 python3 "$TMP/send.py" "$(address "$2")" "$1" "$3"; }

before=$(pids)
for kind in "random bytes" "a length of 4 GiB" "a TLS record of the greatest length" "plain JSON" \
    "a TLS hello that stops half way" HTTP nothing; do
    all_four() {
        local port host
        for port in 16516 16515; do
            for host in primary secondary; do
                send $port $host "$1" || { echo "port $port of $host answered"; return 1; }
            done
        done
    }
    check "$kind: nothing of ours comes back from any port" all_four "$kind"
done
# 200 connections that say nothing, at once, on each port.
on witness timeout 30 python3 -c '
import socket, time
held = []
for i in range(200):
    for address in "10.77.0.1", "10.77.0.2":
        for port in 16515, 16516:
            try:
                held.append(socket.create_connection((address, port), timeout=0.5))
            except OSError:
                pass
print(len(held))
time.sleep(2)' > "$TMP/held"
check "hundreds of silent connections were made" at_least "$(cat "$TMP/held")" 100 connections
check "all daemons live, the same processes" is "$(pids)" "$before"
check "protection never ended" never_ended
check "the guest serves" answers_go_on 5
check_load "the client saw nothing of it"
finish
