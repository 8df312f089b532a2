#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watches a host of the lab from inside, for a given time; lines on standard output.

    watch.py qmp SECONDS [DOMAIN]    asks the domain's QEMU every 20 ms whether it runs
    watch.py qmp-socket SECONDS PATH PID   the same over a monitor of QEMU PID's own: nobody between
    watch.py qmp-judge FILE CONTROL    JSON: answers over 50 ms, and whether a QEMU that does nothing
                                     had to wait as well (CONTROL)
    watch.py rss SECONDS INTERVAL    memory of virtcolod and comparator
    watch.py qmp-summary FILE        JSON: answers and how long they took, ms
    watch.py growth FILE...          JSON for each daemon of `rss` files: medians of quarters, KiB

qmp: "B NS" a question begins, "A NS STATUS" its answer (CLOCK_MONOTONIC); libvirtd is between, and
what other clients of it ask at the same time. qmp-socket: the answer's last word is for how many ns
of it QEMU's main thread, and one other, were ready to run and had no processor; "C NS" QEMU has
ended. rss: "R NS DAEMON PID KIB"; 0 0 when it does not run.
"""
import ctypes
import json
import os
import socket
import statistics
import sys
import time

SECOND = 10**9
PAUSE_MS = 20  # between an answer and the next question
LIMIT_MS = 50  # what a monitor's user notices


def qmp(seconds, name="ft"):
    libvirt = ctypes.CDLL("libvirt.so.0")
    qemu = ctypes.CDLL("libvirt-qemu.so.0")
    libvirt.virConnectOpen.restype = ctypes.c_void_p
    libvirt.virConnectOpen.argtypes = [ctypes.c_char_p]
    libvirt.virDomainLookupByName.restype = ctypes.c_void_p
    libvirt.virDomainLookupByName.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    ask = qemu.virDomainQemuMonitorCommand
    ask.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), ctypes.c_uint]
    domain = libvirt.virDomainLookupByName(libvirt.virConnectOpen(b"qemu:///system"), name.encode())
    if not domain:
        sys.exit(f"watch: no domain {name}")
    end = time.monotonic_ns() + int(float(seconds) * SECOND)
    while time.monotonic_ns() < end:
        print(f"B {time.monotonic_ns()}", flush=True)
        answer = ctypes.c_char_p()
        status = "failed"
        if ask(domain, b'{"execute":"query-status"}', ctypes.byref(answer), 0) == 0:
            status = json.loads(answer.value)["return"]["status"]
        print(f"A {time.monotonic_ns()} {status}", flush=True)
        time.sleep(PAUSE_MS / 1000)


def run_delays(pid):
    """{tid: ns} that each thread of the process was ready to run and had no processor (proc(5),
    schedstat). What blocks is not in it."""
    delays = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                delays[task] = int(file.read().split()[1])
        except OSError:  # it has ended
            pass
    return delays


def starved(before, after, pid):
    """ns for which an answer had to wait for a processor: the main thread itself, and one other, which
    may have the lock that the main thread wants."""
    since = {task: ns - before.get(task, 0) for task, ns in after.items()}
    return since.pop(str(pid), 0) + max(since.values(), default=0)


def qmp_socket(seconds, path, pid):
    monitor = socket.socket(socket.AF_UNIX)
    monitor.connect(path)
    monitor.settimeout(60)
    lines = monitor.makefile("rb")
    lines.readline()

    def ask(command):
        monitor.sendall(b'{"execute":"%s"}\n' % command)
        while (line := lines.readline()):
            answer = json.loads(line)
            if "event" not in answer:
                return answer
        return None

    ask(b"qmp_capabilities")
    end = time.monotonic_ns() + int(float(seconds) * SECOND)
    while time.monotonic_ns() < end:
        print(f"B {time.monotonic_ns()}", flush=True)
        try:
            before = run_delays(pid)
            answer = ask(b"query-status")
            now = time.monotonic_ns()
            without = starved(before, run_delays(pid), pid)
        except OSError:
            answer = None
        if not answer:
            print(f"C {time.monotonic_ns()}", flush=True)
            return
        print(f"A {now} {answer['return']['status']} {without}", flush=True)
        time.sleep(PAUSE_MS / 1000)


def questions(path):
    """[(begin, end, late, starved)], ns: late is how much later than it meant to the question began."""
    result, begun, before = [], None, None
    with open(path) as file:
        for line in file:
            words = line.split()
            if words[0] == "B":
                begun = int(words[1])
            elif words[0] == "C":
                begun = None
            else:
                late = begun - before - PAUSE_MS * 10**6 if before else 0
                before = int(words[1])
                result.append((begun, before, late, int(words[3])))
                begun = None
    if begun is not None:
        result.append((begun, begun + 60 * SECOND, 0, 0))
    return result


def qmp_judge(path, control):
    """An answer over LIMIT_MS counts, less the time in which QEMU wanted to go on and had no processor,
    unless within that time the one who asks the other QEMU had to wait half of it for an answer, or
    for a processor: then it was the machine."""
    half = LIMIT_MS * 10**6 // 2
    stood = [(begin - late, end) for begin, end, late, _ in questions(control)
             if end - begin > half or late > half]
    asked = questions(path)
    over = [q for q in asked if q[1] - q[0] > LIMIT_MS * 10**6]
    counts = [q for q in over if q[1] - q[0] - q[3] > LIMIT_MS * 10**6
              and not any(s < q[1] and e > q[0] for s, e in stood)]
    result = {"answers": len(asked)}
    for name, took in (("", asked), ("control-", questions(control))):
        times = sorted((end - begin) / 1e6 for begin, end, *_ in took)
        result |= {name + "median": round(statistics.median(times), 2), name + "max": round(times[-1], 1),
                   name + "p99": round(times[int(len(times) * 0.99)], 1)}
    waited = sorted((end - begin - without) / 1e6 for begin, end, _, without in asked)
    print(json.dumps(result | {
        "max-with-processor": round(waited[-1], 1), "over": len(over), "unexplained": len(counts),
        "unexplained-ms": [round((q[1] - q[0]) / 1e6, 1) for q in counts][:10]}))


def qmp_summary(path):
    took, states, begun, last = [], {}, None, 0
    with open(path) as file:
        for line in file:
            words = line.split()
            last = int(words[1])
            if words[0] == "B":
                begun = last
            else:
                took.append((last - begun) / 1e6)
                states[words[2]] = states.get(words[2], 0) + 1
                begun = None
    if begun is not None:
        states["unanswered"] = 1
    took.sort()
    print(json.dumps({
        "answers": len(took), "median": round(statistics.median(took), 1) if took else None,
        "p95": round(took[int(len(took) * 0.95)], 1) if took else None,
        "max": round(took[-1], 1) if took else None,
        "over-50ms": sum(t > 50 for t in took), "states": states}))


def memory(daemon):
    """(pid, KiB) of a daemon of this host."""
    try:
        with open(f"/run/lab/{daemon}.pid") as file:
            pid = int(file.read().split()[0])
        with open(f"/proc/{pid}/status") as file:
            return pid, next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0, 0


def rss(seconds, interval):
    end = time.monotonic_ns() + int(float(seconds) * SECOND)
    while True:
        for daemon in ("virtcolod", "comparator"):
            print("R", time.monotonic_ns(), daemon, *memory(daemon), flush=True)
        if time.monotonic_ns() >= end:
            return
        time.sleep(float(interval))


def growth(*paths):
    result = {}
    for path in paths:
        samples, pids = {}, {}
        with open(path) as file:
            for line in file:
                _, _, daemon, pid, kib = line.split()
                samples.setdefault(daemon, []).append(int(kib))
                pids.setdefault(daemon, set()).add(int(pid))
        for daemon, values in samples.items():
            n = len(values) // 4
            quarters = [round(statistics.median(values[i * n : (i + 1) * n])) for i in range(3)]
            quarters.append(round(statistics.median(values[3 * n :])))
            name = path.rsplit("/", 1)[-1].split(".")[0]
            result[f"{name}-{daemon}"] = {
                "samples": len(values), "quarters": quarters, "max": max(values),
                "growth": quarters[3] - quarters[1], "same-process": len(pids[daemon]) == 1 and 0 not in pids[daemon]}
    print(json.dumps(result))


if __name__ == "__main__":
    commands = {"qmp": qmp, "qmp-socket": qmp_socket, "qmp-judge": qmp_judge, "rss": rss, "qmp-summary": qmp_summary, "growth": growth}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
