/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of EPTP switching share: views, a guest that tells what it may do, more memory. */
#ifndef TEST_KVM_EPTP_H
#define TEST_KVM_EPTP_H
#include "hvfeat.h"

#define EPTP KVM_HVFEAT_EPTP_SWITCHING
#define R KVM_HVFEAT_VIEW_READ
#define W KVM_HVFEAT_VIEW_WRITE
#define X KVM_HVFEAT_VIEW_EXEC
/* What eptp_loop tells besides: an access by KVM's emulator went well */
#define ER 8
#define EW 16
#define ALL (R | W | X | ER | EW)

#define PAGE 4096
#define DATA 0x200000 /* a page that views restrict */
#define EXTRA 0x800000
#define EXTRA_SLOT 2
#define EXTRA_PAGES 16

/* Requests: 0 or errno. */
int view_request(unsigned long number, int fd, uint32_t view, uint32_t access, uint64_t gfn,
                 uint64_t pages);
int view_create(const Vm *vm, uint32_t view, uint32_t access);
int view_destroy(const Vm *vm, uint32_t view);
/* Of the pages from an address on */
int view_set(const Vm *vm, uint32_t view, uint32_t access, uint64_t address, uint64_t pages);
struct kvm_hvfeat_view view_get(const Vm *vm, uint32_t view, uint64_t address);
void eptp_start(Vm *vm, int n, uint32_t eax, uint32_t ecx, uint32_t ebx, uint32_t esi);
uint32_t eptp_edx(Vm *vm, int n);
/* One round of eptp_loop on a vCPU that is in it: what it may do. */
int eptp_round(Vm *vm, int n);
/* vCPU n begins eptp_loop in a view; what it may do with the page. */
int eptp_begin(Vm *vm, int n, uint32_t view, uint32_t page);
/* But for interrupts of the host, which come when they come */
long long eptp_exits(Vm *vm, int n);
/* VMFUNC with EAX and ECX: 0 it went well, else the vector of what it raised. */
int eptp_try_vmfunc(Vm *vm, uint32_t eax, uint32_t ecx);
void eptp_make(Vm *vm, int vcpus, uint32_t views);
void eptp_slot(Vm *vm, uint32_t address, void *memory, uint32_t pages, uint32_t flags);
uint8_t *eptp_pages_new(uint8_t fill);

void test_eptp_memory(void); /* a part of test_eptp() */

#endif
