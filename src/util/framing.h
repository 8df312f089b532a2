/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Message framing of the control channel and of the comparator's control socket: be32 length of
 * what follows, then that many bytes of JSON (RFC 8259). Incremental: bytes go in as they arrive,
 * whole messages come out. Not thread safe; one reader a connection.
 */
#pragma once

#include <glib.h>

/* A control message is a few KB; the largest is a domain XML. Above this the connection is
 * closed: a peer that sends more is broken or hostile (I8). */
#define COLO_FRAME_MAX (1024u * 1024u)
#define COLO_FRAME_HEADER 4u

typedef struct ColoFrameReader ColoFrameReader;

ColoFrameReader *colo_frame_reader_new(void);
void colo_frame_reader_free(ColoFrameReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoFrameReader, colo_frame_reader_free)

/* Takes in @len bytes; they are copied. */
void colo_frame_reader_feed(ColoFrameReader *reader, const void *data, size_t len);

/*
 * The next whole message, NUL-terminated, for the caller to g_free(); @len is its length without
 * the NUL. NULL without @error: none is complete yet. NULL with @error: the stream announced a
 * frame over COLO_FRAME_MAX and cannot be read any further.
 */
char *colo_frame_reader_next(ColoFrameReader *reader, size_t *len, GError **error);

/* Header and @len bytes of @payload in one buffer; NULL and @error when over COLO_FRAME_MAX. */
GBytes *colo_frame_build(const void *payload, size_t len, GError **error);
