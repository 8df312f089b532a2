#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# virsh-script.sh URI FOLDER < COMMANDS: runs each line as arguments of virsh at URI and prints "@@ LINE",
# what it said and its exit code; what differs from run to run by itself (times, numbers of domains and
# devices, sizes of allocation) is replaced by its name, so that two runs can be compared.
# @F in a line is FOLDER, which holds the XML files; a line that begins with ! is one of the shell.
set -u
uri=$1 folder=$2
while IFS= read -r line; do
    echo "@@ $line"
    case $line in
    !*) line=${line#!} && eval "${line//@F/$folder}" ;;
    *) eval "timeout 60 virsh -q -c '$uri' ${line//@F/$folder}" ;;
    esac < /dev/null 2>&1
    echo "exit $?"
done | sed -E -e '/^@@ /b' \
    -e "s,colo:///,qemu:///,g; s,$folder,FOLDER,g" \
    -e 's,[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(\.[0-9]+)?( ?[+-][0-9:]+)?,TIME,g' \
    -e 's,<(creationTime|atime|mtime|ctime|btime)>[0-9.]+<,<\1>TIME<,g' \
    -e "s,(<(domain|domainbackup)[^>]*) id='[0-9]+',\1 id='ID',; s,domain-[0-9]+-,domain-ID-,g" \
    -e 's,^( *)[0-9]+( +spare +),\1ID\2,; s,vnet[0-9]+,vnetN,g; s,/dev/pts/[0-9]+,/dev/pts/N,g' \
    -e "s,(<(allocation|available) unit='bytes'>)[0-9]+,\1N,; s,^((Allocation|Available|CPU time): +).*,\1N," \
    -e 's,^(Id: +)[0-9]+,\1ID,; s,("fd":")[0-9]+,\1N,g'
