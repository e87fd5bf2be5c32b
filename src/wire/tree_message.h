/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_TREE_MESSAGE_H
#define WIRE_TREE_MESSAGE_H

/*
 * tree_message: what nodes say to each other about the tree.
 *
 * Over a connection, major u8, minor u8, type u8, then
 *
 *   SUMS            sums of my version vector, by bucket: u64 for each of 256
 *   PART            buckets (256 bits, bucket 0 the lowest bit of the first byte), entries:
 *                   what I have where ours differ
 *   WANT            flags u8, lacks: send me these ops
 *   OPS             flags u8, ops: each a u32 and so many bytes (TREE_OP_BYTES_MIN at least),
 *                   causes first
 *   LARGE           dot, size u32: the next op is too long for a message
 *   PIECE_WANT      dot, offset u32
 *   PIECE           dot, offset u32, bytes
 *   AWAIT           number u64, dot: tell me when you have it on disk
 *   HAS             number u64
 *   SNAPSHOT_ASK    (nothing)
 *   SNAPSHOT_OFFER  id 32 bytes (SHA-256 of it; zeros: not now), size u64
 *   SNAPSHOT_WANT   id 32 bytes, offset u64
 *   SNAPSHOT_PIECE  id 32 bytes, offset u64, CRC-32C u32 of the piece, bytes (none: that
 *                   snapshot is not here any more)
 *   STATE_ASK       number u64
 *   STATE           number u64, vector sum u64, fingerprint 32 bytes, ops u64 (of all logs
 *                   together), entries u64
 *
 * with origin 16 bytes; dot = origin, seq u64; entry = origin, seq u64, first 8 bytes of the op's
 * hash; lack = origin, after u64, through u64. Lists and bytes run up to the end.
 *
 * In a broadcast (DATAGRAM_PAYLOAD_TREE, at most DATAGRAM_PAYLOAD_BYTES_MAX), behind the same three
 * bytes,
 *
 *   SPREAD_OPS      ops, as in OPS
 *   SPREAD_NEWS     dot, last u64: there are new ops; who told you gets them before you or at the
 *                   same time
 *
 * Fields as in wire/fields.h; versions are treated as in wire/datagram.h, but a list or bytes at
 * the end leave no room behind them.
 */

#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "hash/id.h"
#include "wire/tree_op.h"

#define TREE_MESSAGE_BYTES_MAX ((size_t)1024 * 1024)
#define TREE_SUMS 256u
#define TREE_ENTRIES_MAX 32000u    /* of a PART: all that fit */
#define TREE_WANT_LACKS_MAX 16384u /* what one pull may be about */
/* Of an op or a snapshot in one message. */
#define TREE_PIECE_BYTES_MAX ((size_t)512 * 1024)

enum tree_message_type {
    TREE_MESSAGE_SUMS = 1,
    TREE_MESSAGE_PART = 2,
    TREE_MESSAGE_WANT = 3,
    TREE_MESSAGE_OPS = 4,
    TREE_MESSAGE_LARGE = 5,
    TREE_MESSAGE_PIECE_WANT = 6,
    TREE_MESSAGE_PIECE = 7,
    TREE_MESSAGE_AWAIT = 8,
    TREE_MESSAGE_HAS = 9,
    TREE_MESSAGE_SNAPSHOT_ASK = 10,
    TREE_MESSAGE_SNAPSHOT_OFFER = 11,
    TREE_MESSAGE_SNAPSHOT_WANT = 12,
    TREE_MESSAGE_SNAPSHOT_PIECE = 13,
    TREE_MESSAGE_STATE_ASK = 14,
    TREE_MESSAGE_STATE = 15,
    TREE_MESSAGE_SPREAD_OPS = 32, /* in broadcasts alone */
    TREE_MESSAGE_SPREAD_NEWS = 33,
};

/* Of WANT: a snapshot is welcome, there is little here. */
#define TREE_WANT_SNAPSHOT 1u
/* Of WANT: send them as soon as you have them; do not answer that there is nothing. */
#define TREE_WANT_WHEN_HERE 2u
/* Of OPS: there is more of what was wanted; ask again. */
#define TREE_OPS_MORE 1u
/* Of OPS: the rest is not kept, or too much; ask for a snapshot. */
#define TREE_OPS_FORGOTTEN 2u

/* One message; only the fields of its type are used. Bytes are borrowed. */
struct tree_message {
    enum tree_message_type type;
    uint8_t flags;
    uint64_t sums[TREE_SUMS];
    uint8_t buckets[TREE_SUMS / 8];
    struct bytes list; /* entries, lacks or ops: whole and in form; see tree_message_next_*() */
    struct dot dot;
    uint64_t last_seq; /* SPREAD_NEWS: `dot` is the first */
    uint64_t number;
    uint64_t offset_bytes;
    uint64_t size_bytes;
    struct id id; /* of a snapshot, or a hash */
    uint32_t crc;
    struct bytes bytes; /* of a piece */
    uint64_t vector_sum;
    uint8_t fingerprint[32];
    uint64_t ops_count;
    uint64_t entries_count;
};

struct tree_message_entry {
    struct origin_id origin;
    uint64_t seq;       /* at least 1 */
    uint64_t hash_head; /* the first 8 bytes of the hash, little-endian */
};

/* Ops of a log that somebody lacks. */
struct tree_lack {
    struct origin_id origin;
    uint64_t after_seq;
    uint64_t through_seq; /* above after_seq */
};

/* Appends all but the list, which the caller appends with tree_message_put_*(), after it. */
void tree_message_format(const struct tree_message *message, struct buf *ret_bytes);
void tree_message_put_entry(struct buf *message, const struct tree_message_entry *entry);
void tree_message_put_lack(struct buf *message, const struct tree_lack *lack);
void tree_message_put_op(struct buf *message, struct bytes op);
#define TREE_MESSAGE_ENTRY_BYTES 32u
#define TREE_MESSAGE_LACK_BYTES 32u

/* `is_broadcast`: from a broadcast, else from a connection. -EPROTO: malformed, or of the other
 * kind; -EPROTONOSUPPORT: of another major version or an unknown type; -EFBIG: longer than
 * TREE_MESSAGE_BYTES_MAX (a broadcast: DATAGRAM_PAYLOAD_BYTES_MAX). */
[[nodiscard]] int tree_message_parse(struct bytes bytes, bool is_broadcast,
                                     struct tree_message *ret_message);

/* Take the next one off `*list`; false at the end. */
bool tree_message_next_entry(struct bytes *list, struct tree_message_entry *ret_entry);
bool tree_message_next_lack(struct bytes *list, struct tree_lack *ret_lack);
bool tree_message_next_op(struct bytes *list, struct bytes *ret_op);

#endif
