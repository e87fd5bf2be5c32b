/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_NODE_ID_H
#define WIRE_NODE_ID_H

/*
 * node_id: who a node is: the first 160 bits of the SHA-256 of its public key. It is also the
 * node's place on the ring of keys: ids are compared as big-endian numbers, clockwise is upwards,
 * and after the highest comes the lowest.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/codec.h"
#include "wire/fields.h"

#define NODE_ID_BYTES 20
#define NODE_ID_HEX_CHARS 40 /* without the NUL */

struct node_id {
    uint8_t bytes[NODE_ID_BYTES];
};

static inline int node_id_compare(const struct node_id *a, const struct node_id *b)
{
    /* By words: nothing is done with members more often. */
    const uint64_t high_a = codec_get_be64(a->bytes);
    const uint64_t high_b = codec_get_be64(b->bytes);
    if (high_a != high_b) {
        return high_a < high_b ? -1 : 1;
    }
    const uint64_t middle_a = codec_get_be64(a->bytes + 8);
    const uint64_t middle_b = codec_get_be64(b->bytes + 8);
    if (middle_a != middle_b) {
        return middle_a < middle_b ? -1 : 1;
    }
    const uint32_t low_a = codec_get_be32(a->bytes + 16);
    const uint32_t low_b = codec_get_be32(b->bytes + 16);
    return (low_a > low_b) - (low_a < low_b);
}

static inline bool node_id_equal(const struct node_id *a, const struct node_id *b)
{
    return node_id_compare(a, b) == 0;
}

/* 40 lower-case hex digits. */
void node_id_format(const struct node_id *id, char ret_hex[NODE_ID_HEX_CHARS + 1]);

/* -EINVAL: not 40 hex digits in lower case. */
[[nodiscard]] int node_id_parse(struct bytes hex, struct node_id *ret_id);

void field_put_node_id(struct buf *message, const struct node_id *id);
struct node_id field_get_node_id(struct field_reader *reader);

#endif
