#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records what two Linux stacks send that serve the same requests (mirror.py, services.py).

    record.py --out DIR [--scale BYTES] [--seed N] [CASE...]

A case is SERVICE-FAMILY-CONDITION, or the beginning of some: http-6 stands for all of HTTP over
IPv6.  Each goes to DIR/CASE.pcap.  Needs root; makes three network namespaces and removes them.
Exit code: 0 all recorded, 1 something failed, 2 wrong usage, 77 not root or a server is missing.
"""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

import mirror
import services

CONDITIONS = {
    "plain": mirror.Condition(lag=0.0003),
    "offload": mirror.Condition(delay=0.001, lag=0.001, offload_a=mirror.OFFLOAD_ALL),
    "late": mirror.Condition(lag=0.003, lag_jitter=0.004, offload_b=mirror.OFFLOAD_ALL),
    "loss": mirror.Condition(loss=0.03, delay=0.002, jitter=0.002, lag=0.0005,
                             offload_a=mirror.OFFLOAD_ALL, offload_b=mirror.OFFLOAD_ALL),
    "mss": mirror.Condition(delay=0.0005, lag=0.0003, mss=700),
}
ADDRESSES = {"4": ("10.99.0.2", "10.99.0.1"), "6": ("fd99::2", "fd99::1")}  # copies', client's
COPY_MAC, CLIENT_MAC = "52:54:00:99:00:02", "52:54:00:99:00:01"
# Room for all that a client sends: what one copy has got and the other had no room for, only a
# checkpoint would bring.
ROOM = "net.ipv4.tcp_rmem=4096 2097152 6291456"
# The copies' stacks are set apart: when an answer to lost frames comes, and how much goes out at once.
COPY_SYSCTLS = ([], [ROOM], [ROOM, "net.ipv4.tcp_congestion_control=reno",
                             "net.ipv4.tcp_autocorking=0", "net.ipv4.tcp_early_retrans=0",
                             "net.ipv4.tcp_comp_sack_nr=0", "net.ipv4.tcp_min_tso_segs=8"])
SETTLE_S = 0.4  # after the client: its last ACKs, and what the copies repeat
START_S = 20    # for the servers to listen
QUIET_S = 3     # the copies' reports of their IPv6 groups come at random within two seconds


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Lab:
    def __init__(self, folder):
        self.spaces = [f"traces-{name}-{os.getpid()}" for name in ("client", "a", "b")]
        self.taps, self.servers = [], []
        self.folder = folder

    def __enter__(self):
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def make(self):
        for i, space in enumerate(self.spaces):
            run("ip", "netns", "add", space)
            # Nothing speaks by itself: no router solicitations, no duplicate address detection.
            run("ip", "netns", "exec", space, "sysctl", "-q", "-w",
                "net.ipv6.conf.default.router_solicitations=0",
                "net.ipv6.conf.default.accept_ra=0", "net.ipv6.conf.default.addr_gen_mode=1",
                *COPY_SYSCTLS[i])
            self.taps.append(mirror.open_tap(space, "net0"))
            own, other = (1, 0) if i == 0 else (0, 1)
            macs = (COPY_MAC, CLIENT_MAC)
            run("ip", "-n", space, "link", "set", "lo", "up")
            run("ip", "-n", space, "link", "set", "net0", "address", macs[own], "up")
            for family, length in ("4", 24), ("6", 64):
                run("ip", "-n", space, "addr", "add", f"{ADDRESSES[family][own]}/{length}", "dev",
                    "net0", *(["nodad"] if family == "6" else []))
                # The copies know the client; the client asks.
                if i > 0:
                    run("ip", "-n", space, "neigh", "replace", ADDRESSES[family][other], "lladdr",
                        macs[other], "dev", "net0", "nud", "permanent")
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server",
            "-days", "30", "-keyout", f"{self.folder}/key.pem", "-out", f"{self.folder}/cert.pem")
        for space in self.spaces[1:]:
            self.servers += services.start_servers(space, space == self.spaces[2], self.folder)
        self.wait_for_servers()

    def wait_for_servers(self):
        limit = time.monotonic() + START_S
        ports = (services.HTTP, services.TLS, services.REDIS, services.DNS)
        for space in self.spaces[1:]:
            while True:
                listening = subprocess.run(["ip", "netns", "exec", space, "ss", "-Hltn6"],
                                           capture_output=True, text=True, check=True).stdout
                if all(f":{port} " in listening for port in ports):
                    break
                if time.monotonic() > limit:
                    raise RuntimeError(f"{space}: servers are missing:\n{listening}")
                time.sleep(0.05)

    def __exit__(self, *_):
        for pid in self.servers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for fd in self.taps:
            os.close(fd)
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], stderr=subprocess.DEVNULL, check=False)


def record(lab, net, case, path, scale):
    """False when the client failed."""
    service, family, condition = case.rsplit("-", 2)
    run("ip", "-n", lab.spaces[0], "neigh", "flush", "dev", "net0")
    net.start(path, CONDITIONS[condition])
    client = services.fork_into(lab.spaces[0], services.CLIENTS[service], ADDRESSES[family][0],
                                scale)
    status = []

    def ended():
        if not status:
            pid, code = os.waitpid(client, os.WNOHANG)
            status.extend([code, time.monotonic()] if pid else [])
        return status and time.monotonic() > status[1] + SETTLE_S
    net.run(ended)
    net.stop()
    if status[0] != 0:
        print(f"# {case}: the client failed; {net.stuck()} segments of the primary wait for the "
              "secondary", file=sys.stderr)
    return status[0] == 0


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--scale", type=int, default=200000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("cases", nargs="*")
    args = parser.parse_args()
    known = [f"{service}-{family}-{condition}" for service in services.CLIENTS
             for family in ADDRESSES for condition in CONDITIONS]
    cases = [case for case in known
             if not args.cases or any(case.startswith(wanted) for wanted in args.cases)]
    if not cases:
        parser.error(f"no such case; there are {' '.join(known)}")
    missing = [program for program in ("redis-server", "dnsmasq", "openssl", "ss")
               if not shutil.which(program)]
    if os.geteuid() != 0 or missing:
        print(f"record.py: needs root and {' '.join(missing)}", file=sys.stderr)
        return 77
    os.makedirs(args.out, exist_ok=True)
    failed = 0
    with Lab(os.path.abspath(args.out)) as lab:
        net = mirror.Mirror(lab.taps[0], lab.taps[1:], args.seed)
        quiet = time.monotonic() + QUIET_S
        net.run(lambda: time.monotonic() > quiet)
        for case in cases:
            path = os.path.join(args.out, f"{case}.pcap")
            if not record(lab, net, case, path, args.scale):
                os.rename(path, f"{path}.failed")
                failed += 1
    for name in "key.pem", "cert.pem":
        os.remove(os.path.join(args.out, name))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
