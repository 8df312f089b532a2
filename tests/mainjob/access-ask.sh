#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What one user hears, call by call, at both URIs: access-ask.sh USER DIR rw|ro [refused]. On the host, as
# root. Writes DIR/USER.rw.qemu and .colo (or .ro.*), without what COLO adds and what changes by itself.
# refused: only what COLO refuses or answers for a protected domain, to somebody who may not do it.
user=$1 dir=$2 socket=$3
calls="domstate ft
dominfo ft
setmem ft 65536 --live
setvcpus ft 1 --live
resume ft
suspend ft
undefine ft
detach-disk ft vda --live
blockjob ft vda --abort
migrate-setspeed ft 100
snapshot-create ft
autostart ft
qemu-monitor-command ft --hmp colo-status
qemu-monitor-command ft '{\"execute\":\"colo-status\"}'"
[ "${4:-}" = refused ] || calls="uri
list --all --name
domstate ft
dumpxml ft
dominfo ft
domstats ft --state
domblklist ft
vcpucount ft
domid ft
nodeinfo
hostname
pool-list --all --name
pool-dumpxml default
vol-list default
net-list --all --name
secret-list
nodedev-list --cap system
desc ft --title --new-desc access
send-key ft KEY_LEFTSHIFT
autostart ft --disable
managedsave-remove ft
qemu-monitor-command ft --hmp 'info name'
pool-refresh default
vol-create-as default access-matrix 1M
vol-delete access-matrix --pool default
suspend ft
resume ft
destroy nobody"
script=
while read -r call; do
    script+="echo '# ${call//\'/}'; $call; "
done <<< "$calls"
[ "$socket" = ro ] && readonly=-r
for uri in qemu colo; do
    timeout 120 setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups env HOME=/ \
        virsh ${readonly:-} -q -c "$uri:///system" "$script" < /dev/null 2>&1 |
        sed '/^ *colo\./d; /<colo:protection/d; /^CPU time:/d; /<allocation /d; /<available /d
            s,colo:///,qemu:///,; s,virtcolod-sock,libvirt-sock,' > "$dir/$user.$socket.$uri"
done
