/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The class alloc of libfault: the n-th allocation fails.
 *
 * The work is done by the allocator of glibc under its second names (__libc_malloc and the like):
 * looking up the next malloc with dlsym() would allocate. Counting begins with main(), so that
 * what the loader and the constructors of libraries allocate is left alone: a library that can't
 * be loaded is not the program's failure to handle.
 */

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "libfault.h"

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static atomic_bool in_main;

static bool refused(void)
{
    if (!atomic_load(&in_main) || fault_next(CLASS_ALLOC) == ACTION_NONE) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return refused() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return refused() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return refused() ? NULL : __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size)
{
    return refused() ? NULL : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return refused() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    const int saved = errno;
    void *memory = refused() ? NULL : __libc_memalign(alignment, size);
    errno = saved;
    if (memory == NULL) {
        return ENOMEM;
    }
    *ret_memory = memory;
    return 0;
}

typedef int main_fn(int argc, char **argv, char **environment);
typedef int start_fn(main_fn *program, int argc, char **argv, void (*init)(void),
                     void (*fini)(void), void (*loader_fini)(void), void *stack_end);

static main_fn *real_main;

static int counted_main(int argc, char **argv, char **environment)
{
    atomic_store(&in_main, true);
    return real_main(argc, argv, environment);
}

start_fn __libc_start_main;
int __libc_start_main(main_fn *program, int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*loader_fini)(void), void *stack_end)
{
    start_fn *next = (start_fn *)(uintptr_t)dlsym(RTLD_NEXT, "__libc_start_main");
    real_main = program;
    return next(counted_main, argc, argv, init, fini, loader_fini, stack_end);
}
