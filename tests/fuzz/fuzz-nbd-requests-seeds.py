#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes seeds for fuzz-nbd-requests (first byte: size of the pieces) into a folder."""
import os
import struct
import sys

OPT_GO, OPT_STRUCTURED_REPLY = 7, 8
READ, WRITE, DISC, FLUSH, TRIM, ZEROES = 0, 1, 2, 3, 4, 6


def option(number, body=b""):
    return b"IHAVEOPT" + struct.pack(">II", number, len(body)) + body


def request(kind, length=0, body=b""):
    return struct.pack(">IHHQQI", 0x25609513, 0, kind, 0x1234, 0, length) + body


OPEN = (b"\0\0\0\3" + option(OPT_STRUCTURED_REPLY) +
        option(OPT_GO, struct.pack(">I", 3) + b"vda" + struct.pack(">HH", 1, 3)))
SEEDS = {
    "open": OPEN,
    "writes": OPEN + request(WRITE, 512, b"sector!!" * 64) * 3 + request(FLUSH),
    "others": OPEN + request(ZEROES, 4096) + request(TRIM, 4096) + request(READ, 512) + request(DISC),
    "long": OPEN + request(WRITE, 70000, bytes(70000)) + request(FLUSH),
}

for name, stream in SEEDS.items():
    for piece in (0, 6, 255):
        with open(os.path.join(sys.argv[1], f"{name}-{piece}"), "wb") as seed:
            seed.write(bytes([piece]) + stream)
