#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# TAP: the lab itself, netns back-end: two labs side by side, all commands, nothing left behind.
# LAB_TEST_BACKEND=kvm runs the same on the kvm back-end (minutes).
set -u
here=$(cd "$(dirname "$0")" && pwd)
lab=$here/lab
backend=${LAB_TEST_BACKEND:-netns}
[ "$(id -u)" = 0 ] || { echo "1..0 # SKIP the lab needs root"; exit 0; }

COLO_LAB_DIR=$(mktemp -d "${TMPDIR:-/var/tmp}/lab-test.XXXXXX")
export COLO_LAB_DIR
chmod 755 "$COLO_LAB_DIR"
a=ta$$ b=tb$$ c=tc$$
. "$here/../tap.sh"
background=

cleanup() {
    [ -n "$background" ] && kill $background 2>/dev/null
    for name in $a $b $c; do
        "$lab" --name $name down --purge
    done
    rm -rf "$COLO_LAB_DIR"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

A() { "$lab" --name $a "$@"; }
B() { "$lab" --name $b "$@"; }

must() {
    check "$@" && return
    echo "Bail out! the rest needs this"
    exit 1
}

not() { ! "$@"; }
is() { [ "$1" = "$2" ] || { echo "expected '$2', found '$1'"; return 1; }; }
timed() {
    local start=${EPOCHREALTIME/./} rc=0 name=$1
    shift
    "$@" || rc=$?
    echo "# time $name $(((${EPOCHREALTIME/./} - start) / 1000)) ms"
    return $rc
}
answers() { "$lab" --name "$1" client tick --count 20 --interval 5 --out /dev/null; }
field() { sed -n "s/.*\b$1=\([0-9]*\).*/\1/p"; }
ask_disk() {
    "$lab" --name "$1" exec client bash -c \
        'exec 3<>/dev/tcp/10.9.0.10/11; echo disk >&3; read -r -t 10 line <&3; echo "$line"'
}
etcd_from() {
    A exec "$1" curl -sf --noproxy '*' --max-time 3 --cacert /etc/libvirt-colo/etcd/ca.pem \
        --cert /etc/libvirt-colo/etcd/cert.pem --key /etc/libvirt-colo/etcd/key.pem \
        -d '{}' https://10.77.0.3:2379/v3/maintenance/status
}
etcd_without_certificate() {
    A exec primary curl -sf --noproxy '*' --max-time 3 --cacert /etc/libvirt-colo/etcd/ca.pem \
        -d '{}' https://10.77.0.3:2379/v3/maintenance/status
}

# Stand-ins for the daemons: say what they inherited, then wait.
prefix=$COLO_LAB_DIR/prefix
mkdir -p "$prefix/sbin"
cat > "$prefix/sbin/colo-comparator" <<'P'
#!/usr/bin/python3
import os, socket, sys, time
ok = os.environ["LISTEN_PID"] == str(os.getpid())
names = os.environ["LISTEN_FDNAMES"].split(":")
for i in range(int(os.environ["LISTEN_FDS"])):
    s = socket.socket(fileno=3 + i)
    ok = ok and s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    print(names[i], s.family.name, s.getsockname(), flush=True)
print("uid", os.getuid(), "pid-right", ok, "arguments", *sys.argv[1:], flush=True)
while True:
    time.sleep(60)
P
cp "$prefix/sbin/colo-comparator" "$prefix/sbin/virtcolod"
chmod 755 "$prefix/sbin"/*

# --- two labs --------------------------------------------------------------------------------
timed up-first A up --backend $backend --prefix "$prefix" > "$COLO_LAB_DIR/out" 2>&1
must "up" grep -q "is up" "$COLO_LAB_DIR/out"
cat "$COLO_LAB_DIR/out" | sed -n 's/^# time/# time/p'
timed up-second B up --backend $backend 2> /dev/null
must "a second lab beside the first" B status
check "up again changes nothing" A up --backend $backend
check "status says up" A status

boot_id() { A exec "$1" cat /proc/sys/kernel/random/boot_id; }
boot_before=$(boot_id primary)
check "hosts have boot ids of their own" not is "$boot_before" "$(boot_id secondary)"
check "host names" is "$(A exec primary hostname) $(A exec secondary hostname)" "primary secondary"
check "names resolve" is "$(A exec primary getent hosts secondary | awk '{print $1}')" 10.77.0.2
host_uuid() { A exec "$1" virsh -q capabilities | sed -n 's,.*<uuid>\(.*\)</uuid>.*,\1,p'; }
check "host uuids differ" not is "$(host_uuid primary)" "$(host_uuid secondary)"
check "a host has a uuid" is "$(host_uuid primary | wc -w)" 1
check "storage pool" is "$(A exec secondary virsh -q pool-list --name | tr -d ' \n')" default
check "bridge without delay" is "$(A exec primary cat /sys/class/net/br0/bridge/forward_delay)" 0

private_folders() {
    local d
    for d in /run /etc/libvirt /etc/libvirt-colo /etc/pki /var/lib/libvirt /var/lib/libvirt-colo \
        /var/cache/libvirt /var/log; do
        A exec primary touch $d/lab-mark || return 1
        if A exec secondary test -e $d/lab-mark || [ -e $d/lab-mark ] || B exec primary test -e $d/lab-mark; then
            echo "$d is shared"
            return 1
        fi
    done
}
check "folders are private to a host" private_folders

# --- commands --------------------------------------------------------------------------------
check "exec gives the exit code" is "$(A exec primary sh -c 'exit 7'; echo $?)" 7
check "exec passes standard input" is "$(echo through | A exec secondary cat)" through
A put secondary "$here/client.py" /root/copied
check "put copies content" is "$(A exec secondary sha256sum < /dev/null /root/copied | cut -d' ' -f1)" \
    "$(sha256sum < "$here/client.py" | cut -d' ' -f1)"
check "an unknown host is refused" not A exec nobody true
check "an unknown link is refused" not A cut nowhere

# --- certificates ----------------------------------------------------------------------------
certificate_right() {
    A exec "$1" certtool --verify --load-ca-certificate /etc/pki/CA/cacert.pem \
        --infile /etc/pki/libvirt/servercert.pem --verify-hostname "$1" > /dev/null &&
        A exec "$1" sh -c 'for role in server client; do
            a=$(certtool --pubkey-info --load-certificate /etc/pki/libvirt/${role}cert.pem | sed -n "/BEGIN PUBLIC/,\$p")
            b=$(certtool --pubkey-info --load-privkey /etc/pki/libvirt/private/${role}key.pem | sed -n "/BEGIN PUBLIC/,\$p")
            test -n "$a" && test "$a" = "$b" || { echo "$role: $a and $b"; exit 1; }
        done'
}
check "primary's certificate names it and is the authority's" certificate_right primary
check "secondary's certificate names it and is the authority's" certificate_right secondary
check "etcd answers a client with a certificate" etcd_from primary
check "etcd refuses a client without one" not etcd_without_certificate

# --- daemons (stand-ins) ---------------------------------------------------------------------
log() { cat "$COLO_LAB_DIR/$a/log/$1/$2.log"; }
state() { A daemon primary status "$1" | cut -d' ' -f2; }
comparator_inherits() {
    log primary comparator | grep -q "^control AF_UNIX /run/libvirt-colo/comparator-sock" &&
        log primary comparator | grep -q "^data AF_INET ('0.0.0.0', 16515)" &&
        log primary comparator | grep -qE "^uid 0 pid-right True arguments --user [a-z-]+$" || { log primary comparator; return 1; }
}
virtcolod_inherits() {
    log primary virtcolod | grep -q "^rpc AF_UNIX /run/libvirt/virtcolod-sock" &&
        log primary virtcolod | grep -q "^control AF_INET ('0.0.0.0', 16516)" &&
        log primary virtcolod | grep -q "^uid 0 pid-right True" || { log primary virtcolod; return 1; }
}
check "the comparator inherits its listeners and is told its user" comparator_inherits
check "the comparator's control socket is for root only" \
    is "$(A exec primary stat -c '%a %U' /run/libvirt-colo/comparator-sock)" "600 root"
check "virtcolod inherits its listeners" virtcolod_inherits
check "virtcolod has a configuration" A exec primary grep -q 'arbiter = "etcd"' /etc/libvirt-colo/virtcolod.conf
A daemon primary pause virtcolod
check "pause" is "$(state virtcolod)" paused
A daemon primary resume virtcolod
check "resume" is "$(state virtcolod)" running
A daemon primary kill comparator
check "kill" is "$(state comparator)" stopped
check "the other daemon lives on" is "$(state virtcolod)" running
A daemon primary start comparator
check "start" is "$(state comparator)" running
A daemon primary stop virtcolod
check "stop" is "$(state virtcolod)" stopped
check "restart libvirtd" A daemon primary restart libvirtd
check "libvirtd answers after its restart" A exec primary virsh -q list

# --- guest -----------------------------------------------------------------------------------
timed guest-up A guest up 2> /dev/null
must "the guest answers" answers $a
must "the second lab's guest too" eval "B guest up && answers $b"
check "HTTP with checksum" A client http --count 2 --out /dev/null
check "random answers never repeat" A client random --count 50 --interval 5 --out /dev/null
check "clocks never go back" A client time --count 50 --interval 5 --out /dev/null
check "the tick client notices wrong answers" not A client tick --port 7 --count 5 --out /dev/null
check "the time client notices clocks that go back" not A client time --port 9 --count 5 --out /dev/null
check "the random client notices what is no UUID" not A client random --port 8 --count 5 --out /dev/null

# --- cut and heal ----------------------------------------------------------------------------
"$lab" --name $a client tick --interval 20 --out "$COLO_LAB_DIR/tick.log" &
background=$!
sleep 1
A cut vm:primary
check "vm:primary cut: the guest is gone" not A exec client curl -sf --noproxy '*' --max-time 2 http://10.9.0.10/1m.sha256
check "vm:primary cut: the pair network works" etcd_from primary
check "the other lab does not notice" answers $b
A heal vm:primary
check "healed: the guest answers" A exec client curl -sf --noproxy '*' --max-time 10 http://10.9.0.10/1m.sha256
A cut pair:primary
check "pair:primary cut: no witness for the primary" not etcd_from primary
check "pair:primary cut: the secondary has the witness" etcd_from secondary
check "pair:primary cut: the guest answers" answers $a
A heal pair:primary
check "healed: the primary has the witness" etcd_from primary
A cut witness
check "witness cut: none has it" not etcd_from secondary
A heal witness
check "healed: all have it" etcd_from secondary
sleep 1
kill -TERM $background
wait $background
check "the TCP session lived through the cut" is $? 0
background=
check "its report shows the gap" eval \
    "A client report '$COLO_LAB_DIR/tick.log' --json | python3 -c 'import json,sys; sys.exit(json.load(sys.stdin)[\"gap_ms\"][\"max\"] < 1500)'"

# --- power loss ------------------------------------------------------------------------------
"$lab" --name $a client tick --interval 20 --out "$COLO_LAB_DIR/broken.log" 2> /dev/null &
background=$!
sleep 1
durable=$(ask_disk $a | field durable)
timed kill-host A kill-host primary
check "a killed host is down" not A status
check "it runs nothing" not A exec primary true
check "its guest is gone" not A exec client curl -sf --noproxy '*' --max-time 2 http://10.9.0.10/1m.sha256
check "the secondary lives" A exec secondary virsh -q list
timed reboot A reboot primary 2> /dev/null
must "it boots again" A status
check "with another boot id" not is "$(boot_id primary)" "$boot_before"
check "its disk is kept, /run is not" A exec primary sh -c 'test -e /etc/libvirt-colo/lab-mark && ! test -e /run/lab-mark'
check "its storage pool is active" is "$(A exec primary virsh -q pool-list --name | tr -d ' \n')" default
check "the domain is defined and not running" is "$(A exec primary virsh -q domstate ft | tr -d '\n')" "shut off"
A guest up
wait $background # it ended by itself
check "the client's session did not survive the loss of an unprotected host" is $? 1
background=
disk_kept() {
    local i line=
    for ((i = 0; i < 100; i++)); do
        line=$(ask_disk $a)
        case $line in ready=1*) break ;; esac
        sleep 0.2
    done
    [ "$(echo "$line" | field errors)" = 0 ] && [ "$(echo "$line" | field recovered)" -ge "$durable" ] ||
        { echo "durable before: $durable; now: $line"; return 1; }
}
check "what was durable is on the guest's disk" disk_kept
check "shutdown by ACPI" A guest down
# Block number 5 of the writer: its slot is 256 + 5.
A exec primary dd if=/dev/zero of=/var/lib/libvirt/images/ft.raw bs=4096 seek=261 count=1 conv=notrunc 2> /dev/null
A guest up
corrupt_seen() {
    local i
    for ((i = 0; i < 100; i++)); do
        A guest console | grep -q "DISK-CORRUPT block 5:" && return
        sleep 0.2
    done
    A guest console
    return 1
}
check "the guest notices a destroyed block" corrupt_seen

# --- down ------------------------------------------------------------------------------------
# Network namespaces of a lab by number: finds its processes wherever they are.
namespaces_of() { stat -L -c %i /run/netns/colo-$1-*; }
left_behind() {
    local name=$1 inodes=$2 p found=0 pattern
    pattern=$(echo $inodes | tr ' ' '|')
    ip netns list | grep "colo-$name-" && found=1
    grep -l "$COLO_LAB_DIR/$name" /proc/[0-9]*/mountinfo 2> /dev/null && found=1
    for p in /proc/[0-9]*; do
        readlink "$p/ns/net" 2> /dev/null | grep -qE "\[($pattern)\]" &&
            { echo "process: $(tr '\0' ' ' < "$p/cmdline")"; found=1; }
    done
    [ ! -e "$COLO_LAB_DIR/$name/env" ] || { echo "state is left"; found=1; }
    return $found
}
inodes_a=$(namespaces_of $a) inodes_b=$(namespaces_of $b)
timed down A down
check "down leaves nothing" left_behind $a "$inodes_a"
check "the other lab lives on" answers $b
check "down again is fine" A down
check "status says down" not A status
"$lab" --name $b exec client sleep 1000 &
disown $!
B down
check "down ends commands that still run" left_behind $b "$inodes_b"
rm "$prefix/sbin/virtcolod"
check "up fails when a daemon is missing" not "$lab" --name $c up --backend $backend --prefix "$prefix"
check "a failed up leaves nothing" left_behind $c 0

finish
