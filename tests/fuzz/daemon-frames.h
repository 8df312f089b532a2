/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Frames for fuzz-daemon: calls as a client of libvirt's or of ours makes them, and what is made of
 * them to be wrong. Framing and numbers as in src/rpc/frame.h and libvirt 9.0's src/remote and
 * src/rpc; nothing is shared with the code under test. Pure; memory grows and is never given back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER 28u
#define FRAME_MAX (32u * 1024u * 1024u + 4u)
#define REMOTE_PROGRAM 0x20008086u
#define OWN_PROGRAM 0x434f4c4fu

enum { FRAME_CALL = 0, FRAME_STREAM = 3, FRAME_CALL_WITH_FDS = 4 };

/* xorshift64*: the same seed makes the same run. */
typedef struct {
    uint64_t state;
} Random;

/* 0 to n - 1; n is not 0. */
uint32_t random_below(Random *random, uint32_t n);
bool random_one_in(Random *random, uint32_t n);
/* Of the values at which code that reads lengths and numbers breaks. */
uint32_t random_edge(Random *random);

typedef struct {
    uint8_t *data;
    size_t len, room;
    unsigned fds; /* that should follow it */
} Frame;

/* A domain that is there. */
typedef struct {
    const char *name;
    uint8_t uuid[16];
} Domain;

uint32_t frame_word(const Frame *frame, size_t at);
void frame_set_word(Frame *frame, size_t at, uint32_t value);

/* CONNECT_OPEN of @uri, CONNECT_GET_URI, and AUTH_LIST, without which libvirt lets nobody in. */
void frame_open(Frame *frame, const char *uri, uint32_t serial);
void frame_get_uri(Frame *frame, uint32_t serial);
void frame_auth_list(Frame *frame, uint32_t serial);

/* A sound call of a client of that door; some are of streams, keepalive and other programs. */
void frame_sound(Frame *frame, Random *random, const Domain *domain, bool ours, uint32_t serial);
/* Makes one to six things of it wrong; its length word is right again, mostly. */
void frame_mutate(Frame *frame, Random *random);
/* The host must live through it: procedures that act on a host or a guest without naming something
 * that is not there become harmless ones. Without @events those that register for
 * events do as well: of many of them, while connections end, libvirtd 9.0 itself dies in the end.
 */
void frame_tame(Frame *frame, bool readonly, bool events);
/* A body of @len bytes that libvirt does not understand. */
void frame_large(Frame *frame, Random *random, size_t len, uint32_t serial);
