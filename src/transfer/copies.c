/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/copies_priv.h"

#include <stdlib.h>

struct copies *copies_new(const struct copies_host *host, uint64_t random_seed)
{
    struct copies *copies = mem_alloc(sizeof *copies);
    /* Others may still work for an earlier life of this node: it does not use its numbers. */
    *copies = (struct copies){
        .host = *host,
        .due_us = UINT64_MAX,
        .next_id = 1 + (random_seed >> (PART_BITS + 1)),
    };
    return copies;
}

void copies_free(struct copies *copies)
{
    if (!copies) {
        return;
    }
    wishes_free(copies);
    lists_free(copies);
    free(copies);
}

void copies_send(struct copies *copies, const struct node_id *to,
                 const struct keep_message *message)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    keep_message_format(message, &bytes);
    copies->host.send(copies->host.context, to, buf_bytes(&bytes));
}

void copies_due_at(struct copies *copies, uint64_t at_us)
{
    copies->due_us = at_us < copies->due_us ? at_us : copies->due_us;
}

void copies_message(struct copies *copies, uint64_t now_us, const struct node_id *from,
                    struct bytes bytes)
{
    copies->now_us = now_us;
    struct keep_message message;
    if (keep_message_parse(bytes, &message)) {
        copies->counters.messages_bad++;
        return;
    }
    switch (message.type) {
    case KEEP_KEEP:
        list_take_keep(copies, from, &message);
        break;
    case KEEP_KEPT:
        wish_take_kept(copies, from, &message);
        break;
    case KEEP_RELEASE:
        list_take_release(copies, from, message.number);
        break;
    case KEEP_SURVEY:
    case KEEP_SURVEYED:
    case KEEP_PROMISE:
    case KEEP_PROMISED:
    case KEEP_NEED:
    case KEEP_NEEDED:
        break; /* not about copies */
    }
}

void copies_lost(struct copies *copies, uint64_t now_us, const struct node_id *member)
{
    copies->now_us = now_us;
    wishes_lost(copies, member);
}

void copies_tick(struct copies *copies, uint64_t now_us)
{
    copies->now_us = now_us;
    if (now_us < copies->due_us) {
        return;
    }
    copies->due_us = UINT64_MAX;
    wishes_tick(copies);
    lists_tick(copies);
}

uint64_t copies_next_us(const struct copies *copies)
{
    return copies->due_us;
}

const struct copies_counters *copies_counters(const struct copies *copies)
{
    return &copies->counters;
}
