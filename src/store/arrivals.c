/* SPDX-License-Identifier: Apache-2.0 */
#include "store/arrivals_priv.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/err.h"
#include "base/mem.h"

struct arrivals {
    pthread_mutex_t lock;
    struct arrival *map; /* by id; ids may stand in it more than once, and any one will do */
    _Atomic uint64_t removed_count;
};

struct arrivals *arrivals_new(void)
{
    struct arrivals *arrivals = mem_alloc(sizeof *arrivals);
    pthread_mutex_init(&arrivals->lock, NULL);
    return arrivals;
}

void arrivals_free(struct arrivals *arrivals)
{
    if (!arrivals) {
        return;
    }
    CHECK(!arrivals->map);
    pthread_mutex_destroy(&arrivals->lock);
    free(arrivals);
}

void arrivals_add(struct arrivals *arrivals, struct arrival *arrival)
{
    pthread_mutex_lock(&arrivals->lock);
    HASH_ADD(hh, arrivals->map, id, sizeof arrival->id, arrival);
    pthread_mutex_unlock(&arrivals->lock);
}

void arrivals_remove(struct arrivals *arrivals, struct arrival *arrival)
{
    pthread_mutex_lock(&arrivals->lock);
    HASH_DEL(arrivals->map, arrival);
    arrivals->removed_count++;
    pthread_mutex_unlock(&arrivals->lock);
}

static const struct arrival *find_arrival(const struct arrivals *arrivals, const struct id *id)
{
    const struct arrival *arrival = NULL;
    HASH_FIND(hh, arrivals->map, id, sizeof *id, arrival);
    return arrival;
}

static void tell(const struct arrival *arrival, struct block_record *ret_record)
{
    const struct new_block *block = arrival->block;
    *ret_record = (struct block_record){
        .size_bytes = block->size_bytes,
        .locations_count = 1,
        .locations = {block->reservation.location},
    };
    memcpy(ret_record->crcs, block->crcs, sizeof(uint32_t) * block_spans(block->size_bytes));
}

int arrivals_find(struct arrivals *arrivals, const struct id *id, struct block_record *ret_record)
{
    pthread_mutex_lock(&arrivals->lock);
    const struct arrival *arrival = find_arrival(arrivals, id);
    if (arrival) {
        tell(arrival, ret_record);
    }
    pthread_mutex_unlock(&arrivals->lock);
    return arrival ? 0 : -ENOENT;
}

int arrivals_hold(struct arrivals *arrivals, const struct id *id, struct segments *segments,
                  struct block_record *ret_record, struct reservation *ret_hold)
{
    /* It is settled after it is removed from here: as long as it is found, it can be held. */
    pthread_mutex_lock(&arrivals->lock);
    const struct arrival *arrival = find_arrival(arrivals, id);
    if (arrival) {
        tell(arrival, ret_record);
        segments_hold(segments, &arrival->block->reservation, ret_hold);
    }
    pthread_mutex_unlock(&arrivals->lock);
    return arrival ? 0 : -ENOENT;
}

uint64_t arrivals_removed(const struct arrivals *arrivals)
{
    return arrivals->removed_count;
}
