/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sim/packet_priv.h"

#define PIECE_BYTES (256u * 1024)
#define CLASS_LARGE UINT8_MAX

struct packet_piece {
    struct packet_piece *next;
    _Alignas(16) uint8_t data[];
};

/* Packets with their header. Most probes fit the second, most broadcasts the third. */
static const uint32_t class_bytes[PACKET_CLASSES] = {128, 192, 320, 640, 1536, 8192, 65600};

static uint8_t class_of(size_t size_bytes)
{
    uint8_t class = 0;
    while (class < PACKET_CLASSES && class_bytes[class] < size_bytes) {
        class ++;
    }
    return class < PACKET_CLASSES ? class : CLASS_LARGE;
}

static void add_piece(struct packet_pool *pool, uint8_t class)
{
    struct packet_piece *piece = mem_alloc(sizeof *piece + PIECE_BYTES);
    piece->next = pool->pieces;
    pool->pieces = piece;
    const size_t count = PIECE_BYTES / class_bytes[class];
    for (size_t i = 0; i < count; i++) {
        struct packet *packet = (struct packet *)(void *)(piece->data + i * class_bytes[class]);
        packet->next = pool->free[class];
        pool->free[class] = packet;
    }
}

struct packet *packet_new(struct packet_pool *pool, struct bytes bytes)
{
    const size_t size_bytes = sizeof(struct packet) + bytes.size;
    const uint8_t class = class_of(size_bytes);
    struct packet *packet;
    if (class == CLASS_LARGE) {
        packet = mem_alloc(size_bytes);
    } else {
        if (!pool->free[class]) {
            add_piece(pool, class);
        }
        packet = pool->free[class];
        pool->free[class] = packet->next;
    }
    CHECK(bytes.size <= UINT32_MAX);
    packet->next = NULL;
    packet->class = class;
    packet->size_bytes = (uint32_t)bytes.size;
    if (bytes.size > 0) {
        memcpy(packet->data, bytes.data, bytes.size);
    }
    return packet;
}

void packet_free(struct packet_pool *pool, struct packet *packet)
{
    if (packet->class == CLASS_LARGE) {
        free(packet);
        return;
    }
    packet->next = pool->free[packet->class];
    pool->free[packet->class] = packet;
}

void packet_pool_done(struct packet_pool *pool)
{
    while (pool->pieces) {
        struct packet_piece *piece = pool->pieces;
        pool->pieces = piece->next;
        free(piece);
    }
}
