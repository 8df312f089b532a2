#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A peer that is down, that another authority vouches for, or whose certificate is revoked: refused with
# the reason, and nothing changed.
. "$(dirname "$0")/lib.sh"
need_unprotected
qemu=$(qemu_pid $P)
PKI=$("$LAB" path state)/pki

refused() {
    local pattern=$1 out rc
    out=$(colo $P colo-protect ft --pair $PAIR --wait 2>&1)
    rc=$?
    is $rc 1 && grep -qiE "error: .*($pattern)" <<< "$out" || { echo "exit $rc: $out"; return 1; }
}
untouched() { wait_for 20 plain_guest $P && is "$(qemu_pid $P)" "$qemu" && not in_list $S; }
pair_is() { is "$(colo $P colo-pair-info $PAIR --json | json state)" "$1"; }
restart_both() { daemon $S restart virtcolod && daemon $P restart virtcolod; }

daemon $S stop virtcolod
check "virtcolod of the peer is down: protect is refused" refused "$S"
check "and nothing changed" untouched
daemon $S start virtcolod
check "it is found again" wait_for 30 pair_is up
daemon $S stop comparator
check "comparator of the peer is down: protect is refused" refused "comparator"
check "and nothing changed" untouched
daemon $S start comparator
wait_for 10 on $S test -S /run/libvirt-colo/comparator-sock

# Another authority's certificate for the peer's right name.
quiet "$MJ_DIR/../lab/pki" --rogue "$TMP/rogue"
for role in server client; do
    on $S cp -p /etc/pki/libvirt/${role}cert.pem /etc/pki/libvirt/${role}cert.kept
    on $S cp -p /etc/pki/libvirt/private/${role}key.pem /etc/pki/libvirt/private/${role}key.kept
    "$LAB" put $S "$TMP/rogue/rogue-secondary.pem" /etc/pki/libvirt/${role}cert.pem
    "$LAB" put $S "$TMP/rogue/rogue-secondary-key.pem" /etc/pki/libvirt/private/${role}key.pem
done
restart_both
check "unknown authority: the pair does not come up" eval "sleep 2; not pair_is up"
check "unknown authority: the reason says certificate" refused "certificate"
check "and nothing changed" untouched
for role in server client; do
    on $S mv /etc/pki/libvirt/${role}cert.kept /etc/pki/libvirt/${role}cert.pem
    on $S mv /etc/pki/libvirt/private/${role}key.kept /etc/pki/libvirt/private/${role}key.pem
done
restart_both
check "with its own certificate again it is up" wait_for 30 pair_is up

printf 'expiration_days = 30\ncrl_next_update = 30\ncrl_number = 1\n' > "$TMP/crl.tmpl"
quiet certtool --generate-crl --load-ca-privkey "$PKI/ca-key.pem" --load-ca-certificate "$PKI/ca.pem" \
    --load-certificate "$PKI/$S.pem" --template "$TMP/crl.tmpl" --outfile "$TMP/crl.pem"
"$LAB" put $P "$TMP/crl.pem" /etc/pki/CA/cacrl.pem
restart_both
check "revoked certificate: the pair does not come up" eval "sleep 2; not pair_is up"
check "revoked certificate: the reason says so" refused "revoked|certificate"
check "and nothing changed" untouched
on $P rm /etc/pki/CA/cacrl.pem
restart_both
check "not revoked any more: it is up" wait_for 30 pair_is up
check "and protects" colo $P colo-protect ft --pair $PAIR --wait
finish
