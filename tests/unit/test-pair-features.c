/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * colo-features and colo-pair-features: the daemon's commands on a made-up module, with a peer on a
 * real control channel; and what libvirt says of CPUs, asked of its real QEMU driver where there is
 * one.
 */
#include "domain/cpu-model.h"
#include "domain/features.h"
#include "feature/probe.h"
#include "test-host-common.h"
#include "test-hvfeat-fake.h"
#include "util/error.h"

#include <libvirt/virterror.h>
#include <string.h>

#define UP_MS 5000u

/* ---- a peer ---- */

typedef enum { PEER_GOOD, PEER_NONSENSE, PEER_OLD } PeerMood;

typedef struct {
    FakeHvfeat fake;
    PeerMood mood;
    Server server;
} Peer;

/* beta, which answers as its virtcolod would. */
static JsonObject *answer(const ColoPeerInfo *from, const char *method, JsonObject *params,
                          void *opaque, GError **error)
{
    Peer *peer = opaque;
    g_autoptr(ColoHostFeatures) report = NULL;

    (void)from;
    g_assert_cmpstr(method, ==, "host-command");
    g_assert_cmpstr(colo_json_peek_string(params, "command", ""), ==, "colo-features");
    if (peer->mood == PEER_OLD) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "'colo-features' is not for the peer");
        return NULL;
    }
    if (peer->mood == PEER_NONSENSE)
        return colo_json_build("features", "s", "all of them", NULL);
    report = colo_feature_probe("/nonexistent", &peer->fake.ops, "beta");
    return colo_host_features_to_json(report);
}

static void peer_up(Peer *peer)
{
    ColoPeerInfo self = host_info("beta");
    g_autoptr(GError) error = NULL;
    int fd;

    memset(peer, 0, sizeof(*peer));
    fake_hvfeat_init(&peer->fake, "amd");
    peer->server.tls = pki_config("beta-server", "beta-client");
    fd = listen_loopback(&peer->server.port);
    peer->server.server =
        colo_channel_server_new(&peer->server.tls, &self, fd, answer, peer, &error);
    g_assert_no_error(error);
}

typedef struct {
    Host host;
    FakeHvfeat fake;
    Peer peer;
} Pair;

static void pair_up(Pair *p)
{
    g_autoptr(GError) error = NULL;

    fake_hvfeat_init(&p->fake, "amd");
    host_up(&p->host);
    p->host.m.host.hvfeat = &p->fake.ops;
    p->host.m.host.sysroot = "/nonexistent";
    peer_up(&p->peer);
    g_assert_true(colo_pairs_define(p->host.m.host.pairs, "ab", "localhost", p->peer.server.port,
                                    NULL, &error));
    g_assert_true(colo_pairs_wait_up(p->host.m.host.pairs, "ab", UP_MS, &error));
}

static void pair_down(Pair *p)
{
    colo_pairs_undefine(p->host.m.host.pairs, "ab", NULL);
    server_end(&p->peer.server);
    host_down(&p->host);
}

static JsonObject *command(Pair *p, const char *name, const char *pair, GError **error)
{
    g_autoptr(JsonObject) args = json_object_new_object();

    if (pair)
        colo_json_add(args, "name", "s", pair, NULL);
    return colo_manager_command(&p->host.m, name, args, error);
}

static JsonObject *row(JsonObject *result, unsigned feature)
{
    JsonObject *found =
        json_object_array_get_idx(colo_json_peek(result, "features"), (size_t)feature);

    g_assert_cmpstr(colo_json_peek_string(found, "name", ""), ==, colo_feature(feature)->name);
    return found;
}

static void assert_outcome(JsonObject *result, unsigned feature, const char *alpha,
                           const char *beta, const char *reason)
{
    JsonObject *outcome = colo_json_peek(row(result, feature), "outcome");
    const char *said = colo_json_peek_string(row(result, feature), "reason", "");

    g_assert_cmpstr(colo_json_peek_string(outcome, "alpha", ""), ==, alpha);
    g_assert_cmpstr(colo_json_peek_string(outcome, "beta", ""), ==, beta);
    if (*reason)
        g_assert_nonnull(strstr(said, reason));
    else
        g_assert_cmpstr(said, ==, "");
}

/* ---- commands ---- */

static void features_of_this_host(void)
{
    g_autoptr(JsonObject) result = NULL;
    g_autoptr(GError) error = NULL;
    Pair p;

    pair_up(&p);
    result = command(&p, "colo-features", NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(colo_json_peek_string(result, "host", ""), ==, "alpha");
    g_assert_cmpstr(colo_json_peek_string(result, "module", ""), ==, "1.2");
    g_assert_true(colo_json_peek_bool(row(result, KVM_HVFEAT_QUANTUM), "usable", FALSE));
    g_assert_false(colo_json_peek_bool(row(result, KVM_HVFEAT_EPTP_SWITCHING), "usable", TRUE));
    pair_down(&p);
}

static void features_of_a_pair(void)
{
    g_autoptr(JsonObject) result = NULL;
    g_autoptr(GError) error = NULL;
    Pair p;

    pair_up(&p);
    fake_hvfeat_take(&p.peer.fake, KVM_HVFEAT_QUANTUM, "the loaded kvm has no patch");
    fake_hvfeat_take(&p.peer.fake, KVM_HVFEAT_AVIC, "off by a parameter");
    result = command(&p, "colo-pair-features", "ab", &error);
    g_assert_no_error(error);
    g_assert_cmpstr(colo_json_peek_string(result, "pair", ""), ==, "ab");
    g_assert_true(colo_json_peek_bool(result, "agreed", FALSE));
    assert_outcome(result, KVM_HVFEAT_DESC_TABLE, "on", "on", "");
    assert_outcome(result, KVM_HVFEAT_QUANTUM, "off", "untouched",
                   "host beta: the loaded kvm has no patch");
    assert_outcome(result, KVM_HVFEAT_EPTP_SWITCHING, "untouched", "untouched", "host alpha: ");
    assert_outcome(result, KVM_HVFEAT_AVIC, "on", "untouched", "host beta: off by a parameter");
    g_assert_cmpstr(colo_json_peek_string(row(result, KVM_HVFEAT_DESC_TABLE), "param", ""), ==,
                    "count");
    pair_down(&p);
}

static void a_peer_without_the_module(void)
{
    g_autoptr(JsonObject) result = NULL;
    g_autoptr(GError) error = NULL;
    Pair p;

    pair_up(&p);
    p.peer.fake.absent = TRUE;
    result = command(&p, "colo-pair-features", "ab", &error);
    g_assert_no_error(error);
    assert_outcome(result, KVM_HVFEAT_DESC_TABLE, "off", "untouched", "host beta: ");
    pair_down(&p);
}

static void a_peer_that_cannot_say(void)
{
    g_autoptr(GError) nonsense = NULL, old = NULL, no_pair = NULL, down = NULL;
    Pair p;

    pair_up(&p);
    g_assert_null(command(&p, "colo-pair-features", "xy", &no_pair));
    g_assert_error(no_pair, COLO_ERROR, COLO_ERROR_NO_PAIR);
    p.peer.mood = PEER_NONSENSE;
    g_assert_null(command(&p, "colo-pair-features", "ab", &nonsense));
    g_assert_error(nonsense, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    g_assert_nonnull(strstr(nonsense->message, "features of the peer localhost: "));
    p.peer.mood = PEER_OLD;
    g_assert_null(command(&p, "colo-pair-features", "ab", &old));
    g_assert_nonnull(strstr(old->message, "is not for the peer"));
    colo_channel_server_free(g_steal_pointer(&p.peer.server.server));
    g_assert_null(command(&p, "colo-pair-features", "ab", &down));
    g_assert_error(down, COLO_ERROR, COLO_ERROR_PEER);
    pair_down(&p);
}

/* Of a domain by what is kept for it, as colo-prepare asks. */
static void what_a_domain_would_be_refused_for(void)
{
    g_autoptr(JsonObject) result = NULL;
    g_autoptr(JsonObject) args = colo_json_build("name", "s", "ab", "domain", "s", "test", NULL);
    g_autofree char *agreed = NULL, *nothing = NULL, *refusal = NULL;
    g_autoptr(GError) error = NULL;
    JsonObject *policy;
    ColoDomain domain = {0};
    Pair p;

    pair_up(&p);
    fake_hvfeat_take(&p.peer.fake, KVM_HVFEAT_QUANTUM, "no patch");
    g_mutex_init(&domain.view_lock);
    policy = json_object_new_object();
    domain.view = colo_json_build("name", "s", "test", "feature-policy", "o", policy, NULL);
    g_hash_table_insert(p.host.m.domains, (gpointer) "6695eb01-f6a4-8304-79aa-97f2502e193f",
                        &domain);
    nothing = colo_features_refusal(&p.host.m, "test", "ab");
    g_assert_null(nothing);
    json_object_object_add(policy, "avic",
                           colo_json_build("policy", "s", "require", "param", "i", 0, NULL));
    agreed = colo_features_refusal(&p.host.m, "test", "ab");
    g_assert_null(agreed);
    json_object_object_add(policy, "preemption-quantum",
                           colo_json_build("policy", "s", "require", "param", "i", 500, NULL));
    refusal = colo_features_refusal(&p.host.m, "test", "ab");
    g_assert_cmpstr(refusal, ==, "feature 'preemption-quantum': host beta: no patch");
    result = colo_manager_command(&p.host.m, "colo-pair-features", args, &error);
    g_assert_no_error(error);
    g_assert_false(colo_json_peek_bool(result, "agreed", TRUE));
    assert_outcome(result, KVM_HVFEAT_QUANTUM, "refused", "refused", "host beta: no patch");
    assert_outcome(result, KVM_HVFEAT_AVIC, "on", "on", "");
    assert_outcome(result, KVM_HVFEAT_DESC_TABLE, "untouched", "untouched", "");
    g_hash_table_remove_all(p.host.m.domains);
    json_object_put(domain.view);
    g_mutex_clear(&domain.view_lock);
    pair_down(&p);
}

/* The daemon's own answer to the peer is the command's. */
static void the_peer_may_ask(void)
{
    g_autoptr(JsonObject) result = NULL, args = json_object_new_object();
    g_autoptr(ColoHostFeatures) report = NULL;
    g_autoptr(GError) error = NULL;
    Pair p;

    pair_up(&p);
    result = colo_commands_for_peer(&p.host.m, "colo-features", args, &error);
    report = result ? colo_host_features_parse(result, &error) : NULL;
    g_assert_no_error(error);
    g_assert_cmpstr(report->host, ==, "alpha");
    pair_down(&p);
}

/* ---- CPU models ---- */

static void the_cpu_of_domain_capabilities(void)
{
    const char *caps =
        "<domainCapabilities><cpu><mode name='host-passthrough' supported='yes'/>"
        "<mode name='host-model' supported='yes'><model fallback='forbid'>EPYC</model>"
        "<vendor>AMD</vendor><feature policy='require' name='x2apic'/></mode></cpu>"
        "</domainCapabilities>";
    g_autofree char *cpu = colo_cpu_model_parse_caps(caps);
    g_autofree char *name = colo_cpu_model_name(cpu);

    g_assert_true(g_str_has_prefix(cpu, "<cpu><model"));
    g_assert_nonnull(strstr(cpu, "<feature policy=\"require\" name=\"x2apic\"/></cpu>"));
    g_assert_cmpstr(name, ==, "EPYC");
    g_assert_null(colo_cpu_model_parse_caps("<domainCapabilities><cpu><mode name='host-model' "
                                            "supported='no'/></cpu></domainCapabilities>"));
    g_assert_null(colo_cpu_model_parse_caps("<domainCapabilities/>"));
    g_assert_null(colo_cpu_model_parse_caps("garbage"));
    g_assert_null(colo_cpu_model_name("<domain/>"));
}

static void the_cpu_of_a_domain(void)
{
    static const struct {
        const char *xml;
        ColoCpuKind kind;
    } rows[] = {
        {"<domain/>", COLO_CPU_UNCHECKED},
        {"garbage", COLO_CPU_UNCHECKED},
        {"<domain><cpu mode='host-passthrough'/></domain>", COLO_CPU_RAW},
        {"<domain><cpu mode='maximum' check='none'/></domain>", COLO_CPU_RAW},
        {"<domain><cpu mode='custom' check='none'><model>qemu64</model></cpu></domain>",
         COLO_CPU_UNCHECKED},
        {"<domain><cpu><topology sockets='1' cores='1' threads='1'/></cpu></domain>",
         COLO_CPU_UNCHECKED},
        {"<domain><cpu mode='custom' match='exact' check='full'><model>EPYC</model></cpu></domain>",
         COLO_CPU_MODEL},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *cpu = NULL;

        g_assert_cmpint(colo_cpu_model_of_domain(rows[i].xml, &cpu), ==, rows[i].kind);
        g_assert_cmpint(cpu != NULL, ==, rows[i].kind == COLO_CPU_MODEL);
    }
}

/* libvirt's QEMU driver without a daemon, in the folder of this test. */
static virConnectPtr open_embedded(void)
{
    g_autofree char *root = in_folder("embed");
    g_autofree char *uri = g_strdup_printf("qemu:///embed?root=%s", root);

    virSetErrorFunc(NULL, NULL);
    g_assert_cmpint(virEventRegisterDefaultImpl(), ==, 0);
    return virConnectOpen(uri);
}

static void libvirt_compares(void)
{
    virConnectPtr conn = open_embedded();
    g_autofree char *cpu = conn ? colo_cpu_model_of_host(conn, "qemu") : NULL;
    g_autofree char *more = NULL, *common = NULL, *name = NULL;
    g_autoptr(GError) error = NULL, lacks = NULL;

    if (!cpu) {
        g_test_skip("libvirt's QEMU driver or QEMU is not there");
        if (conn)
            virConnectClose(conn);
        return;
    }
    g_assert_true(
        colo_cpu_model_check(conn, "beta", "the CPU", NULL, NULL, NULL, "qemu", cpu, &error));
    g_assert_no_error(error);
    /* TCG of Debian 12 has no AVX-512. */
    g_assert_true(g_str_has_suffix(g_strchomp(cpu), "</cpu>"));
    more = g_strdup_printf("%.*s<feature policy='require' name='avx512f'/></cpu>",
                           (int)(strlen(cpu) - strlen("</cpu>")), cpu);
    g_assert_false(
        colo_cpu_model_check(conn, "beta", "the CPU", NULL, NULL, NULL, "qemu", more, &lacks));
    g_assert_error(lacks, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
    g_assert_true(g_str_has_prefix(lacks->message, "the CPU: host beta does not have it: "));
    g_assert_nonnull(strstr(lacks->message, "avx512f"));
    common = colo_cpu_model_baseline(conn, "qemu", cpu, more, &error);
    g_assert_no_error(error);
    name = colo_cpu_model_name(common);
    g_assert_nonnull(name);
    g_assert_null(strstr(common, "avx512f"));
    virConnectClose(conn);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/features/of-this-host", features_of_this_host);
    g_test_add_func("/features/of-a-pair", features_of_a_pair);
    g_test_add_func("/features/a-peer-without-the-module", a_peer_without_the_module);
    g_test_add_func("/features/a-peer-that-cannot-say", a_peer_that_cannot_say);
    g_test_add_func("/features/what-a-domain-would-be-refused-for",
                    what_a_domain_would_be_refused_for);
    g_test_add_func("/features/the-peer-may-ask", the_peer_may_ask);
    g_test_add_func("/features/cpu-of-domain-capabilities", the_cpu_of_domain_capabilities);
    g_test_add_func("/features/cpu-of-a-domain", the_cpu_of_a_domain);
    g_test_add_func("/features/libvirt-compares", libvirt_compares);
    folder_create();
    pki_create();
    rc = g_test_run();
    pki_remove();
    folder_remove();
    return rc;
}
