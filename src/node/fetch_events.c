/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What comes from blocks, on threads of the link and of workers, is copied and handed to transfer
 * by the fetch thread. Answers are bounded by what was asked; of what peers say unasked, the rest
 * is dropped when too much waits: it is only ever news of what can be asked for.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "node/blocks_priv.h"
#include "node/fetch_files_priv.h"
#include "node/network_priv.h"

/* Others beside what was asked for. */
#define EVENTS_MAX 65536u
/* In all of them, so many bytes of lists: beyond, news are dropped, and of offers the list of
 * blocks, as if the peer had not told it. Two of the longest lists fit. */
#define EVENTS_BYTES_MAX ((size_t)32 * 1024 * 1024)

enum event_kind {
    EVENT_OFFER = 1,
    EVENT_MORE,
    EVENT_BLOCK,
    EVENT_REFUSED,
    EVENT_RECEIVED,
    EVENT_LOST,
    EVENT_ASKED,
};

struct event {
    struct fetch_news news;
    enum event_kind kind;
    struct node_id peer;
    struct id file;
    uint32_t number;
    uint16_t position;
    int code; /* a state, a refusal, an error */
    size_t size;
    size_t lists_bytes;
    struct node_id *others;
    size_t others_count;
    uint32_t *indices;
    size_t indices_count;
    struct buf text;
    struct buf have;
};

static void take_block(struct fetch *fetch, const struct event *event)
{
    transfer_block(fetch->transfer, network_now_us(), &event->peer, event->number, event->position,
                   event->code);
    if (event->code == 0) {
        fetch->blocks_received++;
        fetch->bytes_received += event->size;
    } else if (event->code == -EBADMSG) {
        fetch->blocks_bad++;
    }
}

static void take_offer(struct fetch *fetch, const struct event *event)
{
    const struct transfer_offer offer = {
        .state = (enum transfer_state)event->code,
        .metadata_text = buf_bytes(&event->text),
        .have = buf_bytes(&event->have),
        .others = event->others,
        .others_count = event->others_count,
    };
    transfer_offered(fetch->transfer, network_now_us(), &event->peer, event->number, &offer);
}

static void run_event(struct fetch *fetch, struct fetch_news *news)
{
    struct event *event = CONTAINER_OF(news, struct event, news);
    struct transfer *transfer = fetch->transfer;
    const uint64_t now_us = network_now_us();
    fetch->events_count--;
    fetch->events_bytes -= event->lists_bytes;
    switch (event->kind) {
    case EVENT_OFFER:
        take_offer(fetch, event);
        break;
    case EVENT_MORE:
        transfer_more(transfer, now_us, &event->peer, &event->file, event->indices,
                      event->indices_count);
        break;
    case EVENT_BLOCK:
        take_block(fetch, event);
        break;
    case EVENT_REFUSED:
        transfer_refused(transfer, now_us, &event->peer, event->number, event->position,
                         (enum transfer_refusal)event->code, event->others, event->others_count);
        break;
    case EVENT_RECEIVED:
        transfer_received(transfer, now_us, &event->peer, event->size);
        break;
    case EVENT_LOST:
        /* What was said to it since is on a new stream: that goes with the rest. */
        blocks_drop(fetch->blocks, &event->peer);
        transfer_peer_lost(transfer, now_us, &event->peer);
        break;
    case EVENT_ASKED:
        transfer_asked(transfer, now_us, &event->peer, &event->file);
        break;
    }
    free(event->others);
    free(event->indices);
    buf_done(&event->text);
    buf_done(&event->have);
    free(event);
}

static struct event *event_new(enum event_kind kind, const struct node_id *peer)
{
    struct event *event = mem_alloc(sizeof *event);
    event->news.run = run_event;
    event->kind = kind;
    event->peer = *peer;
    return event;
}

static void post_event(struct fetch *fetch, struct event *event)
{
    event->lists_bytes =
        event->indices_count * sizeof *event->indices + event->text.size + event->have.size;
    fetch->events_count++;
    fetch->events_bytes += event->lists_bytes;
    fetch_post(fetch, &event->news);
}

static void take_others(struct event *event, const struct node_id *others, size_t count)
{
    if (count > 0) {
        event->others = mem_copy(others, count * sizeof *others);
        event->others_count = count;
    }
}

static void on_offer(void *context, const struct node_id *peer, struct blocks_offer *offer)
{
    struct fetch *fetch = context;
    struct event *event = event_new(EVENT_OFFER, peer);
    event->number = offer->number;
    event->code = (int)offer->state;
    if (fetch->events_bytes + offer->metadata_text.size <= EVENTS_BYTES_MAX) {
        buf_add(&event->text, offer->metadata_text);
    }
    buf_add(&event->have, offer->have);
    take_others(event, offer->others, offer->others_count);
    post_event(fetch, event);
}

static void on_more(void *context, const struct node_id *peer, const struct id *file,
                    const uint32_t *indices, size_t count)
{
    struct fetch *fetch = context;
    if (count == 0 || fetch->events_count > EVENTS_MAX || fetch->events_bytes > EVENTS_BYTES_MAX) {
        return;
    }
    struct event *event = event_new(EVENT_MORE, peer);
    event->file = *file;
    event->indices = mem_copy(indices, count * sizeof *indices);
    event->indices_count = count;
    post_event(fetch, event);
}

static int on_deliver(void *context, const struct node_id *peer, const struct id *file,
                      uint32_t index, const struct id *block, struct bytes bytes)
{
    (void)peer;
    return content_deliver(context, file, index, block, bytes);
}

static void on_block(void *context, const struct node_id *peer, uint32_t number, uint16_t position,
                     int err, uint32_t size_bytes)
{
    struct event *event = event_new(EVENT_BLOCK, peer);
    event->number = number;
    event->position = position;
    event->code = err;
    event->size = size_bytes;
    post_event(context, event);
}

static void on_refused(void *context, const struct node_id *peer, uint32_t number,
                       uint16_t position, enum transfer_refusal why, const struct node_id *others,
                       size_t others_count)
{
    struct event *event = event_new(EVENT_REFUSED, peer);
    event->number = number;
    event->position = position;
    event->code = (int)why;
    take_others(event, others, others_count);
    post_event(context, event);
}

static void on_received(void *context, const struct node_id *peer, size_t bytes_count)
{
    struct fetch *fetch = context;
    if (fetch->events_count > EVENTS_MAX) {
        return;
    }
    struct event *event = event_new(EVENT_RECEIVED, peer);
    event->size = bytes_count;
    post_event(fetch, event);
}

static void on_lost(void *context, const struct node_id *peer, enum blocks_end why)
{
    if (why == BLOCKS_MALFORMED) {
        char id[NODE_ID_HEX_CHARS + 1];
        node_id_format(peer, id);
        log_warn("source_malformed", KV("member", (const char *)id));
    }
    post_event(context, event_new(EVENT_LOST, peer));
}

static void on_asked(void *context, const struct node_id *peer, const struct id *file)
{
    struct fetch *fetch = context;
    /* Most of them ask for what is here, and nobody has to be woken for that. */
    if (fetch->events_count > EVENTS_MAX || !content_is_coming(fetch, file)) {
        return;
    }
    struct event *event = event_new(EVENT_ASKED, peer);
    event->file = *file;
    post_event(fetch, event);
}

struct blocks_events fetch_blocks_events(void)
{
    return (struct blocks_events){
        .offer = on_offer,
        .more = on_more,
        .deliver = on_deliver,
        .block = on_block,
        .refused = on_refused,
        .received = on_received,
        .lost = on_lost,
        .asked = on_asked,
    };
}
