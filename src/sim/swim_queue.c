/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/mem.h"
#include "sim/swim_priv.h"

void swim_queue_init(struct swim_queue *queue, size_t nodes_max)
{
    queue->free_first = SWIM_NOBODY;
    for (size_t i = 0; i < ARRAY_SIZE(queue->first); i++) {
        queue->first[i] = SWIM_NOBODY;
    }
    queue->by_subject = mem_alloc_array(nodes_max, sizeof *queue->by_subject);
    for (size_t i = 0; i < nodes_max; i++) {
        queue->by_subject[i] = SWIM_NOBODY;
    }
}

void swim_queue_done(struct swim_queue *queue)
{
    free(queue->items);
    free(queue->by_subject);
}

static void unlink_item(struct swim_queue *queue, uint32_t index)
{
    struct swim_queued *item = &queue->items[index];
    if (item->previous != SWIM_NOBODY) {
        queue->items[item->previous].next = item->next;
    } else {
        queue->first[item->transmits] = item->next;
    }
    if (item->next != SWIM_NOBODY) {
        queue->items[item->next].previous = item->previous;
    }
}

static void link_first(struct swim_queue *queue, uint32_t index)
{
    struct swim_queued *item = &queue->items[index];
    const uint32_t first = queue->first[item->transmits];
    item->previous = SWIM_NOBODY;
    item->next = first;
    if (first != SWIM_NOBODY) {
        queue->items[first].previous = index;
    }
    queue->first[item->transmits] = index;
}

static void drop(struct swim_queue *queue, uint32_t index)
{
    struct swim_queued *item = &queue->items[index];
    unlink_item(queue, index);
    queue->by_subject[item->update.subject] = SWIM_NOBODY;
    item->next = queue->free_first;
    queue->free_first = index;
    queue->count--;
}

static uint32_t take_item(struct swim_queue *queue)
{
    if (queue->free_first != SWIM_NOBODY) {
        const uint32_t index = queue->free_first;
        queue->free_first = queue->items[index].next;
        return index;
    }
    if (queue->items_count == queue->items_capacity) {
        queue->items_capacity = queue->items_capacity ? 2 * queue->items_capacity : 16;
        queue->items = mem_resize_array(queue->items, queue->items_capacity, sizeof *queue->items);
    }
    return (uint32_t)queue->items_count++;
}

void swim_queue_add(struct swim_queue *queue, const struct swim_update *update)
{
    const uint32_t old = queue->by_subject[update->subject];
    if (old != SWIM_NOBODY) {
        drop(queue, old);
    }
    const uint32_t index = take_item(queue);
    queue->items[index] = (struct swim_queued){.update = *update};
    link_first(queue, index);
    queue->by_subject[update->subject] = index;
    queue->count++;
}

static size_t update_bytes(const struct swim_update *update)
{
    return SWIM_COMPOUND_BYTES +
           (update->state == SWIM_ALIVE ? SWIM_ALIVE_BYTES : SWIM_SUSPECT_BYTES);
}

size_t swim_queue_fill(struct swim_queue *queue, size_t room_bytes, size_t transmits_max,
                       struct swim_packet *packet)
{
    size_t used_bytes = 0;
    uint32_t told[SWIM_UPDATES_MAX];
    size_t told_count = 0;
    for (size_t i = 0; i < SWIM_TRANSMITS_MAX && packet->updates_count < SWIM_UPDATES_MAX; i++) {
        uint32_t index = queue->first[i];
        while (index != SWIM_NOBODY && packet->updates_count < SWIM_UPDATES_MAX) {
            const struct swim_queued *item = &queue->items[index];
            const uint32_t next = item->next;
            const size_t bytes = update_bytes(&item->update);
            if (used_bytes + bytes > room_bytes) {
                break;
            }
            used_bytes += bytes;
            packet->updates[packet->updates_count++] = item->update;
            unlink_item(queue, index);
            told[told_count++] = index;
            index = next;
        }
    }
    /* Back in only now, so that nothing is told twice in one packet. */
    for (size_t i = 0; i < told_count; i++) {
        struct swim_queued *item = &queue->items[told[i]];
        item->transmits++;
        link_first(queue, told[i]);
        if (item->transmits >= transmits_max) {
            drop(queue, told[i]);
        }
    }
    return used_bytes;
}
