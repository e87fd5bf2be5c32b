/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/pipe.h"

#include <stdlib.h>

#include "base/list.h"
#include "base/mem.h"

/* Pieces of a flow: few, as each is two events; enough for flows to share a link. None is shorter
 * than what a link carries in PIECE_US. */
#define PIECES 4u
#define PIECE_BYTES_MIN UINT64_C(16384)
#define PIECE_US (2 * SIM_US_PER_MS)
/* Of a flow between two hosts: so many pieces, and what the delay holds. */
#define WINDOW_PIECES 2u

struct flow {
    uint32_t from;
    uint32_t to;
    uint64_t piece_bytes;
    uint64_t unsent_bytes;
    uint64_t between_bytes; /* sent and not come */
    bool has_left;
    bool is_ready; /* in the ring of its sender */
    bool is_dead;
    void *tag;
    struct flow *prev; /* of the ring */
    struct flow *next;
    struct flow *prev_all;
    struct flow *next_all;
};

struct host {
    uint64_t rate_bytes_per_s;
    struct flow *ring; /* flows that have something to send and may */
    bool is_sending;
    bool is_frozen;
    bool is_gone;
    uint64_t down_free_us; /* what comes is through then */
};

struct piece {
    struct flow *flow;
    uint64_t bytes;
    struct piece *prev;
    struct piece *next;
};

struct sim_pipes {
    struct sim_engine *engine;
    struct sim_pipes_host host;
    struct host *hosts;
    size_t hosts_count;
    uint64_t delay_us;
    uint64_t seed;
    struct flow *flows;   /* all */
    struct piece *pieces; /* under way */
};

struct sim_pipes *sim_pipes_new(struct sim_engine *engine, const struct sim_pipes_options *options,
                                const struct sim_pipes_host *host)
{
    struct sim_pipes *pipes = mem_alloc(sizeof *pipes);
    pipes->engine = engine;
    pipes->host = *host;
    pipes->hosts = mem_alloc_array(options->hosts_count, sizeof *pipes->hosts);
    pipes->hosts_count = options->hosts_count;
    pipes->delay_us = options->delay_us;
    pipes->seed = options->seed;
    for (size_t i = 0; i < pipes->hosts_count; i++) {
        pipes->hosts[i].rate_bytes_per_s = options->rate_bytes_per_s;
    }
    return pipes;
}

void sim_pipes_free(struct sim_pipes *pipes)
{
    if (!pipes) {
        return;
    }
    struct flow *flow;
    struct flow *next;
    DL_FOREACH_SAFE2(pipes->flows, flow, next, next_all)
    {
        DL_DELETE2(pipes->flows, flow, prev_all, next_all);
        free(flow);
    }
    struct piece *piece;
    struct piece *next_piece;
    DL_FOREACH_SAFE(pipes->pieces, piece, next_piece)
    {
        DL_DELETE(pipes->pieces, piece);
        free(piece);
    }
    free(pipes->hosts);
    free(pipes);
}

void sim_pipes_set_rate(struct sim_pipes *pipes, uint32_t host, uint64_t rate_bytes_per_s)
{
    CHECK(rate_bytes_per_s > 0);
    pipes->hosts[host].rate_bytes_per_s = rate_bytes_per_s;
}

uint64_t sim_pipes_delay_us(const struct sim_pipes *pipes, uint32_t from, uint32_t to)
{
    /* The same both ways, another one for each pair. */
    const uint64_t low = from < to ? from : to;
    const uint64_t high = from < to ? to : from;
    uint64_t mixed = (low << 32 | high) + pipes->seed;
    mixed = (mixed ^ mixed >> 33) * UINT64_C(0xff51afd7ed558ccd);
    mixed ^= mixed >> 33;
    return pipes->delay_us + mixed % (pipes->delay_us / 4 + 1);
}

static uint64_t window_bytes(const struct sim_pipes *pipes, const struct flow *flow)
{
    const uint64_t rate = pipes->hosts[flow->from].rate_bytes_per_s;
    const uint64_t trip_us = 2 * sim_pipes_delay_us(pipes, flow->from, flow->to);
    return WINDOW_PIECES * flow->piece_bytes + rate / 1000 * trip_us / 1000;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t took_us(uint64_t bytes, uint64_t rate_bytes_per_s)
{
    return (bytes * SIM_US_PER_S + rate_bytes_per_s - 1) / rate_bytes_per_s;
}

static void out_of_ring(struct sim_pipes *pipes, struct flow *flow)
{
    if (flow->is_ready) {
        DL_DELETE(pipes->hosts[flow->from].ring, flow);
        flow->is_ready = false;
    }
}

static void free_flow(struct sim_pipes *pipes, struct flow *flow)
{
    out_of_ring(pipes, flow);
    DL_DELETE2(pipes->flows, flow, prev_all, next_all);
    free(flow);
}

static void send_next(struct sim_pipes *pipes, uint32_t from);

static void make_ready(struct sim_pipes *pipes, struct flow *flow)
{
    if (!flow->is_ready && flow->unsent_bytes > 0 && !flow->is_dead &&
        flow->between_bytes < window_bytes(pipes, flow)) {
        DL_APPEND(pipes->hosts[flow->from].ring, flow);
        flow->is_ready = true;
    }
}

static void on_came(void *context, uint64_t argument)
{
    struct sim_pipes *pipes = context;
    struct piece *piece = (struct piece *)(uintptr_t)argument;
    struct flow *flow = piece->flow;
    const uint64_t bytes = piece->bytes;
    DL_DELETE(pipes->pieces, piece);
    free(piece);
    const struct host *to = &pipes->hosts[flow->to];
    if (to->is_frozen && !to->is_gone) {
        return; /* its window stays full */
    }
    flow->between_bytes -= bytes;
    if (flow->is_dead) {
        if (flow->between_bytes == 0) {
            free_flow(pipes, flow);
        }
        return;
    }
    const bool is_last = flow->unsent_bytes == 0 && flow->between_bytes == 0;
    void *tag = flow->tag;
    const uint32_t from = flow->from;
    if (is_last) {
        free_flow(pipes, flow);
    } else {
        make_ready(pipes, flow);
        send_next(pipes, from);
    }
    pipes->host.came(pipes->host.context, tag, bytes, is_last);
}

/* A piece has left its host; it queues before the link of the other. */
static void on_left(void *context, uint64_t argument)
{
    struct sim_pipes *pipes = context;
    struct piece *piece = (struct piece *)(uintptr_t)argument;
    struct flow *flow = piece->flow;
    struct host *from = &pipes->hosts[flow->from];
    struct host *to = &pipes->hosts[flow->to];
    const uint32_t number = flow->from;
    from->is_sending = false;
    const uint64_t now_us = sim_engine_now_us(pipes->engine);
    const uint64_t there_us = now_us + sim_pipes_delay_us(pipes, flow->from, flow->to);
    const uint64_t begin_us = there_us > to->down_free_us ? there_us : to->down_free_us;
    to->down_free_us = begin_us + took_us(piece->bytes, to->rate_bytes_per_s);
    sim_engine_at(pipes->engine, to->down_free_us, on_came, pipes, argument);
    if (flow->unsent_bytes == 0 && !flow->has_left && !flow->is_dead) {
        flow->has_left = true;
        pipes->host.left(pipes->host.context, flow->tag, true);
    }
    send_next(pipes, number);
}

static void send_next(struct sim_pipes *pipes, uint32_t number)
{
    struct host *from = &pipes->hosts[number];
    struct flow *flow = from->ring;
    if (from->is_sending || from->is_frozen || from->is_gone || !flow) {
        return;
    }
    out_of_ring(pipes, flow);
    struct piece *piece = mem_alloc(sizeof *piece);
    DL_APPEND(pipes->pieces, piece);
    piece->flow = flow;
    piece->bytes = flow->piece_bytes < flow->unsent_bytes ? flow->piece_bytes : flow->unsent_bytes;
    flow->unsent_bytes -= piece->bytes;
    flow->between_bytes += piece->bytes;
    make_ready(pipes, flow); /* behind the others */
    from->is_sending = true;
    sim_engine_at(pipes->engine,
                  sim_engine_now_us(pipes->engine) + took_us(piece->bytes, from->rate_bytes_per_s),
                  on_left, pipes, (uint64_t)(uintptr_t)piece);
}

void sim_pipes_send(struct sim_pipes *pipes, uint32_t from, uint32_t to, uint64_t size_bytes,
                    void *tag)
{
    CHECK(size_bytes > 0 && from != to);
    struct flow *flow = mem_alloc(sizeof *flow);
    flow->from = from;
    flow->to = to;
    flow->unsent_bytes = size_bytes;
    flow->piece_bytes = (size_bytes + PIECES - 1) / PIECES;
    flow->piece_bytes = larger(flow->piece_bytes, PIECE_BYTES_MIN);
    flow->piece_bytes =
        larger(flow->piece_bytes, pipes->hosts[from].rate_bytes_per_s / 1000 * PIECE_US / 1000);
    flow->tag = tag;
    DL_APPEND2(pipes->flows, flow, prev_all, next_all);
    make_ready(pipes, flow);
    send_next(pipes, from);
}

void sim_pipes_freeze(struct sim_pipes *pipes, uint32_t host)
{
    pipes->hosts[host].is_frozen = true;
}

void sim_pipes_kill(struct sim_pipes *pipes, uint32_t host)
{
    pipes->hosts[host].is_gone = true;
    struct flow *flow;
    struct flow *next;
    DL_FOREACH_SAFE2(pipes->flows, flow, next, next_all)
    {
        if (flow->is_dead || (flow->from != host && flow->to != host)) {
            continue;
        }
        flow->is_dead = true;
        flow->unsent_bytes = 0;
        const bool is_told = flow->to == host && !flow->has_left;
        void *tag = flow->tag;
        if (flow->between_bytes == 0) {
            free_flow(pipes, flow);
        } else {
            out_of_ring(pipes, flow);
        }
        if (is_told) {
            pipes->host.left(pipes->host.context, tag, false);
        }
    }
}
