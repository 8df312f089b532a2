#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""flood.py HOST SECONDS [BYTES [RATE]]: pings HOST, RATE a second, and counts what comes back.

What the guest sends is as much as it gets: a flood from it that no window of TCP holds back.
"""
import os
import select
import socket
import struct
import sys
import time

host, seconds = sys.argv[1], float(sys.argv[2])
size, rate = (int(word) for word in (sys.argv[3:] + ["1400", "20000"][len(sys.argv) - 3 :])[:2])
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
sock.connect((host, 0))
sock.setblocking(False)
ident, body = os.getpid() & 0xFFFF, bytes(size)
sent = back = 0
begin = time.monotonic()
while (now := time.monotonic() - begin) < seconds + 1:
    while now < seconds and sent < now * rate:
        head = struct.pack(">BBHHH", 8, 0, 0, ident, sent & 0xFFFF)
        total = sum(struct.unpack(">4H", head))
        total = (total & 0xFFFF) + (total >> 16)
        try:
            sock.send(struct.pack(">BBHHH", 8, 0, ~total & 0xFFFF, ident, sent & 0xFFFF) + body)
        except (BlockingIOError, OSError):
            break
        sent += 1
    if select.select([sock], [], [], 0.001)[0]:
        try:
            while True:
                back += sock.recv(2048)[20] == 0
        except BlockingIOError:
            pass
print(f"sent={sent} back={back} bytes={size}")
