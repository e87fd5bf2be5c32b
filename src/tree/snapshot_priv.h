/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_SNAPSHOT_PRIV_H
#define TREE_SNAPSHOT_PRIV_H

/*
 * The bytes of a snapshot, which docs/TREE-FORMAT.md describes, and reading them one record after
 * the other.
 */

#include "base/buf.h"
#include "tree/rows_priv.h"
#include "tree/snapshot.h"
#include "wire/fields.h"

#define SNAPSHOT_MAGIC "artelsnp"
#define SNAPSHOT_MAGIC_BYTES ((size_t)8)
#define SNAPSHOT_VERSION 1u
/* Magic, version, lamport, fingerprint, entries, origins, replaced. */
#define SNAPSHOT_HEADER_BYTES (SNAPSHOT_MAGIC_BYTES + 4 + 8 + TREE_FINGERPRINT_BYTES + 8 + 4 + 4)
#define SNAPSHOT_ORIGIN_BYTES ((size_t)(16 + 8 + ID_BYTES))
#define SNAPSHOT_REPLACED_BYTES REPLACED_KEY_BYTES
/* Writers that a snapshot can tell of: 56 MiB while it is merged. */
#define SNAPSHOT_ORIGINS_MAX (UINT32_C(1) << 20)
/* Replaced versions: only merges that were given up leave some. 40 MiB. */
#define SNAPSHOT_REPLACED_MAX (UINT32_C(1) << 20)
/* Versions of one path, 13 MiB in memory. No change could replace as many. */
#define SNAPSHOT_HEADS_MAX (UINT32_C(1) << 16)

/* Numbers take seven bits a byte, the lowest first; the eighth tells that there are more (LEB128).
 */
#define NUMBER_BYTES_MAX 10

static inline void number_put(struct buf *message, uint64_t number)
{
    uint8_t bytes[NUMBER_BYTES_MAX];
    size_t count = 0;
    while (number >= 0x80) {
        bytes[count++] = (uint8_t)(number | 0x80);
        number >>= 7;
    }
    bytes[count++] = (uint8_t)number;
    buf_add(message, BYTES(bytes, count));
}

/* More bytes than the number needs, or than `limit` allows, are a fault. */
static inline uint64_t number_get(struct field_reader *reader, uint64_t limit)
{
    uint64_t number = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const uint8_t byte = field_get_u8(reader);
        const uint64_t bits = (uint64_t)(byte & 0x7f) << shift;
        if (bits >> shift != (byte & 0x7fu) || (byte == 0 && shift > 0)) {
            break;
        }
        number |= bits;
        if (byte < 0x80) {
            if (number > limit) {
                break;
            }
            return number;
        }
    }
    field_fail(reader);
    return 0;
}

struct snapshot_record {
    struct bytes path;
    /* head.origin is an index into the origins of the snapshot; in ascending order of (index, seq).
     */
    const struct head *heads;
    size_t heads_count;
};

struct merge_caches;

struct tree_snapshot {
    struct tree_snapshot_source source;
    uint64_t lamport;
    uint64_t entries_count;
    uint8_t fingerprint[TREE_FINGERPRINT_BYTES];
    struct vector_entry *origins; /* in ascending order of ids; seq 0: only named by heads */
    size_t origins_count;
    uint8_t *replaced; /* rows of SNAPSHOT_REPLACED_BYTES in ascending order */
    size_t replaced_count;
    uint64_t records_offset; /* of the first */

    /* The part of the file that is in memory. */
    uint8_t *window;
    uint64_t window_offset;
    size_t window_size;
    size_t window_capacity;

    uint64_t offset; /* of the next record */
    struct buf path; /* of the record before */
    struct buf path_before;
    struct head *heads;
    size_t heads_capacity;

    struct id id; /* set by tree_merge_begin() */
    struct merge_caches *caches;
};

/* Goes to the record at `offset`, behind that of the path `before`. */
void snapshot_seek(struct tree_snapshot *snapshot, uint64_t offset, struct bytes before);

/* The next record; it is borrowed until the next call. -ENOENT: no more; -EPROTO, -EIO. */
[[nodiscard]] int snapshot_next(struct tree_snapshot *snapshot, struct snapshot_record *ret_record);

/* The index of an origin, or origins_count. */
size_t snapshot_origin(const struct tree_snapshot *snapshot, const struct origin_id *id);

/* True if the version `dot` of `path` was replaced where the snapshot was made. */
bool snapshot_has_replaced(const struct tree_snapshot *snapshot, const struct dot *dot,
                           struct bytes path);

/* merge.c; NULL is allowed. */
void merge_caches_free(struct merge_caches *caches);

#endif
