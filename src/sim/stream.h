/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_STREAM_H
#define SIM_STREAM_H

/*
 * stream: messages between hosts over connections, as TCP would carry them: a round trip to set a
 * connection up, in order, at the rate of both ends, late when packets are lost, lost as a whole
 * when the other end does not answer for SIM_STREAM_TIMEOUT_US or has been restarted.
 *
 * Modelled is time and failure, not TCP: a transfer takes as many rounds as slow start needs; each
 * round may lose a packet, which costs a retransmission time-out that doubles.
 *
 * Threads: one.
 */

#include <stdint.h>

#include "base/bytes.h"
#include "sim/engine.h"
#include "sim/network.h"

/* TCP_USER_TIMEOUT as programs set it that want to know. */
#define SIM_STREAM_TIMEOUT_US (10 * SIM_US_PER_S)
#define SIM_STREAM_RETRY_US (200 * SIM_US_PER_MS) /* TCP_RTO_MIN of Linux */
/* A connection without traffic is closed after so long. */
#define SIM_STREAM_IDLE_US (120 * SIM_US_PER_S)

struct sim_streams;

enum sim_stream_answer {
    SIM_STREAM_TAKEN = 1,
    SIM_STREAM_FULL = 2, /* its buffer is: try again later */
    SIM_STREAM_DEAD = 3, /* nobody there: no answer at all */
};

struct sim_streams_host {
    /* A message is through. */
    enum sim_stream_answer (*deliver)(void *context, uint32_t from, uint32_t to,
                                      struct bytes message, uint64_t wire_bytes);
    /* Counts the starts of a host: a connection does not outlive either end. */
    uint32_t (*life)(void *context, uint32_t host);
    void *context;
};

/* Engine and network are borrowed. */
struct sim_streams *sim_streams_new(struct sim_engine *engine, struct sim_network *network,
                                    const struct sim_streams_host *host);
void sim_streams_free(struct sim_streams *streams);

/* Sends a copy of `message`, which counts as `wire_bytes`. */
void sim_stream_send(struct sim_streams *streams, uint32_t from, uint32_t to, struct bytes message,
                     uint64_t wire_bytes);

/* Messages that never arrived. */
uint64_t sim_streams_lost_count(const struct sim_streams *streams);

#endif
