/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A real etcd on loopback with TLS, and a proxy before it that loses what it is told to. */
#pragma once

#include "pair/arbiter.h"
#include "test-channel-common.h"

extern GPid etcd_pid; /* 0: not running */
extern uint16_t etcd_port;

/* Makes its certificate, data and port, starts it and waits; nothing when it is not installed. */
void etcd_setup(void);
void etcd_teardown(void);

/* On its data and port; need not answer yet. */
void etcd_start(void);
void etcd_kill(void);
void wait_for_etcd(void);

/* A port that was free a moment ago. */
uint16_t free_port(void);

/* An arbiter by way of @port with the certificates @name; NULL @name: none. */
ColoArbiter *arbiter_at(uint16_t port, const char *name, const char *ca, unsigned timeout_ms);
ColoArbiter *direct(void); /* as alpha, without proxy */

/* FALSE, and the test is skipped, when etcd is not installed. */
gboolean have_etcd(void);

/* The register of @uuid, which must be there. */
ColoRegister *must_read(ColoArbiter *arbiter, const char *uuid);

/* A proxy before etcd for one connection after another, told how to fail. */
typedef enum {
    PASS,
    LOSE_REPLY,   /* the reply to what changed the register, and the connection */
    LOSE_REQUEST, /* what the client sends after the next reply */
    STOP_SERVER,  /* etcd is stopped before what the client sends after the next reply arrives */
} Fault;

typedef struct {
    int listen_fd;
    uint16_t port;
    GThread *thread;
    gint fault; /* atomic */
    gint quit;  /* atomic */
    gint hit;   /* atomic: the fault has happened */
    char *uuid; /* LOSE_REPLY: whose register is watched */
    uint64_t n;
} Proxy;

void proxy_start(Proxy *proxy, const char *uuid, uint64_t n);
void proxy_end(Proxy *proxy);

/* An arbiter whose kept connection goes through @proxy, with @fault armed now. */
ColoArbiter *armed(Proxy *proxy, Fault fault, const char *uuid);
