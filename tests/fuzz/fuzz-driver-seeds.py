#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes seeds for fuzz-driver (what it is, the procedure, a body) into a folder."""
import os
import struct
import sys

CALL, QEMU, SECOND, COPY, REPROTECT, FAILS = 1, 2, 4, 8, 16, 32


def text(value):
    return struct.pack(">I", len(value)) + value + bytes(-len(value) % 4)


DOMAIN = text(b"ft") + bytes(range(16)) + struct.pack(">i", 3)
PARAMS = (text(b"state.state") + struct.pack(">II", 1, 1) + text(b"cpu.time") + struct.pack(">IQ", 4, 77) +
          text(b"block.0.name") + struct.pack(">I", 7) + text(b"vda"))
SEEDS = {
    "suspend": (CALL, 34, DOMAIN),
    "attach-fds": (CALL | SECOND, 160, struct.pack(">I", 0) + DOMAIN + text(b"<disk/>")),
    "attach-interrupts": (CALL | REPROTECT, 8, DOMAIN + text(b"<disk/>")),
    "suspend-fails": (CALL | FAILS, 34, DOMAIN),
    "copy": (CALL | COPY, 12, DOMAIN),
    "revert": (CALL, 192, text(b"s1") + DOMAIN),
    "define": (CALL, 11, text(b"<domain><name>ft</name><uuid>00010203-0405-0607-0809-0a0b0c0d0e0f</uuid></domain>")),
    "qmp": (CALL | QEMU, 1, DOMAIN + text(b'{"execute":"colo-status","arguments":{"domain":"x"},"id":1}') + bytes(4)),
    "hmp": (CALL | QEMU, 1, DOMAIN + text(b"colo-failover i-am-sure discard=true") + struct.pack(">I", 1)),
    "query": (CALL | QEMU, 1, DOMAIN + text(b'{"execute":"query-status"}') + bytes(4)),
    "list": (COPY, 273, struct.pack(">I", 2) + DOMAIN * 2 + struct.pack(">I", 2)),
    "stats": (0, 344, struct.pack(">I", 1) + DOMAIN + struct.pack(">I", 3) + PARAMS),
    "event": (SECOND, 107, DOMAIN + struct.pack(">II", 3, 0)),
    "callback": (SECOND, 318, struct.pack(">I", 1) + DOMAIN + struct.pack(">II", 4, 0)),
}

for name, (what, procedure, body) in SEEDS.items():
    with open(os.path.join(sys.argv[1], name), "wb") as seed:
        seed.write(struct.pack(">BH", what, procedure) + body)
