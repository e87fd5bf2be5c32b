/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What nodes of a swarm say to each other. Messages take the delay of their pair and no room on the
 * links; blocks go through the pipes.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/mem.h"
#include "sim/swarm_priv.h"

/* Growth is told after so long, all that came meanwhile together. */
#define TELL_US (20 * SIM_US_PER_MS)
/* To so many at a time, the others in turn: who hears of it first can give it to the next. To half
 * as many if it is less than FEW_BLOCKS. */
#define TOLD_MAX 8u
#define FEW_BLOCKS 4u
/* A block is hashed and written at this rate, and in no less than so long. */
#define WRITE_BYTES_PER_US 1000u
#define WRITE_US_MIN 50u

enum message_type {
    SAYS_ASK,
    SAYS_STOP,
    SAYS_REQUEST,
    SAYS_CANCEL,
    SAYS_OFFER,
    SAYS_MORE,
    SAYS_REFUSED,
    SAYS_NOTHING_MORE, /* the connection is gone */
};

struct message {
    enum message_type type;
    uint32_t from;
    uint32_t to;
    uint32_t number;
    uint16_t position;
    uint8_t flags; /* of an ASK; insists; the state of an OFFER; why of a REFUSED */
    bool has_metadata;
    size_t nodes_count;
    struct node_id *nodes;
    size_t indices_count;
    uint32_t *indices;
    uint8_t *have;
    struct message *prev;
    struct message *next;
};

struct delivery {
    struct sim_swarm *swarm;
    struct upload_job job;
    uint32_t from;
    uint32_t to;
    uint32_t block;
    uint64_t life;
    struct delivery *prev;
    struct delivery *next;
};

static void free_message(struct sim_swarm *swarm, struct message *message)
{
    DL_DELETE(swarm->messages, message);
    free(message->nodes);
    if (message->type != SAYS_MORE) {
        free(message->indices); /* else of the log of its sender */
    }
    free(message->have);
    free(message);
}

static void free_delivery(struct delivery *delivery)
{
    DL_DELETE(delivery->swarm->deliveries, delivery);
    free(delivery);
}

void swarm_wire_done(struct sim_swarm *swarm)
{
    while (swarm->messages) {
        free_message(swarm, swarm->messages);
    }
    while (swarm->deliveries) {
        free_delivery(swarm->deliveries);
    }
}

static void deliver(void *context, uint64_t argument);

static struct message *new_message(struct sim_swarm *swarm, enum message_type type, uint32_t from,
                                   uint32_t to, uint32_t number)
{
    struct message *message = mem_alloc(sizeof *message);
    message->type = type;
    message->from = from;
    message->to = to;
    message->number = number;
    DL_APPEND(swarm->messages, message);
    return message;
}

static void send(struct sim_swarm *swarm, struct message *message)
{
    swarm->messages_count++;
    swarm_at(swarm, sim_pipes_delay_us(swarm->pipes, message->from, message->to), deliver, swarm,
             (uint64_t)(uintptr_t)message);
}

/* The host of a receiver. */

static void on_ask(void *context, const struct node_id *peer, uint32_t number, uint8_t flags,
                   const struct id *file)
{
    (void)file;
    struct node *node = context;
    struct message *message =
        new_message(node->swarm, SAYS_ASK, node->index, swarm_index(peer), number);
    message->flags = flags;
    send(node->swarm, message);
}

static void on_stop(void *context, const struct node_id *peer, const struct id *file)
{
    (void)file;
    struct node *node = context;
    send(node->swarm, new_message(node->swarm, SAYS_STOP, node->index, swarm_index(peer), 0));
}

static void on_request(void *context, const struct node_id *peer, uint32_t number, bool insists,
                       const struct id *file, const struct transfer_part *parts, size_t parts_count)
{
    (void)file;
    struct node *node = context;
    struct message *message =
        new_message(node->swarm, SAYS_REQUEST, node->index, swarm_index(peer), number);
    message->flags = insists ? 1 : 0;
    message->indices_count = parts_count;
    message->indices = mem_alloc_array(parts_count, sizeof *message->indices);
    for (size_t i = 0; i < parts_count; i++) {
        message->indices[i] = parts[i].index;
    }
    send(node->swarm, message);
}

static void on_cancel(void *context, const struct node_id *peer, uint32_t number)
{
    struct node *node = context;
    send(node->swarm,
         new_message(node->swarm, SAYS_CANCEL, node->index, swarm_index(peer), number));
}

/* Who has it: of the whole file up to HOLDERS_NAMED, of a block all. */
#define HOLDERS_NAMED 64u

static uint32_t block_of(const struct sim_swarm *swarm, const struct id *id)
{
    for (uint32_t i = 0; i < swarm->metadata.blocks_count; i++) {
        if (id_equal(&swarm->metadata.blocks[i].id, id)) {
            return i;
        }
    }
    return UINT32_MAX;
}

static void found(void *context, uint64_t argument)
{
    struct node *node = context;
    struct sim_swarm *swarm = node->swarm;
    struct transfer_holder holders[HOLDERS_NAMED];
    size_t count = 0;
    size_t seen = 0;
    if (!node->is_up || !node->is_fetching) {
        return;
    }
    for (size_t i = 0; i < swarm->holders_count; i++) {
        const struct node *holder = &swarm->nodes[swarm->holders[i]];
        if (!holder->is_up || holder == node || !swarm_reaches(swarm, holder->index, node->index) ||
            (argument != UINT32_MAX && !swarm_has(holder, (uint32_t)argument))) {
            continue;
        }
        const size_t at = count < HOLDERS_NAMED ? count++ : random_below(&swarm->random, seen + 1);
        seen++;
        if (at < HOLDERS_NAMED) {
            holders[at] = (struct transfer_holder){
                .node = swarm_node_id(holder->index),
                .state = holder->have_count == swarm->metadata.blocks_count ? TRANSFER_COMPLETE
                                                                            : TRANSFER_PARTIAL};
        }
    }
    const struct id *id =
        argument == UINT32_MAX ? &swarm->file : &swarm->metadata.blocks[argument].id;
    transfer_found(node->transfer, sim_engine_now_us(swarm->engine), id, argument != UINT32_MAX,
                   holders, count, true, 0);
    swarm_pump(node);
}

static void on_find(void *context, const struct id *id, bool is_block,
                    const struct node_id *publisher_or_null, bool everyone)
{
    (void)publisher_or_null;
    struct node *node = context;
    const uint64_t asked_us = (everyone ? 4 : 2) * node->swarm->options.delay_us + SIM_US_PER_MS;
    swarm_at(node->swarm, asked_us, found, node, is_block ? block_of(node->swarm, id) : UINT32_MAX);
}

static void on_find_end(void *context, const struct id *id, bool is_block)
{
    (void)context;
    (void)id;
    (void)is_block;
}

static void opened(void *context, uint64_t argument)
{
    (void)argument;
    struct node *node = context;
    if (node->is_up && node->is_fetching) {
        node->has_list = true;
        transfer_opened(node->transfer, sim_engine_now_us(node->swarm->engine), &node->swarm->file,
                        0, &node->swarm->metadata, node->have);
        swarm_pump(node);
    }
}

void swarm_wire_open(struct node *node)
{
    swarm_at(node->swarm, SIM_US_PER_MS, opened, node, 0);
}

static void on_open(void *context, const struct id *file, struct bytes text)
{
    (void)file;
    (void)text;
    swarm_wire_open(context);
}

static void on_copy(void *context, const struct id *file, uint32_t index)
{
    (void)context;
    (void)file;
    (void)index;
    CHECK(false); /* there is one file */
}

static void committed(void *context, uint64_t argument)
{
    (void)argument;
    struct node *node = context;
    if (node->is_up && node->is_fetching) {
        transfer_committed(node->transfer, sim_engine_now_us(node->swarm->engine),
                           &node->swarm->file, 0);
        swarm_pump(node);
    }
}

static void on_commit(void *context, const struct id *file)
{
    (void)file;
    struct node *node = context;
    swarm_at(node->swarm, 5 * SIM_US_PER_MS, committed, node, 0);
}

static void on_changed(void *context, const struct id *file)
{
    (void)context;
    (void)file;
}

static void on_ended(void *context, const struct id *file, int err)
{
    (void)file;
    struct node *node = context;
    struct sim_swarm *swarm = node->swarm;
    node->has_ended = true;
    node->is_fetching = false;
    node->err = err;
    swarm->fetching_count--;
    if (!err) {
        CHECK(node->have_count == swarm->metadata.blocks_count);
        node->took_us = sim_engine_now_us(swarm->engine) - node->started_us;
    }
    swarm_note(swarm, node->index);
}

static void on_shunned(void *context, const struct node_id *peer)
{
    (void)context;
    (void)peer;
}

struct transfer_host swarm_wire_host(struct node *node)
{
    return (struct transfer_host){
        .ask = on_ask,
        .stop = on_stop,
        .request = on_request,
        .cancel = on_cancel,
        .find = on_find,
        .find_end = on_find_end,
        .open = on_open,
        .copy = on_copy,
        .commit = on_commit,
        .changed = on_changed,
        .ended = on_ended,
        .shunned = on_shunned,
        .context = node,
    };
}

/* Sources. */

static void send_later(void *context, uint64_t argument)
{
    struct node *node = context;
    if (node->is_up && !node->is_frozen && node->send_us == argument) {
        node->send_us = SIM_TIME_MAX;
        swarm_wire_pump(node);
    }
}

void swarm_wire_pump(struct node *node)
{
    struct sim_swarm *swarm = node->swarm;
    struct upload_job job;
    const uint64_t now_us = sim_engine_now_us(swarm->engine);
    while (upload_next(node->upload, now_us, &job)) {
        struct delivery *delivery = mem_alloc(sizeof *delivery);
        delivery->swarm = swarm;
        delivery->job = job;
        delivery->from = node->index;
        delivery->to = swarm_index(&job.peer);
        memcpy(&delivery->block, job.block.bytes, sizeof delivery->block);
        DL_APPEND(swarm->deliveries, delivery);
        sim_pipes_send(swarm->pipes, node->index, delivery->to, job.size_bytes, delivery);
    }
    const uint64_t next_us = upload_next_us(node->upload);
    if (next_us < node->send_us && next_us > now_us) {
        node->send_us = next_us;
        swarm_at(swarm, next_us - now_us, send_later, node, next_us);
    }
}

static void take_request(struct node *node, const struct message *message)
{
    struct sim_swarm *swarm = node->swarm;
    const struct node_id peer = swarm_node_id(message->from);
    for (uint16_t i = 0; i < message->indices_count; i++) {
        const uint32_t block = message->indices[i];
        const struct upload_job job = {
            .peer = peer,
            .number = message->number,
            .position = i,
            .block = swarm->metadata.blocks[block].id,
            .size_bytes = swarm->metadata.blocks[block].size_bytes,
        };
        struct node_id given_to[UPLOAD_GIVEN_TO_MAX];
        size_t given_to_count = 0;
        const bool is_here = swarm_has(node, block);
        if (is_here &&
            upload_request(node->upload, sim_engine_now_us(swarm->engine), &job, message->flags & 1,
                           given_to, &given_to_count) == UPLOAD_TAKEN) {
            continue;
        }
        struct message *answer =
            new_message(swarm, SAYS_REFUSED, node->index, message->from, message->number);
        answer->position = i;
        answer->flags = is_here ? TRANSFER_REFUSED_BUSY : TRANSFER_REFUSED_NOT_HERE;
        answer->nodes_count = given_to_count;
        answer->nodes = mem_copy(given_to, given_to_count * sizeof *given_to);
        send(swarm, answer);
    }
    swarm_wire_pump(node);
}

static struct follower *find_follower(struct node *node, uint32_t peer)
{
    for (size_t i = 0; i < node->followers_count; i++) {
        if (node->followers[i].node == peer) {
            return &node->followers[i];
        }
    }
    return NULL;
}

/* It has been told all that is here. */
static void follow(struct node *node, uint32_t peer)
{
    struct follower *follower = find_follower(node, peer);
    if (!follower) {
        if (node->followers_count == node->followers_capacity) {
            node->followers_capacity = node->followers_capacity ? 2 * node->followers_capacity : 16;
            node->followers = mem_resize_array(node->followers, node->followers_capacity,
                                               sizeof *node->followers);
        }
        follower = &node->followers[node->followers_count++];
        follower->node = peer;
    }
    follower->told_count = node->grown_count;
}

static void unfollow(struct node *node, uint32_t peer)
{
    struct follower *follower = find_follower(node, peer);
    if (follower) {
        *follower = node->followers[--node->followers_count];
    }
}

static void take_ask(struct node *node, const struct message *message)
{
    struct sim_swarm *swarm = node->swarm;
    const uint64_t now_us = sim_engine_now_us(swarm->engine);
    const struct node_id peer = swarm_node_id(message->from);
    struct node_id others[UPLOAD_ASKERS_NAMED];
    const size_t others_count =
        upload_asked(node->upload, now_us, &swarm->file,
                     message->flags & TRANSFER_ASK_FETCHING ? &peer : NULL, others);
    const uint32_t blocks_count = (uint32_t)swarm->metadata.blocks_count;
    struct message *answer =
        new_message(swarm, SAYS_OFFER, node->index, message->from, message->number);
    answer->nodes_count = others_count;
    answer->nodes = mem_copy(others, others_count * sizeof *others);
    answer->has_metadata = message->flags & TRANSFER_ASK_METADATA && node->has_list;
    answer->flags = !node->has_list                    ? TRANSFER_NONE
                    : node->have_count == blocks_count ? TRANSFER_COMPLETE
                                                       : TRANSFER_PARTIAL;
    if (answer->flags == TRANSFER_PARTIAL) {
        answer->have = mem_copy(node->have, (blocks_count + 7) / 8);
    }
    if (answer->flags != TRANSFER_COMPLETE) {
        follow(node, message->from);
    }
    send(swarm, answer);
    if (message->flags & TRANSFER_ASK_FETCHING) {
        transfer_asked(node->transfer, now_us, &peer, &swarm->file);
    }
}

/* Growth. */

static void plan_tell(struct node *node);

static void tell(void *context, uint64_t argument)
{
    (void)argument;
    struct node *node = context;
    struct sim_swarm *swarm = node->swarm;
    node->is_telling = false;
    if (!node->is_up || node->is_frozen) {
        return;
    }
    const size_t count = node->followers_count;
    size_t told = 0;
    size_t i = 0;
    for (; i < count && told < TOLD_MAX; i++) {
        struct follower *follower = &node->followers[node->followers_next++ % count];
        const uint32_t news_count = node->grown_count - follower->told_count;
        if (news_count == 0) {
            continue;
        }
        struct message *message = new_message(swarm, SAYS_MORE, node->index, follower->node, 0);
        message->indices_count = news_count;
        message->indices = node->grown + follower->told_count;
        send(swarm, message);
        follower->told_count = node->grown_count;
        told += news_count < FEW_BLOCKS ? 2 : 1;
    }
    node->told_us = sim_engine_now_us(swarm->engine);
    if (i < count) {
        plan_tell(node);
    }
}

static void plan_tell(struct node *node)
{
    if (!node->is_telling) {
        const uint64_t now_us = sim_engine_now_us(node->swarm->engine);
        const uint64_t since_us = now_us - node->told_us;
        node->is_telling = true;
        swarm_at(node->swarm, since_us < TELL_US ? TELL_US - since_us : 0, tell, node, 0);
    }
}

void swarm_wire_grew(struct node *node, uint32_t block)
{
    node->grown[node->grown_count++] = block;
    plan_tell(node);
}

/* Arrivals. */

static void take_offer(struct node *node, const struct message *message)
{
    struct sim_swarm *swarm = node->swarm;
    const struct node_id peer = swarm_node_id(message->from);
    static const uint8_t list[] = "list";
    const struct transfer_offer offer = {
        .state = message->flags,
        .metadata_text = message->has_metadata ? BYTES(list, 4) : (struct bytes){0},
        .have = BYTES(message->have, message->have ? (swarm->metadata.blocks_count + 7) / 8 : 0),
        .others = message->nodes,
        .others_count = message->nodes_count,
    };
    transfer_offered(node->transfer, sim_engine_now_us(swarm->engine), &peer, message->number,
                     &offer);
}

static void take_lost(struct node *node, uint32_t other)
{
    const struct node_id peer = swarm_node_id(other);
    const uint64_t now_us = sim_engine_now_us(node->swarm->engine);
    unfollow(node, other);
    upload_peer_lost(node->upload, now_us, &peer);
    swarm_wire_pump(node);
    transfer_peer_lost(node->transfer, now_us, &peer);
}

static void take(struct node *node, const struct message *message)
{
    const uint64_t now_us = sim_engine_now_us(node->swarm->engine);
    const struct node_id peer = swarm_node_id(message->from);
    switch (message->type) {
    case SAYS_ASK:
        take_ask(node, message);
        break;
    case SAYS_STOP:
        unfollow(node, message->from);
        break;
    case SAYS_REQUEST:
        take_request(node, message);
        break;
    case SAYS_CANCEL:
        (void)upload_cancel(node->upload, now_us, &peer, message->number);
        break;
    case SAYS_OFFER:
        take_offer(node, message);
        break;
    case SAYS_MORE:
        transfer_more(node->transfer, now_us, &peer, &node->swarm->file, message->indices,
                      message->indices_count);
        break;
    case SAYS_REFUSED:
        transfer_refused(node->transfer, now_us, &peer, message->number, message->position,
                         message->flags, message->nodes, message->nodes_count);
        break;
    case SAYS_NOTHING_MORE:
        take_lost(node, message->from);
        break;
    }
}

static void deliver(void *context, uint64_t argument)
{
    struct sim_swarm *swarm = context;
    struct message *message = (struct message *)(uintptr_t)argument;
    struct node *node = &swarm->nodes[message->to];
    swarm_note(swarm, (uint64_t)message->type << 32 | message->to);
    if (!swarm_reaches(swarm, message->from, message->to)) {
        free_message(swarm, message);
        return;
    }
    if (!node->is_up && message->type != SAYS_NOTHING_MORE && swarm->nodes[message->from].is_up) {
        /* The other end says that nobody is there. */
        send(swarm, new_message(swarm, SAYS_NOTHING_MORE, message->to, message->from, 0));
    } else if (node->is_up && !node->is_frozen) {
        take(node, message);
        swarm_pump(node);
    }
    free_message(swarm, message);
}

/* Blocks. */

static void on_left(void *context, void *tag, bool is_whole)
{
    struct sim_swarm *swarm = context;
    struct delivery *delivery = tag;
    struct node *node = &swarm->nodes[delivery->from];
    if (node->is_up && !node->is_frozen) {
        node->sent_bytes += is_whole ? delivery->job.size_bytes : 0;
        upload_done(node->upload, sim_engine_now_us(swarm->engine), &delivery->job, is_whole);
        swarm_wire_pump(node);
    }
}

static void written(void *context, uint64_t argument)
{
    struct delivery *delivery = (struct delivery *)(uintptr_t)argument;
    struct sim_swarm *swarm = context;
    struct node *node = &swarm->nodes[delivery->to];
    const uint64_t bytes = delivery->job.size_bytes;
    const struct node_id peer = swarm_node_id(delivery->from);
    swarm_note(swarm, (uint64_t)delivery->block << 32 | delivery->to);
    if (node->is_up && !node->is_frozen && swarm_reaches(swarm, delivery->from, delivery->to)) {
        node->received_bytes += bytes;
        if (swarm_has(node, delivery->block)) {
            struct transfer_status status;
            const bool is_known = transfer_status(node->transfer, 0, &swarm->file, &status);
            const bool is_end =
                !is_known || status.blocks_here + status.blocks_on_way >= status.blocks_count;
            node->duplicate_bytes += bytes;
            node->raced_bytes += is_end ? bytes : 0;
        } else {
            swarm_hold(node, delivery->block);
        }
        transfer_block(node->transfer, sim_engine_now_us(swarm->engine), &peer,
                       delivery->job.number, delivery->job.position, 0);
        swarm_pump(node);
    }
    free_delivery(delivery);
}

static void on_came(void *context, void *tag, uint64_t bytes_count, bool is_last)
{
    struct sim_swarm *swarm = context;
    struct delivery *delivery = tag;
    struct node *node = &swarm->nodes[delivery->to];
    if (node->is_up && !node->is_frozen && swarm_reaches(swarm, delivery->from, delivery->to)) {
        const struct node_id peer = swarm_node_id(delivery->from);
        transfer_received(node->transfer, sim_engine_now_us(swarm->engine), &peer, bytes_count);
    }
    if (is_last) {
        const uint64_t us = delivery->job.size_bytes / WRITE_BYTES_PER_US + WRITE_US_MIN;
        swarm_at(swarm, us, written, swarm, (uint64_t)(uintptr_t)delivery);
    }
}

struct sim_pipes_host swarm_wire_pipes(struct sim_swarm *swarm)
{
    return (struct sim_pipes_host){.left = on_left, .came = on_came, .context = swarm};
}

void swarm_wire_cut(struct sim_swarm *swarm, uint32_t gone)
{
    for (uint32_t i = 0; i < swarm->options.nodes_count; i++) {
        if (i != gone && swarm->nodes[i].is_up) {
            send(swarm, new_message(swarm, SAYS_NOTHING_MORE, gone, i, 0));
        }
    }
}

void swarm_wire_give_up(struct sim_swarm *swarm, uint32_t index)
{
    for (uint32_t i = 0; i < swarm->options.nodes_count; i++) {
        if (!swarm_reaches(swarm, i, index)) {
            take_lost(&swarm->nodes[index], i);
        }
    }
}
