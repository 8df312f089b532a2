/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A relay between a client and a libvirt that are the test: both ends of its sockets. */
#pragma once

#include "rpc/relay.h"
#include "rpc/remote-calls.h"

#include <stdbool.h>

#define RELAY_WAIT_MS 5000
#define RELAY_QUIET_MS 100

typedef struct {
    char *dir, *ours, *theirs;
    ColoRpcServer *server;
    int libvirt; /* listens in place of libvirt */
    int client, upstream;
    ColoRpcReader *client_reader, *upstream_reader;
} RelayFixture;

/* @driver: NULL, or outlives the fixture. @libvirt: something listens in its place. */
void relay_setup(RelayFixture *f, const ColoRelayDriver *driver, gboolean libvirt);
void relay_teardown(RelayFixture *f, gconstpointer data);

int relay_connect_unix(const char *path);
bool relay_readable(int fd, int ms);
void relay_send_all(int fd, const uint8_t *data, size_t len);
/* Sends a frame. */
void relay_say(int fd, uint32_t program, uint32_t procedure, uint32_t type, uint32_t serial,
               const void *body, size_t len);
/* The next frame, the caller's; the test fails when none comes. */
ColoRpcFrame *relay_hear(int fd, ColoRpcReader *reader);
void relay_assert_closed(int fd);
bool relay_holds(const ColoRpcFrame *frame, const char *text);
/* XDR; returns its bytes. */
size_t relay_put_string(uint8_t *to, const char *text);

/* A call that opens nothing, so that the relay has connected. */
void relay_accept_upstream(RelayFixture *f);
/* CONNECT_OPEN of the client, with serial 2. */
void relay_send_open(RelayFixture *f, const char *uri);
/* An empty reply of libvirt's. */
void relay_reply(RelayFixture *f, uint32_t procedure, uint32_t serial, uint32_t status);
/* What follows CONNECT_OPEN: libvirt takes the client's @identity, and then lets it in, or has
 * @denied it to open. */
void relay_take_identity(RelayFixture *f, const ColoRpcFrame *identity, gboolean denied);
/* All of that until the client may ask. */
void relay_open_connection(RelayFixture *f);
