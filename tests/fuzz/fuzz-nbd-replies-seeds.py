#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes seeds for fuzz-nbd-replies (first byte: size of the pieces) into a folder."""
import os
import struct
import sys

OPT_GO, OPT_STRUCTURED_REPLY, OPT_SET_META_CONTEXT = 7, 8, 10
REP_ACK, REP_INFO, REP_META_CONTEXT, REP_ERR_UNSUP = 1, 3, 4, 0x80000001
NONE, DATA, HOLE, STATUS, ERROR, ERROR_OFFSET = 0, 1, 2, 5, 0x8001, 0x8002
EIO, ENOSPC, ENOTSUP = 5, 28, 95
GREETING = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)


def option(number, kind, body=b""):
    return struct.pack(">QIII", 0x0003e889045565a9, number, kind, len(body)) + body


def simple(error=0):
    return struct.pack(">IIQ", 0x67446698, error, 0x1234)


def chunk(kind, body=b"", done=1):
    return struct.pack(">IHHQI", 0x668e33ef, done, kind, 0x1234, len(body)) + body


def error(number, text=b"", kind=ERROR, tail=b""):
    return chunk(kind, struct.pack(">IH", number, len(text)) + text + tail)


GO = (option(OPT_GO, REP_INFO, struct.pack(">HIII", 3, 1, 4096, 32 << 20)) +
      option(OPT_GO, REP_INFO, struct.pack(">HQH", 0, 1 << 26, 0x4ed)) + option(OPT_GO, REP_ACK))
CHUNKS = (GREETING + option(OPT_STRUCTURED_REPLY, REP_ACK) +
          option(OPT_SET_META_CONTEXT, REP_META_CONTEXT, b"\0\0\0\0base:allocation") +
          option(OPT_SET_META_CONTEXT, REP_ACK) + GO)
PLAIN = GREETING + option(OPT_STRUCTURED_REPLY, REP_ERR_UNSUP, b"no") + GO

SEEDS = {
    "negotiation": CHUNKS,
    "writes": CHUNKS + simple() * 5,
    "read": CHUNKS + chunk(DATA, bytes(8) + b"sector" * 85, 0) + chunk(HOLE, bytes(12)) + simple(),
    "status": CHUNKS + chunk(STATUS, bytes(20)) + chunk(NONE) + simple(),
    "enospc": CHUNKS + simple() + error(ENOSPC, b"writing to file failed") + simple(),
    "enotsup": CHUNKS + error(ENOTSUP) + simple(),
    "offset": CHUNKS + error(EIO, b"bad", ERROR_OFFSET, bytes(8)) + simple(),
    "plain": PLAIN + simple() * 3 + simple(EIO) + simple(),
}

for name, stream in SEEDS.items():
    for piece in (0, 6, 255):
        with open(os.path.join(sys.argv[1], f"{name}-{piece}"), "wb") as seed:
            seed.write(bytes([piece]) + stream)
