/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_MEMBER_SYNC_H
#define WIRE_MEMBER_SYNC_H

/*
 * member_sync: how two nodes make their lists of members equal, in three messages over a
 * connection. Members are sorted into MEMBER_BUCKETS by the first byte of their id; the digest of a
 * bucket is the sum of a hash of each version in it.
 *
 *   OPEN    the digests of all my buckets
 *   ANSWER  all my records in buckets that differ, and which buckets these are
 *   CLOSE   what I know better in these, or alone
 *
 * So after the three both have the same in those buckets, at the cost of the records of buckets
 * that differ. An answer stops before a bucket that would take it beyond MEMBER_SYNC_BYTES_MAX; the
 * next exchange finds the rest.
 *
 * Fields as in wire/fields.h: major u8, minor u8, type u8, then
 *   OPEN    digests: u64 for each bucket
 *   ANSWER  buckets: MEMBER_BUCKETS bits, bucket 0 the lowest bit of the first byte; updates
 *   CLOSE   updates
 * Versions are treated as in wire/datagram.h.
 */

#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "wire/member.h"

#define MEMBER_BUCKETS 256u
#define MEMBER_SYNC_BYTES_MAX ((size_t)1024 * 1024)

enum member_sync_type { MEMBER_SYNC_OPEN = 1, MEMBER_SYNC_ANSWER = 2, MEMBER_SYNC_CLOSE = 3 };

struct member_sync {
    enum member_sync_type type;
    uint64_t digests[MEMBER_BUCKETS];    /* OPEN */
    uint8_t buckets[MEMBER_BUCKETS / 8]; /* ANSWER */
    struct bytes updates;                /* ANSWER, CLOSE: whole and in form; borrowed. Read by
                                            field_get_member_update(). */
};

/* Appends all but the updates, which the caller appends with field_put_member_update(). */
void member_sync_format(const struct member_sync *sync, struct buf *ret_bytes);

/* -EPROTO: malformed (each update was looked at); -EPROTONOSUPPORT: of another version or type;
 * -EFBIG: longer than MEMBER_SYNC_BYTES_MAX. */
[[nodiscard]] int member_sync_parse(struct bytes bytes, struct member_sync *ret_sync);

#endif
