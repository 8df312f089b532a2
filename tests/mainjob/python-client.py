#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""python3-libvirt at colo:///system, one behaviour a word; 0 when it is shown.

    python-client.py same | streams | fd | events | crowd
"""
import os
import sys
import threading
import time

import libvirt
import libvirt_qemu

URI, DIRECT, DOMAIN, VOLUME = "colo:///system", "qemu:///system", "ft", "python-client"
CLIENTS, WAIT_S = 50, 30


def fail(text):
    sys.exit(f"python-client: {text}")


def wait_for(condition, what):
    end = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end:
            fail(f"waited in vain for {what}")
        time.sleep(0.05)


def same():
    ours, theirs = libvirt.open(URI), libvirt.open(DIRECT)
    if ours.getURI() != URI or ours.getType() != "QEMU":
        fail(f"{ours.getURI()} of type {ours.getType()}")
    for what in ("listAllDomains", "listAllStoragePools", "listAllNetworks", "listAllDevices", "listAllSecrets"):
        found = [sorted(item.name() if hasattr(item, "name") else item.UUIDString() for item in getattr(conn, what)())
                 for conn in (ours, theirs)]
        if found[0] != found[1]:
            fail(f"{what}: {found}")
    a, b = (conn.lookupByName(DOMAIN) for conn in (ours, theirs))
    for what in ("XMLDesc", "state", "maxMemory", "UUIDString", "isPersistent", "hasManagedSaveImage", "info"):
        one, two = (getattr(domain, what)() for domain in (a, b))
        if what == "info":
            one, two = one[:4], two[:4]  # not the processor time
        if one != two:
            fail(f"{what}: {one} is not {two}")
    for call in (lambda c: c.lookupByName("nobody"), lambda c: c.lookupByName(DOMAIN).snapshotLookupByName("none"),
                 lambda c: c.lookupByName(DOMAIN).openConsole("none", c.newStream())):
        errors = []
        for conn in (ours, theirs):
            try:
                call(conn)
            except libvirt.libvirtError as error:
                errors.append((error.get_error_code(), error.get_error_domain(), str(error)))
        if len(errors) != 2 or errors[0] != errors[1]:
            fail(f"errors: {errors}")


def streams():
    conn = libvirt.open(URI)
    pool = conn.storagePoolLookupByName("default")
    data = os.urandom(6 << 20)
    volume = pool.createXML(f"<volume><name>{VOLUME}</name><capacity>{len(data)}</capacity></volume>")
    try:
        up, sent = conn.newStream(), [0]
        volume.upload(up, 0, len(data))

        def source(_stream, n, _opaque):
            part = data[sent[0]:sent[0] + n]
            sent[0] += len(part)
            return part

        up.sendAll(source, None)
        up.finish()
        down, got = conn.newStream(), []
        volume.download(down, 0, len(data))
        down.recvAll(lambda _stream, part, _opaque: got.append(bytes(part)), None)
        down.finish()
    finally:
        volume.delete()
    if b"".join(got) != data:
        fail(f"{sum(map(len, got))} bytes came back, and not the same")


def fd():
    conn = libvirt.open(URI)
    domain = conn.lookupByName(DOMAIN)
    with open("/etc/hostname", "rb") as file:
        answer, _files = libvirt_qemu.qemuMonitorCommandWithFiles(
            domain, '{"execute":"getfd","arguments":{"fdname":"python"}}', [file.fileno()], 0)
    if '"return":{}' not in answer:
        fail(answer)
    libvirt_qemu.qemuMonitorCommand(domain, '{"execute":"closefd","arguments":{"fdname":"python"}}', 0)


def event_loop():
    libvirt.virEventRegisterDefaultImpl()

    def run():
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, daemon=True).start()


def listen(heard):
    conn = libvirt.open(URI)
    conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                lambda _c, domain, event, _detail, _o: heard.append((domain.name(), event)), None)
    conn.setKeepAlive(5, 3)
    return conn


def pause_and_go_on():
    domain = libvirt.open(DIRECT).lookupByName(DOMAIN)
    domain.suspend()
    domain.resume()
    return [(DOMAIN, libvirt.VIR_DOMAIN_EVENT_SUSPENDED), (DOMAIN, libvirt.VIR_DOMAIN_EVENT_RESUMED)]


def events():
    event_loop()
    heard = []
    conn = listen(heard)
    wanted = pause_and_go_on()
    wait_for(lambda: heard == wanted, f"{wanted}, heard {heard}")
    conn.close()


def crowd():
    """One event loop, many clients: each hears all events while all of them ask."""
    event_loop()
    heard = [[] for _ in range(CLIENTS)]
    conns = [listen(one) for one in heard]
    stop, counts, failures = threading.Event(), [0] * CLIENTS, []

    def ask(i):
        domain = conns[i].lookupByName(DOMAIN)
        try:
            while not stop.is_set():
                domain.state()
                counts[i] += 1
        except libvirt.libvirtError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    wait_for(lambda: min(counts) > 2, "a few answers for each")
    wanted = pause_and_go_on()
    wait_for(lambda: all(one == wanted for one in heard), "the same two events at each client")
    stop.set()
    for thread in threads:
        thread.join()
    if failures:
        fail(failures[0])
    for conn in conns:
        conn.close()
    print(f"{CLIENTS} clients, {sum(counts)} answers, {2 * CLIENTS} events")


if __name__ == "__main__":
    {f.__name__: f for f in (same, streams, fd, events, crowd)}[sys.argv[1]]()
