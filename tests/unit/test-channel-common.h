/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of the control channel share: certificates in a temporary folder, hosts, events.
 */
#pragma once

#include "pair/channel.h"

/* A folder with a CA and certificates made by certtool; removed by pki_remove(). */
extern char *pki_dir;
void pki_create(void);
void pki_remove(void);

/*
 * Issues NAME-cert.pem and NAME-key.pem below pki_dir by the CA of @ca ("ca", "ca2"), with @lines
 * of a certtool template ("cn = ...\ndns_name = ...\n").
 */
void pki_issue(const char *ca, const char *name, const char *lines);

/* Writes @file below pki_dir: a CRL that revokes the certificates @names (NULL-terminated). */
void pki_write_crl(const char *file, const char *const *names);

/* Path of @name below pki_dir; g_free(). */
char *pki_path(const char *name);

/* Configuration that uses @server and @client certificates; colo_tls_config_clear(). */
ColoTlsConfig pki_config(const char *server, const char *client);

/* A host as hello names it; static storage of the literals. */
ColoPeerInfo host_info(const char *name);

/* A listener on 127.0.0.1; its port. */
int listen_loopback(uint16_t *port);

/* Echo handler: method "echo" gives the params back, "who" the caller's host and dn, "fail" a
 * COLO_ERROR_NO_DOMAIN, "alien" an error of another domain, "big" "bytes" bytes, "block" until
 * unblock_all(). */
JsonObject *test_handler(const ColoPeerInfo *from, const char *method, JsonObject *params,
                         void *opaque, GError **error);
void block_again(void);
void unblock_all(void);

/* Events counted, with waiting. */
typedef struct {
    GMutex lock;
    GCond changed;
    unsigned up, down, silent, heard;
    uint64_t silent_ms;  /* of the last */
    gint64 silent_at_us; /* g_get_monotonic_time() of the last */
    char *reason;        /* of the last down */
} Events;

extern const ColoChannelEvents counting_events;
void events_init(Events *events);
void events_clear(Events *events);

/* Waits until *@counter reaches @value; FALSE after @ms. */
gboolean events_wait(Events *events, const unsigned *counter, unsigned value, unsigned ms);

/* A channel of @host_name with @client certificate to localhost:@port, events counted. */
ColoChannel *dial_local(const char *host_name, const char *client, const char *to, uint16_t port,
                        Events *events);

/* Waits until the last error of @channel holds @text; what it was, for g_free(). */
char *wait_for_error(ColoChannel *channel, const char *text, unsigned ms);

/* beta's server on loopback; tls is set by the caller before server_start(). */
typedef struct {
    ColoTlsConfig tls;
    ColoChannelServer *server;
    uint16_t port;
} Server;
void server_start(Server *server);
void server_end(Server *server);

/* A good client gets through to it. */
void assert_serves(Server *server);

/* A plain TCP connection to loopback. */
int connect_to(uint16_t port);

/* Standard error goes to a file from now on; log_wait() looks for a line with both texts. */
void log_capture(void);
gboolean log_wait(const char *text, const char *text2, unsigned ms);
