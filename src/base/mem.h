/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

/*
 * mem: allocation that cannot fail, and CHECK() for programmer errors.
 *
 * When memory is out the process says so and aborts: restart after a crash is tested at every
 * point, recovery from a failed malloc() at every call site would not be. This is safe only
 * because each size that comes from outside is checked against a named maximum first.
 */

#include <stddef.h>

/* `size` bytes, zeroed; never NULL. Given back with free(). */
void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));

/* `count` elements of `size` bytes, zeroed; aborts if the product overflows. */
void *mem_alloc_array(size_t count, size_t size) __attribute__((malloc, returns_nonnull));

/* As realloc() of `count` elements; the new part is not zeroed. */
void *mem_resize_array(void *old, size_t count, size_t size) __attribute__((returns_nonnull));

/* `size` bytes aligned to `alignment` (a power of two), not zeroed. Given back with free(). */
void *mem_alloc_aligned(size_t alignment, size_t size) __attribute__((malloc, returns_nonnull));

/* A copy of `text`, or of `size` bytes at `data`. Given back with free(). */
char *mem_copy_string(const char *text) __attribute__((malloc, returns_nonnull));
void *mem_copy(const void *data, size_t size) __attribute__((malloc, returns_nonnull));

/* printf() into fresh memory. Given back with free(). */
char *mem_format(const char *format, ...)
    __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));

/* End the process by abort(), the reason on standard error. */
void mem_out_of_memory(void) __attribute__((noreturn));
void check_failed(const char *condition, const char *file, int line) __attribute__((noreturn));

/* Stays on in release builds. For what only a bug can make false, never for bad input. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) {                                                   \
            check_failed(#condition, __FILE__, __LINE__);                                          \
        }                                                                                          \
    } while (0)

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* The struct of `type` whose field `member` stands at `pointer`. */
#define CONTAINER_OF(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
