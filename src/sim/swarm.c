/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/swarm.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "chunk/chunk.h"
#include "sim/swarm_priv.h"

/* A tick that is planned already may come so much late, as threads wake up late. */
#define EARLY_US 200u
/* A look at what is due never takes more rounds. */
#define ROUNDS_MAX 1000u

struct node_id swarm_node_id(uint32_t index)
{
    /* Spread over the ring, and known again by the last bytes. */
    struct node_id id = {0};
    codec_put_be64(id.bytes, (index + 1) * UINT64_C(0x9e3779b97f4a7c15));
    codec_put_be32(id.bytes + 16, index);
    return id;
}

uint32_t swarm_index(const struct node_id *id)
{
    return codec_get_be32(id->bytes + 16);
}

static void cut_file(struct sim_swarm *swarm)
{
    const struct sim_swarm_options *options = &swarm->options;
    uint64_t offset = 0;
    for (uint32_t i = 0; offset < options->size_bytes; i++) {
        uint64_t bytes = options->block_bytes;
        if (bytes == 0) {
            const struct chunker *chunker = chunker_fixed();
            bytes = chunker->window_bytes(chunker, offset);
        }
        bytes = bytes < options->size_bytes - offset ? bytes : options->size_bytes - offset;
        struct id id = {0};
        memcpy(id.bytes, &i, sizeof i);
        codec_put_be64(id.bytes + 8, (i + 1) * UINT64_C(0x9e3779b97f4a7c15));
        CHECK(file_metadata_add(&swarm->metadata, &id, (uint32_t)bytes) == 0);
        offset += bytes;
    }
    memset(swarm->file.bytes, 0xff, sizeof swarm->file.bytes);
}

static void tell_members(struct sim_swarm *swarm, uint32_t to, bool all_are_alive)
{
    const uint32_t count = swarm->options.nodes_count;
    struct transfer_member *members = mem_alloc_array(count, sizeof *members);
    for (uint32_t i = 0; i < count; i++) {
        const struct node *node = &swarm->nodes[i];
        members[i] = (struct transfer_member){
            .id = swarm_node_id(i),
            .is_alive =
                all_are_alive || (node->is_up && !node->is_frozen && swarm_reaches(swarm, i, to))};
    }
    transfer_set_members(swarm->nodes[to].transfer, sim_engine_now_us(swarm->engine), members,
                         count);
    free(members);
}

struct sim_swarm *sim_swarm_new(const struct sim_swarm_options *options)
{
    struct sim_swarm *swarm = mem_alloc(sizeof *swarm);
    swarm->options = *options;
    swarm->engine = sim_engine_new();
    random_init(&swarm->random, options->seed);
    const struct sim_pipes_options pipes = {.hosts_count = options->nodes_count,
                                            .rate_bytes_per_s = options->rate_bytes_per_s,
                                            .delay_us = options->delay_us,
                                            .seed = options->seed};
    const struct sim_pipes_host host = swarm_wire_pipes(swarm);
    swarm->pipes = sim_pipes_new(swarm->engine, &pipes, &host);
    cut_file(swarm);
    swarm->nodes = mem_alloc_array(options->nodes_count, sizeof *swarm->nodes);
    swarm->holders = mem_alloc_array(options->nodes_count, sizeof *swarm->holders);
    for (uint32_t i = 0; i < options->nodes_count; i++) {
        struct node *node = &swarm->nodes[i];
        node->swarm = swarm;
        node->index = i;
        node->is_up = true;
        node->tick_us = SIM_TIME_MAX;
        node->send_us = SIM_TIME_MAX;
        node->took_us = SIM_SWARM_NEVER;
        node->have = mem_alloc((swarm->metadata.blocks_count + 7) / 8 + 1);
        node->grown = mem_alloc_array(swarm->metadata.blocks_count + 1, sizeof *node->grown);
        const struct transfer_options transfer = {.id = swarm_node_id(i),
                                                  .random_seed = random_u64(&swarm->random),
                                                  .host = swarm_wire_host(node)};
        node->transfer = transfer_new(&transfer, 0);
        const struct upload_options upload = {.random_seed = random_u64(&swarm->random)};
        node->upload = upload_new(&upload, 0);
        tell_members(swarm, i, true);
    }
    return swarm;
}

void sim_swarm_free(struct sim_swarm *swarm)
{
    if (!swarm) {
        return;
    }
    for (uint32_t i = 0; i < swarm->options.nodes_count; i++) {
        struct node *node = &swarm->nodes[i];
        transfer_free(node->transfer);
        upload_free(node->upload);
        free(node->have);
        free(node->followers);
        free(node->grown);
    }
    swarm_wire_done(swarm);
    sim_pipes_free(swarm->pipes);
    sim_engine_free(swarm->engine);
    file_metadata_done(&swarm->metadata);
    free(swarm->nodes);
    free(swarm->holders);
    free(swarm);
}

uint32_t sim_swarm_blocks_count(const struct sim_swarm *swarm)
{
    return (uint32_t)swarm->metadata.blocks_count;
}

uint64_t sim_swarm_now_us(const struct sim_swarm *swarm)
{
    return sim_engine_now_us(swarm->engine);
}

uint64_t sim_swarm_events_count(const struct sim_swarm *swarm)
{
    return sim_engine_done_count(swarm->engine);
}

uint64_t sim_swarm_trace(const struct sim_swarm *swarm)
{
    return swarm->trace;
}

void swarm_note(struct sim_swarm *swarm, uint64_t what)
{
    swarm->trace =
        (swarm->trace ^ what ^ sim_engine_now_us(swarm->engine)) * UINT64_C(0x100000001b3);
}

void swarm_at(struct sim_swarm *swarm, uint64_t after_us,
              void (*run)(void *context, uint64_t argument), void *context, uint64_t argument)
{
    sim_engine_at(swarm->engine, sim_engine_now_us(swarm->engine) + after_us, run, context,
                  argument);
}

bool swarm_has(const struct node *node, uint32_t block)
{
    return node->have[block / 8] >> (block % 8) & 1;
}

bool sim_swarm_has(const struct sim_swarm *swarm, uint32_t node, uint32_t block)
{
    return swarm_has(&swarm->nodes[node], block);
}

bool swarm_reaches(const struct sim_swarm *swarm, uint32_t from, uint32_t to)
{
    return swarm->nodes[from].part == swarm->nodes[to].part;
}

static void add_block(struct node *node, uint32_t block)
{
    struct sim_swarm *swarm = node->swarm;
    if (swarm_has(node, block)) {
        return;
    }
    node->have[block / 8] = (uint8_t)(node->have[block / 8] | 1u << (block % 8));
    if (node->have_count++ == 0) {
        swarm->holders[swarm->holders_count++] = node->index;
    }
}

void swarm_hold(struct node *node, uint32_t block)
{
    add_block(node, block);
    swarm_wire_grew(node, block);
}

void sim_swarm_give(struct sim_swarm *swarm, uint32_t node, uint32_t block)
{
    add_block(&swarm->nodes[node], block);
}

void sim_swarm_fill(struct sim_swarm *swarm, uint32_t node)
{
    for (uint32_t i = 0; i < swarm->metadata.blocks_count; i++) {
        add_block(&swarm->nodes[node], i);
    }
    sim_swarm_know(swarm, node);
}

void sim_swarm_know(struct sim_swarm *swarm, uint32_t node)
{
    swarm->nodes[node].has_list = true;
}

void sim_swarm_set_rate(struct sim_swarm *swarm, uint32_t node, uint64_t rate_bytes_per_s)
{
    sim_pipes_set_rate(swarm->pipes, node, rate_bytes_per_s);
}

static void tick(void *context, uint64_t argument)
{
    (void)argument;
    struct node *node = context;
    if (node->tick_us == sim_engine_now_us(node->swarm->engine)) {
        node->tick_us = SIM_TIME_MAX;
        if (node->is_up && !node->is_frozen) {
            swarm_pump(node);
        }
    }
}

void swarm_pump(struct node *node)
{
    const uint64_t now_us = sim_engine_now_us(node->swarm->engine);
    unsigned rounds = 0;
    uint64_t next_us;
    while ((next_us = transfer_next_us(node->transfer)) <= now_us) {
        CHECK(++rounds < ROUNDS_MAX);
        transfer_tick(node->transfer, now_us);
    }
    const bool is_planned = node->tick_us != SIM_TIME_MAX && node->tick_us <= next_us + EARLY_US;
    if (next_us != UINT64_MAX && !is_planned) {
        node->tick_us = next_us;
        swarm_at(node->swarm, next_us - now_us, tick, node, 0);
    }
}

void sim_swarm_start(struct sim_swarm *swarm, uint32_t index, uint32_t publisher)
{
    struct node *node = &swarm->nodes[index];
    const struct node_id id = swarm_node_id(publisher);
    node->started_us = sim_engine_now_us(swarm->engine);
    node->is_fetching = true;
    node->has_ended = false;
    node->err = 0;
    swarm->fetching_count++;
    CHECK(transfer_start(node->transfer, node->started_us, &swarm->file, &id, 0) == 0);
    if (node->has_list) {
        swarm_wire_open(node);
    }
    swarm_pump(node);
}

static void forget(void *context, uint64_t argument)
{
    (void)argument;
    struct sim_swarm *swarm = context;
    for (uint32_t i = 0; i < swarm->options.nodes_count; i++) {
        if (swarm->nodes[i].is_up && !swarm->nodes[i].is_frozen) {
            tell_members(swarm, i, false);
            swarm_wire_give_up(swarm, i);
            swarm_pump(&swarm->nodes[i]);
        }
    }
}

static void fall_silent(struct sim_swarm *swarm, struct node *node)
{
    if (node->is_fetching) {
        node->is_fetching = false;
        swarm->fetching_count--;
    }
    swarm_at(swarm, SIM_SWARM_KNOWN_US, forget, swarm, 0);
}

void sim_swarm_kill(struct sim_swarm *swarm, uint32_t node)
{
    swarm->nodes[node].is_up = false;
    fall_silent(swarm, &swarm->nodes[node]);
    sim_pipes_kill(swarm->pipes, node);
    swarm_wire_cut(swarm, node);
}

void sim_swarm_freeze(struct sim_swarm *swarm, uint32_t node)
{
    swarm->nodes[node].is_frozen = true;
    fall_silent(swarm, &swarm->nodes[node]);
    sim_pipes_freeze(swarm->pipes, node);
}

void sim_swarm_divide(struct sim_swarm *swarm, const uint32_t *parts)
{
    for (uint32_t i = 0; i < swarm->options.nodes_count; i++) {
        swarm->nodes[i].part = parts[i];
    }
    swarm_at(swarm, SIM_SWARM_KNOWN_US, forget, swarm, 0);
}

bool sim_swarm_run(struct sim_swarm *swarm, uint64_t us)
{
    const uint64_t end_us = sim_engine_now_us(swarm->engine) + us;
    while (swarm->fetching_count > 0 && sim_engine_now_us(swarm->engine) < end_us) {
        uint64_t step_us = end_us - sim_engine_now_us(swarm->engine);
        step_us = step_us < SIM_US_PER_MS ? step_us : SIM_US_PER_MS;
        sim_engine_run_until(swarm->engine, sim_engine_now_us(swarm->engine) + step_us);
    }
    return swarm->fetching_count > 0;
}

void sim_swarm_rest(struct sim_swarm *swarm, uint64_t us)
{
    sim_engine_run_until(swarm->engine, sim_engine_now_us(swarm->engine) + us);
}

void sim_swarm_node(const struct sim_swarm *swarm, uint32_t index, struct sim_swarm_node *ret_node)
{
    const struct node *node = &swarm->nodes[index];
    *ret_node = (struct sim_swarm_node){
        .is_up = node->is_up && !node->is_frozen,
        .is_complete = node->have_count == swarm->metadata.blocks_count,
        .has_list = node->has_list,
        .has_ended = node->has_ended,
        .err = node->err,
        .took_us = node->took_us,
        .blocks_count = node->have_count,
        .sent_bytes = node->sent_bytes,
        .received_bytes = node->received_bytes,
        .duplicate_bytes = node->duplicate_bytes,
        .raced_bytes = node->raced_bytes,
    };
}

struct sim_swarm_sums sim_swarm_sums(const struct sim_swarm *swarm)
{
    struct sim_swarm_sums sums = {.messages_count = swarm->messages_count};
    for (uint32_t i = 0; i < swarm->options.nodes_count; i++) {
        const struct transfer_counters *counters = transfer_counters(swarm->nodes[i].transfer);
        sums.requests += counters->requests;
        sums.refused += counters->refused;
        sums.insisted += counters->insisted;
        sums.hedged += counters->hedged;
        sums.raced += counters->raced;
        sums.cancelled += counters->cancelled;
    }
    return sums;
}
