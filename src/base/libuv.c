/* SPDX-License-Identifier: Apache-2.0 */
#include "base/libuv.h"

#include <stdlib.h>
#include <uv.h>

#include "base/mem.h"

static void *checked(void *memory, size_t size)
{
    if (!memory && size > 0) {
        mem_out_of_memory();
    }
    return memory;
}

static void *allocate(size_t size)
{
    return checked(malloc(size), size);
}

static void *reallocate(void *old, size_t size)
{
    return checked(realloc(old, size), size);
}

static void *allocate_zeroed(size_t count, size_t size)
{
    return checked(calloc(count, size), size);
}

void libuv_use_mem(void)
{
    CHECK(uv_replace_allocator(allocate, reallocate, allocate_zeroed, free) == 0);
}
