/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_PACKET_PRIV_H
#define SIM_PACKET_PRIV_H

/*
 * packet: what is on its way, or waits in a socket buffer. They come and go by the million, so they
 * are cut from large pieces, in a few sizes, and reused.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* The largest that UDP carries. */
#define PACKET_BYTES_MAX 65507u
#define PACKET_CLASSES 7u

struct packet {
    struct packet *next; /* of a socket buffer, or of those that are free */
    uint64_t wire_bytes;
    uint32_t from;
    uint32_t to;
    uint32_t from_identity; /* of a message */
    uint32_t size_bytes;
    uint8_t class;
    bool is_message;
    uint8_t data[];
};

struct packet_piece;

struct packet_pool {
    struct packet *free[PACKET_CLASSES];
    struct packet_piece *pieces;
};

/* A packet with a copy of `bytes`; all else is the caller's. Messages may be larger than
 * PACKET_BYTES_MAX, these are not kept in the pool. */
struct packet *packet_new(struct packet_pool *pool, struct bytes bytes);
void packet_free(struct packet_pool *pool, struct packet *packet);

/* All packets at once; large ones have to be freed before. */
void packet_pool_done(struct packet_pool *pool);

#endif
