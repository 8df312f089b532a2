/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A libvirt client at two URIs in turn, for bench-relay.sh. Times are printed one a line, in us,
 * after the name of the case.
 *   relay-calls calls URI URI ROUNDS    100 small calls a round at each
 *   relay-calls list URI URI ROUNDS N   the list of N more defined domains, made and undefined here
 *   relay-calls idle URI N SECONDS      N connections that say nothing
 */
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CALLS 100
#define DOMAINS_MAX 5000

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void fail(const char *what)
{
    fprintf(stderr, "relay-calls: %s: %s\n", what, virGetLastErrorMessage());
    exit(1);
}

static virConnectPtr open_uri(const char *uri)
{
    virConnectPtr conn = virConnectOpen(uri);

    if (!conn)
        fail(uri);
    return conn;
}

static void one_call(virConnectPtr conn)
{
    unsigned long version;

    if (virConnectGetLibVersion(conn, &version) < 0)
        fail("virConnectGetLibVersion");
}

static void one_list(virConnectPtr conn)
{
    virDomainPtr *domains;
    int n = virConnectListAllDomains(conn, &domains, 0);

    if (n < 0)
        fail("virConnectListAllDomains");
    for (int i = 0; i < n; i++)
        virDomainFree(domains[i]);
    free(domains);
}

static void in_turn(const char *const *uris, virConnectPtr *conns, unsigned rounds, unsigned each,
                    void (*call)(virConnectPtr conn))
{
    for (unsigned r = 0; r < rounds; r++) {
        for (unsigned side = 0; side < 2; side++) {
            unsigned which = (r + side) % 2;

            for (unsigned i = 0; i < each; i++) {
                double begin = now_us();

                call(conns[which]);
                printf("%s %.2f\n", uris[which], now_us() - begin);
            }
        }
    }
}

static void define_domains(virConnectPtr conn, virDomainPtr *domains, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char xml[512];

        snprintf(xml, sizeof(xml),
                 "<domain type='qemu'><name>bench-%u</name><memory>1024</memory><os><type "
                 "arch='x86_64'>hvm</type></os></domain>",
                 i);
        domains[i] = virDomainDefineXML(conn, xml);
        if (!domains[i])
            fail(xml);
    }
}

int main(int argc, char **argv)
{
    static virDomainPtr domains[DOMAINS_MAX];
    const char *uris[2] = {argc > 2 ? argv[2] : "", argc > 3 ? argv[3] : ""};
    unsigned rounds = argc > 4 ? (unsigned)atoi(argv[4]) : 0;
    unsigned n = argc > 5 ? (unsigned)atoi(argv[5]) : 0;
    virConnectPtr conns[2];

    if (argc == 5 && strcmp(argv[1], "idle") == 0) {
        for (int i = 0; i < atoi(argv[3]); i++)
            one_call(open_uri(argv[2]));
        printf("ready\n");
        fflush(stdout);
        sleep((unsigned)atoi(argv[4]));
        return 0; /* the end closes them */
    }
    if (argc < 5 || n > DOMAINS_MAX) {
        fprintf(stderr, "usage: relay-calls calls|list URI URI ROUNDS [N]\n"
                        "       relay-calls idle URI N SECONDS\n");
        return 2;
    }
    for (int i = 0; i < 2; i++)
        conns[i] = open_uri(uris[i]);
    if (strcmp(argv[1], "calls") == 0) {
        in_turn(uris, conns, rounds, CALLS, one_call);
    } else {
        define_domains(conns[0], domains, n);
        in_turn(uris, conns, rounds, 1, one_list);
        for (unsigned i = 0; i < n; i++) {
            virDomainUndefine(domains[i]);
            virDomainFree(domains[i]);
        }
    }
    for (int i = 0; i < 2; i++)
        virConnectClose(conns[i]);
    return 0;
}
