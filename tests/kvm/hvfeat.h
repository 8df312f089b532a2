/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of kvm_hvfeat share: TAP, requests, events. */
#ifndef TEST_KVM_HVFEAT_H
#define TEST_KVM_HVFEAT_H
#include <libvirt-colo/kvm_hvfeat.h>
#include <stdbool.h>
#include <stdint.h>
#include "vm.h"

/* TAP: prints ok or not ok, with what was found if it is not what was expected. */
void ok(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
void is(long long found, long long expected, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void skip(const char *name, const char *why);

/* Requests: 0 or errno. */
int request(unsigned long number, void *argument);
int enable(int vm_fd, unsigned feature, uint64_t param);
int disable(int vm_fd, unsigned feature);
int info(int vm_fd, unsigned feature, struct kvm_hvfeat_info *info);
int get_state(int vm_fd, unsigned feature, void *data, uint32_t *size);
int set_state(int vm_fd, unsigned feature, const void *data, uint32_t size, uint32_t version);
/* A counter of a feature in a VM by its name; -errno. */
long long counter(int vm_fd, unsigned feature, const char *name);

void write_file(const char *path, const char *text);

/* Random numbers below @n, the same ones after the same seed. */
void some_begin(unsigned seed);
unsigned some(unsigned n);

/* Events: a socket that hears those from now on; <0: no such family. */
struct event {
    int event; /* 0: none came in time */
    uint32_t feature, pid, vcpu;
    uint64_t count, rip;
    char reg[8];
    uint32_t view, access;
    uint64_t gfn;
};
int events_open(void);
struct event events_next(int socket, int ms);

void test_abi(bool patched);
void test_desc(void);
void test_lock(void);
void test_smm(void);
void test_state(void);
void test_events(void);
void test_quantum(void);
void test_hostile(int seconds);
/* @ns: what an instruction takes by the machine's clock. */
void test_cost(bool patched, unsigned ns);
void test_apicv_off(void);
void test_eptp(void);
void test_eptp_refused(void);
void test_eptp_hostile(int seconds);
void test_apicv_forced(bool patched);

#endif
