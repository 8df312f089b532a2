# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a client may do wrong at virtcolod's socket, one connection each, all at the same time.

    protocol-cases.py SOCKET PATIENCE_S
    protocol-cases.py --list

Prints "ok CASE" or "not ok CASE: why", and for each that is to be closed how long that took. PATIENCE_S:
what is begun and not ended is closed after it.
"""
import os
import socket
import struct
import sys
import threading
import time

REMOTE, OWN = 0x20008086, 0x434F4C4F
PATH, PATIENCE_S = sys.argv[1], float((sys.argv + ["0"])[2])
# Beyond the daemon's own patience, which it looks at every 5 s: the machine is busy with the fuzzer.
MORE_S = 20
AUTH_LIST, OPEN, GET_URI, CAPABILITIES = 66, 1, 110, 7


def frame(procedure, body=b"", serial=1, kind=0, program=REMOTE, length=None):
    size = 28 + len(body) if length is None else length
    return struct.pack(">7I", size, program, 1, procedure, kind, serial, 0) + body


def string(text):
    raw = text.encode()
    return struct.pack(">I", len(raw)) + raw + b"\0" * (-len(raw) % 4)


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(PATIENCE_S + MORE_S)
    s.connect(PATH)
    return s


def receive(s):
    head = b""
    while len(head) < 28:
        more = s.recv(28 - len(head))
        if not more:
            raise EOFError("closed")
        head += more
    size, *_, status = struct.unpack(">7I", head)
    body = b""
    while len(body) < size - 28:
        more = s.recv(size - 28 - len(body))
        if not more:
            raise EOFError("closed in a frame")
        body += more
    return status, body


def opened():
    s = connect()
    for serial, call in enumerate((frame(AUTH_LIST), frame(OPEN, struct.pack(">I", 1) + string("colo:///system") + bytes(4)))):
        s.sendall(call)
        status, _ = receive(s)
        if status:
            raise RuntimeError("call %d of opening failed" % serial)
    return s


def must_close(s):
    """It is closed, whatever comes before that."""
    try:
        while s.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        raise RuntimeError("the connection is still there") from None


def send(s, data):
    """All of it, or what it takes until the daemon closes."""
    try:
        s.sendall(data)
    except ConnectionError:
        pass


def frame_of_33_mib():
    s = opened()
    send(s, frame(GET_URI, length=33 << 20))
    send(s, bytes(33 << 20))
    must_close(s)


def frame_of_33_mib_at_our_door():
    s = connect()
    send(s, frame(2, program=OWN, length=33 << 20))
    send(s, bytes(33 << 20))
    must_close(s)


def largest_frame():
    """As large as a frame may be: libvirt says that it is nonsense, and goes on."""
    s = opened()
    s.sendall(frame(23, bytes((32 << 20) - 24), serial=9))
    status, _ = receive(s)
    if status != 1:
        raise RuntimeError("not refused: status %d" % status)
    s.sendall(frame(GET_URI, serial=10))
    status, body = receive(s)
    if status or b"colo:///system" not in body:
        raise RuntimeError("no answer after it")


def length_below_the_header():
    s = opened()
    send(s, frame(GET_URI, length=27))
    must_close(s)


def fds_33():
    s = opened()
    send(s, frame(7, struct.pack(">I", 33), kind=4))
    must_close(s)


def fds_33_at_once():
    s = opened()
    socket.send_fds(s, [frame(7, struct.pack(">I", 32), kind=4)], [0] * 33)
    must_close(s)


def fd_of_no_frame():
    s = opened()
    socket.send_fds(s, [frame(GET_URI)], [0])
    must_close(s)


def fds_that_never_come():
    s = opened()
    s.sendall(frame(7, struct.pack(">I", 2), kind=4))
    must_close(s)


def own_end_as_fd():
    """Nobody closes it, it is the daemon itself who holds it: seen by the caller, who counts."""
    s = opened()
    s.sendall(frame(7, struct.pack(">I", 2), kind=4))
    socket.send_fds(s, [b"\0"], [s.fileno()])


def own_serial():
    s = opened()
    send(s, frame(GET_URI, serial=0xC0100001))
    must_close(s)


def open_with_fds():
    s = connect()
    s.sendall(frame(AUTH_LIST))
    receive(s)
    send(s, frame(OPEN, bytes(12), kind=4))
    must_close(s)


def slow_loris():
    s = opened()
    call = frame(23, string("x" * 4096))
    begin = time.monotonic()
    for byte in call:
        send(s, bytes([byte]))
        s.settimeout(1)
        try:
            if not s.recv(1):
                return
        except TimeoutError:
            pass
        except ConnectionError:
            return
        if time.monotonic() > begin + PATIENCE_S + MORE_S:
            raise RuntimeError("the connection is still there")


def silent():
    must_close(connect())


def half_a_length():
    s = connect()
    s.sendall(b"\0\0")
    must_close(s)


def half_of_ours():
    s = connect()
    s.sendall(frame(1, struct.pack(">I", 1) + string("me"), program=OWN)[:-4])
    must_close(s)


def half_closed():
    """It says no more and hears: as libvirt itself does it, the connection ends, without a wait."""
    s = opened()
    begin = time.monotonic()
    s.sendall(frame(GET_URI, serial=5))
    s.shutdown(socket.SHUT_WR)
    must_close(s)
    if time.monotonic() > begin + MORE_S:
        raise RuntimeError("it took %.0f s" % (time.monotonic() - begin))


def half_closed_in_a_frame():
    s = opened()
    s.sendall(frame(GET_URI, length=100))
    s.shutdown(socket.SHUT_WR)
    must_close(s)


def asks_and_never_reads():
    """It fills its queue, and then goes."""
    s = opened()
    s.settimeout(10)
    try:
        for serial in range(2000):
            s.sendall(frame(CAPABILITIES, serial=serial + 10))
    except TimeoutError:
        pass


def idle():
    """A client that has said all it had to say is left alone."""
    s = opened()
    time.sleep(PATIENCE_S + MORE_S / 2)
    s.sendall(frame(GET_URI, serial=5))
    status, body = receive(s)
    if status or b"colo:///system" not in body:
        raise RuntimeError("no answer after it was idle")


CASES = (frame_of_33_mib, frame_of_33_mib_at_our_door, largest_frame, length_below_the_header, fds_33,
         fds_33_at_once, fd_of_no_frame, fds_that_never_come, own_end_as_fd, own_serial, open_with_fds,
         slow_loris, silent, half_a_length, half_of_ours, half_closed, half_closed_in_a_frame,
         asks_and_never_reads, idle)
if PATH == "--list":
    print("\n".join(case.__name__ for case in CASES))
    sys.exit()
lock = threading.Lock()


def run(case):
    begin = time.monotonic()
    try:
        case()
        result = "ok"
        why = ""
    except Exception as e:
        result = "not ok"
        why = ": %s %s" % (type(e).__name__, e)
    with lock:
        print("%s %s%s" % (result, case.__name__, why or " # %.1f s" % (time.monotonic() - begin)), flush=True)


threads = [threading.Thread(target=run, args=(case,)) for case in CASES]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
os._exit(0)
