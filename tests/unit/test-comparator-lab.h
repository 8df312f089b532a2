/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two colo-comparator processes on loopback, with socket pairs that stand for the two QEMUs, and
 * this process as the controller of both. Every wait has a limit after which the test fails.
 */
#pragma once

#include "comparator/checkpoint-stream.h"
#include "comparator/protocol.h"
#include "util/framing.h"
#include "util/json.h"

#include <glib.h>
#include <sys/types.h>

#define LAB_UUID "6c1d9a52-1a4e-4f0e-9a3e-0d7f7c1b5a10"
#define LAB_PSK "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
/* TRUE: frames carry a vnet header of 12 bytes before them, and its length. */
extern gboolean lab_vnet;
#define LAB_VNET 12
/* TRUE: sessions are made with "rewrite". */
extern gboolean lab_rewrite;
/* Heartbeats, one every 20 ms, after which a peer is silent. */
extern int lab_missed;
/* Workers of a helper that is started; 0: as many as it likes. */
extern int lab_threads;
/* Whom requests are about; LAB_UUID. */
extern const char *lab_uuid;
/* TRUE: helpers are started by another user than root, as far as there is a choice. Otherwise root
 * starts them, if we are root, and they become "nobody" by themselves. */
extern gboolean lab_unprivileged;
/* TRUE: a system call that the sandbox lacks fails, as in production. Otherwise it ends the helper:
 * a test with the helper shows that the sandbox allows what that needs. */
extern gboolean lab_lenient;

#define LAB_WAIT_MS 5000 /* for what must come */
#define LAB_QUIET_MS 150 /* for what must not come */

/* One process and its control connection. */
typedef struct {
    pid_t pid;
    char *dir, *socket, *log;
    int port; /* of its data listener */
    int control;
    ColoFrameReader *reader;
    GQueue events; /* JsonObject, oldest first */
    uint64_t next_id;
} LabHelper;

void lab_helper_start(LabHelper *helper);
void lab_helper_stop(LabHelper *helper);   /* SIGTERM; asserts exit status 0 */
void lab_helper_forget(LabHelper *helper); /* of one that has died and was waited for */
void lab_helper_connect(LabHelper *helper);
void lab_helper_pause(LabHelper *helper);         /* until SIGCONT; each of its threads stands */
pid_t lab_helper_worker(const LabHelper *helper); /* some thread beside the control thread */
bool lab_helper_alive(LabHelper *helper);
/* True when @text stands in its log, waiting for it up to LAB_WAIT_MS. */
bool lab_helper_logged(LabHelper *helper, const char *text);

/* The members of "return"; the test fails on an error answer. @arguments is taken over, @fd is
 * closed after sending (or -1). */
JsonObject *lab_request(LabHelper *helper, const char *name, JsonObject *arguments, int fd);
/* The error's code; the test fails when the request succeeds. */
char *lab_refused(LabHelper *helper, const char *name, JsonObject *arguments, int fd);
/* Sends without waiting; returns the id for lab_answer(). */
uint64_t lab_send(LabHelper *helper, const char *name, JsonObject *arguments, int fd);
JsonObject *lab_answer(LabHelper *helper, uint64_t id); /* the whole message */
/* The test fails when an answer comes within LAB_QUIET_MS; events may. */
void lab_no_answer(LabHelper *helper);
/* The answer's number @key of request "stats"/"counters". */
uint64_t lab_stat(LabHelper *helper, const char *key);
uint64_t lab_counter(LabHelper *helper, const char *key);

/* Takes the oldest event called @name; the test fails when none comes. */
JsonObject *lab_event(LabHelper *helper, const char *name);
/* The oldest one called @name that comes within @ms, or NULL. */
JsonObject *lab_event_within(LabHelper *helper, const char *name, int ms);
/* Forgets the events called @name (NULL: all) that have come until now. */
void lab_forget(LabHelper *helper, const char *name);

typedef struct {
    LabHelper p, s;
    int p_mirror, p_out, p_release, p_migration, p_nbd; /* QEMU's ends on the primary */
    int s_in, s_out, s_migration, s_nbd;                /* and on the secondary */
    int via_port;                                       /* 0: straight to the secondary's */
} Lab;

/* Both processes, sessions, all streams up and all channels attached; gates as they begin. */
void lab_up(Lab *lab);
/* The parts of it. */
void lab_start(Lab *lab);
void lab_open(Lab *lab);
void lab_create(LabHelper *helper, const char *role, const char *psk);
void lab_create_generation(LabHelper *helper, const char *role, const char *psk,
                           uint64_t generation);
void lab_connect_peer(Lab *lab, const char *stream);
int lab_attach(LabHelper *helper, const char *channel);
void lab_down(Lab *lab);
void lab_close(Lab *lab);    /* QEMU's ends */
JsonObject *lab_about(void); /* {"uuid": LAB_UUID} */
JsonObject *lab_gate(LabHelper *helper, const char *mode);

/* READY, gates "paired", and the first checkpoint: comparison is on from here. */
void lab_protect(Lab *lab);

/* A checkpoint in steps. */
void lab_request_checkpoint(Lab *lab);       /* REQUEST until it is at the secondary's QEMU */
void lab_word_back(Lab *lab, uint32_t word); /* from one QEMU to the other */
void lab_word_there(Lab *lab, uint32_t word);
void lab_pages(Lab *lab);      /* RAM and device state: the rest of the forward part */
void lab_pages_kept(Lab *lab); /* the same; the last byte has not come to the secondary's QEMU */
void lab_pages_end(Lab *lab);  /* and now it comes */
void lab_checkpoint(Lab *lab); /* all of it */

/* What the secondary's NBD server says, until the primary's client has it: up to the first reply;
 * a reply (@error 0: done); data of a READ. lab_open() has done the first. */
void lab_nbd_open(Lab *lab);
/* A request of the primary's QEMU, and its answer. */
void lab_nbd_flush(Lab *lab);
void lab_nbd_reply(Lab *lab, uint32_t error);
void lab_nbd_data(Lab *lab, const void *data, size_t len);

/* Frames. With lab_vnet the functions below add a vnet header to what they are given and expect
 * and remove one. */
size_t lab_udp(uint8_t *frame, unsigned port, const char *payload);
void lab_write_frame(int fd, const uint8_t *frame, size_t len);
/* Length of the next frame, -1 when none comes within @ms. */
ssize_t lab_read_frame(int fd, uint8_t *frame, size_t size, int ms);
/* Writes or reads a UDP frame that carries @payload. */
void lab_say(int fd, const char *payload);
void lab_hear(int fd, const char *payload);
void lab_silent(int fd);
/* All @len bytes, in time. */
void lab_read(int fd, void *data, size_t len);
void lab_write(int fd, const void *data, size_t len);

/* True when the other side closes within the limit (what it may say before is passed over). */
bool lab_is_closed(int fd, int ms);
