/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded into a comparator: from the moment when the first byte of the file $COLO_GARBAGE is not
 * 0, everything it sends through TLS is random bytes. So the peer hears garbage from somebody with
 * the right key, after a good handshake.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define RECORD_MAX 16384

static const volatile unsigned char *garbage;

/* Before the sandbox: no file can be opened later. */
__attribute__((constructor)) static void map_switch(void)
{
    const char *path = getenv("COLO_GARBAGE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = fd >= 0 ? mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

    if (map != MAP_FAILED)
        garbage = map;
    if (fd >= 0)
        close(fd);
}

ssize_t gnutls_record_send(void *session, const void *data, size_t len)
{
    static ssize_t (*real)(void *, const void *, size_t);
    static __thread unsigned char bytes[RECORD_MAX];
    static __thread unsigned seed = 1;

    if (!real)
        real = (ssize_t(*)(void *, const void *, size_t))dlsym(RTLD_NEXT, "gnutls_record_send");
    if (!garbage || !*garbage || !data || len > sizeof(bytes))
        return real(session, data, len);
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1103515245u + 12345u;
        bytes[i] = (unsigned char)(seed >> 16);
    }
    return real(session, bytes, len);
}
