#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A text as a C string: embed.sh NAME FILE
echo "static const char $1[] ="
sed 's/\\/\\\\/g; s/"/\\"/g; s/^/"/; s/$/\\n"/' "$2"
echo ';'
