#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# virtcolod-setup below a root of its own: what it plans, makes and takes back.
set -u
setup=${COLO_SETUP:-${abs_top_builddir:-.}/tools/virtcolod-setup}
src=${abs_top_srcdir:-.}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
. "$src/tests/tap.sh"
evidence() { cat "$dir/out"; }

# Where this build has its files.
etc=$(sed -n 's/^CONF=//p' "$setup")
state=$(sed -n 's/^STATE=//p' "$setup")

if ! command -v certtool >/dev/null || ! command -v systemctl >/dev/null; then
    echo '1..0 # SKIP needs certtool and systemctl'
    exit 0
fi

# run ROOT ARGS...: all output to a file, the exit code to $code.
run() {
    "$setup" --root "$@" >"$dir/out" 2>&1 </dev/null
    code=$?
}

# A host's root with the example configuration and the units, as installed.
new_root() {
    mkdir -p "$1/etc/systemd/system" "$1$(dirname "$etc")" "$1/usr/lib/systemd/system" \
        "$1$(dirname "$state")"
    cp "$src"/src/pair/virtcolod.conf "$1$etc"
    chmod 0644 "$1$etc"
    cp "$src"/src/comparator/*.socket "$src"/src/driver/*.socket "$1/usr/lib/systemd/system/"
}

# Everything below a root: names, modes, contents.
snapshot() {
    (cd "$1" && find . -printf '%p %m %y %l\n' | LC_ALL=C sort && find . -type f -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum)
}

a=$dir/a b=$dir/b
new_root "$a"
new_root "$b"
snapshot "$a" >"$dir/a.before"
snapshot "$b" >"$dir/b.before"
first=("$a" --host alpha --make-ca --peer beta --arbiter etcd
       --etcd-endpoint https://w1:2379 --etcd-endpoint https://w2:2379 --etcd-ca /etc/ca.pem)

run "$a" --host alpha
[ $code = 1 ] && grep -q 'servercert.pem is missing: say --make-ca' "$dir/out"
result 'without certificates it says what to do' $?
run "${first[@]}"
[ $code = 0 ] && grep -q '^Would do' "$dir/out" && snapshot "$a" | cmp -s - "$dir/a.before"
result 'the plan changes nothing' $?
run "${first[@]}" --yes
[ $code = 0 ]
result 'on the first host' $?
certtool --verify --load-ca-certificate "$a/etc/pki/CA/cacert.pem" --verify-purpose 1.3.6.1.5.5.7.3.1 \
    --verify-hostname alpha --infile "$a/etc/pki/libvirt/servercert.pem" >"$dir/out" 2>&1
result 'the server certificate is of the CA, for this host, for servers' $?
certtool --verify --load-ca-certificate "$a/etc/pki/CA/cacert.pem" --verify-purpose 1.3.6.1.5.5.7.3.2 \
    --infile "$a/etc/pki/libvirt/clientcert.pem" >"$dir/out" 2>&1
result 'the client certificate is for clients' $?
for side in server client; do
    certtool --certificate-info --infile "$a/etc/pki/libvirt/${side}cert.pem" | grep -q 'Key encipherment' || echo $side
done >"$dir/out"
[ ! -s "$dir/out" ]
result "both may be used by libvirt's own TLS" $?
[ "$(find "$a" -name '*key.pem' -perm 600 | wc -l)" = 3 ] &&
    [ "$(find "$a" -name '*key.pem' | wc -l)" = 3 ] &&
    [ "$(stat -c %a "$a/etc/pki/libvirt/private" "$a/etc/pki/CA/private" | sort -u)" = 700 ]
result 'keys are for root alone' $?
conf=$a$etc
grep -qx 'host_name = "alpha"' "$conf" && grep -qx 'arbiter = "etcd"' "$conf" &&
    grep -qx 'etcd_endpoints = \[ "https://w1:2379", "https://w2:2379" \]' "$conf" &&
    grep -qx 'etcd_ca = "/etc/ca.pem"' "$conf" && grep -qx '#heartbeat_missed = 5' "$conf"
result 'the configuration is set, the rest of the file kept' $?
[ -L "$a/etc/systemd/system/sockets.target.wants/virtcolod.socket" ] &&
    [ -L "$a/etc/systemd/system/sockets.target.wants/virtcolod-ro.socket" ]
result 'units are enabled' $?
run "${first[@]}"
grep -q 'TCP ports 16516 (control) and 16515 (data)' "$dir/out"
result 'ports are named' $?
grep -q '^Nothing to do' "$dir/out"
result 'a second time there is nothing to do' $?

"$setup" --root "$a" >"$dir/out" 2>&1
grep -q '^Nothing to do' "$dir/out"
result 'the configured host name stays without --host' $?

tar=$a$state/beta-colo-pki.tar
[ "$(stat -c %a "$tar")" = 600 ]
result 'the file for the peer is for root alone' $?
run "$b" --host gamma --import "$tar" --yes
[ $code = 1 ] && grep -q "is not for 'gamma'" "$dir/out" && [ ! -e "$b/etc/pki" ]
result 'certificates of another host are refused' $?
echo garbage >"$dir/bad.tar"
run "$b" --host beta --import "$dir/bad.tar" --yes
[ $code = 1 ] && grep -q 'was not made by virtcolod-setup' "$dir/out" && [ ! -e "$b/etc/pki" ]
result 'a file that is no such file is refused' $?
run "$b" --host beta --import "$tar" --arbiter manual --yes
[ $code = 0 ] && cmp -s "$a/etc/pki/CA/cacert.pem" "$b/etc/pki/CA/cacert.pem" &&
    certtool --verify --load-ca-certificate "$a/etc/pki/CA/cacert.pem" --verify-hostname beta \
        --infile "$b/etc/pki/libvirt/servercert.pem" >>"$dir/out" 2>&1
result 'on the second host' $?
[ ! -e "$b/etc/pki/CA/private/cakey.pem" ]
result 'the CA key stays on the first' $?
run "$b" --host beta --import "$tar" --yes
[ $code = 1 ] && grep -q 'exists: move it away' "$dir/out"
result 'existing certificates are not overwritten' $?
run "$b" --host beta --peer delta
[ $code = 1 ] && grep -q "needs the CA's key here" "$dir/out"
result 'only the CA makes certificates' $?

run "$a" --undo
[ $code = 0 ] && grep -q '^Would undo' "$dir/out" && [ -e "$a/etc/pki/CA/cacert.pem" ]
result 'undo shows first' $?
run "$a" --undo --yes
[ $code = 0 ] && snapshot "$a" >"$dir/a.after" && diff "$dir/a.before" "$dir/a.after" >>"$dir/out"
result 'undo: everything is as before' $?
run "$a" --undo --yes
[ $code = 0 ] && grep -q '^Nothing to undo' "$dir/out"
result 'undo twice' $?

echo '# mine' >>"$b$etc"
run "$b" --undo --yes
[ $code = 1 ] && grep -q "keep $etc: it was changed since" "$dir/out" &&
    grep -qx '# mine' "$b$etc" && [ ! -e "$b/etc/pki" ]
result 'undo keeps a file that someone has changed since, and goes on with the rest' $?
sed -i '$d' "$b$etc"
run "$b" --undo --yes
[ $code = 0 ] && snapshot "$b" >"$dir/b.after" && diff "$dir/b.before" "$dir/b.after" >>"$dir/out"
result 'and can be completed later' $?

# A change that was announced in the journal and never made, as after a crash.
run "$a" --host alpha --make-ca --yes
printf '2026-01-01T00:00:00Z\tfile\t/etc/never\t0\n' >>"$a$state/setup.journal"
run "$a" --undo --yes
[ $code = 0 ] && snapshot "$a" | diff "$dir/a.before" - >>"$dir/out"
result 'undo after a crash between journal and change' $?

mkdir -p "$a/etc/libvirt"
lock=$(sed -n 's/^LOCK_PLUGIN=//p' "$setup")
mkdir -p "$a$(dirname "$lock")" && : >"$a$lock"
printf '#lock_manager = "lockd"\nuser = "root"\n' >"$a/etc/libvirt/qemu.conf"
run "$a" --host alpha --make-ca --yes
! grep -q '^lock_manager' "$a/etc/libvirt/qemu.conf" &&
    grep -q "the folder of libvirt's lock managers is not found" "$dir/out"
result 'no lock manager is named that libvirt would not find' $?
run "$a" --undo --yes
locks=/usr/lib/x-linux-gnu/libvirt/lock-driver
mkdir -p "$a$locks" && : >"$a$locks/lockd.so"
run "$a" --host alpha --make-ca --yes
grep -qx 'lock_manager = "colo"' "$a/etc/libvirt/qemu.conf" &&
    grep -qx 'user = "root"' "$a/etc/libvirt/qemu.conf" &&
    [ "$(readlink "$a$locks/colo.so")" = "$lock" ] && [ ! -e "$a/etc/libvirt/qemu-colo.conf" ]
result 'qemu.conf names the lock manager where it is installed' $?
grep -q '^Restart libvirtd' "$dir/out"
result 'and libvirtd is to be restarted' $?
run "$a" --undo --yes
[ "$(cat "$a/etc/libvirt/qemu.conf")" = '#lock_manager = "lockd"
user = "root"' ] && [ ! -L "$a$locks/colo.so" ] && [ -e "$a$locks/lockd.so" ]
result 'and all is restored' $?
printf 'lock_manager = "lockd"\n' >"$a/etc/libvirt/qemu.conf"
run "$a" --host alpha --make-ca --yes
grep -qx 'chain = "lockd"' "$a/etc/libvirt/qemu-colo.conf" &&
    grep -qx 'lock_manager = "colo"' "$a/etc/libvirt/qemu.conf"
result 'a lock manager that was there is chained' $?
run "$a" --undo --yes
[ "$(cat "$a/etc/libvirt/qemu.conf")" = 'lock_manager = "lockd"' ] &&
    [ ! -e "$a/etc/libvirt/qemu-colo.conf" ]
result 'and is alone again' $?
rm -r "$a/usr"

for bad in '--host a;b' '--host -x' '--peer a/b' '--days 0' '--days x' '--arbiter quorum' \
    '--arbiter etcd' '--etcd-endpoint https://x' '--arbiter etcd --etcd-endpoint http://x' \
    '--group a:b' '--nothing' '--host' '--make-ca --import x'; do
    # shellcheck disable=SC2086
    run "$a" $bad --yes
    [ $code = 2 ]
    result "refused: $bad" $?
done
snapshot "$a" >"$dir/a.end"
grep -q setup.journal "$dir/a.end"
[ $? = 1 ]
result 'what is refused leaves no journal' $?

finish
