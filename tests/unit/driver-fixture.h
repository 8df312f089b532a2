/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A driver whose host is the test, and the frames that it sees. */
#pragma once

#include "driver-host.h"
#include "rpc/remote-calls.h"

/* The bytes of DRIVER_UUID. */
extern const uint8_t driver_uuid[16];

typedef struct {
    DriverHost host;
    ColoDriver *driver;
    const ColoRelayDriver *relay;
} DriverFixture;

void driver_setup(DriverFixture *f, gconstpointer data);
void driver_teardown(DriverFixture *f, gconstpointer data);

/* XDR */
void driver_put_word(GByteArray *body, uint32_t word);
void driver_put_text(GByteArray *body, const char *text);
/* remote_nonnull_domain: of DRIVER_UUID, or of another UUID when it is not named "ft". */
void driver_put_domain(GByteArray *body, const char *name);
/* The caller's; @body is freed. */
ColoRpcFrame *driver_frame(uint32_t program, uint32_t procedure, uint32_t type, GByteArray *body);
/* A call about a domain, with some XML behind it. */
ColoRpcFrame *driver_domain_call(uint32_t procedure, const char *name);
/* The number of a procedure of libvirt's remote program. */
uint32_t driver_number_of(const char *name);

/* What becomes of a call: *answer is what the client hears, *question what libvirt is asked; either
 * may be NULL: there is to be none. */
ColoRelayVerdict driver_calls(DriverFixture *f, const ColoRpcFrame *call, GByteArray **answer,
                              GByteArray **question);
gboolean driver_says(const GByteArray *answer, const char *text);
/* The call, which is freed, is answered with an error that holds each of the texts, when libvirt
 * lets the client read and change the domain. */
void driver_assert_refused(DriverFixture *f, ColoRpcFrame *call, const char *const *texts);
#define REFUSED(call, ...) driver_assert_refused(f, call, (const char *const[]){__VA_ARGS__, NULL})
/* libvirt has the call, which is freed, as it is. */
void driver_assert_passes(DriverFixture *f, ColoRpcFrame *call);
/* libvirt is asked for the right to the call, which is freed; the protection is interrupted;
 * libvirt has the call; it is over. */
void driver_assert_interrupts(DriverFixture *f, ColoRpcFrame *call, const char *name);
