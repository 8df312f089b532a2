/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Turns the XML of a running domain into one that can start it elsewhere: takes out what libvirt
 * made for this run and what names an object of this host alone. Pure; on a document of the caller.
 */
#pragma once

#include "domain/xml-util.h"

/*
 * Strips the <domain> @domain: its id, the state of its protection, generated aliases (those of
 * users, "ua-", stay), node indexes and detected backing chains, generated tap names and port ids,
 * pty names, generated channel sockets and ports, dynamic security labels, the default resource
 * partition. On an inactive XML it changes nothing but the backing chains.
 */
void colo_xml_strip_runtime(xmlNode *domain);
