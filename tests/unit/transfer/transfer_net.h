/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_TRANSFER_NET_H
#define TESTS_UNIT_TRANSFER_NET_H

/*
 * A receiver among peers that do as the test says: have blocks, answer late, refuse, lie, fall
 * silent. Time is virtual and jumps to whatever is due next. Blocks have sizes and no bytes.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "transfer/status.h"
#include "transfer/transfer.h"

#define MS_US UINT64_C(1000)
#define TRIP_US UINT64_C(1000)
#define PEERS_MAX 80u
#define FILES_MAX 600u
#define EVENTS_MAX 65536u
#define BLOCK_BYTES 262144u

enum event_type {
    EVENT_OFFER,
    EVENT_BLOCK,
    EVENT_REFUSED,
    EVENT_FOUND,
    EVENT_OPENED,
    EVENT_COPIED,
    EVENT_COMMITTED,
};

struct event {
    bool is_used;
    enum event_type type;
    uint64_t due_us;
    uint64_t order;
    uint32_t peer;
    uint32_t file;
    uint32_t number;
    uint16_t position;
    uint32_t index;
    int err;
    uint8_t flags;
    enum transfer_refusal why;
    struct id id;
};

struct peer_script {
    bool has_list[FILES_MAX]; /* knows the file */
    uint8_t *have[FILES_MAX]; /* by block: 1 */
    uint64_t block_us;        /* to send one, one after the other */
    uint64_t free_us;
    bool is_silent;
    bool is_bad;                /* wrong bytes */
    bool lies;                  /* offers all, has nothing */
    uint8_t *denies[FILES_MAX]; /* by block: 1: refused, though it has it */
    bool is_stale;              /* searches name it, and it has nothing */
    bool hides_list;            /* offers without it */
    bool sends_lies;            /* a list that is not the file's */
    bool is_busy;               /* always */
    bool redirects;             /* gives each block once, unless one insists */
    uint32_t given_to;          /* and says that it gave it to this one */
    /* What was asked of it. */
    uint32_t asks;
    uint32_t requested;
    uint32_t insisted;
    uint32_t cancelled;
    uint32_t stopped;
    uint32_t shunned;
    uint32_t served;
};

struct file_script {
    struct id id;
    struct file_metadata metadata;
    uint8_t *have; /* bits: the intake */
    int open_err;  /* of the next opening */
    int write_err; /* of blocks that come */
    int commit_err;
    bool has_ended;
    int err;
    uint32_t opens;
    uint32_t copies;
    uint32_t commits;
    uint32_t writes;
    uint32_t first_writes[64]; /* in the order in which they came */
};

struct net {
    struct transfer *transfer;
    uint64_t now_us;
    uint64_t order;
    uint32_t peers_count;
    struct peer_script peers[PEERS_MAX];
    uint32_t files_count;
    struct file_script files[FILES_MAX];
    struct event events[EVENTS_MAX];
    size_t events_high;
    uint32_t finds;
    uint32_t block_finds;
    uint32_t unasked_count;       /* told with a search */
    uint32_t block_unasked_count; /* likewise, more with one for a block */
    uint64_t file_find_us;        /* what a search takes; 0: as little as it can */
    uint64_t block_find_us;
    bool finds_nobody;
    bool names_others; /* offers tell of all other peers */
};

static inline struct node_id node_of(uint32_t index)
{
    struct node_id id = {0};
    codec_put_be64(id.bytes, (index + 1) * UINT64_C(0x9e3779b97f4a7c15));
    codec_put_be32(id.bytes + 16, index);
    return id;
}

static inline uint32_t index_of(const struct node_id *id)
{
    return codec_get_be32(id->bytes + 16);
}

static inline uint32_t net_file(const struct net *net, const struct id *id)
{
    for (uint32_t i = 0; i < net->files_count; i++) {
        if (id_equal(&net->files[i].id, id)) {
            return i;
        }
    }
    fail_msg("an unknown file");
    return 0;
}

static inline struct event *net_event(struct net *net, enum event_type type, uint64_t after_us)
{
    size_t at = 0;
    while (at < net->events_high && net->events[at].is_used) {
        at++;
    }
    assert_true(at < EVENTS_MAX);
    net->events_high = at == net->events_high ? at + 1 : net->events_high;
    net->events[at] = (struct event){
        .is_used = true, .type = type, .due_us = net->now_us + after_us, .order = net->order++};
    return &net->events[at];
}

static inline void net_ask(void *context, const struct node_id *node, uint32_t number,
                           uint8_t flags, const struct id *file)
{
    struct net *net = context;
    struct peer_script *peer = &net->peers[index_of(node)];
    peer->asks++;
    if (!peer->is_silent) {
        struct event *event = net_event(net, EVENT_OFFER, 2 * TRIP_US);
        event->peer = index_of(node);
        event->number = number;
        event->flags = flags;
        event->file = net_file(net, file);
    }
}

static inline void net_stop(void *context, const struct node_id *node, const struct id *file)
{
    struct net *net = context;
    (void)net_file(net, file);
    net->peers[index_of(node)].stopped++;
}

static inline bool net_gives(struct peer_script *peer, uint32_t file, uint32_t index, bool insists,
                             enum transfer_refusal *ret_why)
{
    *ret_why = TRANSFER_REFUSED_NOT_HERE;
    const bool denies = peer->denies[file] && peer->denies[file][index];
    if (!peer->have[file] || !peer->have[file][index] || peer->lies || denies) {
        return false;
    }
    *ret_why = TRANSFER_REFUSED_BUSY;
    return !peer->is_busy && (!peer->redirects || insists);
}

static inline void net_request(void *context, const struct node_id *node, uint32_t number,
                               bool insists, const struct id *file,
                               const struct transfer_part *parts, size_t parts_count)
{
    struct net *net = context;
    struct peer_script *peer = &net->peers[index_of(node)];
    const uint32_t at = net_file(net, file);
    peer->requested += (uint32_t)parts_count;
    peer->insisted += insists ? (uint32_t)parts_count : 0;
    for (uint16_t i = 0; i < parts_count && !peer->is_silent; i++) {
        const struct block_ref *block = &net->files[at].metadata.blocks[parts[i].index];
        assert_true(id_equal(&block->id, &parts[i].id));
        assert_int_equal(block->size_bytes, parts[i].size_bytes);
        enum transfer_refusal why;
        struct event *event;
        if (net_gives(peer, at, parts[i].index, insists, &why)) {
            const uint64_t begin_us =
                peer->free_us > net->now_us + TRIP_US ? peer->free_us : net->now_us + TRIP_US;
            peer->free_us = begin_us + peer->block_us;
            peer->served++;
            event = net_event(net, EVENT_BLOCK, peer->free_us + TRIP_US - net->now_us);
            event->err = peer->is_bad ? -EBADMSG : 0;
        } else {
            event = net_event(net, EVENT_REFUSED, 2 * TRIP_US);
            event->why = why;
        }
        event->peer = index_of(node);
        event->number = number;
        event->position = i;
        event->index = parts[i].index;
        event->file = at;
    }
}

static inline void net_cancel(void *context, const struct node_id *node, uint32_t number)
{
    struct net *net = context;
    net->peers[index_of(node)].cancelled++;
    for (size_t i = 0; i < net->events_high; i++) {
        struct event *event = &net->events[i];
        if (event->is_used && event->number == number &&
            (event->type == EVENT_BLOCK || event->type == EVENT_REFUSED)) {
            event->is_used = false;
        }
    }
}

static inline void net_find_end(void *context, const struct id *id, bool is_block)
{
    struct net *net = context;
    for (size_t i = 0; i < net->events_high; i++) {
        struct event *event = &net->events[i];
        if (event->is_used && event->type == EVENT_FOUND && event->flags == is_block &&
            id_equal(&event->id, id)) {
            event->is_used = false;
        }
    }
}

static inline void net_find(void *context, const struct id *id, bool is_block,
                            const struct node_id *publisher, bool everyone)
{
    (void)publisher;
    struct net *net = context;
    net_find_end(net, id, is_block); /* one at a time */
    net->finds += !is_block;
    net->block_finds += is_block;
    const uint64_t usual_us = (everyone ? 20 : 4) * TRIP_US;
    const uint64_t told_us = is_block ? net->block_find_us : net->file_find_us;
    struct event *event = net_event(net, EVENT_FOUND, told_us > 0 ? told_us : usual_us);
    event->id = *id;
    event->flags = is_block;
}

static inline void net_open(void *context, const struct id *file, struct bytes text)
{
    struct net *net = context;
    const uint32_t at = net_file(net, file);
    struct event *event = net_event(net, EVENT_OPENED, TRIP_US);
    net->files[at].opens++;
    event->file = at;
    event->err = text.size == 3 ? -EBADMSG : net->files[at].open_err;
}

static inline void net_copy(void *context, const struct id *file, uint32_t index)
{
    struct net *net = context;
    struct event *event = net_event(net, EVENT_COPIED, TRIP_US);
    event->file = net_file(net, file);
    event->index = index;
    net->files[event->file].copies++;
}

static inline void net_commit(void *context, const struct id *file)
{
    struct net *net = context;
    struct event *event = net_event(net, EVENT_COMMITTED, TRIP_US);
    event->file = net_file(net, file);
    event->err = net->files[event->file].commit_err;
    net->files[event->file].commits++;
}

static inline void net_changed(void *context, const struct id *file)
{
    struct net *net = context;
    struct transfer_status status;
    assert_true(transfer_status(net->transfer, net->now_us, file, &status));
}

static inline void net_ended(void *context, const struct id *file, int err)
{
    struct net *net = context;
    struct file_script *script = &net->files[net_file(net, file)];
    struct transfer_status status;
    assert_true(transfer_status(net->transfer, net->now_us, file, &status));
    assert_false(script->has_ended);
    script->has_ended = true;
    script->err = err;
}

static inline void net_shunned(void *context, const struct node_id *node)
{
    struct net *net = context;
    net->peers[index_of(node)].shunned++;
}

static inline struct net *net_new_seeded(uint32_t peers_count, uint64_t rate_bytes_per_s,
                                         uint64_t random_seed)
{
    struct net *net = mem_alloc(sizeof *net);
    net->now_us = 1000000;
    net->peers_count = peers_count;
    const struct transfer_options options = {
        .id = node_of(1000),
        .random_seed = random_seed,
        .rate_bytes_per_s = rate_bytes_per_s,
        .host = {.ask = net_ask,
                 .stop = net_stop,
                 .request = net_request,
                 .cancel = net_cancel,
                 .find = net_find,
                 .find_end = net_find_end,
                 .open = net_open,
                 .copy = net_copy,
                 .commit = net_commit,
                 .changed = net_changed,
                 .ended = net_ended,
                 .shunned = net_shunned,
                 .context = net},
    };
    net->transfer = transfer_new(&options, net->now_us);
    struct transfer_member members[PEERS_MAX];
    for (uint32_t i = 0; i < peers_count; i++) {
        net->peers[i].block_us = 2 * MS_US;
        members[i] = (struct transfer_member){.id = node_of(i), .is_alive = true};
    }
    transfer_set_members(net->transfer, net->now_us, members, peers_count);
    return net;
}

/* A receiver and `peers_count` peers, all alive, that have nothing. */
static inline struct net *net_new(uint32_t peers_count, uint64_t rate_bytes_per_s)
{
    return net_new_seeded(peers_count, rate_bytes_per_s, 7);
}

static inline void net_free(struct net *net)
{
    transfer_free(net->transfer);
    for (uint32_t i = 0; i < net->files_count; i++) {
        file_metadata_done(&net->files[i].metadata);
        free(net->files[i].have);
        for (uint32_t j = 0; j < net->peers_count; j++) {
            free(net->peers[j].have[i]);
        }
    }
    free(net);
}

/* A file of blocks whose ids are the numbers from `first_number` on; `period`: after so many they
 * come again, 0: never. */
static inline uint32_t net_add_file(struct net *net, uint32_t blocks_count, uint32_t block_bytes,
                                    uint32_t first_number, uint32_t period)
{
    assert_true(net->files_count < FILES_MAX);
    const uint32_t at = net->files_count++;
    struct file_script *file = &net->files[at];
    for (uint32_t i = 0; i < blocks_count; i++) {
        struct id id = {0};
        codec_put_be32(id.bytes, first_number + (period > 0 ? i % period : i));
        assert_int_equal(file_metadata_add(&file->metadata, &id, block_bytes), 0);
    }
    memset(file->id.bytes, 0xf0, sizeof file->id.bytes);
    codec_put_be32(file->id.bytes, 0xf0f0f0f0u + at);
    file->have = mem_alloc(blocks_count / 8 + 1);
    return at;
}

/* The peer has blocks from `first` on, each `step`-th. */
static inline void net_give(struct net *net, uint32_t peer, uint32_t file, uint32_t first,
                            uint32_t step)
{
    struct peer_script *script = &net->peers[peer];
    const size_t count = net->files[file].metadata.blocks_count;
    if (!script->have[file]) {
        script->have[file] = mem_alloc(count + 1);
    }
    for (size_t i = first; i < count; i += step) {
        script->have[file][i] = 1;
    }
    script->has_list[file] = true;
}

static inline void net_offer(struct net *net, const struct event *event)
{
    const struct peer_script *peer = &net->peers[event->peer];
    const struct file_script *file = &net->files[event->file];
    const size_t count = file->metadata.blocks_count;
    uint8_t *bits = mem_alloc(count / 8 + 1);
    size_t have = 0;
    for (size_t i = 0; i < count; i++) {
        if (peer->have[event->file] && peer->have[event->file][i]) {
            bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << (i % 8));
            have++;
        }
    }
    struct node_id others[PEERS_MAX];
    size_t others_count = 0;
    for (uint32_t i = 0; net->names_others && i < net->peers_count; i++) {
        if (i != event->peer) {
            others[others_count++] = node_of(i);
        }
    }
    const bool has_list = peer->has_list[event->file] && !peer->is_stale;
    const bool sends = event->flags & TRANSFER_ASK_METADATA && has_list && !peer->hides_list;
    const struct transfer_offer offer = {
        .state = (have == count && has_list) || peer->lies ? TRANSFER_COMPLETE
                 : has_list                                ? TRANSFER_PARTIAL
                                                           : TRANSFER_NONE,
        .metadata_text =
            sends ? bytes_of_string(peer->sends_lies ? "bad" : "list") : (struct bytes){0},
        .have = BYTES(bits, (count + 7) / 8),
        .others = others,
        .others_count = others_count,
    };
    const struct node_id node = node_of(event->peer);
    transfer_offered(net->transfer, net->now_us, &node, event->number, &offer);
    free(bits);
}

static inline void net_found(struct net *net, const struct event *event)
{
    struct transfer_holder holders[PEERS_MAX];
    size_t count = 0;
    for (uint32_t i = 0; i < net->peers_count && !net->finds_nobody; i++) {
        for (uint32_t j = 0; j < net->files_count; j++) {
            const struct file_script *file = &net->files[j];
            bool has =
                !event->flags && id_equal(&event->id, &file->id) && net->peers[i].has_list[j];
            for (size_t k = 0; event->flags && k < file->metadata.blocks_count && !has; k++) {
                has = net->peers[i].have[j] && net->peers[i].have[j][k] &&
                      id_equal(&event->id, &file->metadata.blocks[k].id);
            }
            if (has) {
                holders[count++] =
                    (struct transfer_holder){.node = node_of(i), .state = TRANSFER_PARTIAL};
                break;
            }
        }
    }
    transfer_found(net->transfer, net->now_us, &event->id, event->flags, holders, count, true,
                   net->unasked_count + (event->flags ? net->block_unasked_count : 0));
}

static inline void net_block(struct net *net, const struct event *event)
{
    struct file_script *file = &net->files[event->file];
    const struct node_id node = node_of(event->peer);
    int err = event->err;
    if (!err && file->write_err) {
        err = file->write_err;
    } else if (!err) {
        for (size_t i = 0; i < file->metadata.blocks_count; i++) {
            if (id_equal(&file->metadata.blocks[i].id, &file->metadata.blocks[event->index].id)) {
                file->have[i / 8] = (uint8_t)(file->have[i / 8] | 1u << (i % 8));
            }
        }
        if (file->writes < 64) {
            file->first_writes[file->writes] = event->index;
        }
        file->writes++;
    }
    const uint32_t bytes = file->metadata.blocks[event->index].size_bytes;
    transfer_received(net->transfer, net->now_us, &node, bytes);
    transfer_block(net->transfer, net->now_us, &node, event->number, event->position, err);
}

static inline void net_play(struct net *net, const struct event *event)
{
    struct file_script *file = &net->files[event->file];
    const struct node_id node = node_of(event->peer);
    const struct node_id given_to = node_of(net->peers[event->peer].given_to);
    switch (event->type) {
    case EVENT_OFFER:
        net_offer(net, event);
        break;
    case EVENT_BLOCK:
        net_block(net, event);
        break;
    case EVENT_REFUSED:
        transfer_refused(net->transfer, net->now_us, &node, event->number, event->position,
                         event->why, &given_to, net->peers[event->peer].redirects ? 1 : 0);
        break;
    case EVENT_FOUND:
        net_found(net, event);
        break;
    case EVENT_OPENED:
        transfer_opened(net->transfer, net->now_us, &file->id, event->err, &file->metadata,
                        file->have);
        break;
    case EVENT_COPIED:
        file->have[event->index / 8] =
            (uint8_t)(file->have[event->index / 8] | 1u << (event->index % 8));
        transfer_copied(net->transfer, net->now_us, &file->id, event->index, 0);
        break;
    case EVENT_COMMITTED:
        transfer_committed(net->transfer, net->now_us, &file->id, event->err);
        break;
    }
}

/* The peer stands still for so long; what it was about to send comes afterwards. */
static inline void net_freeze(struct net *net, uint32_t peer, uint64_t ms)
{
    for (size_t i = 0; i < net->events_high; i++) {
        struct event *event = &net->events[i];
        const bool is_its = event->type == EVENT_OFFER || event->type == EVENT_BLOCK ||
                            event->type == EVENT_REFUSED;
        if (event->is_used && is_its && event->peer == peer) {
            event->due_us += ms * MS_US;
        }
    }
    net->peers[peer].free_us = net->now_us + ms * MS_US;
}

/* To the next thing that happens, or to `end_us`. */
static inline void net_step(struct net *net, uint64_t end_us)
{
    struct event *first = NULL;
    for (size_t i = 0; i < net->events_high; i++) {
        struct event *event = &net->events[i];
        if (event->is_used && (!first || event->due_us < first->due_us ||
                               (event->due_us == first->due_us && event->order < first->order))) {
            first = event;
        }
    }
    const uint64_t tick_us = transfer_next_us(net->transfer);
    uint64_t next_us = first && first->due_us < end_us ? first->due_us : end_us;
    next_us = tick_us < next_us ? tick_us : next_us;
    net->now_us = next_us > net->now_us ? next_us : net->now_us;
    if (tick_us <= net->now_us) {
        transfer_tick(net->transfer, net->now_us);
    } else if (first && first->due_us <= net->now_us) {
        const struct event event = *first;
        first->is_used = false;
        net_play(net, &event);
    }
}

static inline void net_run(struct net *net, uint64_t ms)
{
    const uint64_t end_us = net->now_us + ms * MS_US;
    while (net->now_us < end_us) {
        net_step(net, end_us);
    }
}

static inline void net_start(struct net *net, uint32_t file, uint32_t publisher)
{
    const struct node_id node = node_of(publisher);
    assert_int_equal(transfer_start(net->transfer, net->now_us, &net->files[file].id,
                                    publisher < PEERS_MAX ? &node : NULL, 0),
                     0);
}
#define NO_PUBLISHER UINT32_MAX

/* Until the fetch ends; its result. How long it took is in *ret_us, unless that is NULL. */
static inline int net_finish(struct net *net, uint32_t file, uint64_t *ret_us)
{
    const uint64_t begin_us = net->now_us;
    const uint64_t end_us = begin_us + 120000 * MS_US;
    while (!net->files[file].has_ended) {
        assert_true(net->now_us < end_us);
        net_step(net, end_us);
    }
    if (ret_us) {
        *ret_us = net->now_us - begin_us;
    }
    return net->files[file].err;
}

static inline bool net_is_whole(const struct net *net, uint32_t file)
{
    for (size_t i = 0; i < net->files[file].metadata.blocks_count; i++) {
        if (!(net->files[file].have[i / 8] >> (i % 8) & 1)) {
            return false;
        }
    }
    return true;
}

#endif
