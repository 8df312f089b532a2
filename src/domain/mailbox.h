/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The mailbox of a domain's actor: everything that happens to a domain comes through here, in
 * order, so that one thread alone owns its state (design section 3).
 *
 * Posting never blocks and may be done from any thread; only the actor takes out.
 */
#pragma once

#include <glib.h>

#include "util/json.h"

typedef enum {
    COLO_MAIL_COMMAND,         /* name, body: of a door; answered */
    COLO_MAIL_PEER,            /* name, body: request of the peer; answered */
    COLO_MAIL_COMPARATOR,      /* name, body: event of comparator/protocol.h */
    COLO_MAIL_COMPARATOR_UP,   /* connected (again) to the helper */
    COLO_MAIL_COMPARATOR_DOWN, /* the helper died */
    COLO_MAIL_LIFECYCLE,       /* number, detail: libvirt's event */
    COLO_MAIL_CONTROL_SILENT,  /* the control channel to the peer is silent */
    COLO_MAIL_CONTROL_HEARD,   /* and heard again */
    COLO_MAIL_CONTROL_UP,      /* the peer's virtcolod is connected */
    COLO_MAIL_DECLARED,        /* the running domain's metadata declares a protection */
    COLO_MAIL_METADATA,        /* that has changed */
    COLO_MAIL_LIBVIRT_UP,      /* libvirtd is connected (again) */
    COLO_MAIL_QUIT,
} ColoMailKind;

typedef struct ColoAnswer ColoAnswer;

typedef struct {
    ColoMailKind kind;
    char *name;
    JsonObject *body;
    int number, detail;
    ColoAnswer *answer; /* not NULL: must be completed exactly once */
} ColoMail;

/* A mail without an answer; @name and @body are copied; both may be NULL. */
ColoMail *colo_mail_new(ColoMailKind kind, const char *name, JsonObject *body);
void colo_mail_free(ColoMail *mail); /* an open answer becomes an error */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoMail, colo_mail_free)

/* Completes @mail's answer, if it has one: @result (taken over) or @error (copied). */
void colo_mail_answer(ColoMail *mail, JsonObject *result, const GError *error);

typedef struct ColoMailbox ColoMailbox;

/* Mails that may wait; more are dropped with a log line (I8). A domain gets a few a second. What
 * the helper tells of each checkpoint comes most often (a diverging guest: hundreds a second, while
 * the actor may wait for the peer for a minute) and must not crowd out what is said once: requests,
 * and evidence as "peer-silent". */
#define COLO_MAILBOX_MAX 4096
#define COLO_MAILBOX_MAX_EVENTS (COLO_MAILBOX_MAX / 2)

ColoMailbox *colo_mailbox_new(void);
void colo_mailbox_free(ColoMailbox *box);
void colo_mailbox_post(ColoMailbox *box, ColoMail *mail); /* takes over */

/* The next mail, or NULL after @timeout_ms. One whose asker has given up is left out. */
ColoMail *colo_mailbox_take(ColoMailbox *box, unsigned timeout_ms);

/* Posts a command or a request of the peer and waits at most @timeout_ms for its answer. After
 * COLO_ERROR_TIMEOUT it is not begun any more; one that had begun goes on to its end. */
JsonObject *colo_mailbox_ask(ColoMailbox *box, ColoMailKind kind, const char *name,
                             JsonObject *body, unsigned timeout_ms, GError **error);
