/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_SEGMENTS_PRIV_H
#define STORE_SEGMENTS_PRIV_H

/*
 * segments: the append-only files that hold blocks back to back.
 *
 * Two of them take appends: one for blocks of BLOCK_ALIGNED_BYTES and more, which begin on a page
 * so that each can be given back whole, and one where small blocks lie without gaps.
 *
 * A writer of bytes reserves a range, writes it, has the index name it, and settles the
 * reservation. Several threads write at once into ranges of their own; what the index does not
 * name in the end is garbage. Synced are the segments by segments_sync(), before each commit.
 *
 * Threads: any. Files are opened when they are needed and kept open, SEGMENTS_OPEN_MAX at most
 * (as far as they are not in use), and fewer when the limit of open files is reached.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "store/block_record_priv.h"

#define SEGMENTS_OPEN_MAX 256
#define SEGMENT_PAGE_BYTES ((uint64_t)4096)
/* From this size on a block begins on a page; below, the rounding would waste too much. */
#define BLOCK_ALIGNED_BYTES ((uint32_t)64 * 1024)

enum segment_class { SEGMENT_LARGE, SEGMENT_SMALL };
#define SEGMENT_CLASSES 2

struct segment;
struct segments;

/* A range that is being written. Embed it; it is in a list until segments_settle(). */
struct reservation {
    struct location location;
    uint32_t size_bytes;
    enum segment_class segment_class;
    struct reservation *prev;
    struct reservation *next;
};

/* `dir_fd` is borrowed. `next_number` is the first that no commit has ever named. */
struct segments *segments_new(int dir_fd, bool read_only, uint64_t segment_bytes,
                              uint64_t reserve_bytes, uint64_t next_number);
void segments_free(struct segments *segments);

/* Removes the files from next_number on: a crash came before the first commit that names them, and
 * on a disk that is full of them no put could begin. */
[[nodiscard]] int segments_remove_unnamed(struct segments *segments);

/* Cuts segment `number` to `end_bytes`; with `resume` it takes the next appends of its class. */
[[nodiscard]] int segments_recover(struct segments *segments, uint64_t number,
                                   enum segment_class segment_class, uint64_t end_bytes,
                                   bool resume);

/* A range for `size_bytes` (at most a block). -ENOSPC: the disk is full but for the reserve. */
[[nodiscard]] int segments_reserve(struct segments *segments, uint32_t size_bytes,
                                   struct reservation *ret_reservation);
/* Writes all of it. After an error the range is garbage. */
[[nodiscard]] int segments_write(struct segments *segments, const struct reservation *reservation,
                                 struct bytes data);
/* The range is named by a commit, or given up and named as a dead one. */
void segments_settle(struct segments *segments, struct reservation *reservation);

/* Another reservation of the range of one that is not settled: until it is settled, too, the range
 * is neither given back nor moved, whatever becomes of the first. It is not for writing. */
void segments_hold(struct segments *segments, const struct reservation *reservation,
                   struct reservation *ret_hold);

/* Makes everything written until now durable. */
[[nodiscard]] int segments_sync(struct segments *segments);

/* Ends the appends to segment `number`, if it takes any. */
void segments_seal(struct segments *segments, uint64_t number);

/* How far appends have got in a segment that takes them (UINT64_MAX: it takes none), and where
 * its lowest range that is not settled begins (UINT64_MAX: none). Both as of one moment. */
void segments_bounds(struct segments *segments, uint64_t number, uint64_t *ret_reserved_end_bytes,
                     uint64_t *ret_unsettled_bytes);

/* Opens segment `number` for reading; -ENOENT. Given back by segments_release(). */
[[nodiscard]] int segments_acquire(struct segments *segments, uint64_t number,
                                   struct segment **ret_segment);
void segments_release(struct segments *segments, struct segment *segment);

[[nodiscard]] int segment_read(const struct segment *segment, uint64_t offset_bytes, void *data,
                               uint32_t size_bytes);

/* The range as mapped memory, or NULL if it can't be mapped. Valid until the release. */
const uint8_t *segments_map(struct segments *segments, struct segment *segment,
                            uint64_t offset_bytes, uint32_t size_bytes);

/* Makes a hole of the whole pages in [from, to). */
[[nodiscard]] int segments_punch(struct segments *segments, uint64_t number, uint64_t from_bytes,
                                 uint64_t to_bytes);
[[nodiscard]] int segments_unlink(struct segments *segments, uint64_t number);
/* Closes those that were unlinked by another process and are not in use. */
void segments_close_unlinked(struct segments *segments);
[[nodiscard]] int segments_allocated(struct segments *segments, uint64_t number,
                                     uint64_t *ret_allocated_bytes);

#endif
