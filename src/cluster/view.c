/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/view_priv.h"

#include <stdlib.h>

#include "base/mem.h"

#define BUCKET_CAPACITY_MIN 4u

void view_init(struct view *view, struct member_pool *pool)
{
    *view = (struct view){.pool = pool};
}

void view_done(struct view *view)
{
    for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
        struct bucket *bucket = &view->buckets[i];
        for (size_t j = 0; j < bucket->count; j++) {
            pool_give(view->pool, bucket->entries[j].record);
        }
        free(bucket->entries);
    }
    view_init(view, view->pool);
}

size_t view_lower(const struct bucket *bucket, const struct node_id *id)
{
    size_t low = 0;
    size_t high = bucket->count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (node_id_compare(&bucket->entries[middle].record->id, id) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct entry *view_find(const struct view *view, const struct node_id *id)
{
    const struct bucket *bucket = &view->buckets[view_bucket_of(id)];
    const size_t index = view_lower(bucket, id);
    if (index < bucket->count && node_id_equal(&bucket->entries[index].record->id, id)) {
        return &bucket->entries[index];
    }
    return NULL;
}

/* Counts an entry in, or out of, the sums that are kept of it. */
static void account(struct view *view, const struct entry *entry, bool is_in)
{
    const size_t index = view_bucket_of(&entry->record->id);
    struct bucket *bucket = &view->buckets[index];
    /* An odd factor for each status: any of them changes the whole sum. */
    const uint64_t hash = entry->record->hash * (2u * entry->status + 1);
    const uint64_t digest = is_in ? hash : 0 - hash;
    bucket->digest += digest;
    view->digest += digest;
    if (entry_is_alive(entry)) {
        uint32_t *alive_count = &view->alive_counts[index];
        *alive_count = is_in ? *alive_count + 1 : *alive_count - 1;
        view->alive_count = is_in ? view->alive_count + 1 : view->alive_count - 1;
    }
}

struct entry *view_add(struct view *view, struct record *record, enum member_status status)
{
    struct bucket *bucket = &view->buckets[view_bucket_of(&record->id)];
    const size_t index = view_lower(bucket, &record->id);
    if (bucket->count == bucket->capacity) {
        const uint32_t more = bucket->capacity / 4;
        bucket->capacity += more > BUCKET_CAPACITY_MIN ? more : BUCKET_CAPACITY_MIN;
        bucket->entries =
            mem_resize_array(bucket->entries, bucket->capacity, sizeof *bucket->entries);
    }
    struct entry *entry = &bucket->entries[index];
    memmove(entry + 1, entry, (bucket->count - index) * sizeof *entry);
    *entry = (struct entry){.record = record, .status = (uint8_t)status};
    bucket->count++;
    view->count++;
    account(view, entry, true);
    return entry;
}

void view_replace(struct view *view, struct entry *entry, struct record *record,
                  enum member_status status)
{
    account(view, entry, false);
    pool_give(view->pool, entry->record);
    entry->record = record;
    entry->status = (uint8_t)status;
    account(view, entry, true);
}

void view_remove(struct view *view, struct entry *entry)
{
    struct bucket *bucket = &view->buckets[view_bucket_of(&entry->record->id)];
    account(view, entry, false);
    pool_give(view->pool, entry->record);
    const size_t index = (size_t)(entry - bucket->entries);
    memmove(entry, entry + 1, (bucket->count - index - 1) * sizeof *entry);
    bucket->count--;
    view->count--;
}

size_t view_rank(const struct view *view, const struct node_id *id)
{
    const size_t own = view_bucket_of(id);
    size_t rank = 0;
    for (size_t i = 0; i < own; i++) {
        rank += view->alive_counts[i];
    }
    const struct bucket *bucket = &view->buckets[own];
    const size_t end = view_lower(bucket, id);
    if (view->alive_counts[own] == bucket->count) {
        return rank + end;
    }
    for (size_t i = 0; i < end; i++) {
        rank += entry_is_alive(&bucket->entries[i]);
    }
    return rank;
}

struct entry *view_at_rank(const struct view *view, size_t rank)
{
    CHECK(rank < view->alive_count);
    size_t index = 0;
    while (rank >= view->alive_counts[index]) {
        rank -= view->alive_counts[index];
        index++;
    }
    struct entry *entry = view->buckets[index].entries;
    if (view->alive_counts[index] == view->buckets[index].count) {
        return entry + rank;
    }
    while (!entry_is_alive(entry) || rank-- > 0) {
        entry++;
    }
    return entry;
}
