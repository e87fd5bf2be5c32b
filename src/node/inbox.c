/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "node/inbox_priv.h"

/* Of what waits, what came from one. */
struct sender {
    struct node_id id;
    size_t messages_count;
    size_t bytes;
    UT_hash_handle hh;
};

struct inbox {
    struct inbox_limits limits;
    pthread_mutex_t lock; /* over all below */
    struct inbox_message *first;
    struct inbox_message *last;
    size_t messages_count;
    size_t bytes;
    struct sender *senders; /* kept if there are shares; no more than messages */
    uint64_t dropped;
};

static void forget_senders(struct sender *senders)
{
    struct sender *sender;
    struct sender *next;
    HASH_ITER(hh, senders, sender, next)
    {
        HASH_DEL(senders, sender);
        free(sender);
    }
}

struct inbox *inbox_new(const struct inbox_limits *limits)
{
    struct inbox *inbox = mem_alloc(sizeof *inbox);
    inbox->limits = *limits;
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
    forget_senders(inbox->senders);
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
    if (inbox->limits.shares > 1) {
        struct sender *sender = NULL;
        HASH_FIND(hh, inbox->senders, &message->from, sizeof message->from, sender);
        if (!sender) {
            sender = mem_alloc(sizeof *sender);
            *sender = (struct sender){.id = message->from};
            HASH_ADD(hh, inbox->senders, id, sizeof sender->id, sender);
        }
        sender->messages_count++;
        sender->bytes += message->size;
    }
}

static bool has_share_left(const struct inbox *inbox, const struct node_id *from, size_t size)
{
    const size_t bytes_max = inbox->limits.bytes_max / inbox->limits.shares;
    const size_t messages_max = inbox->limits.messages_max / inbox->limits.shares;
    if (inbox->limits.shares == 1 ||
        (inbox->bytes + size <= bytes_max && inbox->messages_count < messages_max)) {
        return true;
    }
    const struct sender *sender = NULL;
    HASH_FIND(hh, inbox->senders, from, sizeof *from, sender);
    return sender ? sender->bytes + size <= bytes_max && sender->messages_count < messages_max
                  : size <= bytes_max && messages_max > 0;
}

bool inbox_put(struct inbox *inbox, uint8_t kind, const struct node_id *from, struct bytes bytes)
{
    struct inbox_message *message = mem_alloc(sizeof *message + bytes.size);
    message->kind = kind;
    message->from = *from;
    message->size = bytes.size;
    if (bytes.size > 0) {
        memcpy(message->bytes, bytes.data, bytes.size);
    }
    pthread_mutex_lock(&inbox->lock);
    const bool has_room = inbox->messages_count < inbox->limits.messages_max &&
                          inbox->bytes + bytes.size <= inbox->limits.bytes_max &&
                          has_share_left(inbox, from, bytes.size);
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
    struct sender *senders = inbox->senders;
    inbox->senders = NULL;
    inbox->first = NULL;
    inbox->last = NULL;
    inbox->messages_count = 0;
    inbox->bytes = 0;
    pthread_mutex_unlock(&inbox->lock);
    forget_senders(senders);
    return first;
}

struct inbox_message *inbox_next(struct inbox_message *message)
{
    struct inbox_message *next = message->next;
    free(message);
    return next;
}

uint64_t inbox_dropped(struct inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    const uint64_t dropped = inbox->dropped;
    pthread_mutex_unlock(&inbox->lock);
    return dropped;
}
