/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Takes the place of the C library's getaddrinfo() in a test program, so that names can be made to resolve,
 * fail or hang without a name server. The helper process is a child of the test and so uses it too; what it
 * counts lies in shared memory. To be included by one file of a program, which calls resolver_open() before
 * it makes a helper.
 *
 * good.test, other.test: 127.0.0.1      two.test: 127.0.0.2, then 127.0.0.1     six.test: ::1 many.test:
 * more than a helper hands on     silent.test: never answers         gone.test: does not exist everything
 * else: the resolver failed
 */

#include <arpa/inet.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct FakeResolver {
        pid_t owner;
        atomic_uint asked; /* by the helper */
        atomic_uint
                trespass;   /* by the test's own process, that is by a library that should have been told */
        atomic_bool broken; /* nothing resolves any more */
        atomic_bool silent; /* nothing is answered any more */
} FakeResolver;

static FakeResolver *resolver;

static inline void resolver_open(void) {
        if (resolver)
                return;
        resolver = mmap(NULL, sizeof(*resolver), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (resolver == MAP_FAILED)
                abort();
        resolver->owner = getpid();
}

/* In one block, as the C library has it, so that its own freeaddrinfo() fits. */
static struct addrinfo *resolver_entry(const char *text, struct addrinfo *next) {
        struct {
                struct addrinfo info;
                struct sockaddr_storage address;
        } *entry = calloc(1, sizeof(*entry));
        struct sockaddr_in *v4;
        struct sockaddr_in6 *v6;

        if (!entry)
                abort();
        v4 = (void *) &entry->address;
        v6 = (void *) &entry->address;
        entry->info.ai_socktype = SOCK_STREAM;
        entry->info.ai_addr = (void *) &entry->address;
        entry->info.ai_next = next;
        if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
                v4->sin_family = AF_INET;
                entry->info.ai_addrlen = sizeof(*v4);
        } else {
                (void) inet_pton(AF_INET6, text, &v6->sin6_addr);
                v6->sin6_family = AF_INET6;
                entry->info.ai_addrlen = sizeof(*v6);
        }
        entry->info.ai_family = entry->address.ss_family;
        return &entry->info;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **ret) {
        (void) service;
        (void) hints;
        if (!resolver)
                return EAI_FAIL;
        if (getpid() == resolver->owner) {
                resolver->trespass++;
                return EAI_FAIL;
        }
        resolver->asked++;
        while (resolver->silent || strcasecmp(name, "silent.test") == 0)
                (void) pause();
        if (resolver->broken)
                return EAI_AGAIN;
        *ret = NULL;
        if (strcasecmp(name, "good.test") == 0 || strcasecmp(name, "other.test") == 0)
                *ret = resolver_entry("127.0.0.1", NULL);
        else if (strcasecmp(name, "two.test") == 0)
                *ret = resolver_entry("127.0.0.2", resolver_entry("127.0.0.1", NULL));
        else if (strcasecmp(name, "six.test") == 0)
                *ret = resolver_entry("::1", NULL);
        else if (strcasecmp(name, "many.test") == 0)
                for (unsigned i = 0; i < 20; i++)
                        *ret = resolver_entry("127.0.0.1", *ret);
        else
                return strcasecmp(name, "gone.test") == 0 ? EAI_NONAME : EAI_AGAIN;
        return 0;
}
