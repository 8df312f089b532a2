/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The QMP steps against two real libvirtds and QEMU, with a relay in the comparators' place.
 * Started by run-steps.sh. Figures are printed, none is asserted.
 */
#include "fixture.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Everything of ours is gone from QEMU and the disks are on libvirt's nodes. */
static void assert_plain(Host *host)
{
    for (int i = 0; i < DISKS; i++)
        g_assert_cmpint(lab_disk_phase(host, i), ==, DISK_PLAIN);
}

static void assert_saves(Host *host)
{
    g_autofree char *path = g_strconcat(host->copy[0], ".save", NULL);
    double start = lab_now_ms();

    g_assert_cmpint(virDomainSave(host->dom, path), ==, 0);
    g_test_message("virsh save took %.0f ms", lab_now_ms() - start);
    g_assert_cmpint(unlink(path), ==, 0);
    g_clear_pointer(&host->dom, virDomainFree);
}

static void return_disks(Lab *lab, gboolean tails)
{
    g_autoptr(GError) error = NULL;
    ColoReturnOptions options = *lab_return_options(lab);
    gint cancelled = 1;
    ColoReturnReport report;
    gboolean running;

    if (tails) { /* interrupted in the middle of the commit, then repeated */
        options.cancelled = &cancelled;
        g_assert_false(
            colo_steps_disk_return(lab->s.dom, lab->s.disk, DISKS, &options, &report, NULL));
        g_assert_cmpuint(lab->marked, ==, 0);
        colo_steps_is_running(lab->s.dom, &running, &error);
        g_assert_no_error(error);
        g_assert_true(running);
        g_test_message("first pause ms: %.1f", (double)report.pause_ns / 1e6);
    }
    /* The mark cannot be made: on the copies alone the guest may not go on, above the chain it may.
     */
    lab->refuse_mark = TRUE;
    options.cancelled = NULL;
    g_assert_false(colo_steps_disk_return(lab->s.dom, lab->s.disk, DISKS, &options, &report, NULL));
    g_assert_false(colo_steps_disk_return(lab->s.dom, lab->s.disk, DISKS, &options, &report, NULL));
    colo_steps_is_running(lab->s.dom, &running, &error);
    g_assert_no_error(error);
    g_assert_cmpint(running, ==, !tails);
    lab->refuse_mark = FALSE;
    colo_steps_disk_return(lab->s.dom, lab->s.disk, DISKS, lab_return_options(lab), &report,
                           &error);
    g_assert_no_error(error);
    g_assert_cmpuint(lab->marked, ==, 1);
    g_test_message("return ms: merge %.1f, tail %.1f, pause %.1f", (double)report.merge_ns / 1e6,
                   (double)report.tail_ns / 1e6, (double)report.pause_ns / 1e6);
    assert_plain(&lab->s);
    colo_steps_is_running(lab->s.dom, &running, &error);
    g_assert_no_error(error);
    g_assert_true(running);
    colo_steps_disk_return(lab->s.dom, lab->s.disk, DISKS, lab_return_options(lab), &report,
                           &error);
    g_assert_no_error(error); /* again: nothing left to do */
    g_assert_cmpuint(lab->marked, ==, 1);
    assert_plain(&lab->s);
    colo_steps_set_xcolo(lab->s.dom, FALSE, &error);
    g_assert_no_error(error);
}

/* Checkpoints happen by time and by kick, and the guest answers meanwhile. */
static void watch_checkpoints(Lab *lab)
{
    unsigned before = relay_received(lab->relay), kicked;
    g_autoptr(GError) error = NULL;
    double start = lab_now_ms(), waited;

    while (lab_now_ms() - start < 3000) {
        lab_tick(lab, 5000);
        g_usleep(20000);
    }
    g_test_message("%u checkpoints in %.0f ms", relay_received(lab->relay) - before,
                   lab_now_ms() - start);
    g_assert_cmpuint(relay_received(lab->relay), >, before + 2);
    colo_steps_kick(lab->p.dom, 60000, &error); /* the period is long from here on */
    g_assert_no_error(error);
    g_usleep(300000);
    kicked = relay_received(lab->relay);
    start = lab_now_ms();
    colo_steps_kick(lab->p.dom, 60000, &error);
    g_assert_no_error(error);
    waited = lab_now_ms() - start;
    while (relay_received(lab->relay) == kicked && lab_now_ms() - start < 5000)
        g_usleep(200);
    g_assert_cmpuint(relay_received(lab->relay), ==, kicked + 1);
    g_test_message("kick %.1f ms, RECEIVED after %.1f ms", waited, lab_now_ms() - start);
    colo_steps_kick(lab->p.dom, 300, &error);
    g_assert_no_error(error);
    g_usleep(300000);
}

static void test_takeover(gconstpointer with_tail)
{
    Lab *lab = lab_start("p", "s");
    g_autoptr(GError) error = NULL;
    g_autofree char *bridge = colo_bridge_quarantine_name(UUID, QUARANTINE_ALIAS);
    gboolean tails;
    uint64_t update_ns;
    double start;

    lab_tick(lab, 5000);
    lab_protect(lab, 300);
    watch_checkpoints(lab);
    lab_disk_good();
    lab_tick(lab, 5000);
    lab_kill(&lab->p, SIGKILL);
    start = lab_now_ms();
    lab_takeover(lab, GPOINTER_TO_INT(with_tail), TRUE, &tails);
    g_assert_cmpint(tails, ==, GPOINTER_TO_INT(with_tail));
    lab_tick(lab, 5000); /* the old connection lives */
    g_test_message("first answer of the survivor %.0f ms after the kill", lab_now_ms() - start);
    lab_disk_good();
    return_disks(lab, tails);
    lab_tick(lab, 5000);
    lab_enter(&lab->s);
    colo_steps_net_set_source(lab->s.dom, QUARANTINE_ALIAS, "br0", NULL, &update_ns, &error);
    g_assert_no_error(error);
    g_test_message("update-device (tap moved before): %.1f ms", (double)update_ns / 1e6);
    colo_bridge_delete(bridge, &error);
    g_assert_no_error(error);
    lab_enter(NULL);
    lab_tick(lab, 5000);
    lab_disk_good();
    colo_steps_net_remove(lab->s.dom, 0, &error);
    g_assert_no_error(error);
    assert_saves(&lab->s);
    lab_end(lab);
}

/* update-device in place of netlink: what a takeover by libvirt alone would cost. */
static void test_update_device(void)
{
    Lab *lab = lab_start("p", "s");
    g_autoptr(GError) error = NULL;
    g_autofree char *bridge = colo_bridge_quarantine_name(UUID, QUARANTINE_ALIAS);
    uint64_t ns;

    lab_enter(&lab->s);
    for (int i = 0; i < 5; i++) {
        colo_steps_net_set_source(lab->s.dom, QUARANTINE_ALIAS, "br0", NULL, &ns, &error);
        g_assert_no_error(error);
        g_test_message("update-device to br0: %.1f ms", (double)ns / 1e6);
        colo_steps_net_set_source(lab->s.dom, QUARANTINE_ALIAS, bridge, NULL, &ns, &error);
        g_assert_no_error(error);
        g_test_message("update-device back: %.1f ms", (double)ns / 1e6);
    }
    lab_enter(NULL);
    lab_end(lab);
}

/* The secondary dies or freezes: the primary goes on alone, nothing of ours is left in it. */
static void test_primary_survives(gconstpointer signal)
{
    Lab *lab = lab_start("p", "s");
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoNetInventory) inventory = NULL;
    double start;

    lab_protect(lab, 300);
    lab_tick(lab, 5000);
    lab_kill(&lab->s, GPOINTER_TO_INT(signal));
    g_usleep(700000);
    start = lab_now_ms();
    relay_close(lab->relay, RELAY_NBD);
    relay_close(lab->relay, RELAY_MIGRATION);
    colo_steps_lost_heartbeat(lab->p.dom, &error);
    g_assert_no_error(error);
    colo_steps_net_remove(lab->p.dom, 0, &error);
    g_assert_no_error(error);
    relay_close(lab->relay, RELAY_NET);
    colo_steps_wait_colo_left(lab->p.dom, 10000, &error);
    g_assert_no_error(error);
    g_test_message("alone after %.1f ms", lab_now_ms() - start);
    colo_steps_stop(lab->p.dom, &error);
    g_assert_no_error(error);
    for (int i = 0; i < DISKS; i++) {
        colo_steps_mirror_stop(lab->p.dom, &lab->p.disk[i], &error);
        g_assert_no_error(error);
        colo_steps_mirror_stop(lab->p.dom, &lab->p.disk[i], &error); /* again: nothing */
        g_assert_no_error(error);
    }
    colo_steps_cont(lab->p.dom, &error);
    g_assert_no_error(error);
    colo_steps_set_xcolo(lab->p.dom, FALSE, &error);
    g_assert_no_error(error);
    g_test_message("torn down after %.1f ms", lab_now_ms() - start);
    inventory = colo_steps_net_inventory(lab->p.dom, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(inventory->filters->len + inventory->chardevs->len, ==, 0);
    lab_tick(lab, 5000);
    lab_disk_good();
    assert_plain(&lab->p);
    assert_saves(&lab->p);
    lab_end(lab);
}

typedef enum { MID_MERGE, MERGED, MID_COMMIT } When;

/*
 * The survivor dies between takeover and the end of the return; the copy is repaired from the
 * files. Primary writes 0x11 to [20,36) MiB after the last checkpoint: must be rolled back.
 * Secondary writes 0x22 to [28,92): must survive. The survivor writes 0x33 to [60,64) after the
 * takeover and, in the last case, 0x44 to [64,66) while its tail is being committed: must, too.
 */
static void write_tail(Lab *lab, int disk)
{
    lab_io(&lab->s, disk, "write -P 51 60M 4M");
    lab_io(&lab->s, disk, "flush"); /* or a crash may lose it, as on any disk */
}

static void test_repair(gconstpointer when)
{
    Lab *lab = lab_start("p", "s");
    g_autoptr(GError) error = NULL;
    gboolean tails, done = FALSE;

    lab_protect(lab, 300);
    lab_tick(lab, 5000);
    colo_steps_kick(lab->p.dom, 600000, &error);
    g_assert_no_error(error);
    g_usleep(500000);
    for (int i = 0; i < DISKS; i++) {
        lab_io(&lab->p, i, "write -P 17 20M 16M");
        lab_io(&lab->s, i, "write -P 34 28M 64M");
    }
    g_test_message("overlays hold %.1f MiB",
                   (double)colo_steps_overlay_bytes(lab->s.disk, DISKS) / 1048576);
    lab_kill(&lab->p, SIGKILL);
    lab_takeover(lab, TRUE, GPOINTER_TO_INT(when) != MID_MERGE, &tails);
    g_assert_true(tails);
    if (GPOINTER_TO_INT(when) == MID_MERGE) {
        colo_steps_merge_done(lab->s.dom, lab->s.disk, DISKS, &done, &error);
        g_assert_no_error(error);
    } else {
        while (!done) {
            colo_steps_merge_done(lab->s.dom, lab->s.disk, DISKS, &done, &error);
            g_assert_no_error(error);
            g_usleep(5000);
        }
        for (int i = 0; i < DISKS; i++)
            write_tail(lab, i);
    }
    if (GPOINTER_TO_INT(when) == MID_COMMIT) {
        ColoReturnOptions options = *lab_return_options(lab);
        gint cancelled = 1; /* stops the return in its first wait after the commit began */

        options.cancelled = &cancelled;
        g_assert_false(
            colo_steps_disk_return(lab->s.dom, lab->s.disk, DISKS, &options, NULL, NULL));
        g_assert_cmpint(lab_disk_phase(&lab->s, 0), ==, DISK_TAIL);
        g_assert_cmpuint(lab->marked, ==, 0);
        for (int i = 0; i < DISKS; i++) {
            lab_io(&lab->s, i, "write -P 68 64M 2M");
            lab_io(&lab->s, i, "flush");
        }
    }
    lab_kill(&lab->s, SIGKILL);
    g_usleep(500000);
    if (GPOINTER_TO_INT(when) == MID_MERGE && done) {
        g_test_incomplete("the merge ended before QEMU could be killed");
        lab_end(lab);
        return;
    }
    for (int i = 0; i < DISKS; i++) {
        double start = lab_now_ms();

        colo_steps_repair(&lab->s.disk[i], 0, &error);
        g_assert_no_error(error);
        g_test_message("repair %.0f ms", lab_now_ms() - start);
        colo_steps_repair(&lab->s.disk[i], 0, &error); /* again: the same */
        g_assert_no_error(error);
        lab_check_file(lab->s.copy[i], 0, 20, 28);
        lab_check_file(lab->s.copy[i], 34, 28, 60);
        lab_check_file(lab->s.copy[i], GPOINTER_TO_INT(when) == MID_MERGE ? 34 : 51, 60, 64);
        lab_check_file(lab->s.copy[i], GPOINTER_TO_INT(when) == MID_COMMIT ? 68 : 34, 64, 66);
        lab_check_file(lab->s.copy[i], 34, 66, 92);
    }
    lab_end(lab);
}

static struct {
    GMutex lock;
    GCond cond;
    unsigned count[COLO_KICK_MIRROR_LOST + 1];
    double at[COLO_KICK_MIRROR_LOST + 1];
} seen;

static void kick_event(const char *uuid, ColoKickEvent event, uint64_t waited_ms, void *data)
{
    (void)waited_ms;
    (void)data;
    g_assert_cmpstr(uuid, ==, UUID);
    g_mutex_lock(&seen.lock);
    seen.count[event]++;
    seen.at[event] = lab_now_ms();
    g_cond_broadcast(&seen.cond);
    g_mutex_unlock(&seen.lock);
}

/* Waits until @event was seen @count times; FALSE after 5 s. */
static gboolean wait_event(ColoKickEvent event, unsigned count)
{
    gint64 until = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
    gboolean ok = TRUE;

    g_mutex_lock(&seen.lock);
    while (ok && seen.count[event] < count)
        ok = g_cond_wait_until(&seen.cond, &seen.lock, until);
    g_mutex_unlock(&seen.lock);
    return ok;
}

static void test_kicker(void)
{
    Lab *lab = lab_start("p", "s");
    g_autofree char *uri = virConnectGetURI(lab->p.conn);
    ColoKicker *kicker = colo_kicker_new(uri, kick_event, NULL);
    const ColoKickWatch watch = {
        .delay_ms = 60000, .interval_ms = 200, .limit_ms = 500, .mirrors = DISKS};
    g_autoptr(GError) error = NULL;
    unsigned before;
    double start;

    lab_protect(lab, 60000);
    g_assert_false(colo_kicker_kick(kicker, UUID)); /* not watched yet */
    colo_kicker_watch(kicker, UUID, &watch, &error);
    g_assert_no_error(error);
    g_usleep(700000); /* probes */
    before = relay_received(lab->relay);
    start = lab_now_ms();
    g_assert_true(colo_kicker_kick(kicker, UUID));
    g_assert_true(wait_event(COLO_KICK_DONE, 1));
    while (relay_received(lab->relay) == before && lab_now_ms() - start < 5000)
        g_usleep(200);
    g_assert_cmpuint(relay_received(lab->relay), ==, before + 1);
    g_test_message("kick by the kicker: taken %.1f ms, RECEIVED %.1f ms",
                   seen.at[COLO_KICK_DONE] - start, lab_now_ms() - start);
    g_assert_cmpuint(seen.count[COLO_KICK_SUSPECT], ==, 0);

    lab_kill(&lab->p, SIGSTOP);
    start = lab_now_ms();
    colo_kicker_kick(kicker, UUID);
    g_assert_true(wait_event(COLO_KICK_SUSPECT, 1));
    g_test_message("frozen QEMU suspected after %.0f ms", seen.at[COLO_KICK_SUSPECT] - start);
    for (int i = 0; i < 50; i++)
        colo_kicker_kick(kicker, UUID); /* merged into one */
    lab_kill(&lab->p, SIGCONT);
    g_assert_true(wait_event(COLO_KICK_ALIVE, 1));
    g_usleep(500000);
    g_assert_cmpuint(seen.count[COLO_KICK_DONE], <=, 3);
    g_assert_cmpuint(seen.count[COLO_KICK_SUSPECT], ==, 1);

    g_assert_cmpuint(seen.count[COLO_KICK_MIRROR_LOST], ==, 0);
    colo_steps_stop(lab->p.dom, &error);
    g_assert_no_error(error);
    colo_steps_mirror_stop(lab->p.dom, &lab->p.disk[0], &error); /* one of them, by somebody */
    g_assert_no_error(error);
    colo_steps_cont(lab->p.dom, &error);
    g_assert_no_error(error);
    g_assert_true(wait_event(COLO_KICK_MIRROR_LOST, 2)); /* until something is done about it */

    lab_kill(&lab->p, SIGKILL);
    start = lab_now_ms();
    g_assert_true(wait_event(COLO_KICK_GONE, 1));
    g_test_message("killed QEMU reported gone after %.0f ms", seen.at[COLO_KICK_GONE] - start);
    colo_kicker_free(kicker);
    lab_end(lab);
}

/* Steps before COLO can be undone one by one. */
static void test_undo(void)
{
    Lab *lab = lab_start("p", "s");
    g_autoptr(GError) error = NULL;
    int fds[DISKS], client;
    ColoNicFds nic;

    for (int i = 0; i < DISKS; i++) {
        colo_steps_overlays_create(&lab->s.disk[i], FALSE, &error);
        g_assert_no_error(error);
        colo_steps_disk_insert(lab->s.dom, &lab->s.disk[i], &error);
        g_assert_no_error(error);
    }
    colo_steps_nbd_start(lab->s.dom, lab->s.disk, DISKS, fds, &error);
    g_assert_no_error(error);
    client = colo_steps_mirror_prepare(lab->p.dom, &lab->p.disk[0], &error);
    g_assert_no_error(error);
    close(client); /* the comparator has lost the peer: an error, and no node is left */
    g_assert_false(colo_steps_mirror_start(lab->p.dom, &lab->p.disk[0], &error));
    g_test_message("%s", error->message);
    g_clear_error(&error);
    for (int i = 0; i < DISKS; i++)
        close(fds[i]);
    colo_steps_nbd_stop(lab->s.dom, &error);
    g_assert_no_error(error);
    for (int i = 0; i < DISKS; i++) {
        colo_steps_disk_extract(lab->s.dom, &lab->s.disk[i], &error);
        g_assert_no_error(error);
        colo_steps_overlays_remove(&lab->s.disk[i], &error);
        g_assert_no_error(error);
    }
    assert_plain(&lab->s);

    colo_steps_net_channels(lab->p.dom, &lab->nic, COLO_STEPS_PRIMARY, &nic, &error);
    g_assert_no_error(error);
    colo_nic_fds_clear(&nic);
    g_assert_false(
        colo_steps_net_channels(lab->p.dom, &lab->nic, COLO_STEPS_PRIMARY, &nic, &error));
    g_test_message("%s", error->message);
    g_assert_true(colo_qmp_is_error_class(error, "GenericError"));
    g_clear_error(&error);
    colo_steps_net_remove(lab->p.dom, 0, &error);
    g_assert_no_error(error);

    colo_steps_set_xcolo(lab->p.dom, TRUE, &error);
    g_assert_no_error(error);
    client = colo_steps_migrate_start(lab->p.dom, &error);
    g_assert_no_error(error);
    g_usleep(200000); /* nobody reads: it hangs in the first pass */
    colo_steps_migrate_cancel(lab->p.dom, 5000, &error);
    g_assert_no_error(error);
    close(client);
    colo_steps_set_xcolo(lab->p.dom, FALSE, &error);
    g_assert_no_error(error);
    lab_disk_good();
    lab_protect(lab, 300); /* and all of it once more, to the end */
    lab_tick(lab, 5000);
    lab_end(lab);
}

int main(int argc, char **argv)
{
    if (!g_getenv("COLO_STEPS_DIR")) {
        puts("1..0 # SKIP to be started by run-steps.sh");
        return 0;
    }
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/steps/takeover-with-tail", GINT_TO_POINTER(TRUE), test_takeover);
    g_test_add_data_func("/steps/takeover-without-tail", GINT_TO_POINTER(FALSE), test_takeover);
    g_test_add_data_func("/steps/secondary-killed", GINT_TO_POINTER(SIGKILL),
                         test_primary_survives);
    g_test_add_data_func("/steps/secondary-frozen", GINT_TO_POINTER(SIGSTOP),
                         test_primary_survives);
    g_test_add_data_func("/steps/repair-mid-merge", GINT_TO_POINTER(MID_MERGE), test_repair);
    g_test_add_data_func("/steps/repair-after-merge", GINT_TO_POINTER(MERGED), test_repair);
    g_test_add_data_func("/steps/repair-mid-commit", GINT_TO_POINTER(MID_COMMIT), test_repair);
    g_test_add_func("/steps/undo", test_undo);
    g_test_add_func("/steps/update-device", test_update_device);
    g_test_add_func("/steps/kicker", test_kicker);
    return g_test_run();
}
