/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_PIPE_H
#define SIM_PIPE_H

/*
 * pipe: bytes from host to host over links with a rate each way, as TCP would share them: what a
 * host sends goes out in pieces, one of each flow in turn; what is sent to a host comes in one
 * piece behind the other; of a flow only so much is between the two as keeps it going. So a host
 * that sends to a crowded one does not wait for it, but serves others meanwhile.
 *
 * Modelled are rates and delays, not loss, slow start, or a middle of the network with less room
 * than its edges.
 *
 * Threads: one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/engine.h"

struct sim_pipes;

struct sim_pipes_host {
    /* The last byte has left the sender, or (false) never will. Once for each flow. */
    void (*left)(void *context, void *tag, bool is_whole);
    /* So many bytes came through; the last ones: nothing more is called for the flow. */
    void (*came)(void *context, void *tag, uint64_t bytes_count, bool is_last);
    void *context;
};

struct sim_pipes_options {
    size_t hosts_count;
    uint64_t rate_bytes_per_s; /* of each host, each way */
    uint64_t delay_us;         /* one way; up to a quarter more, by pair */
    uint64_t seed;
};

/* The engine is borrowed. */
struct sim_pipes *sim_pipes_new(struct sim_engine *engine, const struct sim_pipes_options *options,
                                const struct sim_pipes_host *host);
void sim_pipes_free(struct sim_pipes *pipes);

/* Of one host, from now on. */
void sim_pipes_set_rate(struct sim_pipes *pipes, uint32_t host, uint64_t rate_bytes_per_s);
/* It sends no more and takes no more; others are not told (the window of their flows fills). */
void sim_pipes_freeze(struct sim_pipes *pipes, uint32_t host);
/* It is gone: flows from it end without a word, flows to it end with left() if they have not. */
void sim_pipes_kill(struct sim_pipes *pipes, uint32_t host);

uint64_t sim_pipes_delay_us(const struct sim_pipes *pipes, uint32_t from, uint32_t to);

/* A flow begins. `tag` is the caller's. */
void sim_pipes_send(struct sim_pipes *pipes, uint32_t from, uint32_t to, uint64_t size_bytes,
                    void *tag);

#endif
