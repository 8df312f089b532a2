#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Makes configure from a git checkout; run ./configure afterwards.
set -e
cd "$(dirname "$0")"
mkdir -p m4 build-aux
autoreconf --force --install --warnings=all,no-obsolete
echo "Now run ./configure --prefix=/usr --sysconfdir=/etc --localstatedir=/var && make"
