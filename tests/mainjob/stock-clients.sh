#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Other clients at colo:///system: virt-install makes a guest, Perl's Sys::Virt asks; and what clients see
# when libvirtd is restarted under them is what they see at qemu:///system.
. "$(dirname "$0")/lib.sh"
CLIENTS=20

# installs URI: a guest is made, it runs, and is gone again.
installs() {
    on "$P" timeout 120 virt-install --connect "$1" --name made --memory 32 --virt-type qemu --osinfo generic \
        --disk none --network none --graphics none --import --noautoconsole 2>&1 &&
        is "$(virsh_at "$P" domstate made)" running && virsh_at "$P" destroy made && virsh_at "$P" undefine made
}

perl_says() {
    on "$P" timeout 60 perl -MSys::Virt -e '
        my $c = Sys::Virt->new(uri => $ARGV[0]);
        print join(" ", $c->get_type(), $c->get_uri(), sort map { $_->get_name() } $c->list_all_domains()), "\n";
        my $d = $c->get_domain_by_name("ft");
        print $d->get_xml_description(), join(" ", $d->get_state()), "\n";
        eval { $c->get_domain_by_name("nobody") };
        print "$@";' "$1" 2>&1 | sed 's,colo:///,qemu:///,'
}

# What CLIENTS clients of URI say while libvirtd is restarted: how many lost their connection, what
# an unfinished call of theirs said, and what a new one gives.
restarted() {
    local pid
    rm -f "$TMP/restart" # or the "ready" of the run before is read
    "$LAB" exec "$P" timeout 120 /usr/bin/python3 "$MJ_DIR/restart-clients.py" "$1" $CLIENTS < /dev/null > "$TMP/restart" 2>&1 &
    pid=$!
    wait_for 60 grep -q ready "$TMP/restart" || return 1
    daemon "$P" restart libvirtd
    wait $pid
    cat "$TMP/restart"
}

need_unprotected
for part in virt-install perl; do on "$P" sh -c "command -v $part" > /dev/null || bail "$part is installed"; done
check "virt-install makes a guest" installs colo:///system
check "Perl's Sys::Virt hears the same as at qemu:///system" is "$(perl_says colo:///system)" "$(perl_says qemu:///system)"
direct=$(restarted qemu:///system)
say "at qemu:///system: $(tail -n 1 <<< "$direct")"
ours=$(restarted colo:///system)
check "libvirtd restarted: $CLIENTS clients of qemu:///system lose their connection" grep -q "$CLIENTS lost" <<< "$direct"
check "and those of colo:///system see the same" is "$(tail -n 1 <<< "$ours")" "$(tail -n 1 <<< "$direct")"
check "protection works after it" colo "$P" colo-protect ft --pair $PAIR --wait
check "protected" wait_for $SETTLE_S protected
finish
