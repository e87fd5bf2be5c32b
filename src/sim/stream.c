/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

/* Payload of a packet, and how many go out before the first acknowledgement (RFC 6928). */
#define PACKET_BYTES 1448u
#define WINDOW_PACKETS 10u
#define SWEEP_MIN 4096u

struct message {
    struct message *next;
    uint64_t wire_bytes;
    size_t size_bytes;
    uint8_t data[];
};

/* One direction of a connection. */
struct stream {
    uint64_t link; /* from << 32 | to */
    struct sim_streams *streams;
    struct message *first; /* on its way; those behind it wait */
    struct message *last;
    uint32_t from_life;
    uint32_t to_life;
    bool is_open;
    uint64_t begun_us; /* of the first message */
    uint64_t used_us;
    uint64_t retry_us;
    uint64_t attempt; /* the one that counts; earlier ones still waiting do not */
    UT_hash_handle hh;
};

struct sim_streams {
    struct sim_engine *engine;
    struct sim_network *network;
    struct sim_streams_host host;
    struct stream *map;
    size_t sweep_at; /* so many streams are worth a look for those that can go */
    uint64_t lost_count;
};

static void arrive(void *context, uint64_t argument);

struct sim_streams *sim_streams_new(struct sim_engine *engine, struct sim_network *network,
                                    const struct sim_streams_host *host)
{
    struct sim_streams *streams = mem_alloc(sizeof *streams);
    streams->engine = engine;
    streams->network = network;
    streams->host = *host;
    return streams;
}

/* `is_open`: what the connection is afterwards. */
static void drop_messages(struct stream *stream, bool is_open)
{
    struct message *message;
    struct message *next;
    LL_FOREACH_SAFE(stream->first, message, next)
    {
        free(message);
        stream->streams->lost_count++;
    }
    stream->first = NULL;
    stream->last = NULL;
    stream->is_open = is_open;
}

void sim_streams_free(struct sim_streams *streams)
{
    if (!streams) {
        return;
    }
    struct stream *stream;
    struct stream *next;
    HASH_ITER(hh, streams->map, stream, next)
    {
        HASH_DEL(streams->map, stream);
        drop_messages(stream, false);
        free(stream);
    }
    free(streams);
}

uint64_t sim_streams_lost_count(const struct sim_streams *streams)
{
    return streams->lost_count;
}

static uint32_t from_of(const struct stream *stream)
{
    return (uint32_t)(stream->link >> 32);
}

static uint32_t to_of(const struct stream *stream)
{
    return (uint32_t)stream->link;
}

/* How often sender and receiver wait for each other: the window doubles each time. */
static unsigned rounds_of(const struct stream *stream)
{
    uint64_t packets = stream->first->wire_bytes / PACKET_BYTES + 1;
    unsigned rounds = stream->is_open ? 1 : 2;
    for (uint64_t window = WINDOW_PACKETS; packets > window; window *= 2) {
        packets -= window;
        rounds++;
    }
    return rounds;
}

/* Draws whether any round of an attempt has to be repeated. */
static bool loses(struct stream *stream)
{
    struct sim_network *network = stream->streams->network;
    const uint32_t from = from_of(stream);
    const uint32_t to = to_of(stream);
    bool lost = false;
    for (unsigned i = rounds_of(stream); i > 0 && !lost; i--) {
        lost = sim_network_loses(network, from, to) || sim_network_loses(network, to, from);
    }
    return lost;
}

/* Sets the first message on its way. */
static void begin(struct stream *stream)
{
    struct sim_streams *streams = stream->streams;
    const uint32_t from = from_of(stream);
    const uint32_t to = to_of(stream);
    const uint64_t now_us = sim_engine_now_us(streams->engine);
    uint64_t at_us =
        sim_network_transmit_us(streams->network, now_us, from, to, stream->first->wire_bytes);
    for (unsigned i = rounds_of(stream); i > 1; i--) {
        at_us += sim_network_delay_us(streams->network, from, to) +
                 sim_network_delay_us(streams->network, to, from);
    }
    at_us += sim_network_delay_us(streams->network, from, to);
    stream->begun_us = now_us;
    stream->retry_us = SIM_STREAM_RETRY_US;
    sim_engine_at(streams->engine, at_us, arrive, stream, ++stream->attempt);
}

static struct stream *find_stream(const struct sim_streams *streams, uint32_t from, uint32_t to)
{
    const uint64_t link = (uint64_t)from << 32 | to;
    struct stream *stream;
    HASH_FIND(hh, streams->map, &link, sizeof link, stream);
    return stream;
}

/* There is one connection between two hosts: what the other end could not get rid of while it
 * dialled goes over this one; what it had given to one that is over is lost with that. */
static void take_over(const struct stream *stream)
{
    const struct sim_streams_host *host = &stream->streams->host;
    struct stream *back = find_stream(stream->streams, to_of(stream), from_of(stream));
    if (!back || !back->first || back->from_life != stream->to_life ||
        (back->is_open && back->to_life == host->life(host->context, to_of(back)))) {
        return;
    }
    if (back->is_open) {
        back->attempt++;
        drop_messages(back, false);
    } else {
        back->is_open = true;
        back->to_life = stream->from_life;
        begin(back);
    }
}

/* The message is through if nothing was in its way; else it is tried again. */
static void arrive(void *context, uint64_t argument)
{
    struct stream *stream = context;
    if (argument != stream->attempt) {
        return;
    }
    struct sim_streams *streams = stream->streams;
    const struct sim_streams_host *host = &streams->host;
    const uint32_t from = from_of(stream);
    const uint32_t to = to_of(stream);
    const uint64_t now_us = sim_engine_now_us(streams->engine);
    const bool is_sender_gone = host->life(host->context, from) != stream->from_life;
    const bool is_reset = stream->is_open && host->life(host->context, to) != stream->to_life;
    if (is_sender_gone || now_us - stream->begun_us > SIM_STREAM_TIMEOUT_US) {
        drop_messages(stream, false);
        return;
    }
    struct message *message = stream->first;
    enum sim_stream_answer answer = SIM_STREAM_DEAD;
    if (!loses(stream)) {
        if (is_reset) {
            drop_messages(stream, false);
            return;
        }
        answer = host->deliver(host->context, from, to, BYTES(message->data, message->size_bytes),
                               message->wire_bytes);
    }
    if (answer != SIM_STREAM_TAKEN) {
        sim_engine_at(streams->engine, now_us + stream->retry_us, arrive, stream,
                      ++stream->attempt);
        stream->retry_us *= answer == SIM_STREAM_DEAD ? 2 : 1;
        return;
    }
    stream->is_open = true;
    stream->to_life = host->life(host->context, to);
    stream->used_us = now_us;
    LL_DELETE(stream->first, message);
    free(message);
    if (stream->first) {
        begin(stream);
    } else {
        stream->last = NULL;
    }
    take_over(stream);
}

/* As far as its sender knows: that the other end was restarted shows only when it says so. */
static bool is_usable(const struct stream *stream)
{
    const struct sim_streams *streams = stream->streams;
    const struct sim_streams_host *host = &streams->host;
    return stream->is_open && stream->from_life == host->life(host->context, from_of(stream)) &&
           sim_engine_now_us(streams->engine) - stream->used_us <= SIM_STREAM_IDLE_US;
}

/* Frees what was not used for long, so that a long run of many nodes does not keep every pair. An
 * attempt that no longer counts has been over for as long. */
static void sweep(struct sim_streams *streams)
{
    const uint64_t now_us = sim_engine_now_us(streams->engine);
    struct stream *stream;
    struct stream *next;
    HASH_ITER(hh, streams->map, stream, next)
    {
        if (!stream->first && now_us - stream->used_us > SIM_STREAM_IDLE_US) {
            HASH_DEL(streams->map, stream);
            free(stream);
        }
    }
    streams->sweep_at = 2 * HASH_COUNT(streams->map) + SWEEP_MIN;
}

static struct stream *make_stream(struct sim_streams *streams, uint32_t from, uint32_t to)
{
    if (HASH_COUNT(streams->map) >= streams->sweep_at) {
        sweep(streams);
    }
    struct stream *stream = mem_alloc(sizeof *stream);
    stream->link = (uint64_t)from << 32 | to;
    stream->streams = streams;
    HASH_ADD(hh, streams->map, link, sizeof stream->link, stream);
    return stream;
}

void sim_stream_send(struct sim_streams *streams, uint32_t from, uint32_t to, struct bytes message,
                     uint64_t wire_bytes)
{
    struct stream *stream = find_stream(streams, from, to);
    if (!stream) {
        stream = make_stream(streams, from, to);
    }
    const uint32_t from_life = streams->host.life(streams->host.context, from);
    struct message *copy = mem_alloc(sizeof *copy + message.size);
    copy->wire_bytes = wire_bytes;
    copy->size_bytes = message.size;
    if (message.size > 0) {
        memcpy(copy->data, message.data, message.size);
    }
    if (stream->first && stream->from_life == from_life) {
        stream->last->next = copy;
        stream->last = copy;
        return;
    }
    drop_messages(stream, is_usable(stream));
    const struct stream *back = find_stream(streams, to, from);
    if (!stream->is_open && back && is_usable(back) && back->to_life == from_life) {
        stream->is_open = true; /* a connection has two directions */
        stream->to_life = back->from_life;
    }
    stream->from_life = from_life;
    stream->used_us = sim_engine_now_us(streams->engine);
    stream->first = copy;
    stream->last = copy;
    begin(stream);
}
