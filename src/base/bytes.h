/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

/*
 * bytes: a borrowed, read-only run of bytes. A plain value; it owns nothing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const uint8_t *data; /* may be NULL when size is 0 */
    size_t size;
};

#define BYTES(pointer, count) ((struct bytes){.data = (pointer), .size = (count)})

/* The bytes of a C string without its NUL. */
static inline struct bytes bytes_of_string(const char *text)
{
    return BYTES((const uint8_t *)text, strlen(text));
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Orders as memcmp() does, a prefix before what it begins: <0, 0, >0. */
static inline int bytes_compare(struct bytes a, struct bytes b)
{
    const size_t shorter = a.size < b.size ? a.size : b.size;
    const int order = shorter ? memcmp(a.data, b.data, shorter) : 0;
    if (order != 0) {
        return order;
    }
    return (a.size > b.size) - (a.size < b.size);
}

/* How many bytes at the beginning of both are the same. */
static inline size_t bytes_common_size(struct bytes a, struct bytes b)
{
    const size_t shorter = a.size < b.size ? a.size : b.size;
    size_t at = 0;
    for (; shorter - at >= sizeof(uint64_t); at += sizeof(uint64_t)) {
        uint64_t word_a;
        uint64_t word_b;
        memcpy(&word_a, a.data + at, sizeof word_a);
        memcpy(&word_b, b.data + at, sizeof word_b);
        if (word_a != word_b) {
            break;
        }
    }
    while (at < shorter && a.data[at] == b.data[at]) {
        at++;
    }
    return at;
}

#endif
