/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/mem.h"
#include "node/inbox_priv.h"

struct inbox {
    pthread_mutex_t lock; /* over all below */
    struct inbox_message *first;
    struct inbox_message *last;
    size_t messages_count;
    size_t bytes;
    uint64_t dropped;
};

struct inbox *inbox_new(void)
{
    struct inbox *inbox = mem_alloc(sizeof *inbox);
    pthread_mutex_init(&inbox->lock, NULL);
    return inbox;
}

void inbox_free(struct inbox *inbox)
{
    if (!inbox) {
        return;
    }
    struct inbox_message *message;
    struct inbox_message *next;
    LL_FOREACH_SAFE(inbox->first, message, next)
    {
        free(message);
    }
    pthread_mutex_destroy(&inbox->lock);
    free(inbox);
}

static void append(struct inbox *inbox, struct inbox_message *message)
{
    if (inbox->last) {
        inbox->last->next = message;
    } else {
        inbox->first = message;
    }
    inbox->last = message;
    inbox->messages_count++;
    inbox->bytes += message->size;
}

bool inbox_put(struct inbox *inbox, const struct node_id *from, struct bytes bytes)
{
    struct inbox_message *message = mem_alloc(sizeof *message + bytes.size);
    message->from = *from;
    message->size = bytes.size;
    if (bytes.size > 0) {
        memcpy(message->bytes, bytes.data, bytes.size);
    }
    pthread_mutex_lock(&inbox->lock);
    const bool has_room =
        inbox->messages_count < INBOX_MESSAGES_MAX && inbox->bytes + bytes.size <= INBOX_BYTES_MAX;
    if (has_room) {
        append(inbox, message);
    } else {
        inbox->dropped++;
    }
    pthread_mutex_unlock(&inbox->lock);
    if (!has_room) {
        free(message);
    }
    return has_room;
}

struct inbox_message *inbox_take(struct inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    struct inbox_message *first = inbox->first;
    inbox->first = NULL;
    inbox->last = NULL;
    inbox->messages_count = 0;
    inbox->bytes = 0;
    pthread_mutex_unlock(&inbox->lock);
    return first;
}

uint64_t inbox_dropped(struct inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    const uint64_t dropped = inbox->dropped;
    pthread_mutex_unlock(&inbox->lock);
    return dropped;
}
