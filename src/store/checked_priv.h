/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_CHECKED_PRIV_H
#define STORE_CHECKED_PRIV_H

/*
 * checked: what small reads have learned. The index has a CRC for each 64 KiB of a block, so who
 * wants 4 KiB has to read and sum up sixteen times as much. Whoever does that once keeps a CRC of
 * each 4 KiB here, and the place they came from: the next read near by takes what was asked for,
 * and compares it all the same. What is kept may be out of date: then the CRC is wrong, as it is
 * for a place that was looked up in the index too early.
 *
 * Threads: any.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "hash/id.h"
#include "store/block_record_priv.h"

#define CHECKED_PAGE_BYTES ((uint32_t)4096)
#define CHECKED_SPAN_PAGES (BLOCK_SPAN_BYTES / CHECKED_PAGE_BYTES)
/* A read of more gains less than it costs to look here. */
#define CHECKED_READ_PAGES_MAX ((uint32_t)8)
/* What may be kept; more is forgotten block by block, those asked for longest ago first. Enough for
 * 10 GB in blocks of 256 KiB. */
#define CHECKED_BYTES_MAX ((size_t)16 * 1024 * 1024)

struct checked;

struct checked *checked_new(size_t bytes_max);
void checked_free(struct checked *checked);

/* Where [offset, offset + size) of the block lies, and the CRC of each page of it, of at most
 * CHECKED_READ_PAGES_MAX. False: that is not known, or the range is not one of whole pages (the
 * last of a block may be shorter). */
bool checked_find(struct checked *checked, const struct id *id, uint32_t offset_bytes,
                  uint32_t size_bytes, struct location *ret_location, uint32_t *ret_crcs);

/* `spans` are those from `first_span` on, as they were found right at `location`; all are whole but
 * the last of the block. Of many nothing is kept. */
void checked_add(struct checked *checked, const struct id *id, uint32_t block_bytes,
                 const struct location *location, uint32_t first_span, struct bytes spans);

/* Nothing is known of the block any more. */
void checked_drop(struct checked *checked, const struct id *id);

#endif
