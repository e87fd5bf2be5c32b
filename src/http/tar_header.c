/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Names in the special headers of a tar stream. libarchive gives names as C strings, so one with a
 * NUL in it comes out cut, as another name than was sent. The only places where a NUL can be part
 * of a name are the records of pax headers (POSIX.1-2017, pax, "pax Extended Header") and the names
 * of GNU tar's long ones; so these are looked at as they were sent.
 */

#include "http/tar_priv.h"

#include "base/err.h"

#define BLOCK_BYTES ((size_t)512)
/* Fields of a header. */
#define SIZE_AT 124
#define SIZE_BYTES 12
#define TYPE_AT 156

/* Octal digits between blanks. False: something else, which libarchive judges. */
static bool read_size(const uint8_t *header, size_t *ret_size)
{
    const uint8_t *at = header + SIZE_AT;
    const uint8_t *end = at + SIZE_BYTES;
    size_t size = 0;
    while (at < end && *at == ' ') {
        at++;
    }
    const uint8_t *first = at;
    for (; at < end && *at >= '0' && *at <= '7'; at++) {
        size = size * 8 + (size_t)(*at - '0');
    }
    *ret_size = size;
    return at > first && (at == end || *at == ' ' || *at == 0);
}

static bool is_key(struct bytes record, const char *key)
{
    const size_t size = strlen(key);
    return record.size > size && memcmp(record.data, key, size) == 0 && record.data[size] == '=';
}

/* Records "LENGTH KEY=VALUE\n". */
static bool has_cut_record(struct bytes records)
{
    while (records.size > 0) {
        size_t length = 0;
        size_t digits = 0;
        while (digits < records.size && digits < 10 && records.data[digits] >= '0' &&
               records.data[digits] <= '9') {
            length = length * 10 + (size_t)(records.data[digits++] - '0');
        }
        if (digits == records.size || records.data[digits] != ' ' || length <= digits + 1 ||
            length > records.size) {
            return false; /* libarchive refuses it */
        }
        const struct bytes record = BYTES(records.data + digits + 1, length - digits - 1);
        if ((is_key(record, "path") || is_key(record, "linkpath")) &&
            memchr(record.data, 0, record.size)) {
            return true;
        }
        records = BYTES(records.data + length, records.size - length);
    }
    return false;
}

/* A name with NULs behind it. */
static bool is_cut_name(struct bytes name)
{
    const uint8_t *nul = name.size > 0 ? memchr(name.data, 0, name.size) : NULL;
    for (const uint8_t *at = nul; at && at < name.data + name.size; at++) {
        if (*at) {
            return true;
        }
    }
    return false;
}

bool tar_has_cut_name(struct bytes headers)
{
    while (headers.size >= BLOCK_BYTES) {
        const uint8_t type = headers.data[TYPE_AT];
        size_t size = 0;
        if (type == 0 || !strchr("xXgLK", type) || !read_size(headers.data, &size) ||
            size > headers.size - BLOCK_BYTES) {
            return false;
        }
        const struct bytes content = BYTES(headers.data + BLOCK_BYTES, size);
        if (type == 'L' || type == 'K' ? is_cut_name(content) : has_cut_record(content)) {
            return true;
        }
        const size_t whole = BLOCK_BYTES + (size + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
        if (whole > headers.size) {
            return false;
        }
        headers = BYTES(headers.data + whole, headers.size - whole);
    }
    return false;
}
