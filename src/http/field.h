/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_FIELD_H
#define HTTP_FIELD_H

/*
 * field: values of headers and parameters as text: ranges, entity tags, times. Pure functions.
 */

#include <stdint.h>

#include "hash/id.h"
#include "wire/tree_op.h"

enum field_range {
    FIELD_RANGE_NONE, /* to be ignored: the whole file is meant */
    FIELD_RANGE_ONE,
    FIELD_RANGE_BAD, /* makes no sense, or is outside the file */
};

/* `bytes=A-B`, `A-` or `-N` (RFC 9110, section 14) of a file of `length_bytes` as [begin, end).
 * Other units and lists of ranges are ignored, as the RFC allows. */
enum field_range field_range_parse(const char *text, uint64_t length_bytes,
                                   uint64_t *ret_begin_bytes, uint64_t *ret_end_bytes);

/* True if the list of entity tags in If-Match or If-None-Match ("ID", W/"ID", *) has `id`. */
bool field_etag_matches(const char *text, const struct id *id);

/* The one id of an If-Match that changes something: "ID" with or without quotes. -EINVAL. */
[[nodiscard]] int field_etag_parse(const char *text, struct id *ret_id);

/* RFC 3339 in UTC with nine digits of a second, 2026-01-02T03:04:05.000000000Z, and the NUL. */
#define FIELD_TIME_BYTES 40
void field_time_format(int64_t ns, char ret_text[FIELD_TIME_BYTES]);

/* A version: 32 digits of its origin, ':', its number, and the NUL. */
#define FIELD_DOT_BYTES 64
void field_dot_format(const struct dot *dot, char ret_text[FIELD_DOT_BYTES]);
/* No writer gets that far. -EINVAL. */
#define FIELD_SEQ_MAX (UINT64_MAX - 1)
[[nodiscard]] int field_dot_parse(const char *text, struct dot *ret_dot);

/* RFC 9110, section 5.6.7: Fri, 02 Jan 2026 03:04:05 GMT. */
void field_date_format(int64_t ns, char ret_text[FIELD_TIME_BYTES]);

/* Seconds since 1970 with up to nine decimals, "-1700000000.123456789". -EINVAL. */
[[nodiscard]] int field_time_parse(const char *text, int64_t *ret_ns);

/* Up to five octal digits, at most 07777. -EINVAL. */
[[nodiscard]] int field_mode_parse(const char *text, uint32_t *ret_mode);

/* A number in [least, most]. -EINVAL. */
[[nodiscard]] int field_number_parse(const char *text, uint64_t least, uint64_t most,
                                     uint64_t *ret_number);

#endif
