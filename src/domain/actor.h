/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One protected domain on this host: an actor (thread and mailbox) that alone owns its state
 * (design section 3). Private to src/domain; the rest of the daemon sees manager.h.
 *
 *   actor.c       the thread: takes mail, dispatches, publishes the view that others read
 *   devices.c     its disks and NICs on this host
 *   evidence.c    what comes in about the peer, the helper and QEMU, and what it means
 *   protect.c     the job that protects a running domain
 *   protect-undo.c  takes a protection away again
 *   primary.c     its peer or guest is lost, it is fenced, unprotect, switchover
 *   secondary.c   what the peer's primary asks of us: prepare, incoming, paired, relinquish
 *   takeover.c    the secondary becomes the owner; merge; clean definition
 *   remap.c       what stays between guest and network after a takeover
 *   epoch.c       what ends an epoch beside divergence and time
 *   ownership.c   who may release output
 *   tune.c        when checkpoints are forced
 *   forget.c      it was undefined, or migrated to a host outside its pair
 *   interrupt.c   suspend, save, ... of a protected domain; protection that metadata declares
 *   protect-features.c  hardware features of both VMs
 *   recover.c     what a starting virtcolod finds
 */
#pragma once

#include "domain/aside.h"
#include "domain/carry.h"
#include "domain/comparator-client.h"
#include "domain/domxml.h"
#include "domain/kick.h"
#include "domain/mailbox.h"
#include "domain/ownership.h"
#include "domain/pairs.h"
#include "domain/steps-disk.h"
#include "domain/steps-net.h"
#include "domain/store.h"
#include "domain/virconn.h"
#include "pair/arbiter.h"
#include "pair/config.h"
#include "util/log.h"
#include "util/tuning.h"

/* How long an answer may take, in ms. Local steps are milliseconds; a nested or loaded host is
 * given room, since a deadline here decides nothing about ownership. */
#define COLO_COMPARATOR_TIMEOUT_MS 5000u
#define COLO_TAKEOVER_PREPARE_TIMEOUT_MS 30000u /* a checkpoint of a large guest is LOADED */
#define COLO_PEER_TIMEOUT_MS 60000u
#define COLO_RELINQUISH_TIMEOUT_MS 10000u
#define COLO_STREAM_UP_TIMEOUT_MS 15000u
#define COLO_ENTER_COLO_TIMEOUT_MS 600000u
/* Between attempts to protect again by itself: the first, and the longest. */
#define COLO_REPROTECT_MIN_MS 2000u
#define COLO_REPROTECT_MAX_MS 60000u
/* Between reads of a register whose answer is still unknown. */
#define COLO_RESOLVE_INTERVAL_MS 200u
/* Between looks at what only the peer's return or the operator can settle. */
#define COLO_MANUAL_INTERVAL_MS 2000u

/* What all actors share; owned by the manager, outlives them. */
typedef struct {
    const ColoConfig *config;
    ColoStore *store;
    ColoArbiter *arbiter;
    ColoVirConn *virconn;
    ColoComparatorClient *comparator;
    ColoPairs *pairs;
    ColoKicker *kicker;
    ColoCarrier *carrier; /* NULL: hardware features are not carried */
    char *boot_id;
    const ColoHvfeatOps *hvfeat; /* NULL: the kernel's */
    const char *sysroot;         /* folder that stands for "/"; NULL: this host's own */
    void (*emit)(JsonObject *event, void *opaque); /* to subscribed clients; @event taken over */
    void *emit_opaque;
} ColoHost;

typedef struct {
    char *alias, *node, *copy, *format, *target;
    uint64_t size;
} ColoProtectedDisk;

typedef struct {
    char *alias, *mac, *bridge, *network, *quarantine;
    gboolean vnet_hdr;
} ColoProtectedNic;

typedef struct {
    ColoHost *host;
    ColoMailbox *mailbox;
    GThread *thread;
    ColoDomainRecord *record; /* the actor's; the store has what matters of it */

    /* What others see, replaced as a whole by colo_domain_publish(). */
    GMutex view_lock;
    JsonObject *view;

    /* Of the protection that runs; made by colo_domain_attach(). */
    virDomainPtr dom;
    GPtrArray *disks; /* ColoProtectedDisk */
    GPtrArray *nics;  /* ColoProtectedNic */
    char *peer_host;  /* the peer's name in the register */

    /* Evidence about the peer (never ownership). */
    gboolean control_silent;
    gboolean packets_silent;
    uint64_t packets_silent_ns; /* since when */
    GHashTable *streams_up;     /* set of names */
    GHashTable *channels_down;  /* set of names: closed by this host's QEMU */

    gboolean busy;        /* a job runs: it pumps the mailbox itself */
    char *abort_reason;   /* why the job must end, set by mail that came in meanwhile */
    gboolean ended;       /* the guest was shut down or destroyed on purpose */
    uint64_t shutdown_ns; /* when it powered off: libvirt ends its QEMU now, or resets it */
    gboolean qemu_died;
    uint64_t watched_ns;     /* its QEMU is probed since then (kick.h); 0: it is not ... */
    gboolean qemu_silent;    /* ... and does not answer */
    gboolean unstarted;      /* ALONE: whether it is to be started is not known yet */
    gboolean must_end;       /* FENCED: libvirtd did not end the copy, it is told again */
    uint64_t qemu_closed_ns; /* primary: when its QEMU closed its channels; 0: it lives */
    gboolean qemu_killed;    /* primary: it was dead when it closed the first of them */
    pid_t qemu_pid;          /* 0: not known */
    gboolean ready;          /* colo-ready was seen */
    uint64_t loaded;         /* highest epoch LOADED */
    uint64_t committed;
    uint64_t checkpoints;
    uint64_t last_commit_ns;
    uint64_t overflow_ns;   /* when held output reached its limit first since; 0: it has not */
    uint64_t stream_bytes;  /* of all checkpoints until the last commit */
    uint64_t dirty_per_sec; /* bytes: what the last epoch's checkpoint carried, over its length */
    uint64_t next_bound_ns; /* when the bounds of the epoch are looked at again */
    unsigned progress;      /* percent */
    uint64_t memory_total, memory_remaining;
    JsonObject *disk_progress;
    char *reason; /* of the state, for people; or NULL */
    char *error;  /* what ended the last job; or NULL */

    unsigned holds;          /* calls under way for which the protection is interrupted */
    gboolean declared;       /* UNPROTECTED: its metadata wants it protected ... */
    gboolean auto_reprotect; /* ... and what COLO cannot bear to interrupt that */
    unsigned reprotect_ms;   /* current pause between attempts */
    uint64_t next_attempt_ns;
    ColoAside *jobs_asked;    /* QEMU has not said yet whether it has jobs; or NULL */
    ColoAside *devices_asked; /* ... whether a virtio device of its is broken; or NULL */
    uint64_t next_devices_ns; /* when it is asked that again */
    uint64_t last_tick_ns;
    uint64_t no_stream_ns;     /* secondary, SYNCING: since when no stream is up; 0: one is */
    uint64_t next_register_ns; /* when the register is brought up to date; 0: it is */
    uint64_t next_features_ns; /* when the VM's features are looked at again */
    JsonObject *feature_stats; /* {NAME: {"on", "param", counters}} of then; or NULL */
    unsigned features_lost;    /* 1 << feature of those whose loss has been told */
    uint64_t next_remap_ns;    /* when the session that stays is looked at; 0: all is well */
} ColoDomain;

/* Starts the actor; @record is taken over. */
ColoDomain *colo_domain_new(ColoHost *host, ColoDomainRecord *record);
void colo_domain_free(ColoDomain *domain); /* ends the actor; touches neither guest nor session */

/* The newest view: name, uuid, role, state, ...; the caller owns it. Any thread. */
JsonObject *colo_domain_view(ColoDomain *domain);

/* ---- for the files of the actor only, on its thread ---- */

ColoLogContext colo_domain_log(const ColoDomain *domain);
ColoOwnershipContext colo_domain_ownership(const ColoDomain *domain);

/* Stores the state (fsync) and publishes it with @reason (NULL: none). A failure to store is
 * logged: states are for people and recovery, ownership is stored by ownership.c. */
void colo_domain_set_state(ColoDomain *domain, ColoState state, const char *reason);
void colo_domain_publish(ColoDomain *domain);
/* Tells of a state that is stored already. */
void colo_domain_announce(ColoDomain *domain, const char *reason);

/* Handles mail for @ms; FALSE with @error when the job was told to end. */
gboolean colo_domain_pump(ColoDomain *domain, unsigned ms, GError **error);

/* One request to the helper about this domain: "uuid" and, unless @arguments (taken over) has it,
 * the "generation" of the newest session are added. */
JsonObject *colo_domain_comparator(ColoDomain *domain, const char *execute, JsonObject *arguments,
                                   int fd, unsigned timeout_ms, GError **error);
/* The generation of the domain's newest session, 0 before the first; a new one's, kept in the store
 * with the next state; and whether it rewrites sequence numbers. */
uint64_t colo_domain_session(const ColoDomain *domain);
void colo_domain_set_session(ColoDomain *domain, uint64_t generation, gboolean rewrite);
gboolean colo_domain_session_rewrites(const ColoDomain *domain);
/* Ends the newest session at the helper, unless it has stayed for its mappings (remap.c); one that
 * is not there is fine. */
void colo_domain_end_session(ColoDomain *domain);
gboolean colo_domain_gate(ColoDomain *domain, const char *mode, GError **error);

/* Hands @fd, which stays the caller's, to the helper as channel @kind:@alias (NULL: @kind). */
gboolean colo_domain_attach_local(ColoDomain *domain, const char *kind, const char *alias, int fd,
                                  GError **error);

/* QEMU is probed, and the primary's kicked. A secondary's is not while checkpoints come: it holds
 * its main loop while it loads one, for as long as the primary takes to send it (QEMU 7.2,
 * migration/colo.c: colo_incoming_process_checkpoint()), and would be suspected for its peer. */
gboolean colo_domain_watch(ColoDomain *domain, GError **error);
void colo_domain_unwatch(ColoDomain *domain);
/* Does QEMU answer? A secondary's is asked only now, if no checkpoint has come for a while: FALSE
 * until it is known. */
gboolean colo_domain_qemu_answers(ColoDomain *domain, uint64_t now);

/* One request to the peer's actor of this domain: "uuid" is added to @params (taken over). */
JsonObject *colo_domain_call_peer(ColoDomain *domain, const char *method, JsonObject *params,
                                  unsigned timeout_ms, GError **error);
/* The same, given up when the peer is silent: what is asked while a takeover may be due, which must
 * not wait for a peer that died in this moment. */
JsonObject *colo_domain_ask_peer(ColoDomain *domain, const char *method, JsonObject *params,
                                 unsigned timeout_ms, GError **error);
gboolean colo_domain_control_is_up(ColoDomain *domain);

void colo_domain_devices_init(ColoDomain *domain);

/* Looks the running domain up and fills dom, disks and nics from its live XML and QEMU. */
gboolean colo_domain_attach(ColoDomain *domain, GError **error);
void colo_domain_detach(ColoDomain *domain);
gboolean colo_domain_is_running(ColoDomain *domain);
/* TRUE only when libvirt says that it does not run; FALSE also when libvirtd does not answer. */
gboolean colo_domain_is_gone(ColoDomain *domain);
/* Of the guest on this host, attached or not; 0 when it is not known or does not run. */
pid_t colo_domain_qemu_pid(const ColoDomain *domain);
/* TRUE only when the process that ran at the attach has lost its memory: killed, or at its very
 * end. The kernel closes its files after that. Asks the kernel alone, at once. */
gboolean colo_domain_qemu_is_dead(const ColoDomain *domain);

/* Makes sure that dom is of a connection that lives: a restart of libvirtd leaves it with a dead
 * one, on which every command fails. Without dom the devices are the stored ones: QEMU is asked
 * nothing, so that one that hangs, or is in the middle of a checkpoint, is left alone. Waits 5 s
 * for libvirtd. */
gboolean colo_domain_renew(ColoDomain *domain, GError **error);

/* Borrowing views for the steps; the arrays are g_free()d. */
ColoStepDisk *colo_domain_step_disks(ColoDomain *domain, size_t *n);
ColoStepNic colo_domain_step_nic(const ColoDomain *domain, const ColoProtectedNic *nic);

/* Keeps disks and nics in record->details, and brings them back. */
void colo_domain_store_devices(ColoDomain *domain);
void colo_domain_load_devices(ColoDomain *domain);

/* protect.c, protect-undo.c */
/* The peer's copy must not run any more, durably, before this host releases alone. @forget: the
 * peer need not remember the domain. FALSE with @error without its consent. */
gboolean colo_primary_ask_relinquish(ColoDomain *domain, gboolean forget, GError **error);
/* FALSE when libvirtd did not answer: something is left, call again. */
gboolean colo_primary_remove_protection(ColoDomain *domain);
void colo_primary_undo(ColoDomain *domain, GError *why);

/* primary.c */
void colo_primary_begin(ColoDomain *domain, const char *pair); /* then, at once, ... */
void colo_primary_protect(ColoDomain *domain);                 /* ... the job */
JsonObject *colo_primary_unprotect(ColoDomain *domain, GError **error);
JsonObject *colo_primary_switchover(ColoDomain *domain, GError **error);
void colo_primary_roll_back(ColoDomain *domain, const char *reason); /* a protection half made */
void colo_primary_go_alone(ColoDomain *domain, const char *reason);  /* ownership is ours already */
void colo_primary_clean_up(ColoDomain *domain);    /* while "unclean" is stored: tries again */
void colo_primary_tell_paired(ColoDomain *domain); /* the register says paired */
void colo_primary_peer_failed(ColoDomain *domain, const char *reason);
void colo_primary_guest_gone(ColoDomain *domain, gboolean on_purpose);
void colo_primary_quiesce(ColoDomain *domain, const char *reason);
void colo_primary_tell_consent(ColoDomain *domain, unsigned timeout_ms); /* stored; FENCED */
void colo_primary_guest_hangs(ColoDomain *domain);   /* the peer's copy does not */
void colo_primary_hold_output(ColoDomain *domain);   /* I4: stops the vCPUs, DEGRADED */
void colo_primary_resume_output(ColoDomain *domain); /* ownership is decided: they go on */
/* Stops them for a moment; resume_output() lets them go on, after a restart of virtcolod too. */
gboolean colo_primary_pause(ColoDomain *domain, GError **error);

/* By the peer's consent: ALONE with @reason. FALSE with @error: nothing has changed. */
gboolean colo_primary_give_copy_up(ColoDomain *domain, const char *reason, GError **error);

/* forget.c */
void colo_domain_undefined(ColoDomain *domain);                     /* libvirt says so */
JsonObject *colo_domain_forget(ColoDomain *domain, GError **error); /* the peer says so */
/* libvirt says that it was migrated away, which was no switchover. */
void colo_domain_migrated(ColoDomain *domain);
/* While "register-left" is stored: tries again. */
void colo_domain_leave_register(ColoDomain *domain);

/* interrupt.c */
/* Interrupts the protection for libvirt's @call until the release; without one there is nothing to
 * interrupt, but none begins either. The result is empty. */
JsonObject *colo_primary_hold(ColoDomain *domain, const char *call, GError **error);
void colo_primary_release(ColoDomain *domain);
/* TRUE when nothing stands against protecting a guest that is to be protected by itself: it runs,
 * nobody does anything to it, and both helpers are there. */
gboolean colo_primary_may_protect(ColoDomain *domain);
void colo_domain_look_at_declaration(ColoDomain *domain); /* only looks */
void colo_domain_take_declaration(ColoDomain *domain);    /* protects by it from the next tick on */

/* secondary.c */
JsonObject *colo_secondary_prepare(ColoDomain *domain, JsonObject *params, GError **error);
JsonObject *colo_secondary_incoming(ColoDomain *domain, GError **error);
JsonObject *colo_secondary_paired(ColoDomain *domain, JsonObject *params, GError **error);
/* Has answered @mail by itself where taking the copy away may take long. */
JsonObject *colo_secondary_relinquish(ColoDomain *domain, ColoMail *mail, GError **error);
void colo_secondary_failed(ColoDomain *domain, const char *reason); /* our copy is gone */
void colo_secondary_teardown(ColoDomain *domain);
void colo_secondary_tick(ColoDomain *domain, uint64_t now); /* SYNCING */

/* copy-devices.c */
void colo_copy_tick(ColoDomain *domain, uint64_t now); /* secondary, PROTECTED */
/* "domain-check", before a switchover: empty, or an error and the copy is given up. */
JsonObject *colo_copy_check(ColoDomain *domain, GError **error);
gboolean colo_copy_may_serve(ColoDomain *domain, GError **error); /* the primary asks that */
/* "domain-devices", by the secondary: {"broken": b}, whether the primary has a broken one itself.
 */
JsonObject *colo_copy_compared(ColoDomain *domain, GError **error);
void colo_copy_served(ColoDomain *domain); /* it serves now: says what does not work in it */

/* takeover.c */
JsonObject *colo_takeover_by_consent(ColoDomain *domain, uint64_t n, GError **error);
void colo_takeover_by_arbiter(ColoDomain *domain); /* the peer is suspected; either role */
void colo_takeover_resolve(ColoDomain *domain);    /* DEGRADED: asks again */
void colo_takeover_run(ColoDomain *domain);        /* the secondary owns: makes it so */
void colo_takeover_finish(ColoDomain *domain);     /* COMMITTING to ALONE */
JsonObject *colo_takeover_force(ColoDomain *domain, gboolean discard, GError **error);

/* remap.c */
/* The generation of the session that stays, or 0. */
uint64_t colo_remap_generation(const ColoDomain *domain);
/* The newest session stays; from the next store of the domain on also for a new virtcolod. */
void colo_remap_keep(ColoDomain *domain);
/* Takes it out of the path, once it is of no more use or cannot do its work. FALSE with @error:
 * something is left, call again. */
gboolean colo_remap_remove(ColoDomain *domain, GError **error);
/* The guest is gone, and the filters with it. */
void colo_remap_forget(ColoDomain *domain);
/* Looks whether the session is there and still needed; takes it out if not. */
void colo_remap_check(ColoDomain *domain);
void colo_remap_tick(ColoDomain *domain, uint64_t now);
/* Its mappings, for the peer's session of the next protection; a new reference or NULL. */
JsonObject *colo_remap_table(ColoDomain *domain, GError **error);
/* Tells the peer's session those that are left, once the packet stream to it is up: from then on it
 * hears itself what ends one. */
gboolean colo_remap_tell(ColoDomain *domain, GError **error);
/* The secondary's part. */
JsonObject *colo_remap_told(ColoDomain *domain, JsonObject *params, GError **error);

/* evidence.c */
gboolean colo_domain_abort_job(ColoDomain *domain, const char *format, ...) G_GNUC_PRINTF(2, 3);
void colo_evidence_consider(ColoDomain *domain); /* is the peer suspected? */
void colo_evidence_comparator(ColoDomain *domain, ColoMail *mail);
void colo_evidence_comparator_down(ColoDomain *domain);
void colo_evidence_lifecycle(ColoDomain *domain, ColoMail *mail);
void colo_evidence_after_job(ColoDomain *domain); /* one that failed, PROTECTED all along */
void colo_evidence_tick(ColoDomain *domain, uint64_t now); /* PROTECTED */

/* epoch.c: bounds of an epoch beside its time (design section 4) */
void colo_epoch_committed(ColoDomain *domain, JsonObject *event); /* primary */
void colo_epoch_tick(ColoDomain *domain, uint64_t now);           /* both */
/* Secondary: a full queue lost input, so the copies will differ; asks for a checkpoint now. */
void colo_epoch_missed_input(ColoDomain *domain);

/* tune.c */
/* colo-tune: changes what @args names; the result is the command's. */
JsonObject *colo_domain_tune(ColoDomain *domain, JsonObject *args, GError **error);
/* Everything that is in force, for "session-create". */
JsonObject *colo_domain_tuning(const ColoDomain *domain);
/* What the peer's primary has changed (NULL: nothing) takes the place of what is in
 * record->details; not stored yet. */
gboolean colo_domain_take_tuning(ColoDomain *domain, JsonObject *changed, GError **error);
/* The helper's event "policy", to the log and to clients. */
void colo_domain_tell_policy(ColoDomain *domain, JsonObject *event);
JsonObject *colo_secondary_tune(ColoDomain *domain, JsonObject *params, GError **error);

/* protect-features.c */
/* Primary: asks the peer, negotiates, checks the CPU; member "features" of "domain-prepare". NULL
 * with @error: refused, with host, feature and reason. */
JsonObject *colo_features_offer(ColoDomain *domain, GError **error);
/* Secondary: the same must come out here. @policy: the primary's, or NULL. */
gboolean colo_features_accept(ColoDomain *domain, JsonObject *params, JsonObject *policy,
                              GError **error);
/* Makes this host's VM as agreed; @states: those of the primary's VM, or NULL. */
gboolean colo_features_apply(ColoDomain *domain, JsonObject *states, GError **error);
void colo_features_tick(ColoDomain *domain, uint64_t now); /* PROTECTED, ALONE */
/* Before the guest goes on alone: @text, the state that came with its checkpoint and that nobody
 * has set in this host's VM; NULL: none. What cannot be set is a lost feature. */
void colo_features_catch_up(ColoDomain *domain, const char *text);

/* Whether they have a state that goes along with checkpoints: "carry" of the session. */
gboolean colo_features_are_carried(const ColoDomain *domain);
/* Secondary: the primary's request "domain-features". */
JsonObject *colo_features_told(ColoDomain *domain, JsonObject *params, GError **error);
/* What @args (of colo-protect) say of features is kept, for the next protection. */
gboolean colo_features_set_policy(ColoDomain *domain, JsonObject *args, GError **error);
/* The same of colo-tune: in both VMs at once if the domain is protected (*@live). */
gboolean colo_features_tune(ColoDomain *domain, JsonObject *args, gboolean *live, GError **error);
/* After that: waits for a checkpoint that was taken since, so that a takeover finds it changed. */
gboolean colo_features_settle(ColoDomain *domain, GError **error);
/* What is done in this host's VM, by feature (NULL: unprotected); and the policy as text. The
 * caller's. */
JsonObject *colo_features_in_force(const ColoDomain *domain);
char *colo_features_policy_text(const ColoDomain *domain);

/* recover.c */
void colo_recover(ColoDomain *domain);
