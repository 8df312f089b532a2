/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A virtcolod for the tests of virsh-colo: the real RPC server and command table, a dispatcher that
 * makes everything up. test-cli-daemon SOCKET: serves until standard input ends.
 *
 * Pairs are kept in memory ("ab" to begin with). Domains: "web1" can be protected, "broken" fails
 * while its disk is copied, "slow" never ends; any other is unknown. Each answer of colo-protect is
 * also an event; --pair good makes the doctor content.
 */
#include "rpc/server.h"
#include "util/error.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static GMutex lock;
static GHashTable *pairs; /* name -> peer */
static ColoRpcServer *server;
static int protect_polls = -1; /* looks at a domain since colo-protect; -1: not protected */

static gboolean known_domain(const char *domain, GError **error)
{
    if (strcmp(domain, "web1") == 0 || strcmp(domain, "broken") == 0 || strcmp(domain, "slow") == 0)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN,
                "Domain not found: no domain with matching name '%s'", domain);
    return FALSE;
}

static const char *find_peer(const char *pair, GError **error)
{
    const char *peer = g_hash_table_lookup(pairs, pair);

    if (!peer)
        g_set_error(error, COLO_ERROR, COLO_ERROR_NO_PAIR, "Pair not found: no pair '%s'", pair);
    return peer;
}

static JsonObject *pair_object(const char *name, const char *peer)
{
    return colo_json_build("name", "s", name, "peer", "s", peer, "port", "i", 16520, "state", "s",
                           "up", "local-host", "s", "alpha", NULL);
}

static JsonObject *do_pair_features(void)
{
    return json_tokener_parse(
        "{\"pair\":\"ab\",\"domain\":null,\"hosts\":[\"alpha\",\"beta\"],\"agreed\":false,"
        "\"features\":[{\"name\":\"preemption-quantum\",\"policy\":\"require\",\"param\":\"10000\","
        "\"usable\":{\"alpha\":true,\"beta\":false},"
        "\"outcome\":{\"alpha\":\"refused\",\"beta\":\"refused\"},\"reason\":\"host beta: no\"},"
        "{\"name\":\"avic\",\"policy\":\"prefer\",\"param\":\"\","
        "\"usable\":{\"alpha\":true,\"beta\":false},"
        "\"outcome\":{\"alpha\":\"on\",\"beta\":\"untouched\"},\"reason\":null}],"
        "\"cpu\":\"<cpu/>\",\"cpu-model\":\"EPYC\"}");
}

static JsonObject *do_pair(const char *command, JsonObject *args, GError **error)
{
    const char *name = colo_json_peek_string(args, "name", "");
    const char *peer;
    JsonObject *result;

    if (strcmp(command, "colo-pair-list") == 0) {
        JsonObject *list = json_object_new_array();
        g_autoptr(GList) names = g_list_sort(g_hash_table_get_keys(pairs), (GCompareFunc)strcmp);

        for (GList *i = names; i; i = i->next)
            json_object_array_add(list, pair_object(i->data, g_hash_table_lookup(pairs, i->data)));
        return colo_json_build("pairs", "o", list, NULL);
    }
    if (strcmp(command, "colo-pair-define") == 0) {
        if (g_hash_table_contains(pairs, name)) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID, "pair '%s' is there",
                        name);
            return NULL;
        }
        g_hash_table_insert(pairs, g_strdup(name),
                            g_strdup(colo_json_peek_string(args, "peer", "")));
        return colo_json_build("name", "s", name, NULL);
    }
    peer = find_peer(name, error);
    if (!peer)
        return NULL;
    if (strcmp(command, "colo-pair-features") == 0)
        return do_pair_features();
    if (strcmp(command, "colo-pair-undefine") == 0) {
        g_hash_table_remove(pairs, name);
        return json_object_new_object();
    }
    result = pair_object(name, peer);
    colo_json_add(result, "peer-version", "s", "0.1.0", "silent-ms", "i", 40, "last-error", "s", "",
                  "certificate-expiry", "s", "2027-01-01", "pool-map", "o",
                  json_tokener_parse("{\"default\":\"fast\",\"vms\":\"vms2\"}"), NULL);
    return result;
}

/* Finds the copy further at each look: disk at half, memory at half, done. */
static JsonObject *do_status(const char *domain)
{
    static const struct {
        const char *state;
        int copied, remaining;
    } steps[] = {{"preparing", 0, 1000},
                 {"syncing", 524288, 1000},
                 {"syncing", 1048576, 500},
                 {"protected", 1048576, 0}};
    int n = protect_polls < 0 ? 3 : MIN(protect_polls, 3);
    JsonObject *disks;

    if (protect_polls >= 0)
        protect_polls++;
    if (strcmp(domain, "slow") == 0)
        n = MIN(n, 1);
    if (strcmp(domain, "broken") == 0 && n >= 2)
        return colo_json_build("name", "s", domain, "state", "s", "unprotected", "error", "s",
                               "disk 'vda' of domain 'broken': no space left on beta", NULL);
    disks = json_object_new_array();
    json_object_array_add(disks, colo_json_build("alias", "s", "virtio-disk0", "target", "s", "vda",
                                                 "size", "i", 1048576, "copied", "i",
                                                 steps[n].copied, "state", "s", "copying", NULL));
    return colo_json_build(
        "name", "s", domain, "uuid", "s", "f6a0a30e-7c23-44c4-8f43-1a1ad0f9a2b1", "pair", "s", "ab",
        "peer", "s", "beta", "role", "s", "primary", "state", "s", steps[n].state, "reason", "s",
        "", "generation", "u", UINT64_C(3), "owner", "s", "alpha", "control", "s", "up",
        "checkpoints", "u", UINT64_C(17), "last-checkpoint-ms", "u", UINT64_C(120), "pause-ms", "o",
        json_tokener_parse("{\"median\":3.5,\"p95\":6,\"max\":11}"), "held-frames", "i", 2,
        "held-bytes", "i", 128, "divergences", "i", 4, "checkpoint-mode", "s", "periodic",
        "checkpoint-mode-reason", "s", "set by colo-tune", "disks", "o", disks, "memory", "o",
        colo_json_build("total", "i", 1000, "remaining", "i", steps[n].remaining, NULL),
        "progress-percent", "i", 100, "features", "o",
        json_tokener_parse("{\"descriptor-table-exiting\":{\"setting\":\"on\",\"param\":5},"
                           "\"preemption-quantum\":{\"setting\":\"on\",\"param\":10000},"
                           "\"avic\":{\"setting\":\"off\",\"param\":0}}"),
        "error", "s", NULL, NULL);
}

static JsonObject *do_protect(const char *domain, JsonObject *args, GError **error)
{
    g_autoptr(JsonObject) event = NULL;

    if (!find_peer(colo_json_peek_string(args, "pair", ""), error))
        return NULL;
    protect_polls = 0;
    event = colo_json_build("event", "s", "state", "domain", "s", domain, "state", "s", "preparing",
                            NULL);
    if (strcmp(domain, "slow") == 0) /* what a peer could say */
        colo_json_add(event, "reason", "s", "a\033[2Jb\nevent 'state' for domain 'web1'", NULL);
    colo_rpc_server_emit(server, event);
    return colo_json_build("job", "s", "started", NULL);
}

static JsonObject *do_doctor(gboolean good)
{
    JsonObject *findings = json_object_new_array();

    json_object_array_add(findings, colo_json_build("host", "s", "alpha", "severity", "s", "ok",
                                                    "check", "s", "certificate", "found", "s",
                                                    "expires 2027-01-01", "fix", "s", "", NULL));
    if (!good) {
        json_object_array_add(findings,
                              colo_json_build("host", "s", "beta", "severity", "s", "warning",
                                              "check", "s", "clock", "found", "s", "900 ms off",
                                              "fix", "s", "run chronyd", NULL));
        json_object_array_add(
            findings, colo_json_build("host", "s", "beta", "severity", "s", "error", "check", "s",
                                      "bridge br0", "found", "s", "forward delay 15 s", "fix", "s",
                                      "ip link set br0 type bridge forward_delay 0", NULL));
    }
    return colo_json_build("findings", "o", findings, NULL);
}

static JsonObject *do_domain(const char *command, JsonObject *args, GError **error)
{
    const char *domain = colo_json_peek_string(args, "domain", "");
    JsonObject *list;

    if (!known_domain(domain, error))
        return NULL;
    if (strcmp(command, "colo-status") == 0)
        return do_status(domain);
    if (strcmp(command, "colo-protect") == 0)
        return do_protect(domain, args, error);
    if (strcmp(command, "colo-checkpoint") == 0)
        return colo_json_build("name", "s", domain, "checkpoints", "i", 18, NULL);
    if (strcmp(command, "colo-switchover") == 0)
        return colo_json_build("name", "s", domain, "generation", "i", 4, NULL);
    if (strcmp(command, "colo-stats") == 0)
        return json_tokener_parse(
            "{\"name\":\"web1\",\"stats\":{\"checkpoints\":17,\"pause\":{\"max\":11}}}");
    if (strcmp(command, "colo-tune") == 0)
        return colo_json_build(
            "name", "s", domain, "tuning", "o",
            colo_json_build("mode", "s", colo_json_peek_string(args, "mode", "auto"), "pause-share",
                            "u", colo_json_peek_uint(args, "pause-share", 40), NULL),
            "defaults", "o", json_tokener_parse("{\"mode\":\"auto\",\"pause-share\":40}"),
            "features", "s", colo_json_peek_string(args, "features", "avic=off"), "live", "b",
            protect_polls >= 0, NULL);
    if (strcmp(command, "colo-unprotect") == 0) {
        if (protect_polls < 0) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                        "Requested operation is not valid: domain '%s' is not protected", domain);
            return NULL;
        }
        protect_polls = -1;
        return colo_json_build("name", "s", domain, NULL);
    }
    if (strcmp(command, "colo-failover") == 0) {
        if (!colo_json_peek_bool(args, "i-am-sure", FALSE)) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                        "no arbiter is configured: make sure, then say --i-am-sure");
            return NULL;
        }
        return colo_json_build(
            "name", "s", domain, "state", "s", "alone", "generation", "i", 4, "lost", "s",
            colo_json_peek_bool(args, "discard", FALSE) ? "41 s of disk writes" : NULL, NULL);
    }
    /* colo-prepare: all done with --fix, else one thing open. */
    list = json_object_new_array();
    json_object_array_add(list, colo_json_build("host", "s", "beta", "object", "s", "vda", "action",
                                                "s", "create a copy", "done", "b", TRUE, NULL));
    json_object_array_add(list,
                          colo_json_build("host", "s", "alpha", "object", "s", "net0", "action",
                                          "s", "driver qemu instead of vhost", "done", "b",
                                          colo_json_peek_bool(args, "fix", FALSE), NULL));
    return colo_json_build("actions", "o", list, NULL);
}

/* Of two features: one is usable, of the other little is known. */
static JsonObject *do_features(void)
{
    return json_tokener_parse(
        "{\"host\":\"alpha\",\"vendor\":\"AuthenticAMD\",\"kernel\":\"6.1.0\",\"module\":\"1.2\","
        "\"cpu\":null,\"features\":[{\"name\":\"preemption-quantum\",\"hardware\":true,"
        "\"firmware\":true,\"in-kernel\":true,\"per-vm\":true,\"usable\":true,\"reason\":null},"
        "{\"name\":\"avic\",\"hardware\":false,\"firmware\":null,\"in-kernel\":null,"
        "\"per-vm\":false,\"usable\":false,\"reason\":\"this processor does not have it\"}]}");
}

static JsonObject *dispatch(const ColoRpcCaller *caller G_GNUC_UNUSED, const char *command,
                            JsonObject *args, void *opaque G_GNUC_UNUSED, GError **error)
{
    g_autoptr(GMutexLocker) locked = g_mutex_locker_new(&lock);

    (void)locked;
    if (g_str_has_prefix(command, "colo-pair-"))
        return do_pair(command, args, error);
    if (strcmp(command, "colo-list") == 0)
        return json_tokener_parse(
            "{\"domains\":[{\"name\":\"web1\",\"uuid\":\"f6a0a30e-7c23-44c4-8f43-1a1ad0f9a2b1\","
            "\"pair\":\"ab\",\"role\":\"primary\",\"state\":\"protected\",\"generation\":3}]}");
    if (strcmp(command, "colo-features") == 0)
        return do_features();
    if (strcmp(command, "colo-doctor") == 0)
        return do_doctor(strcmp(colo_json_peek_string(args, "pair", ""), "good") == 0);
    return do_domain(command, args, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    char byte;
    int fd;

    if (argc != 2) {
        fprintf(stderr, "usage: %s SOCKET\n", argv[0]);
        return 2;
    }
    pairs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_hash_table_insert(pairs, g_strdup("ab"), g_strdup("beta"));
    fd = colo_rpc_listen(argv[1], NULL, &error);
    if (fd >= 0)
        server = colo_rpc_server_new(fd, dispatch, NULL, &error);
    if (!server) {
        fprintf(stderr, "%s\n", error->message);
        return 1;
    }
    puts("ready");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    colo_rpc_server_free(server);
    unlink(argv[1]);
    g_hash_table_unref(pairs);
    return 0;
}
