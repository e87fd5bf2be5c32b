/* SPDX-License-Identifier: Apache-2.0 */
#include "store/checked_priv.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "hash/crc32c.h"

/* Ids are as good as random: the first four bytes need no hashing. Buckets are short: there are
 * many blocks, and each step in a bucket waits for memory. */
#undef HASH_BKT_CAPACITY_THRESH
#define HASH_BKT_CAPACITY_THRESH 3U
#define HASH_OF(id) codec_get_le32((id)->bytes)

/* That a read of CHECKED_READ_PAGES_MAX touches. */
#define SPANS_MAX 2u

struct checked_block {
    struct checked_block *prev; /* in the order in which they were asked for */
    struct checked_block *next;
    struct id id;
    struct location location;
    size_t bytes;                         /* that it takes here */
    uint64_t spans[BLOCK_SPANS_MAX / 64]; /* those that are known, a bit each */
    UT_hash_handle hh;
    uint32_t size_bytes;
    uint32_t crcs[]; /* of each page of a span that is known */
};

struct checked {
    pthread_mutex_t lock;
    struct checked_block *map;
    struct checked_block *list;
    size_t bytes;
    size_t bytes_max;
};

static uint32_t pages_of(uint32_t size_bytes)
{
    return (size_bytes + CHECKED_PAGE_BYTES - 1) / CHECKED_PAGE_BYTES;
}

struct checked *checked_new(size_t bytes_max)
{
    struct checked *checked = mem_alloc(sizeof *checked);
    pthread_mutex_init(&checked->lock, NULL);
    checked->bytes_max = bytes_max;
    return checked;
}

static void forget(struct checked *checked, struct checked_block *block)
{
    HASH_DEL(checked->map, block);
    DL_DELETE(checked->list, block);
    checked->bytes -= block->bytes;
    free(block);
}

void checked_free(struct checked *checked)
{
    if (!checked) {
        return;
    }
    while (checked->list) {
        forget(checked, checked->list);
    }
    pthread_mutex_destroy(&checked->lock);
    free(checked);
}

static struct checked_block *find(struct checked *checked, const struct id *id)
{
    struct checked_block *block = NULL;
    HASH_FIND_BYHASHVALUE(hh, checked->map, id, sizeof *id, HASH_OF(id), block);
    if (block && block->next) {
        DL_DELETE(checked->list, block);
        DL_APPEND(checked->list, block);
    }
    return block;
}

static bool knows_span(const struct checked_block *block, uint32_t span)
{
    return (block->spans[span / 64] >> span % 64 & 1) != 0;
}

bool checked_find(struct checked *checked, const struct id *id, uint32_t offset_bytes,
                  uint32_t size_bytes, struct location *ret_location, uint32_t *ret_crcs)
{
    const uint32_t first = offset_bytes / CHECKED_PAGE_BYTES;
    const uint32_t count = pages_of(size_bytes);
    if (offset_bytes % CHECKED_PAGE_BYTES != 0 || count == 0 || count > CHECKED_READ_PAGES_MAX) {
        return false;
    }
    pthread_mutex_lock(&checked->lock);
    const struct checked_block *block = find(checked, id);
    bool is_known =
        block && offset_bytes < block->size_bytes &&
        (size_bytes % CHECKED_PAGE_BYTES == 0 ? size_bytes <= block->size_bytes - offset_bytes
                                              : size_bytes == block->size_bytes - offset_bytes);
    if (is_known) {
        const uint32_t last = (first + count - 1) / CHECKED_SPAN_PAGES;
        for (uint32_t span = first / CHECKED_SPAN_PAGES; span <= last; span++) {
            is_known = is_known && knows_span(block, span);
        }
    }
    if (is_known) {
        *ret_location = block->location;
        memcpy(ret_crcs, block->crcs + first, count * sizeof *ret_crcs);
    }
    pthread_mutex_unlock(&checked->lock);
    return is_known;
}

static struct checked_block *add_block(struct checked *checked, const struct id *id,
                                       uint32_t block_bytes, const struct location *location)
{
    const size_t bytes = sizeof(struct checked_block) + pages_of(block_bytes) * sizeof(uint32_t);
    while (checked->list && checked->bytes + bytes > checked->bytes_max) {
        forget(checked, checked->list);
    }
    struct checked_block *block = mem_alloc(bytes);
    block->id = *id;
    block->location = *location;
    block->bytes = bytes;
    block->size_bytes = block_bytes;
    HASH_ADD_BYHASHVALUE(hh, checked->map, id, sizeof block->id, HASH_OF(id), block);
    DL_APPEND(checked->list, block);
    checked->bytes += bytes;
    return block;
}

void checked_add(struct checked *checked, const struct id *id, uint32_t block_bytes,
                 const struct location *location, uint32_t first_span, struct bytes spans)
{
    uint32_t crcs[SPANS_MAX * CHECKED_SPAN_PAGES];
    if (spans.size > sizeof crcs / sizeof crcs[0] * CHECKED_PAGE_BYTES) {
        return;
    }
    crc32c_spans(spans, CHECKED_PAGE_BYTES, crcs);
    pthread_mutex_lock(&checked->lock);
    struct checked_block *block = find(checked, id);
    if (block && !location_equal(&block->location, location)) {
        forget(checked, block);
        block = NULL;
    }
    if (!block) {
        block = add_block(checked, id, block_bytes, location);
    }
    memcpy(block->crcs + first_span * CHECKED_SPAN_PAGES, crcs,
           pages_of((uint32_t)spans.size) * sizeof crcs[0]);
    for (uint32_t span = 0; span < block_spans((uint32_t)spans.size); span++) {
        block->spans[(first_span + span) / 64] |= UINT64_C(1) << (first_span + span) % 64;
    }
    pthread_mutex_unlock(&checked->lock);
}

void checked_drop(struct checked *checked, const struct id *id)
{
    pthread_mutex_lock(&checked->lock);
    struct checked_block *block = find(checked, id);
    if (block) {
        forget(checked, block);
    }
    pthread_mutex_unlock(&checked->lock);
}
