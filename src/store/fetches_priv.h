/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_FETCHES_PRIV_H
#define STORE_FETCHES_PRIV_H

/*
 * fetches: the rows of intakes: why a file comes here, and which of its blocks are counted, that
 * is, held for INTAKE_REASON on behalf of the intake. A counted block may have been lost since.
 *
 * Threads: changes on the writer thread, inside its transaction; lookups anywhere.
 */

#include "hash/id.h"
#include "kv/kv.h"
#include "store/intake.h"

/* The bits of so many blocks stand in one row, so that no value is large. */
#define FETCH_PART_BLOCKS ((size_t)4096)
#define FETCH_PARTS_MAX ((FILE_METADATA_BLOCKS_MAX + FETCH_PART_BLOCKS - 1) / FETCH_PART_BLOCKS)

/* What the blocks of every intake are held for until it is over, whatever the file is held for in
 * the end: so they are never evicted, and the reason may change between two openings. */
#define INTAKE_REASON STORE_COPY

static inline bool bit_is_set(const uint8_t *bits, size_t index)
{
    return (bits[index / 8] >> (index % 8)) & 1;
}

static inline void bit_set(uint8_t *bits, size_t index)
{
    bits[index / 8] = (uint8_t)(bits[index / 8] | (1u << (index % 8)));
}

/* -ENOENT: no intake of this file. */
[[nodiscard]] int fetches_get(struct kv_txn *txn, const struct id *file,
                              enum store_reason *ret_reason);

/* The counted blocks of a file of `blocks_count` as bits; none if there is no intake. */
[[nodiscard]] int fetches_load(struct kv_txn *txn, const struct id *file, size_t blocks_count,
                               uint8_t *ret_bits);

/* Whether there is an intake with a counted block. */
[[nodiscard]] int fetches_has_blocks(struct kv_txn *txn, const struct id *file, size_t blocks_count,
                                     bool *ret_has);

/* Writes the bits of one part, out of those of the whole file. */
[[nodiscard]] int fetches_put_part(struct kv_txn *txn, const struct id *file,
                                   enum store_reason reason, const uint8_t *bits,
                                   size_t blocks_count, size_t part);

/* Marks the intake as set aside; writing its first part anew takes the mark away. -ENOENT. */
[[nodiscard]] int fetches_set_aside(struct kv_txn *txn, const struct id *file);

/* Forgets the intake. */
[[nodiscard]] int fetches_remove(struct kv_txn *txn, const struct id *file, size_t blocks_count);

#endif
