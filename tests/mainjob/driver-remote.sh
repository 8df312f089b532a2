#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Other ways to virtcolod than root's own socket: colo+tls:// from another host, with a migration that
# the client itself drives, which is a switchover for a protected domain; colo+ssh:// with libvirt's own helper
# at the other end; and colo:///session of a user.
. "$(dirname "$0")/lib.sh"
RUN=/tmp/driver-remote-run

# tls FROM TO COMMAND...
tls() { local from=$1 to=$2; shift 2; on "$from" timeout 100 virsh -q -c "colo+tls://$to/system" "$@" 2>&1; }
listens() { on "$1" ss -tlnH 'sport = :16514' | grep -q LISTEN; }
on_tls() { for host in primary secondary; do configure $host "$1" "$2" && daemon $host restart virtcolod && wait_for 10 listens $host || return 1; done; }

# through HOW: a volume there and back, by tls or ssh_to
through() {
    local how=$1 rc
    on "$S" sh -c 'head -c 4194304 /dev/urandom > /tmp/volume-up' && $how "$S" "$P" vol-create-as default remote-volume 4M --format raw &&
        $how "$S" "$P" vol-upload remote-volume /tmp/volume-up --pool default &&
        $how "$S" "$P" vol-download remote-volume /tmp/volume-down --pool default && on "$S" cmp /tmp/volume-up /tmp/volume-down
    rc=$?
    $how "$S" "$P" vol-delete remote-volume --pool default > /dev/null
    on "$S" rm -f /tmp/volume-up /tmp/volume-down
    return $rc
}

hears_events() {
    "$LAB" exec "$S" timeout 30 virsh -q -c "colo+tls://$P/system" event --domain ft --event tunable --timeout 10 < /dev/null > "$TMP/events" 2>&1 &
    local watcher=$!
    sleep 2
    virsh_at "$P" schedinfo ft > /dev/null
    virsh_at "$P" blkdeviotune ft vda --total-iops-sec 100000 > /dev/null
    wait $watcher
    virsh_at "$P" blkdeviotune ft vda --total-iops-sec 0 > /dev/null
    grep -q "^event 'tunable'" "$TMP/events" || { cat "$TMP/events"; return 1; }
}

# libvirt's server says one byte once it has accepted a client's certificate.
accepted() { on "$1" sh -c "timeout 10 openssl s_client -quiet -connect $2:16514 ${*:3} 2> /dev/null < /dev/zero | head -c 1 | od -An -tx1 | tr -d ' \n'"; }
CERTIFICATE="-cert /etc/pki/libvirt/clientcert.pem -key /etc/pki/libvirt/private/clientkey.pem"

# An SSH server of each host's own (dropbear: its package starts none). A host shares /root with this machine: root's home
# is elsewhere in it meanwhile, with keys and known hosts that end with the lab.
SSH_PORT=2222 SSH_HOME=/run/lab/ssh-home
SSH_KEY=$SSH_HOME/.ssh/lab-key
# ssh_server HOST: in the background; lets in who has the key.
ssh_server() {
    on "$1" sh -c 'mkdir -p -m 700 "$1" "$1/.ssh" && sed -i "s,^\(root:.*:\)/root:,\1$1:," /etc/passwd && [ "$(getent passwd root | cut -d : -f 6)" = "$1" ] &&
        dropbearkey -t ed25519 -f "$1/host-key" > /dev/null 2>&1' sh $SSH_HOME || return 1
    "$LAB" put "$1" "$TMP/lab-key" $SSH_KEY && "$LAB" put "$1" "$TMP/lab-key.pub" $SSH_HOME/.ssh/authorized_keys &&
        on "$1" chmod 600 $SSH_KEY $SSH_HOME/.ssh/authorized_keys &&
        on "$1" dropbear -s -m -r $SSH_HOME/host-key -p $SSH_PORT -P $SSH_HOME/pid && wait_for 10 ssh_listens "$1"
}
ssh_listens() { on "$1" ss -tlnH "sport = :$SSH_PORT" | grep -q LISTEN; }
# ssh_uri HOST [KEY [PROXY]]: without PROXY libvirt looks which helper is there.
ssh_uri() { echo "colo+ssh://root@$1:$SSH_PORT/system?keyfile=${2:-$SSH_KEY}&no_verify=1&no_tty=1${3:+&proxy=$3}"; }
# ssh_to FROM TO COMMAND...: virsh through it
ssh_to() { local from=$1 to=$2; shift 2; on "$from" timeout 100 virsh -q -c "$(ssh_uri "$to")" "$@" 2>&1; }
end_ssh() { on "$1" sh -c 'kill "$(cat "$1/pid")"; sed -i "s,^\(root:.*:\)$1:,\1/root:," /etc/passwd; rm -rf "$1"' sh $SSH_HOME; }

# swapped FROM: the guest is protected, and not at FROM any more.
swapped() { protected && is "$P" "$(other "$1")"; }
roles() { wait_for $SETTLE_S protected > /dev/null; find_roles; }

need_protected
on_tls listen_tls true || bail "virtcolod of both hosts listens for TLS"
wait_for $SETTLE_S protected > /dev/null || bail "protected, still"
check "colo+tls: it says its own URI" is "$(tls "$S" "$P" uri)" "colo+tls://$P/system"
check "what it lists is what the host itself lists" is "$(tls "$S" "$P" list --all --name)" \
    "$(on "$P" virsh -q -c colo:///system list --all --name)"
check "the copy is not in it" not grep -qx ft <<< "$(tls "$P" "$S" list --all --name)"
check "a change is refused with the remedy" grep -qF "virsh-colo colo-unprotect ft" <<< "$(tls "$S" "$P" setmem ft 65536 --live)"
check "door 2 answers" is "$(tls "$S" "$P" qemu-monitor-command ft '{"execute":"colo-status"}' | json return state)" protected
check "a volume, there and back" through tls
check "events" hears_events
check "a client with a certificate is let in" is "$(accepted "$S" "$P" $CERTIFICATE)" 01
check "one without is not" is "$(accepted "$S" "$P")" ""

load_start 50
from=$P
check "virsh migrate, driven by the client: a switchover" on "$P" timeout 100 virsh -q -c colo:///system migrate --live ft "colo+tls://$S/system"
check "protected, the roles swapped" wait_for $SETTLE_S swapped "$from"
roles
check "the clients go on there" answers_go_on 5
from=$P
check "and back, by a client that is at neither side of it" on "$S" timeout 100 virsh -q -c "colo+tls://$P/system" migrate --live ft "colo+tls://$S/system"
check "protected, the roles swapped again" wait_for $SETTLE_S swapped "$from"
roles
check_load "every answer came, in order and right"

ssh-keygen -q -t ed25519 -N '' -f "$TMP/lab-key" || bail "a key for SSH"
for host in primary secondary; do ssh_server $host || bail "an SSH server on $host"; done
check "colo+ssh: what it lists is what the host itself lists" is "$(ssh_to "$S" "$P" list --all --name)" \
    "$(on "$P" virsh -q -c colo:///system list --all --name)"
check "colo+ssh: the copy is not in it" not grep -qx ft <<< "$(ssh_to "$P" "$S" list --all --name)"
check "colo+ssh: a change is refused with the remedy" grep -qF "virsh-colo colo-unprotect ft" <<< "$(ssh_to "$S" "$P" setmem ft 65536 --live)"
check "colo+ssh: door 2 answers" is "$(ssh_to "$S" "$P" qemu-monitor-command ft '{"execute":"colo-status"}' | json return state)" protected
check "colo+ssh: a volume, there and back" through ssh_to
check "colo+ssh: who may only look, does" eval 'is "$(ssh_to "$S" "$P" -r domstate ft)" running &&
    grep -qiE "read.only|denied" <<< "$(ssh_to "$S" "$P" -r suspend ft)"'
check "colo+ssh: with virt-ssh-helper alone" is "$(on "$S" timeout 60 virsh -q -c "$(ssh_uri "$P" $SSH_KEY native)" domstate ft)" running
on "$S" ssh-keygen -q -t ed25519 -N "" -f $SSH_HOME/.ssh/other-key
check "colo+ssh: who has another key is not let in" eval '! out=$(on "$S" timeout 60 virsh -q -c "$(ssh_uri "$P" $SSH_HOME/.ssh/other-key)" list 2>&1) &&
    grep -qi "permission denied" <<< "$out"'
load_start 50
from=$P
check "colo+ssh: virsh migrate is a switchover" on "$P" timeout 100 virsh -q -c colo:///system migrate --live ft "$(ssh_uri "$S")"
check "colo+ssh: protected, the roles swapped" wait_for $SETTLE_S swapped "$from"
roles
check_load "colo+ssh: every answer came, in order and right"
for host in primary secondary; do end_ssh $host; done

on_tls tls_client_dn_list '[ "O=nobody*" ]' || bail "virtcolod takes a list of names"
check "a client whose name is not in the list is not let in" is "$(accepted "$S" "$P" $CERTIFICATE)" ""
for host in primary secondary; do
    on $host sed -i '/^ *\(listen_tls\|tls_client_dn_list\) *=/d' $CONF
    daemon $host restart virtcolod
done
check "protected through all of it" wait_for $SETTLE_S protected

# A user's own: libvirt's client starts virtcolod, which libvirtd follows.
session() {
    on "$P" setpriv --reuid 65534 --regid 65534 --clear-groups env -i -C / HOME=$RUN XDG_RUNTIME_DIR=$RUN PATH="$PATH" \
        VIRTD_PATH="$PREFIX/sbin/" timeout 60 "$@" 2>&1
}
on "$P" sh -c "rm -rf $RUN; mkdir -m 700 $RUN && chown 65534:65534 $RUN"
cat > "$TMP/small.xml" << X
<domain type='qemu'><name>small</name><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os>
<devices><memballoon model='none'/></devices></domain>
X
"$LAB" put "$P" "$TMP/small.xml" $RUN/small.xml
on "$P" chmod 644 $RUN/small.xml
check "colo:///session: libvirt's client starts virtcolod" is "$(session virsh -q -c 'colo:///session?mode=direct' uri)" "colo:///session?mode=direct"
check "it is the user's own" is "$(session virsh -q -c colo:///session list --all --name)" ""
check "a domain of his" session virsh -q -c colo:///session create $RUN/small.xml
check "runs, for qemu:///session too" is "$(session virsh -q -c qemu:///session domstate small)" running
check "but cannot be protected" eval \
    '! out=$(session "$VIRSH_COLO" -c colo:///session colo-protect small --pair $PAIR) && grep -qF "is not colo:///system" <<< "$out"'
check "nor by door 2, of which its QEMU hears nothing" grep -qF "use colo:///system" \
    <<< "$(session virsh -q -c colo:///session qemu-monitor-command small --hmp colo-status)"
check "and is gone" session virsh -q -c colo:///session destroy small
on "$P" sh -c "for name in virtcolod libvirtd; do for pid in \$(pgrep -u 65534 -x \$name); do kill \$pid; done; done; sleep 1; rm -rf $RUN"
check "both have ended" eval '! on "$P" pgrep -u 65534 -x "virtcolod|libvirtd"'
check "the system's goes on" protected
finish
