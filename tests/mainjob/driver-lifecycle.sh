#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# libvirt's own calls about a protected domain, by stock virsh at colo:///system: what COLO cannot
# bear interrupts the protection, on both hosts, and it is restored by itself; a migration to the
# peer is a switchover; metadata declares a protection, and shows it.
. "$(dirname "$0")/lib.sh"

NS=https://libvirt-colo.org/xmlns/protection/1.0
at() { local host=$1; shift; on "$host" timeout 60 virsh -q -c colo:///system "$@" 2>&1; }
domstate() { at "$1" domstate ft; }
domstate_is() { is "$(domstate "$1")" "$2"; }
metadata() { at "$P" metadata ft --uri $NS; }
shows() { local found; found=$(metadata); grep -q "$1" <<< "$found" || { echo "$found"; return 1; }; }
# declared XML: the declaration in the definition and in the guest that runs.
declare_it() { at "$P" metadata ft --uri $NS --key colo --set "$1" --config --live; }
# The guest runs on P alone, and its copy is gone.
interrupted() { state_in "$P" alone && no_copy "$S"; }
restored() { protected_again && domstate_is "$P" running; }
# Checks run in a subshell: which host is which is looked up outside.
roles() { wait_for $SETTLE_S protected > /dev/null; find_roles; }
begin() { GENERATION=$(field "$P" generation); }

need_protected
load_start 50

check "metadata shows the state" wait_for 10 shows 'state="protected".*role="primary"'

begin
check "suspend" at "$P" suspend ft
check "the guest stands, unprotected" interrupted
check "paused, for all that virsh knows" domstate_is "$P" paused
check "and the state says why" grep -q "interrupted for suspend" <<< "$(field "$P" reason)"
sleep 4
check "it stays so" interrupted
check "resume" at "$P" resume ft
check "protected again, by itself" restored
check "the clients go on" answers_go_on 5

begin
check "dump --live" at "$P" dump ft /var/tmp/ft.core --live --memory-only
on "$P" rm -f /var/tmp/ft.core
check "protected again after it" restored

begin
check "managedsave" at "$P" managedsave ft
check "no copy is left" no_copy "$S"
check "shut off" domstate_is "$P" "shut off"
check "start" at "$P" start ft
check "the guest is where it was, and protected again" restored
check "the clients go on after it" answers_go_on 5

begin
check "save" at "$P" save ft /var/tmp/ft.save
check "restore" at "$P" restore /var/tmp/ft.save
on "$P" rm -f /var/tmp/ft.save
check "protected again after save and restore" restored

check "autostart" at "$P" autostart ft
check "is shown" grep -q "Autostart: *enable" <<< "$(at "$P" dominfo ft)"
check "libvirt's own stays off: virtcolod reads the register first" \
    grep -q "Autostart: *disable" <<< "$(virsh_at "$P" dominfo ft)"
check "autostart --disable" at "$P" autostart ft --disable
check "is shown too" grep -q "Autostart: *disable" <<< "$(at "$P" dominfo ft)"

check "a declaration that is none is refused" \
    grep -q "takes pair=" <<< "$(declare_it "<protection pair=''/>")"
check "declared, with auto-reprotect" declare_it "<protection pair='$PAIR' auto-reprotect='yes'/>"
begin
check "then a change interrupts" wait_for 10 at "$P" setvcpus ft 1 --live
check "and it is protected again" restored

begin
from=$P
on "$S" sh -c 'timeout 60 virsh -q -c colo:///system event --all --loop > /tmp/events.log 2>&1 & echo $! > /tmp/events.pid'
check "virsh migrate --p2p to the peer is a switchover" at "$P" migrate --live --p2p ft "colo+tls://$S/system"
check "protected from the other host" wait_for $SETTLE_S protected_again
roles
check "clients of the other host hear of a guest that runs" wait_for 10 eval "on '$P' grep -q \"lifecycle.*ft.*Resumed\" /tmp/events.log"
check "and heard nothing of its copy before" not eval "on '$P' grep -q 'lifecycle.*ft.*Started' /tmp/events.log"
on "$P" sh -c 'kill $(cat /tmp/events.pid)'
check "roles have swapped" is "$P" "$(other "$from")"
check "the clients go on there" answers_go_on 5
check_load "every answer came, in order and right"

check "shut off" at "$P" destroy ft
check "both copies are gone" wait_for 20 not in_list "$S"
check "start: protected, for its metadata says so" at "$P" start ft
check "on both hosts" wait_for $SETTLE_S protected
check "metadata shows it" wait_for 10 shows 'state="protected".*role="primary"'
check "beside what was declared" shows 'auto-reprotect="yes"'

check "colo-unprotect counts more than the declaration" colo "$P" colo-unprotect ft
sleep 4
check "it stays unprotected" state_is "$P" unprotected
check "destroyed" at "$P" destroy ft
check "started again" at "$P" start ft
check "it is protected again" wait_for $SETTLE_S protected
check "the declaration is taken out" at "$P" metadata ft --uri $NS --remove --config --live
check "colo-unprotect" colo "$P" colo-unprotect ft

# The guest has run on both hosts by now, and each has a definition.
on "$P" sh -c 'virsh -q -c qemu:///system dumpxml ft --inactive > /tmp/ft.xml'
check "both hosts have a definition" eval "at '$P' dominfo ft && virsh_at '$S' dominfo ft"
check "shut off, to be undefined" at "$P" destroy ft
check "undefine" at "$P" undefine ft
check "the peer's definition goes too" wait_for 10 not virsh_at "$S" dominfo ft
check "defined again" at "$P" define /tmp/ft.xml
check "it starts" at "$P" start ft
check "and can be protected" eval "colo '$P' colo-protect ft --pair '$PAIR' --wait && wait_for $SETTLE_S protected"
finish
