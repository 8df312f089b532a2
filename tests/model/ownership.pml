/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may let a protected domain's output out: take, consent, release.
 *
 * Two hosts, one register with compare-and-swap, no clocks.  README.md beside this file states the
 * same protocol as a numbered list (the tags [1] to [14] below) and names the C function of each.
 *
 * What is abstract:
 *  - Suspicion: any host may believe at any moment that the other one is lost, rightly or not.
 *  - A CAS is a request in flight (pPair, pTake, pRenew).  The arbiter applies it at any later moment
 *    or never, also after its sender has crashed, rebooted or forgotten it.  There are no replies: a
 *    host learns the outcome by linearizable reads, so every reply is "unknown" until a read decides.
 *  - Messages are slots read at any later moment; losing the link empties them.
 *  - Packets: cov[x] says that host x's copy can reproduce everything that was ever released.
 *
 * Sizes (-D): MAXG generations, FAULTS budget of crashes, QEMU deaths and daemon restarts,
 * FLAPS budget of link changes.  Variants: MANUALBE (no register; the operator decides), WIPE (the
 * register vanishes once), ROLLBACK (it is restored once to an older generation both hosts have left),
 * LIVE (adds the liveness property), ONLY (check one property: 1, 2, 3 for I1, I2, I3; 4 a relinquished
 * host never CASes; 5 only a host with a live copy does), REACH (a state that must be reachable), and
 * the negative controls BUG_*.
 */
#ifndef MAXG
#define MAXG 3
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef FLAPS
#define FLAPS 1
#endif

/* States of the domain's actor on a host (volatile). */
#define DOWN     0   /* the host is off */
#define OUT      1   /* up, no part in the service: no copy, lost, relinquished or just booted */
#define ALONE    2   /* sole owner of gen[h] */
#define SYNC     3   /* sole owner; the first checkpoint is cut and its LOADED awaited */
#define PAIRING  4   /* primary; the CAS alone->paired has begun */
#define PAIRED   5   /* primary, PROTECTED */
#define SYNCIN   6   /* secondary before its first LOADED */
#define LOADED   7   /* secondary that has LOADED, not yet told that the pair stands */
#define SECP     8   /* secondary that was told that gen[h] is paired */
#define TAKING   9   /* the CAS (n, paired)->(n+1, me, alone) has begun, outcome unknown */
#define RENEW   10   /* lone owner after a reboot, about to restart the guest from its disk */
#define MANUAL  11   /* the register is missing or too low: only consent or the operator helps */

/* What the store holds (durable), beside the highest generation seen, gen[h]. */
#define D_NONE    0
#define D_ALONE   1   /* own gen, register agrees or did */
#define D_ACC     2   /* own gen by the peer's consent, the register still has gen-1 */
#define D_PAIRING 3
#define D_PAIRED  4
#define D_SECP    5
#define D_TAKING  6
#define D_REL     7   /* gave up gen: the peer owns gen+1 */

/* The comparator's gate (survives a restart of virtcolod, not of the host). */
#define G_CLOSED 0
#define G_HOLD   1   /* hold everything */
#define G_CONF   2   /* release what the other side confirmed */
#define G_SOLE   3   /* release everything */

/* The register. rg = 0: missing.  In mode paired the primary is rown. */
byte rg; bit rpaired; bit rown;
/* CAS requests in flight, all of them expecting the present rg. */
bit pCreate; bit pPair[2]; bit pTake[2]; bit pRenew[2];

#ifdef WIPE
byte pAgain[2];        /* create again at this generation, in flight */
#endif

byte st[2]; byte dst[2]; byte gen[2]; byte gate[2];
bit q[2];              /* QEMU with this host's copy lives (running or stopped) */
byte cmsg[2];          /* consent of generation n, in flight from this host; 0 none */
bit ld;                /* LOADED in flight to the primary */
byte conf;             /* confirmation in flight: 1 sent before, 2 sent after its sender's CAS began */
bit ctl = 1; bit dat = 1;
byte faults; byte flaps; bit wiped;
/* Ghosts, never read by the protocol. */
bit cov[2];
byte relg[2];          /* highest generation ever given up, store or not */
bit unsure;            /* a wrong suspicion or a voluntary consent happened: with I2, no free fault left */

#define UP(x)       (st[x] != DOWN)
#define HASREG(n)   (rg == (n) && rg != 0)
#define SET_SOLE(x) gate[x] = G_SOLE; cov[1 - (x)] = 0
#define CLEAR_CAS   pPair[0] = 0; pPair[1] = 0; pTake[0] = 0; pTake[1] = 0; pRenew[0] = 0; pRenew[1] = 0
#define QUIESCE(x)  gate[x] = G_CLOSED; q[x] = 0; cov[x] = 0; st[x] = OUT

/* [2] colo_arbiter_*: the register's own steps. */
proctype arbiter()
{
end:
    do
    :: atomic { pCreate && rg == 0 -> pCreate = 0;
        if
        :: !wiped -> rg = 1; rpaired = 0; rown = 0
        :: wiped                        /* refused: the sender has seen a generation by now */
        fi }
#ifdef WIPE
    :: atomic { pAgain[0] && rg == 0 -> rg = pAgain[0]; rpaired = 0; rown = 0; pAgain[0] = 0 }
    :: atomic { pAgain[1] && rg == 0 -> rg = pAgain[1]; rpaired = 0; rown = 1; pAgain[1] = 0 }
#endif
    :: atomic { pPair[0] && rg && !rpaired && rown == 0 -> rpaired = 1; CLEAR_CAS }
    :: atomic { pPair[1] && rg && !rpaired && rown == 1 -> rpaired = 1; CLEAR_CAS }
    :: atomic { pTake[0] && rg && rpaired -> rg++; rpaired = 0; rown = 0; CLEAR_CAS }
    :: atomic { pTake[1] && rg && rpaired -> rg++; rpaired = 0; rown = 1; CLEAR_CAS }
    :: atomic { pRenew[0] && rg && !rpaired && rown == 0 -> rg++; CLEAR_CAS }
    :: atomic { pRenew[1] && rg && !rpaired && rown == 1 -> rg++; CLEAR_CAS }
#ifdef WIPE
    :: atomic { !wiped && rg -> wiped = 1; rg = 0; rpaired = 0; rown = 0; CLEAR_CAS }
#endif
#ifdef ROLLBACK
    :: atomic { !wiped && rg > 1 && gen[0] >= rg && gen[1] >= rg ->
        wiped = 1; rg = rg - 1; CLEAR_CAS;
        if :: rpaired = 0 :: rpaired = 1 fi;
        if :: rown = 0 :: rown = 1 fi }
#endif
    od
}

proctype host(byte h)
{
    byte p = 1 - h;
end:
    do
#ifndef MANUALBE
    /* [1] colo_arbiter_create(): only by a host that has never seen a generation. */
    :: atomic { st[h] == ALONE && gen[h] == 0 && rg == 0 && !pCreate && !wiped -> pCreate = 1 }
    :: atomic { st[h] == ALONE && gen[h] == 0 && HASREG(1) -> gen[h] = 1; dst[h] = D_ALONE }
#endif
#ifdef WIPE
    /* [1] A lone owner may create a register that vanished, at its own generation. */
    :: atomic { (st[h] == ALONE && q[h] && dst[h] == D_ALONE && gen[h] && rg == 0 && wiped
        && !pAgain[h]) -> pAgain[h] = gen[h] }
#ifdef BUG_RECREATE_BY_ANYONE
    :: atomic { (st[h] == OUT && !q[h] && gen[h] && gen[h] < MAXG && rg == 0 && wiped) ->
        rg = gen[h] + 1; rpaired = 0; rown = h }
#endif
#endif
    /* [3] Begin a session: hold, then cut the first checkpoint, in this order. The secondary drops any
     * older copy and stores the generation first. */
    :: atomic { (st[h] == ALONE && q[h] && ctl && dat && gen[h] && gen[h] < MAXG
#ifndef MANUALBE
        && rg == gen[h] && !rpaired && rown == h && dst[h] == D_ALONE
#endif
        && (st[p] == OUT || st[p] == SYNCIN || st[p] == LOADED) && gen[p] <= gen[h]
        && (gen[p] < gen[h] || dst[p] == D_NONE)) ->
#ifndef BUG_SOLE_AFTER_CUT
        gate[h] = G_HOLD;
#endif
        st[h] = SYNC; gen[p] = gen[h]; dst[p] = D_NONE; st[p] = SYNCIN; q[p] = 1; cov[p] = 1;
        gate[p] = G_CLOSED; conf = 0; ld = 0;
        cmsg[0] = 0; cmsg[1] = 0 }
    :: atomic { st[h] == SYNCIN && q[h] && dat -> st[h] = LOADED; ld = (st[p] == SYNC) }
    /* [3] The session fails before the CAS has begun: sole owner as before, that session is void. */
    :: atomic { st[h] == SYNC && q[h] -> st[h] = ALONE; SET_SOLE(h); ld = 0 }

    /* [4] colo_ownership_pair(): store, CAS, and only a read that shows paired opens the gate to
     * confirmed packets. */
    :: atomic { st[h] == SYNC && ld -> ld = 0;
#ifdef MANUALBE
        dst[h] = D_PAIRED; st[h] = PAIRED; gate[h] = G_CONF
#else
#ifndef BUG_PAIR_NOT_DURABLE
        dst[h] = D_PAIRING;
#endif
        pPair[h] = 1;
#ifdef BUG_SOLE_WHILE_PAIRING
        SET_SOLE(h);
#endif
#ifdef BUG_RELEASE_BEFORE_PAIR_CAS
        dst[h] = D_PAIRED; st[h] = PAIRED; gate[h] = G_CONF
#else
        st[h] = PAIRING
#endif
#endif
        }
#ifndef MANUALBE
    :: atomic { st[h] == PAIRING && HASREG(gen[h]) && rpaired ->
        dst[h] = D_PAIRED; st[h] = PAIRED;
        if :: q[h] -> gate[h] = G_CONF :: else -> gate[h] = G_CLOSED fi }
#endif
    /* [4] The secondary is told and stores it. */
    :: atomic { st[h] == LOADED && ctl && st[p] == PAIRED && gen[p] == gen[h] ->
        dst[h] = D_SECP; st[h] = SECP }

    /* [5] Release. A confirmation is sent only before the sender's CAS began; it may arrive after it. */
#ifndef LIVE
    :: atomic { (st[h] == LOADED || st[h] == SECP) && q[h] && dat && !conf -> conf = 1 }
#endif
#ifdef BUG_CONFIRM_AFTER_CAS
    :: atomic { st[h] == TAKING && gate[h] != G_CONF && q[h] && dat && !conf -> conf = 2 }
#endif
    :: atomic { UP(h) && gate[h] == G_CONF && q[h] && conf ->
        if :: conf == 2 -> cov[p] = 0 :: else fi; conf = 0 }
    :: atomic { gate[h] == G_SOLE && q[h] && cov[p] -> cov[p] = 0 }

#ifndef MANUALBE
    /* [6] colo_ownership_lost_peer(): viable, not relinquished, register read as (n, paired); stop
     * confirming, store the attempt, then CAS. */
    :: atomic { ((st[h] == PAIRED || st[h] == LOADED || st[h] == SECP) && q[h]
        && HASREG(gen[h]) && rpaired) ->
#if !defined(ONLY) || ONLY == 4
        assert(relg[h] < gen[h]);           /* a relinquished host never CASes from <= n */
#endif
#if !defined(ONLY) || ONLY == 5
        assert(q[h]);                       /* nor does a rebooted one, or one whose QEMU died */
#endif
        if :: UP(p) && q[p] && dst[p] != D_REL -> unsure = 1 :: else fi;
#ifndef BUG_ATTEMPT_NOT_DURABLE
        dst[h] = D_TAKING;
#endif
        st[h] = TAKING; pTake[h] = 1 }
#ifdef BUG_REBOOT_TAKES
    :: atomic { (st[h] == OUT && !q[h] && (dst[h] == D_PAIRED || dst[h] == D_SECP)
        && HASREG(gen[h]) && rpaired) ->
#if defined(ONLY) && ONLY == 5
        assert(q[h]);
#endif
        dst[h] = D_TAKING; st[h] = TAKING; pTake[h] = 1; q[h] = 1 }
#endif
#ifdef BUG_CAS_AFTER_RELINQUISH
    :: atomic { st[h] == OUT && q[h] && dst[h] == D_REL && HASREG(gen[h]) && rpaired ->
#if defined(ONLY) && ONLY == 4
        assert(relg[h] < gen[h]);
#endif
        dst[h] = D_TAKING; st[h] = TAKING; pTake[h] = 1 }
#endif
#ifdef BUG_TAKE_FROM_ALONE
    :: atomic { st[h] == LOADED && q[h] && HASREG(gen[h]) && !rpaired ->
        rg++; rown = h; CLEAR_CAS; dst[h] = D_TAKING; st[h] = TAKING }
#endif
    /* [7] colo_ownership_resolve_unknown(): only a higher generation decides. */
#ifndef BUG_UNKNOWN_NEVER_READ
    :: atomic { st[h] == TAKING && rg == gen[h] + 1 && rown == h ->
        gen[h] = rg; dst[h] = D_ALONE;
        if :: q[h] -> st[h] = ALONE; SET_SOLE(h) :: else -> QUIESCE(h) fi }
#endif
#ifdef BUG_UNKNOWN_IS_LOST
    :: atomic { st[h] == TAKING && rg == gen[h] ->
        if :: gate[h] == G_CONF -> st[h] = PAIRED; dst[h] = D_PAIRED
           :: else -> st[h] = SECP; dst[h] = D_SECP fi }
#endif
#ifdef BUG_UNKNOWN_IS_WON
    :: atomic { st[h] == TAKING && rg == gen[h] && q[h] ->
        gen[h] = gen[h] + 1; dst[h] = D_ALONE; st[h] = ALONE; SET_SOLE(h) }
#endif
    /* [8] colo_ownership_quiesce(): the register went on without us. */
    :: atomic { ((st[h] == PAIRING || st[h] == PAIRED || st[h] == LOADED || st[h] == SECP
        || st[h] == TAKING || st[h] == MANUAL || st[h] == OUT) && rg > gen[h]
        && !(st[h] == TAKING && rg == gen[h] + 1 && rown == h)) ->
        gen[h] = rg; dst[h] = D_NONE;
#ifdef BUG_NO_QUIESCE
        if :: gate[h] == G_CONF && q[h] -> st[h] = ALONE; SET_SOLE(h) :: else -> QUIESCE(h) fi
#else
        QUIESCE(h)
#endif
        }
    /* [9] Missing or lower than seen: manual only. (The holder of a consent is one ahead on purpose.) */
    :: atomic { ((st[h] == PAIRING || st[h] == PAIRED || st[h] == LOADED || st[h] == SECP
        || st[h] == TAKING) && rg < gen[h]) -> st[h] = MANUAL }
#ifdef BUG_LOWER_REGISTER_TRUSTED
    :: atomic { (st[h] == OUT || st[h] == MANUAL) && rg && rg < gen[h] && !rpaired && rown == h ->
        q[h] = 1; st[h] = ALONE; dst[h] = D_ALONE; cov[h] = 1; SET_SOLE(h) }
#endif
#endif
    /* [8] the same by the peer's word: it owns a later generation. */
    :: atomic { ((st[h] == PAIRED || st[h] == LOADED || st[h] == SECP || st[h] == TAKING
        || st[h] == MANUAL) && ctl && st[p] == ALONE && gen[p] > gen[h]) ->
        gen[h] = gen[p]; dst[h] = D_NONE; QUIESCE(h) }

    /* [10] colo_ownership_consent(): never with an attempt unresolved. Stop guest, close gates, store,
     * tell. The copy stays in its stopped QEMU, worthless once the peer emits. */
    :: atomic { (((st[h] == PAIRED || st[h] == SECP)
        || (st[h] == OUT && (dst[h] == D_PAIRED || dst[h] == D_SECP)))
#ifdef LIVE
        && (!q[h] || (FAULTS == 0 && st[h] == PAIRED))
#endif
        ) ->
        if :: q[h] -> unsure = 1 :: else fi;
        gate[h] = G_CLOSED; st[h] = OUT;
#ifndef BUG_RELINQUISH_NOT_DURABLE
        dst[h] = D_REL;
#endif
        if :: ctl -> relg[h] = gen[h]; cmsg[h] = gen[h] :: else -> relg[h] = gen[h] fi }
    :: atomic { UP(h) && dst[h] == D_REL && ctl && cmsg[h] == 0 && gen[p] == gen[h] -> cmsg[h] = gen[h] }
#ifdef BUG_CONSENT_WHILE_TAKING
    :: atomic { st[h] == TAKING -> dst[h] = D_REL; relg[h] = gen[h]; gate[h] = G_CLOSED; st[h] = OUT }
#endif
    /* [11] colo_ownership_accept_consent(): owner of n+1 at once, stored before the gate opens. */
    :: atomic { (cmsg[p] && cmsg[p] == gen[h] && q[h] && (st[h] == PAIRED || st[h] == LOADED
        || st[h] == SECP || st[h] == TAKING || st[h] == MANUAL)) ->
        cmsg[p] = 0; gen[h] = gen[h] + 1;
#ifdef MANUALBE
        dst[h] = D_ALONE;
#else
        dst[h] = D_ACC;
#endif
        st[h] = ALONE; SET_SOLE(h) }
    :: atomic { cmsg[p] && cmsg[p] != gen[h] && UP(h) -> cmsg[p] = 0 }
#ifndef MANUALBE
    /* [11] the register follows. */
    :: atomic { ((st[h] == ALONE || st[h] == OUT) && dst[h] == D_ACC && gen[h] == rg + 1 && rg && rpaired
        && !pTake[h]) -> pTake[h] = 1 }
    :: atomic { (st[h] == ALONE || st[h] == OUT) && dst[h] == D_ACC && rg == gen[h] && rown == h ->
        dst[h] = D_ALONE }

    /* [12] colo_ownership_restart(): a rebooted host, or one whose QEMU died, that the register calls
     * lone owner: a CAS first, which kills every older request of its own still in flight. */
    :: atomic { (st[h] == OUT && rg && rg >= gen[h] && !rpaired && rown == h && rg < MAXG
        && !(rg == gen[h] && (dst[h] == D_REL || dst[h] == D_PAIRED || dst[h] == D_SECP
            || dst[h] == D_TAKING)) && dst[h] != D_ACC) ->
        gen[h] = rg; dst[h] = D_ALONE;
#ifdef BUG_RESTART_WITHOUT_CAS
        st[h] = ALONE; q[h] = 1; cov[h] = 1; SET_SOLE(h)
#else
        st[h] = RENEW; pRenew[h] = 1
#endif
        }
    :: atomic { st[h] == RENEW && rg > gen[h] ->
        if
        :: rown == h && !rpaired && rg == gen[h] + 1 ->
            gen[h] = rg; q[h] = 1; cov[h] = 1; st[h] = ALONE; SET_SOLE(h)
        :: else -> st[h] = OUT
        fi }
    :: atomic { st[h] == RENEW && (rg < gen[h] || (rg == gen[h] && rpaired)) ->
        st[h] = OUT;
        if :: rg == gen[h] -> dst[h] = D_PAIRED :: else fi }
    :: atomic { st[h] == OUT && dst[h] == D_PAIRING && HASREG(gen[h]) && rpaired -> dst[h] = D_PAIRED }
    :: atomic { st[h] == OUT && dst[h] == D_ALONE && HASREG(gen[h]) && rpaired && rown == h ->
        dst[h] = D_PAIRED }
#endif
    /* [13] colo-failover --i-am-sure: the operator has powered the other host off. With a register it
     * is written first, unconditionally of its owner, to above everything seen. */
    :: atomic { ((st[h] == MANUAL || st[h] == OUT
#ifdef MANUALBE
        || st[h] == PAIRED || st[h] == SECP || st[h] == LOADED
#endif
        )
#ifndef BUG_OPERATOR_NOT_SURE
        && st[p] == DOWN
#endif
        && gen[h] && gen[h] < MAXG && rg < MAXG
#if defined(LIVE)
        && 0
#endif
        ) ->
#ifndef MANUALBE
#ifdef BUG_OPERATOR_PLUS_ONE
        if :: rg > gen[h] -> rg = rg + 1 :: else -> rg = gen[h] + 1 fi;
#else
        /* + 2: above a consent that the dead host accepted and the register never learnt. */
        if :: rg > gen[h] -> rg = rg + 2 :: else -> rg = gen[h] + 2 fi;
#endif
        rpaired = 0; rown = h; gen[h] = rg; CLEAR_CAS; pCreate = 0;
#else
        gen[h] = gen[h] + 2;
#endif
        dst[h] = D_ALONE; q[h] = 1; cov[h] = 1;    /* --discard: what is lost was printed */
        st[h] = ALONE; SET_SOLE(h) }

    /* Faults. */
    :: atomic { UP(h) && faults < FAULTS -> faults++;
        st[h] = DOWN; q[h] = 0; cov[h] = 0; gate[h] = G_CLOSED }
    :: atomic { st[h] == DOWN -> st[h] = OUT }
    :: atomic { UP(h) && q[h] && faults < FAULTS -> faults++;         /* QEMU dies */
        q[h] = 0; cov[h] = 0; gate[h] = G_CLOSED;
        if
        :: st[h] == ALONE || st[h] == SYNC || st[h] == SYNCIN || st[h] == LOADED -> st[h] = OUT
        :: else
        fi }
    :: atomic { UP(h) && faults < FAULTS -> faults++;
        /* [14] virtcolod restarts: the store and the comparator's inventory decide. */
        if
        :: st[h] == OUT && dst[h] == D_REL
        :: (dst[h] == D_ALONE || dst[h] == D_ACC) && q[h] -> st[h] = ALONE; SET_SOLE(h); ld = 0
        :: dst[h] == D_PAIRING && st[h] != OUT && st[h] != MANUAL -> st[h] = PAIRING
        :: dst[h] == D_PAIRED && q[h] -> st[h] = PAIRED; gate[h] = G_CONF
        :: dst[h] == D_SECP && q[h] -> st[h] = SECP
        :: dst[h] == D_TAKING && st[h] != OUT -> st[h] = TAKING
        :: else -> if :: st[h] == RENEW -> st[h] = OUT :: else fi
        fi }
    od
}

/* Links go and come, each on its own; what was on the way is lost. */
proctype links()
{
end:
    do
    :: atomic { flaps < FLAPS && ctl -> flaps++; ctl = 0; cmsg[0] = 0; cmsg[1] = 0 }
    :: atomic { !ctl -> ctl = 1 }
    :: atomic { flaps < FLAPS && dat -> flaps++; dat = 0; conf = 0; ld = 0 }
    :: atomic { !dat -> dat = 1 }
    od
}

#define SOLE(x)  (gate[x] == G_SOLE && q[x])
/* x could carry the service on by itself: owns, or can still become owner with a covering copy. */
#define CONT(x)  (UP(x) && q[x] && cov[x] && (SOLE(x) || (HASREG(gen[x]) && rpaired \
                  && (st[x] == PAIRED || st[x] == LOADED || st[x] == SECP || st[x] == TAKING)) \
                  || (rg == gen[x] + 1 && rown == x)))

#define INV_I3   (!(SOLE(0) && SOLE(1)))
#define INV_I1   ((!SOLE(0) || cov[0]) && (!SOLE(1) || cov[1]))
#ifdef MANUALBE
#define PROT_OK(x) (st[x] != PAIRED || gen[x] != 0)
#else
/* PROTECTED is declared only when the register lets the other side take over. */
#define PROT_OK(x) (st[x] != PAIRED || wiped || !(rg == gen[x] && !rpaired))
#endif
#define INV_I2   (PROT_OK(0) && PROT_OK(1) && I2_CONT)
#if defined(MANUALBE)
#define I2_CONT  1
#else
#define I2_CONT  (wiped || faults > 1 || unsure || (st[0] != PAIRED && st[1] != PAIRED) \
                  || CONT(0) || CONT(1))
#endif

/* Runs only when something is wrong. */
proctype monitor()
{
    bit I1_output_commit, I2_always_a_survivor, I3_one_owner;   /* 0: names for spin's message */
end:
    if
#if !defined(ONLY) || ONLY == 3
    :: atomic { !(INV_I3) -> assert(I3_one_owner) }
#endif
#if !defined(ONLY) || ONLY == 1
    :: atomic { !(INV_I1) -> assert(I1_output_commit) }
#endif
#if !defined(ONLY) || ONLY == 2
    :: atomic { !(INV_I2) -> assert(I2_always_a_survivor) }
#endif
    :: atomic { false -> assert(0) }
    fi
}

/* Witnesses of non-emptiness: each must be found reachable (the search must report an error). */
#ifdef REACH
proctype witness()
{
    bit reached = 1;
end:
    if
    :: atomic { (REACH) -> assert(!reached) }
    fi
}
#endif

#ifdef LIVE
#define OUTPUT   (SOLE(0) || SOLE(1) || (gate[0] == G_CONF && q[0] && (st[1] == SECP || st[1] == LOADED) && q[1]) \
                  || (gate[1] == G_CONF && q[1] && (st[0] == SECP || st[0] == LOADED) && q[0]))
/* The model runs out of generations (the protocol does not); a domain that was never protected. */
#define EXCUSED  (rg >= MAXG || (rg == 0 && gen[0] == 0))
ltl resumes { [] <> (OUTPUT || EXCUSED) }
#endif

init
{
    atomic {
        st[0] = ALONE; q[0] = 1; gate[0] = G_SOLE; cov[0] = 1; st[1] = OUT;
#ifdef MANUALBE
        gen[0] = 1; dst[0] = D_ALONE;
#endif
        run arbiter(); run links(); run host(0); run host(1); run monitor();
#ifdef REACH
        run witness();
#endif
    }
}
