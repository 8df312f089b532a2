# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# For the tests that cut the hosts off from each other: sourced after lib.sh.

# serving HOST: this host alone runs the guest and owns it.
serving() { state_in "$1" alone committing && in_list "$1" && is "$(field "$1" owner)" "$1"; }

# Exactly one of the two serves; sets WINNER and LOSER.
one_winner() {
    local host
    WINNER=
    for host in primary secondary; do
        serving $host > /dev/null || continue
        [ -z "$WINNER" ] || { echo "both hosts serve"; return 1; }
        WINNER=$host LOSER=$(other $host)
    done
    [ -n "$WINNER" ] || { echo "no host serves: $(state primary), $(state secondary)"; return 1; }
}

# The host runs nothing that could answer: fenced, or held with its gate shut.
fenced() { state_is "$1" fenced && not in_list "$1"; }

# What the guest's register says, by the primary's own client certificate, asked in the witness.
register() {
    local pki key=/libvirt-colo/domains/c0100000-0000-4000-8000-0000000000f7
    pki=$("$LAB" path state)/pki
    on witness curl -sf --noproxy '*' --max-time 5 --cacert "$pki/ca.pem" --cert "$pki/etcd-primary.pem" \
        --key "$pki/etcd-primary-key.pem" -d "{\"key\":\"$(printf %s "$key" | base64 -w 0)\"}" \
        https://10.77.0.3:2379/v3/kv/range | python3 -c '
import base64, json, sys
for pair in json.load(sys.stdin).get("kvs", []):
    print(base64.b64decode(pair["value"]).decode())'
}
register_owner() { register | json owner; }

# After the split: the pair protects again, and the sessions of before are whole.
heals() {
    check "healed: the pair protects again by itself" protected_again
    check "healed: the guest is compared again" answers_go_on 5
    check_load "the sessions lived through all of it"
    check "the disk is right" disk_right
}
