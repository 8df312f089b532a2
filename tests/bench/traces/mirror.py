# SPDX-License-Identifier: LGPL-2.1-or-later
"""The network between one client and two copies of a server, and the recorder of what they send.

Copy A is the primary: the client talks to it.  Copy B, the secondary, gets the client's frames too,
in its own sequence space, as a sequence rewriter would do it; what it sends is recorded and goes
nowhere.  As in a protected pair, a TCP segment of A goes on to the client only when B has sent its
bytes too (else the client would acknowledge what B has not sent) and has acknowledged as much (else
the client would forget what B never got); that gate looks at sequence numbers alone and shares
nothing with the compare core.

On the way, with odds and times of a Condition: frames between client and copies are lost, late and
out of order (for both copies alike, as on a wire before the mirror), those to B later still, and
B's peer may announce a smaller MSS, so that B cuts its stream elsewhere.

Format of a record: pcap with nanoseconds, link type 147 (USER0).  Each packet is one byte (0: the
primary's, 1: the secondary's), a virtio-net header of 12 bytes, the Ethernet frame; B's sequence
numbers are mapped to A's.  (Wireshark: DLT User 0, header size 13, payload "eth".)
"""
import ctypes
import dataclasses
import fcntl
import heapq
import os
import random
import select
import struct
import time

VNET = 12
NEEDS_CSUM = 1
FIN, SYN, RST, ACK = 1, 2, 4, 16
TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
OFFLOAD_ALL = 0x01 | 0x02 | 0x04  # checksum, TSO4, TSO6
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass
class Condition:
    """Times in seconds, odds from 0 to 1."""
    loss: float = 0        # of each frame, on the wire between client and mirror
    delay: float = 0       # on that wire
    jitter: float = 0      # more of that, at random: reorders
    lag: float = 0         # of the frames to B
    lag_jitter: float = 0  # more of that, at random, but in order as in a stream of records
    mss: int = 0           # the most that the client seems to announce to B
    offload_a: int = 0     # what the copies' devices take over
    offload_b: int = 0


def enter(namespace):
    """Moves this process into a network namespace of `ip netns`."""
    with open(f"/run/netns/{namespace}", "rb") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


def open_tap(namespace, name):
    """A TAP device in @namespace; needs root, and leaves the process where it was."""
    with open("/proc/self/ns/net", "rb") as home:
        enter(namespace)
        try:
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(),
                                                   IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
            fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", VNET))
        finally:
            libc.setns(home.fileno(), CLONE_NEWNET)
    return fd


class Segment:
    """The TCP fields of a frame (a bytearray with its virtio-net header); None when it holds none."""
    __slots__ = ("frame", "tcp", "v6", "flags", "seq", "ack", "end", "client", "options")

    @classmethod
    def parse(cls, frame, from_client):
        ip = VNET + 14
        ethertype = frame[VNET + 12:ip]
        if ethertype == b"\x08\x00" and len(frame) >= ip + 40 and frame[ip + 9] == 6:
            if struct.unpack_from(">H", frame, ip + 6)[0] & 0x3FFF:
                return None
            tcp, end = ip + (frame[ip] & 15) * 4, ip + struct.unpack_from(">H", frame, ip + 2)[0]
        elif ethertype == b"\x86\xdd" and len(frame) >= ip + 60 and frame[ip + 6] == 6:
            tcp, end = ip + 40, ip + 40 + struct.unpack_from(">H", frame, ip + 4)[0]
        else:
            return None
        s = cls()
        s.frame, s.tcp, s.v6 = frame, tcp, ethertype == b"\x86\xdd"
        source, target, s.seq, s.ack = struct.unpack_from(">HHII", frame, tcp)
        s.flags = frame[tcp + 13]
        header = (frame[tcp + 12] >> 4) * 4
        s.end = s.seq + end - tcp - header + (1 if s.flags & (SYN | FIN) else 0) & 0xFFFFFFFF
        # A pair of ports is used once in a trace.
        s.client = (s.v6, source, target) if from_client else (s.v6, target, source)
        s.options, at = {}, tcp + 20
        while at < tcp + header and frame[at]:
            length = 1 if frame[at] == 1 else max(frame[at + 1], 2)
            s.options[frame[at]] = at
            at += length
        return s

    def put(self, at, value):
        """Overwrites bytes, and the checksum (RFC 1624) unless the device is to complete it."""
        frame, tcp = self.frame, self.tcp
        low, high = tcp + (at - tcp & ~1), tcp + (at + len(value) - tcp + 1 & ~1)
        before = struct.unpack(f">{(high - low) // 2}H", frame[low:high])
        frame[at:at + len(value)] = value
        if frame[0] & NEEDS_CSUM:
            return
        after = struct.unpack(f">{(high - low) // 2}H", frame[low:high])
        total = ~struct.unpack_from(">H", frame, tcp + 16)[0] & 0xFFFF
        total += sum(after) + sum(~word & 0xFFFF for word in before)
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        struct.pack_into(">H", frame, tcp + 16, ~total & 0xFFFF)

    def add(self, at, difference):
        value = struct.unpack_from(">I", self.frame, at)[0] + difference & 0xFFFFFFFF
        self.put(at, struct.pack(">I", value))

    def timestamp(self):
        at = self.options.get(8)
        return struct.unpack_from(">I", self.frame, at + 2)[0] if at else 0


def after(a, b):
    """Sequence number @a lies behind @b (RFC 9293 3.4)."""
    return 0 < (a - b & 0xFFFFFFFF) < 1 << 31


class Connection:
    def __init__(self):
        self.isn = [None, None]
        self.stamp = [0, 0]
        self.b_end = None  # end of what B has sent, in A's space
        self.b_ack = None
        self.gate = []   # segments of A that wait for B
        self.early = []  # segments of B from before A's SYN

    def known(self):
        return None not in self.isn

    def shift(self):
        """From A's sequence space to B's, and from A's clock to B's."""
        return self.isn[1] - self.isn[0], self.stamp[1] - self.stamp[0]


class Mirror:
    def __init__(self, client, copies, seed):
        self.client, self.copies = client, copies
        self.random = random.Random(seed)
        self.condition = Condition()
        self.connections = {}
        self.timers, self.ticket = [], 0
        self.b_due = 0
        self.file = None

    def start(self, path, condition):
        self.condition, self.connections = condition, {}
        for fd, offload in zip(self.copies, (condition.offload_a, condition.offload_b)):
            fcntl.ioctl(fd, TUNSETOFFLOAD, offload)
        self.file = open(path, "wb")
        self.file.write(struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 18, 147))

    def stop(self):
        self.file.close()
        self.file = None

    def record(self, side, frame):
        if self.file:
            now = time.monotonic_ns()
            self.file.write(struct.pack("=IIII", now // 10**9, now % 10**9, len(frame) + 1,
                                        len(frame) + 1) + bytes([side]) + frame)

    def later(self, when, function, *args):
        self.ticket += 1  # keeps the order of equal times
        heapq.heappush(self.timers, (when, self.ticket, function, args))

    def run(self, until):
        """Serves until @until() holds."""
        fds = {self.client: self.from_client, self.copies[0]: self.from_a,
               self.copies[1]: self.from_b}
        while not until():
            wait = self.timers[0][0] - time.monotonic() if self.timers else 0.05
            for fd in select.select(list(fds), [], [], min(max(wait, 0), 0.05))[0]:
                for _ in range(16):
                    try:
                        fds[fd](bytearray(os.read(fd, 1 << 17)))
                    except BlockingIOError:
                        break
            while self.timers and self.timers[0][0] <= time.monotonic():
                _, _, function, args = heapq.heappop(self.timers)
                function(*args)

    @staticmethod
    def write(fd, frame):
        try:
            os.write(fd, frame)
        except OSError:
            pass  # lost, as on a full wire

    def wire(self, function, *args):
        c = self.condition
        if c.loss and self.random.random() < c.loss:
            return
        if c.delay or c.jitter:
            self.later(time.monotonic() + c.delay + self.random.random() * c.jitter, function,
                       *args)
        else:
            function(*args)

    def from_client(self, frame):
        segment = Segment.parse(frame, True)
        if segment and segment.flags & (SYN | ACK) == SYN and segment.client not in self.connections:
            self.connections[segment.client] = Connection()
        self.wire(self.to_copies, frame)

    def to_copies(self, frame):
        c = self.condition
        self.write(self.copies[0], frame)
        self.b_due = max(self.b_due, time.monotonic() + c.lag + self.random.random() * c.lag_jitter)
        self.later(self.b_due, self.to_b, frame)

    def to_b(self, frame):
        s = Segment.parse(frame, True)
        connection = s and self.connections.get(s.client)
        if connection and connection.known() and s.flags & ACK:
            shift, stamp = connection.shift()
            s.add(s.tcp + 8, shift)
            sack, times = s.options.get(5), s.options.get(8)
            for at in range(sack + 2, sack + frame[sack + 1], 4) if sack else ():
                s.add(at, shift)
            if times:
                s.add(times + 6, stamp)
        elif connection and connection.known() and s.flags & RST:
            pass  # by the client's sequence number alone
        elif s and s.flags & SYN and 2 in s.options and self.condition.mss:
            at = s.options[2] + 2
            mss = struct.unpack_from(">H", frame, at)[0]
            s.put(at, struct.pack(">H", min(mss, self.condition.mss)))
        self.write(self.copies[1], frame)

    def from_a(self, frame):
        self.record(0, frame)
        s = Segment.parse(frame, False)
        connection = s and self.connections.get(s.client)
        if not connection:
            self.wire(self.write, self.client, frame)
            return
        if s.flags & SYN and connection.isn[0] is None:
            connection.isn[0], connection.stamp[0] = s.seq, s.timestamp()
            for early in connection.early:
                self.from_b_mapped(connection, early)
            connection.early = []
        connection.gate.append(s)
        self.open_gate(connection)

    def from_b(self, frame):
        s = Segment.parse(frame, False)
        connection = s and self.connections.get(s.client)
        if not connection:
            self.record(1, frame)
            return
        if s.flags & SYN and connection.isn[1] is None:
            connection.isn[1], connection.stamp[1] = s.seq, s.timestamp()
        if connection.isn[0] is None and not s.flags & RST:
            connection.early.append(s)
        else:
            self.from_b_mapped(connection, s)

    def from_b_mapped(self, connection, s):
        if connection.known():
            shift = connection.shift()[0]
            s.add(s.tcp + 4, -shift)
            end = s.end - shift & 0xFFFFFFFF
            if connection.b_end is None or after(end, connection.b_end):
                connection.b_end = end
            if s.flags & ACK and (connection.b_ack is None or after(s.ack, connection.b_ack)):
                connection.b_ack = s.ack
        self.record(1, s.frame)
        self.open_gate(connection)

    def open_gate(self, connection):
        """Each segment by itself: what A repeats may be what the client waits for."""
        waiting = []
        for s in connection.gate:
            if (s.flags & RST or connection.b_ack is not None and
                    not after(s.end, connection.b_end) and not after(s.ack, connection.b_ack)):
                self.wire(self.write, self.client, s.frame)
            else:
                waiting.append(s)
        connection.gate = waiting

    def stuck(self):
        """Segments of A that wait for B."""
        return sum(len(c.gate) for c in self.connections.values())
