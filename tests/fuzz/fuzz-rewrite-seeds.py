#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes seeds for fuzz-rewrite (its input format is described there) into a folder."""
import os
import struct
import sys

FIN, SYN, RST, ACK = 1, 2, 4, 16
ANNOUNCE, OUT, IN, LOADED, ALONE, MINUTE, PASS_ON, AGAIN = range(8)
SYN_OPTIONS = bytes([2, 4, 5, 0xb4, 4, 2, 8, 10]) + struct.pack(">II", 7, 0) + bytes([1, 3, 3, 7])
TIMES = bytes([1, 1, 8, 10]) + struct.pack(">II", 9, 8)
SACK = TIMES + bytes([1, 1, 5, 18]) + struct.pack(">IIII", 5, 6, 1, 2)
MD5 = bytes([1, 1, 19, 18]) + bytes(16)


def frame(op, seq, ack, flags, options=b"", data=b"", family=4, tags=0):
    """A segment of the guest (port 80), or for IN of the other end."""
    ports = (99, 80) if op == IN else (80, 99)
    tcp = struct.pack(">HHIIBBHHH", *ports, seq, ack, (20 + len(options)) // 4 << 4, flags, 1000, 0,
                      0) + options + data
    ends = [bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])]
    if op == IN:
        ends.reverse()
    if family == 4:
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + b"".join(ends)
    else:
        ip = struct.pack(">IHBB", 6 << 28, 8 + len(tcp), 60, 64)
        ip += b"".join(bytes(12) + end for end in ends) + bytes([6, 0, 1, 4, 0, 0, 0, 0])
    vlan = b"".join(struct.pack(">HH", 0x8100, 5) for _ in range(tags))
    whole = bytes.fromhex("525400000001525400000002") + vlan
    whole += struct.pack(">H", 0x0800 if family == 4 else 0x86dd) + ip + tcp
    return bytes([op]) + struct.pack(">H", len(whole)) + whole


def connection(**kind):
    return (frame(ANNOUNCE, 100, 2, SYN | ACK, SYN_OPTIONS, **kind)
            + frame(OUT, 700, 2, SYN | ACK, SYN_OPTIONS, **kind)
            + frame(IN, 2, 101, ACK, TIMES, **kind)
            + frame(OUT, 701, 2, ACK, TIMES, b"text", **kind)
            + frame(IN, 2, 105, ACK, SACK, b"answer", **kind))


def error(seq):
    """An ICMP error for the guest that quotes one of its segments."""
    quoted = frame(OUT, seq, 2, ACK)[3 + 14:][:28]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 28 + len(quoted), 1, 0, 64, 1, 0)
    ip += bytes([10, 0, 0, 9, 10, 0, 0, 1]) + bytes([3, 4, 0, 0, 0, 0, 5, 0]) + quoted
    whole = bytes.fromhex("525400000001525400000002") + struct.pack(">H", 0x0800) + ip
    return bytes([IN]) + struct.pack(">H", len(whole)) + whole


CLOSE = (frame(OUT, 705, 8, FIN | ACK) + frame(IN, 8, 106, FIN | ACK) + frame(OUT, 706, 9, ACK))
SEEDS = {
    "connection": connection(),
    "connection-6": connection(family=6),
    "tagged": connection(tags=2),
    "waits": frame(OUT, 5, 0, SYN, SYN_OPTIONS) + frame(ANNOUNCE, 9, 0, SYN, SYN_OPTIONS),
    "loaded": connection() + bytes([LOADED]) + frame(OUT, 101, 2, ACK, TIMES),
    "alone": connection() + bytes([ALONE]) + CLOSE + bytes([MINUTE] * 6),
    "reset": connection() + bytes([ALONE]) + frame(OUT, 705, 8, RST | ACK),
    "pass-on": connection() + bytes([ALONE, PASS_ON]) + frame(OUT, 705, 8, ACK, TIMES)
    + bytes([LOADED, ALONE, AGAIN]),
    "late": connection() + bytes([ALONE, PASS_ON]) + b"\x08" + frame(ANNOUNCE, 9, 5, SYN | ACK)[1:]
    + bytes([LOADED]) + connection() + bytes([ALONE, PASS_ON | 8]) + b"\x18"
    + frame(ANNOUNCE, 9, 5, SYN | ACK)[1:],
    "icmp": connection() + error(101) + bytes([ALONE]) + error(102),
    "reuse": connection() + frame(ANNOUNCE, 9000, 5, SYN | ACK) + frame(OUT, 8000, 5, SYN | ACK),
    "signed": frame(ANNOUNCE, 9, 0, SYN, MD5) + frame(OUT, 5, 0, SYN, MD5),
}

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
for name, seed in SEEDS.items():
    with open(os.path.join(folder, name), "wb") as out:
        out.write(b"\0" + seed)
