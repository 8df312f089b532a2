#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""restart-clients.py URI N: N clients that are connected while libvirtd is restarted. Says "ready", then in
one line how many lost their connection, in which words, and whether a new connection works."""
import collections
import sys
import threading
import time

import libvirt

uri, n = sys.argv[1], int(sys.argv[2])
WAIT_S = 60

libvirt.virEventRegisterDefaultImpl()
libvirt.registerErrorHandler(lambda *_: None, None)


def run():
    while True:
        libvirt.virEventRunDefaultImpl()


threading.Thread(target=run, daemon=True).start()
conns, lost, words = [libvirt.open(uri) for _ in range(n)], set(), collections.Counter()
for i, conn in enumerate(conns):
    conn.registerCloseCallback(lambda _c, reason, i: lost.add((i, reason)), i)
print("ready", flush=True)
end = time.monotonic() + WAIT_S
while len(lost) < n and time.monotonic() < end:
    time.sleep(0.05)
for conn in conns:
    try:
        conn.listAllDomains()
        words["answered"] += 1
    except libvirt.libvirtError as error:
        words[f"error {error.get_error_code()} of {error.get_error_domain()}"] += 1
works = False
while not works and time.monotonic() < end:
    try:
        works = libvirt.open(uri).lookupByName("ft").isActive() == 1
    except libvirt.libvirtError:
        time.sleep(0.1)
reasons = sorted({reason for _, reason in lost})
print(f"{len({i for i, _ in lost})} lost, reasons {reasons}, then {dict(words)}, a new connection works: {works}")
