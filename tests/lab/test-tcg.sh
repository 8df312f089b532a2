#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# TAP: QEMU's own COLO between the two hosts of a netns lab under TCG, memory only, no daemons of
# ours: shows that the two TCG workarounds (tcg/bqlfix.c, odd RAM size) hold, and that without the
# shim the first checkpoint never ends.  COLO_TCG_SECONDS: length of the run (30).
set -u
here=$(cd "$(dirname "$0")" && pwd)
lab=$here/lab
seconds=${COLO_TCG_SECONDS:-30}
[ "$(id -u)" = 0 ] || { echo "1..0 # SKIP the lab needs root"; exit 0; }
if "$here/lib/kvmprobe" > /dev/null 2>&1; then
    echo "1..0 # SKIP guests run on KVM here and carry no workaround"
    exit 0
fi
COLO_LAB_DIR=$(mktemp -d "${TMPDIR:-/var/tmp}/lab-test.XXXXXX")
chmod 755 "$COLO_LAB_DIR"
export COLO_LAB_DIR COLO_LAB=tcg$$
trap '"$lab" down --purge; rm -rf "$COLO_LAB_DIR"' EXIT
trap 'exit 130' INT TERM
. "$here/../tap.sh"

# qmp HOST COMMAND [ARGUMENTS]: within 10 s, or a failure.
qmp() {
    timeout 10 "$lab" exec "$1" virsh -q qemu-monitor-command ft \
        "{\"execute\": \"$2\", \"arguments\": ${3:-{\}}}"
}

# secondary_start: the same domain, waiting for its state; kept off the VM network by a cut.
secondary_start() {
    "$lab" cut vm:secondary
    "$here/guest/domain" secondary |
        sed "s,<qemu:commandline>,&<qemu:arg value='-incoming'/><qemu:arg value='defer'/>," |
        "$lab" exec secondary sh -c 'truncate -s 64M /var/lib/libvirt/images/ft.raw
            cat > /run/lab/ft.xml; virsh -q define /run/lab/ft.xml && virsh -q start --paused ft'
}

colo_start() {
    local capability='{"capabilities": [{"capability": "x-colo", "state": true}]}'
    qmp secondary migrate-set-capabilities "$capability" &&
        qmp secondary migrate-incoming '{"uri": "tcp:10.77.0.2:4444"}' &&
        qmp primary migrate-set-capabilities "$capability" &&
        qmp primary migrate-set-parameters '{"x-checkpoint-delay": 50}' &&
        qmp primary migrate '{"uri": "tcp:10.77.0.2:4444"}'
}

colo_entered() {
    local i
    for ((i = 0; i < 100; i++)); do
        qmp primary query-migrate | grep -q '"status":"colo"' && return
        sleep 0.1
    done
    qmp primary query-migrate
    return 1
}

# Checkpoints of the next $1 seconds at the primary.
checkpoints() {
    "$lab" exec primary virsh -q qemu-monitor-event ft --event STOP --loop --timeout "$1" |
        grep -c STOP
}

ask() {
    "$lab" exec client bash -c \
        "exec 3<>/dev/tcp/10.9.0.10/11; echo '$1' >&3; read -r -t 10 line <&3; echo \"\$line\""
}

at_least() { [ "$1" -ge "$2" ] || { echo "expected $2 or more, found $1"; return 1; }; }

memory_right() {
    local line
    line=$(ask mem)
    case $line in *" errors=0") [ "${line#*pages=}" != "$line" ] ;; *) echo "$line"; return 1 ;; esac
}

"$lab" up --backend netns 2> /dev/null && "$lab" guest up 2> /dev/null ||
    { echo "Bail out! no lab"; exit 1; }
ask "dirty 20" > /dev/null
check "the secondary waits" secondary_start
check "COLO begins" colo_start
check "COLO is entered" colo_entered
made=$(checkpoints "$seconds")
echo "# $made checkpoints in $seconds s with 20 MiB/s dirtied"
check "checkpoints go on" at_least "$made" $((seconds * 2))
check "the guest answers at the primary" "$lab" client tick --count 20 --out /dev/null
"$lab" kill-host primary > /dev/null
check "the secondary takes over" qmp secondary x-colo-lost-heartbeat
"$lab" heal vm:secondary
qmp secondary announce-self '{"initial": 50, "max": 500, "rounds": 5, "step": 50}' > /dev/null
sleep 1
check "the guest answers at the secondary" "$lab" client tick --count 50 --out /dev/null
sleep 3
check "its memory is whole" memory_right
check "no panic" eval "! '$lab' guest console secondary | grep -aE 'panic|Oops|MEM-CORRUPT'"

# Without the shim: the monitor of the primary never answers again.
"$lab" down
"$lab" up --backend netns 2> /dev/null
without_shim() {
    "$here/guest/domain" primary | sed '/LD_PRELOAD/d' |
        "$lab" exec primary sh -c 'truncate -s 64M /var/lib/libvirt/images/ft.raw
            cat > /run/lab/ft.xml; virsh -q define /run/lab/ft.xml && virsh -q start ft' || return
    sleep 8
    secondary_start && colo_start && sleep 5
    qmp primary query-status
    [ $? = 124 ] # timeout's code: no answer at all, not an error
}
check "without the shim the primary hangs (negative control)" without_shim
finish
