/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/locate_message.h"

#include <assert.h>
#include <errno.h>

#include "base/mem.h"
#include "wire/datagram.h"
#include "wire/message_head.h"

/*
 * The table `forms` says of which parts each type consists; formatter and parser go through it, so
 * that they can't disagree about what stands where.
 */

enum part {
    PART_END,
    PART_LIFE,
    PART_NUMBER,
    PART_PARTS,
    PART_SUMS,
    PART_KEY,
    PART_RANGE,
    PART_ASKER,
    PART_STATE,
    /* These take all that is left. */
    PART_HELD,
    PART_HOLDERS,
    PART_KEYS,
    PART_STATES,
};

struct form {
    enum part parts[5]; /* PART_END after the last */
};

static const struct form forms[] = {
    [LOCATE_TELL] = {{PART_LIFE, PART_NUMBER, PART_HELD}},
    [LOCATE_ARC] = {{PART_LIFE, PART_NUMBER, PART_RANGE, PART_HELD}},
    [LOCATE_COMPARE] = {{PART_LIFE, PART_NUMBER, PART_PARTS, PART_SUMS}},
    [LOCATE_TAKEN] = {{PART_LIFE, PART_NUMBER, PART_PARTS}},
    [LOCATE_COMPARE_ASK] = {{PART_END}},
    [LOCATE_FIND] = {{PART_NUMBER, PART_KEY}},
    [LOCATE_FOUND] = {{PART_NUMBER, PART_STATE, PART_HOLDERS}},
    [LOCATE_WHO_HAS] = {{PART_NUMBER, PART_ASKER, PART_KEYS}},
    [LOCATE_HAVE] = {{PART_NUMBER, PART_STATES}},
};

#define HELD_BYTES (RING_KEY_BYTES + 1)
#define HOLDER_BYTES (NODE_ID_BYTES + 1)
static_assert(MESSAGE_HEAD_BYTES + 16 + 2 * RING_KEY_BYTES + LOCATE_HELD_MAX * HELD_BYTES <=
                  LOCATE_MESSAGE_BYTES_MAX,
              "the largest list of what is held fits");
static_assert(MESSAGE_HEAD_BYTES + 8 + NODE_ID_BYTES + LOCATE_SEARCH_KEYS_MAX * RING_KEY_BYTES <=
                  DATAGRAM_PAYLOAD_BYTES_MAX,
              "a search fits into a broadcast");

static void put_key(struct buf *bytes, const struct ring_key *key)
{
    buf_add(bytes, BYTES(key->bytes, sizeof key->bytes));
}

static void put_part(struct buf *bytes, enum part part, const struct locate_message *message)
{
    switch (part) {
    case PART_LIFE:
        field_put_u64(bytes, message->life);
        break;
    case PART_NUMBER:
        field_put_u64(bytes, message->number);
        break;
    case PART_PARTS:
        field_put_u16(bytes, message->parts);
        break;
    case PART_SUMS:
        for (size_t i = 0; i < LOCATE_PARTS; i++) {
            field_put_u64(bytes, message->sums[i]);
        }
        break;
    case PART_KEY:
        put_key(bytes, &message->key);
        break;
    case PART_RANGE:
        put_key(bytes, &message->first);
        put_key(bytes, &message->last);
        break;
    case PART_ASKER:
        field_put_node_id(bytes, &message->asker);
        break;
    case PART_STATE:
        field_put_u8(bytes, (uint8_t)message->state);
        break;
    case PART_END:
    case PART_HELD: /* lists are the caller's to append */
    case PART_HOLDERS:
    case PART_KEYS:
    case PART_STATES:
        break;
    }
}

void locate_message_format(const struct locate_message *message, struct buf *ret_bytes)
{
    CHECK(message->type >= LOCATE_TELL && message->type < ARRAY_SIZE(forms));
    field_put_message_head(ret_bytes, (uint8_t)message->type);
    const struct form *form = &forms[message->type];
    for (size_t i = 0; form->parts[i] != PART_END; i++) {
        put_part(ret_bytes, form->parts[i], message);
    }
}

void locate_message_put_held(struct buf *message, const struct locate_held *held)
{
    put_key(message, &held->key);
    field_put_u8(message, (uint8_t)held->state);
}

void locate_message_put_holder(struct buf *message, const struct locate_held_by *holder)
{
    field_put_node_id(message, &holder->node);
    field_put_u8(message, (uint8_t)holder->state);
}

void locate_message_put_key(struct buf *message, const struct ring_key *key)
{
    put_key(message, key);
}

void locate_message_put_state(struct buf *message, enum locate_state state)
{
    field_put_u8(message, (uint8_t)state);
}

static struct ring_key get_key(struct field_reader *reader)
{
    struct ring_key key = {0};
    const struct bytes raw = field_get_raw(reader, sizeof key.bytes);
    if (raw.size == sizeof key.bytes) {
        memcpy(key.bytes, raw.data, raw.size);
    }
    return key;
}

static enum locate_state get_state(struct field_reader *reader)
{
    const uint8_t state = field_get_u8(reader);
    if (state > LOCATE_COMPLETE) {
        field_fail(reader);
        return LOCATE_NONE;
    }
    return (enum locate_state)state;
}

static struct locate_held get_held(struct field_reader *reader)
{
    const struct ring_key key = get_key(reader);
    return (struct locate_held){.key = key, .state = get_state(reader)};
}

static struct locate_held_by get_holder(struct field_reader *reader)
{
    const struct node_id node = field_get_node_id(reader);
    return (struct locate_held_by){.node = node, .state = get_state(reader)};
}

/* Steps over a list of at most `limit` elements up to the end and remembers where it stands. */
static void get_list(struct field_reader *reader, enum part part, size_t limit, struct bytes *list)
{
    *list = reader->left;
    size_t count = 0;
    while (!reader->bad && reader->left.size > 0) {
        if (part == PART_HELD) {
            (void)get_held(reader);
        } else if (part == PART_HOLDERS) {
            /* Nobody hands on the word of one who has nothing. */
            if (get_holder(reader).state == LOCATE_NONE) {
                field_fail(reader);
            }
        } else if (part == PART_KEYS) {
            (void)get_key(reader);
        } else {
            (void)get_state(reader);
        }
        if (++count > limit) {
            field_fail(reader);
        }
    }
}

static void get_part(struct field_reader *reader, enum part part, struct locate_message *message)
{
    switch (part) {
    case PART_END:
        break;
    case PART_LIFE:
        message->life = field_get_u64(reader);
        break;
    case PART_NUMBER:
        message->number = field_get_u64(reader);
        break;
    case PART_PARTS:
        message->parts = field_get_u16(reader);
        break;
    case PART_SUMS:
        for (size_t i = 0; i < LOCATE_PARTS; i++) {
            message->sums[i] = field_get_u64(reader);
        }
        break;
    case PART_KEY:
        message->key = get_key(reader);
        break;
    case PART_RANGE:
        message->first = get_key(reader);
        message->last = get_key(reader);
        break;
    case PART_ASKER:
        message->asker = field_get_node_id(reader);
        break;
    case PART_STATE:
        message->state = get_state(reader);
        break;
    case PART_HELD:
        get_list(reader, part, LOCATE_HELD_MAX, &message->list);
        break;
    case PART_HOLDERS:
        get_list(reader, part, LOCATE_ANSWER_HOLDERS, &message->list);
        break;
    case PART_KEYS:
    case PART_STATES:
        get_list(reader, part, LOCATE_SEARCH_KEYS_MAX, &message->list);
        break;
    }
}

/* What is held and does not lie in the range of its ARC. */
static bool strays(const struct locate_message *message)
{
    struct bytes list = message->list;
    struct locate_held held;
    while (locate_message_next_held(&list, &held)) {
        if (ring_key_compare(&held.key, &message->first) < 0 ||
            ring_key_compare(&held.key, &message->last) > 0) {
            return true;
        }
    }
    return false;
}

/* What no well-meant message says. */
static bool is_sensible(const struct locate_message *message)
{
    if (message->type == LOCATE_ARC) {
        return ring_key_compare(&message->first, &message->last) <= 0 && !strays(message);
    }
    return message->list.size > 0 ||
           (message->type != LOCATE_WHO_HAS && message->type != LOCATE_HAVE);
}

int locate_message_parse(struct bytes bytes, bool is_broadcast, struct locate_message *ret_message)
{
    if (bytes.size > (is_broadcast ? DATAGRAM_PAYLOAD_BYTES_MAX : LOCATE_MESSAGE_BYTES_MAX)) {
        return -EFBIG;
    }
    struct field_reader reader = field_reader_of(bytes);
    uint8_t type = 0;
    bool is_exact = false;
    const int err = field_get_message_head(&reader, &type, &is_exact);
    if (err) {
        return err;
    }
    if (type < LOCATE_TELL || type >= ARRAY_SIZE(forms)) {
        return -EPROTONOSUPPORT;
    }
    struct locate_message message = {.type = (enum locate_message_type)type};
    const struct form *form = &forms[type];
    for (size_t i = 0; form->parts[i] != PART_END; i++) {
        get_part(&reader, form->parts[i], &message);
    }
    if (reader.bad || !is_sensible(&message) || (is_broadcast && type != LOCATE_WHO_HAS) ||
        (reader.left.size > 0 && is_exact)) {
        return -EPROTO;
    }
    *ret_message = message;
    return 0;
}

bool locate_message_next_held(struct bytes *list, struct locate_held *ret_held)
{
    FIELD_LIST_NEXT(list, *ret_held = get_held(&reader));
}

bool locate_message_next_holder(struct bytes *list, struct locate_held_by *ret_holder)
{
    FIELD_LIST_NEXT(list, *ret_holder = get_holder(&reader));
}

bool locate_message_next_key(struct bytes *list, struct ring_key *ret_key)
{
    FIELD_LIST_NEXT(list, *ret_key = get_key(&reader));
}

bool locate_message_next_state(struct bytes *list, enum locate_state *ret_state)
{
    FIELD_LIST_NEXT(list, *ret_state = get_state(&reader));
}
