/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

/*
 * cleanup: locals that are released when they go out of scope, on every path.
 *
 *     CLEANUP_FREE char *text = mem_format(...);
 *     CLEANUP_FD int fd = open(...);
 *     CLEANUP(kv_txn_abort) struct kv_txn *txn = NULL;
 *
 * STEAL_PTR(text) and STEAL_FD(fd) hand a value on and leave nothing to release.
 */

#include <stdlib.h>
#include <unistd.h>

/* Declares `name_cleanup` for a destructor of pointers that takes NULL; used through CLEANUP(). */
#define CLEANUP_DEFINE(destructor, type)                                                           \
    static inline void destructor##_cleanup(__typeof__(type) **at)                                 \
    {                                                                                              \
        destructor(*at);                                                                           \
    }
#define CLEANUP(destructor) __attribute__((cleanup(destructor##_cleanup)))

static inline void cleanup_free(void *at)
{
    free(*(void **)at);
}

static inline void cleanup_fd(const int *at)
{
    if (*at >= 0) {
        close(*at);
    }
}

#define CLEANUP_FREE __attribute__((cleanup(cleanup_free)))
#define CLEANUP_FD __attribute__((cleanup(cleanup_fd)))

#define STEAL_PTR(pointer)                                                                         \
    __extension__({                                                                                \
        __typeof__(pointer) stolen_ = (pointer);                                                   \
        (pointer) = NULL;                                                                          \
        stolen_;                                                                                   \
    })

#define STEAL_FD(fd)                                                                               \
    __extension__({                                                                                \
        const int stolen_ = (fd);                                                                  \
        (fd) = -1;                                                                                 \
        stolen_;                                                                                   \
    })

#endif
