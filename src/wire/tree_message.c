/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/tree_message.h"

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
    PART_FLAGS,
    PART_SUMS,
    PART_BUCKETS,
    PART_DOT,
    PART_LAST_SEQ, /* behind PART_DOT */
    PART_NUMBER,
    PART_OP_SIZE,
    PART_OP_OFFSET,
    PART_SIZE,
    PART_OFFSET,
    PART_ID,
    PART_CRC,
    PART_STATE,
    /* These take all that is left. */
    PART_ENTRIES,
    PART_LACKS,
    PART_OPS,
    PART_BYTES,
};

struct form {
    enum part parts[5]; /* PART_END after the last */
};

static const struct form forms[] = {
    [TREE_MESSAGE_SUMS] = {{PART_SUMS}},
    [TREE_MESSAGE_PART] = {{PART_BUCKETS, PART_ENTRIES}},
    [TREE_MESSAGE_WANT] = {{PART_FLAGS, PART_LACKS}},
    [TREE_MESSAGE_OPS] = {{PART_FLAGS, PART_OPS}},
    [TREE_MESSAGE_LARGE] = {{PART_DOT, PART_OP_SIZE}},
    [TREE_MESSAGE_PIECE_WANT] = {{PART_DOT, PART_OP_OFFSET}},
    [TREE_MESSAGE_PIECE] = {{PART_DOT, PART_OP_OFFSET, PART_BYTES}},
    [TREE_MESSAGE_AWAIT] = {{PART_NUMBER, PART_DOT}},
    [TREE_MESSAGE_HAS] = {{PART_NUMBER}},
    [TREE_MESSAGE_SNAPSHOT_ASK] = {{PART_END}},
    [TREE_MESSAGE_SNAPSHOT_OFFER] = {{PART_ID, PART_SIZE}},
    [TREE_MESSAGE_SNAPSHOT_WANT] = {{PART_ID, PART_OFFSET}},
    [TREE_MESSAGE_SNAPSHOT_PIECE] = {{PART_ID, PART_OFFSET, PART_CRC, PART_BYTES}},
    [TREE_MESSAGE_STATE_ASK] = {{PART_NUMBER}},
    [TREE_MESSAGE_STATE] = {{PART_NUMBER, PART_STATE}},
};

static const struct form spread_forms[] = {
    [0] = {{PART_OPS}}, /* TREE_MESSAGE_SPREAD_OPS */
    [TREE_MESSAGE_SPREAD_NEWS - TREE_MESSAGE_SPREAD_OPS] = {{PART_DOT, PART_LAST_SEQ}},
};

static_assert(MESSAGE_HEAD_BYTES + TREE_SUMS / 8 + TREE_ENTRIES_MAX * TREE_MESSAGE_ENTRY_BYTES <=
                  TREE_MESSAGE_BYTES_MAX,
              "the largest list of entries fits");
static_assert(MESSAGE_HEAD_BYTES + 1 + TREE_WANT_LACKS_MAX * TREE_MESSAGE_LACK_BYTES <=
                  TREE_MESSAGE_BYTES_MAX,
              "the largest list of lacks fits");
static_assert(TREE_OP_BYTES_MAX <= UINT32_MAX, "offsets and sizes within an op are u32");

/* NULL: there is no such type. */
static const struct form *form_of(unsigned type, bool *ret_is_spread)
{
    *ret_is_spread = type >= TREE_MESSAGE_SPREAD_OPS;
    if (*ret_is_spread) {
        const unsigned number = type - TREE_MESSAGE_SPREAD_OPS;
        return number < ARRAY_SIZE(spread_forms) ? &spread_forms[number] : NULL;
    }
    return type >= TREE_MESSAGE_SUMS && type < ARRAY_SIZE(forms) ? &forms[type] : NULL;
}

static void put_origin(struct buf *message, const struct origin_id *origin)
{
    buf_add(message, BYTES(origin->bytes, sizeof origin->bytes));
}

static void put_state(struct buf *bytes, const struct tree_message *message)
{
    field_put_u64(bytes, message->vector_sum);
    buf_add(bytes, BYTES(message->fingerprint, sizeof message->fingerprint));
    field_put_u64(bytes, message->ops_count);
    field_put_u64(bytes, message->entries_count);
}

static void put_part(struct buf *bytes, enum part part, const struct tree_message *message)
{
    switch (part) {
    case PART_FLAGS:
        field_put_u8(bytes, message->flags);
        break;
    case PART_SUMS:
        for (size_t i = 0; i < TREE_SUMS; i++) {
            field_put_u64(bytes, message->sums[i]);
        }
        break;
    case PART_BUCKETS:
        buf_add(bytes, BYTES(message->buckets, sizeof message->buckets));
        break;
    case PART_DOT:
        put_origin(bytes, &message->dot.origin);
        field_put_u64(bytes, message->dot.seq);
        break;
    case PART_LAST_SEQ:
        field_put_u64(bytes, message->last_seq);
        break;
    case PART_NUMBER:
        field_put_u64(bytes, message->number);
        break;
    case PART_OP_SIZE:
        CHECK(message->size_bytes <= TREE_OP_BYTES_MAX);
        field_put_u32(bytes, (uint32_t)message->size_bytes);
        break;
    case PART_OP_OFFSET:
        CHECK(message->offset_bytes <= TREE_OP_BYTES_MAX);
        field_put_u32(bytes, (uint32_t)message->offset_bytes);
        break;
    case PART_SIZE:
        field_put_u64(bytes, message->size_bytes);
        break;
    case PART_OFFSET:
        field_put_u64(bytes, message->offset_bytes);
        break;
    case PART_ID:
        buf_add(bytes, BYTES(message->id.bytes, sizeof message->id.bytes));
        break;
    case PART_CRC:
        field_put_u32(bytes, message->crc);
        break;
    case PART_STATE:
        put_state(bytes, message);
        break;
    case PART_BYTES:
        CHECK(message->bytes.size <= TREE_PIECE_BYTES_MAX);
        buf_add(bytes, message->bytes);
        break;
    case PART_END:
    case PART_ENTRIES:
    case PART_LACKS:
    case PART_OPS:
        break;
    }
}

void tree_message_format(const struct tree_message *message, struct buf *ret_bytes)
{
    bool is_spread = false;
    const struct form *form = form_of(message->type, &is_spread);
    CHECK(form);

    field_put_message_head(ret_bytes, (uint8_t)message->type);
    for (size_t i = 0; form->parts[i] != PART_END; i++) {
        put_part(ret_bytes, form->parts[i], message);
    }
}

void tree_message_put_entry(struct buf *message, const struct tree_message_entry *entry)
{
    put_origin(message, &entry->origin);
    field_put_u64(message, entry->seq);
    field_put_u64(message, entry->hash_head);
}

void tree_message_put_lack(struct buf *message, const struct tree_lack *lack)
{
    put_origin(message, &lack->origin);
    field_put_u64(message, lack->after_seq);
    field_put_u64(message, lack->through_seq);
}

void tree_message_put_op(struct buf *message, struct bytes op)
{
    CHECK(op.size > 0 && op.size <= TREE_OP_BYTES_MAX);

    field_put_u32(message, (uint32_t)op.size);
    buf_add(message, op);
}

/* `size` bytes to `to`; nothing after a fault. */
static void get_raw(struct field_reader *reader, void *to, size_t size)
{
    const struct bytes raw = field_get_raw(reader, size);
    if (raw.size == size) {
        memcpy(to, raw.data, size);
    }
}

static void get_entry(struct field_reader *reader, struct tree_message_entry *ret_entry)
{
    get_raw(reader, ret_entry->origin.bytes, sizeof ret_entry->origin.bytes);
    ret_entry->seq = field_get_u64(reader);
    ret_entry->hash_head = field_get_u64(reader);
    if (ret_entry->seq == 0) {
        field_fail(reader);
    }
}

static void get_lack(struct field_reader *reader, struct tree_lack *ret_lack)
{
    get_raw(reader, ret_lack->origin.bytes, sizeof ret_lack->origin.bytes);
    ret_lack->after_seq = field_get_u64(reader);
    ret_lack->through_seq = field_get_u64(reader);
    if (ret_lack->through_seq <= ret_lack->after_seq) {
        field_fail(reader);
    }
}

static struct bytes get_op(struct field_reader *reader)
{
    const uint32_t size = field_get_u32(reader);
    if (size < TREE_OP_BYTES_MIN) {
        field_fail(reader); /* to keep one costs more than it is long */
    }
    return field_get_raw(reader, size);
}

/* The rest of the message, if it is a list in form of at most `count_max` elements. */
static struct bytes get_list(struct field_reader *reader, enum part part, size_t count_max)
{
    const struct bytes list = reader->left;
    for (size_t count = 0; reader->left.size > 0; count++) {
        if (count == count_max) {
            field_fail(reader);
        } else if (part == PART_ENTRIES) {
            struct tree_message_entry entry = {0};
            get_entry(reader, &entry);
        } else if (part == PART_LACKS) {
            struct tree_lack lack = {0};
            get_lack(reader, &lack);
        } else {
            (void)get_op(reader);
        }
    }
    return list;
}

static void get_state(struct field_reader *reader, struct tree_message *message)
{
    message->vector_sum = field_get_u64(reader);
    get_raw(reader, message->fingerprint, sizeof message->fingerprint);
    message->ops_count = field_get_u64(reader);
    message->entries_count = field_get_u64(reader);
}

/* What takes all that is left. */
static void get_rest(struct field_reader *reader, enum part part, struct tree_message *message)
{
    if (part == PART_BYTES) {
        message->bytes = field_get_raw(reader, reader->left.size);
        if (message->bytes.size > TREE_PIECE_BYTES_MAX) {
            field_fail(reader);
        }
        return;
    }
    const size_t count_max = part == PART_ENTRIES ? TREE_ENTRIES_MAX
                             : part == PART_LACKS ? TREE_WANT_LACKS_MAX
                                                  : SIZE_MAX;
    message->list = get_list(reader, part, count_max);
}

static void get_part(struct field_reader *reader, enum part part, struct tree_message *message)
{
    switch (part) {
    case PART_END:
        break;
    case PART_FLAGS:
        message->flags = field_get_u8(reader);
        break;
    case PART_SUMS:
        for (size_t i = 0; i < TREE_SUMS; i++) {
            message->sums[i] = field_get_u64(reader);
        }
        break;
    case PART_BUCKETS:
        get_raw(reader, message->buckets, sizeof message->buckets);
        break;
    case PART_DOT:
        get_raw(reader, message->dot.origin.bytes, sizeof message->dot.origin.bytes);
        message->dot.seq = field_get_u64(reader);
        break;
    case PART_LAST_SEQ:
        message->last_seq = field_get_u64(reader);
        break;
    case PART_NUMBER:
        message->number = field_get_u64(reader);
        break;
    case PART_OP_SIZE:
        message->size_bytes = field_get_u32(reader);
        break;
    case PART_OP_OFFSET:
        message->offset_bytes = field_get_u32(reader);
        break;
    case PART_SIZE:
        message->size_bytes = field_get_u64(reader);
        break;
    case PART_OFFSET:
        message->offset_bytes = field_get_u64(reader);
        break;
    case PART_ID:
        get_raw(reader, message->id.bytes, sizeof message->id.bytes);
        break;
    case PART_CRC:
        message->crc = field_get_u32(reader);
        break;
    case PART_STATE:
        get_state(reader, message);
        break;
    case PART_ENTRIES:
    case PART_LACKS:
    case PART_OPS:
    case PART_BYTES:
        get_rest(reader, part, message);
        break;
    }
}

/* What no well-meant message of this form says. */
static bool is_sensible(const struct form *form, const struct tree_message *message)
{
    for (size_t i = 0; form->parts[i] != PART_END; i++) {
        const enum part part = form->parts[i];
        if ((part == PART_DOT && message->dot.seq == 0) ||
            (part == PART_LAST_SEQ && message->last_seq < message->dot.seq) ||
            (part == PART_OP_SIZE &&
             (message->size_bytes == 0 || message->size_bytes > TREE_OP_BYTES_MAX)) ||
            (part == PART_OP_OFFSET &&
             message->offset_bytes + message->bytes.size > TREE_OP_BYTES_MAX)) {
            return false;
        }
    }
    return true;
}

int tree_message_parse(struct bytes bytes, bool is_broadcast, struct tree_message *ret_message)
{
    if (bytes.size > (is_broadcast ? DATAGRAM_PAYLOAD_BYTES_MAX : TREE_MESSAGE_BYTES_MAX)) {
        return -EFBIG;
    }
    struct field_reader reader = field_reader_of(bytes);
    uint8_t type = 0;
    bool is_exact = false;
    const int err = field_get_message_head(&reader, &type, &is_exact);
    if (err) {
        return err;
    }
    bool is_spread = false;
    const struct form *form = form_of(type, &is_spread);
    if (!form) {
        return -EPROTONOSUPPORT;
    }
    struct tree_message message = {.type = (enum tree_message_type)type};
    for (size_t i = 0; form->parts[i] != PART_END; i++) {
        get_part(&reader, form->parts[i], &message);
    }
    if (is_spread != is_broadcast || reader.bad || !is_sensible(form, &message) ||
        (reader.left.size > 0 && is_exact)) {
        return -EPROTO;
    }
    *ret_message = message;
    return 0;
}

bool tree_message_next_entry(struct bytes *list, struct tree_message_entry *ret_entry)
{
    FIELD_LIST_NEXT(list, get_entry(&reader, ret_entry));
}

bool tree_message_next_lack(struct bytes *list, struct tree_lack *ret_lack)
{
    FIELD_LIST_NEXT(list, get_lack(&reader, ret_lack));
}

bool tree_message_next_op(struct bytes *list, struct bytes *ret_op)
{
    FIELD_LIST_NEXT(list, *ret_op = get_op(&reader));
}
