/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What server and channel know of each other; all in the I/O thread. */
#pragma once

#include "pair/channel-conn.h"

/* The connection of @peer, accepted by an attached server, had a message at @now. Heard if @peer is
 * whom @channel dials. */
void colo_channel_heard_elsewhere(ColoChannel *channel, const ColoPeerInfo *peer, uint64_t now);

/* @server is going: @channel forgets it. */
void colo_channel_forget_server(ColoChannel *channel, ColoChannelServer *server);
void colo_channel_remember_server(ColoChannel *channel, ColoChannelServer *server);

/* @channel is going: @server forgets it. */
void colo_channel_server_forget(ColoChannelServer *server, ColoChannel *channel);
