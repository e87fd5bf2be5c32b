/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_LOCATE_MESSAGE_H
#define WIRE_LOCATE_MESSAGE_H

/*
 * locate_message: what nodes say to each other about who holds what.
 *
 * Major u8, minor u8, type u8, then
 *
 *   TELL        life u64, number u64, held: I have these; NONE: no more
 *   ARC         life u64, number u64, first key, last key, held: from the one to the other, both
 *               included, this is all that I have of yours
 *   COMPARE     life u64, number u64, parts u16, u64 for each of 16 parts of the keys (by their
 *               first four bits): sums over what I told you, in the parts named by their bits
 *   TAKEN       life u64, number u64, parts u16: TELL, ARC or COMPARE was done; in these parts of a
 *               COMPARE you and I differ
 *   COMPARE_ASK (nothing): I lost what you told me
 *   FIND        number u64, key
 *   FOUND       number u64, state u8, holders: my own state, and what I was told of others
 *   WHO_HAS     number u64, asker 20 bytes, keys
 *   HAVE        number u64, states: u8 for each key that was asked for, in the same order
 *
 * with key 20 bytes; held = key, state u8; holder = node id 20 bytes, state u8. Lists run up to the
 * end. WHO_HAS travels as a broadcast (DATAGRAM_PAYLOAD_LOCATE) or over a connection, all others
 * over a connection.
 *
 * Fields as in wire/fields.h; versions are treated as in wire/datagram.h, but a list at the end
 * leaves no room behind it.
 */

#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "wire/node_id.h"
#include "wire/ring_key.h"

#define LOCATE_MESSAGE_BYTES_MAX ((size_t)1024 * 1024)
#define LOCATE_PARTS 16u
#define LOCATE_HELD_MAX 4096u      /* of a TELL or ARC */
#define LOCATE_ANSWER_HOLDERS 64u  /* of a FOUND */
#define LOCATE_SEARCH_KEYS_MAX 48u /* of a WHO_HAS: it fits into a broadcast */

enum locate_state {
    LOCATE_NONE = 0,
    LOCATE_PARTIAL = 1,
    LOCATE_COMPLETE = 2,
};

enum locate_message_type {
    LOCATE_TELL = 1,
    LOCATE_ARC = 2,
    LOCATE_COMPARE = 3,
    LOCATE_TAKEN = 4,
    LOCATE_COMPARE_ASK = 5,
    LOCATE_FIND = 6,
    LOCATE_FOUND = 7,
    LOCATE_WHO_HAS = 8,
    LOCATE_HAVE = 9,
};

struct locate_held {
    struct ring_key key;
    enum locate_state state;
};

struct locate_held_by {
    struct node_id node;
    enum locate_state state;
};

/* One message; only the fields of its type are used. The list is borrowed. */
struct locate_message {
    enum locate_message_type type;
    uint64_t life;   /* of the teller; a TAKEN has that of what it answers */
    uint64_t number; /* the sender's; an answer has that of what it answers */
    uint16_t parts;  /* part 0 is the lowest bit */
    uint64_t sums[LOCATE_PARTS];
    struct ring_key key;   /* of a FIND */
    struct ring_key first; /* of an ARC; not above `last` */
    struct ring_key last;
    struct node_id asker;
    enum locate_state state;
    struct bytes list; /* whole and in form; see locate_message_next_*() */
};

/* Appends all but the list, which the caller appends with locate_message_put_*(), after it. */
void locate_message_format(const struct locate_message *message, struct buf *ret_bytes);
void locate_message_put_held(struct buf *message, const struct locate_held *held);
void locate_message_put_holder(struct buf *message, const struct locate_held_by *holder);
void locate_message_put_key(struct buf *message, const struct ring_key *key);
void locate_message_put_state(struct buf *message, enum locate_state state);

/* `is_broadcast`: from a broadcast, else from a connection. -EPROTO: malformed, or must not come
 * that way; -EPROTONOSUPPORT: of another major version or an unknown type; -EFBIG: longer than
 * LOCATE_MESSAGE_BYTES_MAX (a broadcast: DATAGRAM_PAYLOAD_BYTES_MAX). *ret_message is untouched
 * after a failure. */
[[nodiscard]] int locate_message_parse(struct bytes bytes, bool is_broadcast,
                                       struct locate_message *ret_message);

/* Take the next one off `*list`; false at the end. */
bool locate_message_next_held(struct bytes *list, struct locate_held *ret_held);
bool locate_message_next_holder(struct bytes *list, struct locate_held_by *ret_holder);
bool locate_message_next_key(struct bytes *list, struct ring_key *ret_key);
bool locate_message_next_state(struct bytes *list, enum locate_state *ret_state);

#endif
