/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/transfer_frame.h"

#include <assert.h>
#include <errno.h>

#include "base/mem.h"
#include "wire/message_head.h"

/*
 * The table `forms` says of which parts each type consists; formatter and parser go through it, so
 * that they can't disagree about what stands where.
 */

enum part {
    PART_END,
    PART_NUMBER,
    PART_FLAGS,
    PART_FILE,
    PART_STATE,
    PART_POSITION,
    PART_WHY,
    PART_METADATA,
    PART_BITMAP,
    /* These take all that is left. */
    PART_IDS,
    PART_INDICES,
    PART_ASKERS,
    PART_OTHERS,
};

struct form {
    bool is_from_receiver;
    enum part parts[6]; /* PART_END after the last */
    uint32_t size_max;  /* of the payload; more only in a later minor version */
};

#define NUMBER_BYTES 4u
#define OFFER_BYTES_MAX                                                                            \
    (NUMBER_BYTES + 1u + 4u + (uint32_t)FILE_METADATA_TEXT_BYTES_MAX + 4u +                        \
     TRANSFER_BITMAP_BYTES_MAX + TRANSFER_ASKERS_MAX * NODE_ID_BYTES)
#define BLOCK_BEGIN_BYTES (NUMBER_BYTES + 2u) /* number, position */

static const struct form forms[] = {
    [TRANSFER_ASK] = {true, {PART_NUMBER, PART_FLAGS, PART_FILE}, NUMBER_BYTES + 1 + ID_BYTES},
    [TRANSFER_STOP] = {true, {PART_FILE}, ID_BYTES},
    [TRANSFER_REQUEST] = {true,
                          {PART_NUMBER, PART_FLAGS, PART_IDS},
                          NUMBER_BYTES + 1 + TRANSFER_REQUEST_BLOCKS_MAX *ID_BYTES},
    [TRANSFER_CANCEL] = {true, {PART_NUMBER}, NUMBER_BYTES},
    [TRANSFER_OFFER] = {false,
                        {PART_NUMBER, PART_STATE, PART_METADATA, PART_BITMAP, PART_ASKERS},
                        OFFER_BYTES_MAX},
    [TRANSFER_MORE] = {false, {PART_FILE, PART_INDICES}, ID_BYTES + TRANSFER_MORE_MAX * 4},
    [TRANSFER_BLOCK] = {false,
                        {PART_NUMBER, PART_POSITION},
                        BLOCK_BEGIN_BYTES + FILE_METADATA_BLOCK_BYTES_MAX},
    [TRANSFER_REFUSED] = {false,
                          {PART_NUMBER, PART_POSITION, PART_WHY, PART_OTHERS},
                          NUMBER_BYTES + 3 + TRANSFER_OTHERS_MAX *NODE_ID_BYTES},
};

static_assert(ID_BYTES + TRANSFER_MORE_MAX * 4 <= TRANSFER_SMALL_BYTES_MAX &&
                  NUMBER_BYTES + 1 + TRANSFER_REQUEST_BLOCKS_MAX * ID_BYTES <=
                      TRANSFER_SMALL_BYTES_MAX,
              "the long lists are small frames");
static_assert(TRANSFER_BLOCK_HEAD_BYTES == TRANSFER_HEAD_BYTES + BLOCK_BEGIN_BYTES,
              "what stands before the bytes of a block");

static const struct form *find_form(uint8_t type)
{
    /* A gap of the table has no parts. */
    return type < ARRAY_SIZE(forms) && forms[type].parts[0] != PART_END ? &forms[type] : NULL;
}

/* ---- writing -----------------------------------------------------------------------------------
 */

static void put_long_string(struct buf *bytes, struct bytes string)
{
    field_put_u32(bytes, (uint32_t)string.size);
    buf_add(bytes, string);
}

static void put_part(struct buf *bytes, enum part part, const struct transfer_frame *frame)
{
    switch (part) {
    case PART_NUMBER:
        field_put_u32(bytes, frame->number);
        break;
    case PART_FLAGS:
        field_put_u8(bytes, frame->flags);
        break;
    case PART_FILE:
        buf_add(bytes, id_bytes(&frame->file));
        break;
    case PART_STATE:
        field_put_u8(bytes, (uint8_t)frame->state);
        break;
    case PART_POSITION:
        field_put_u16(bytes, frame->position);
        break;
    case PART_WHY:
        field_put_u8(bytes, (uint8_t)frame->why);
        break;
    case PART_METADATA:
        put_long_string(bytes, frame->metadata);
        break;
    case PART_BITMAP:
        put_long_string(bytes, frame->bitmap);
        break;
    case PART_IDS:
    case PART_INDICES:
    case PART_ASKERS:
    case PART_OTHERS:
        buf_add(bytes, frame->list);
        break;
    case PART_END:
        break;
    }
}

void transfer_frame_prefix(struct buf *ret_bytes)
{
    field_put_u8(ret_bytes, TRANSFER_MAJOR);
    field_put_u8(ret_bytes, TRANSFER_MINOR);
}

void transfer_frame_format(const struct transfer_frame *frame, uint32_t block_bytes,
                           struct buf *ret_bytes)
{
    const struct form *form = find_form((uint8_t)frame->type);
    CHECK(form && (block_bytes > 0) == (frame->type == TRANSFER_BLOCK));
    const size_t begin = ret_bytes->size;
    field_put_u8(ret_bytes, (uint8_t)frame->type);
    field_put_u8(ret_bytes, 0);
    field_put_u32(ret_bytes, 0);
    for (size_t i = 0; i < ARRAY_SIZE(form->parts) && form->parts[i] != PART_END; i++) {
        put_part(ret_bytes, form->parts[i], frame);
    }
    const size_t size = ret_bytes->size - begin - TRANSFER_HEAD_BYTES + block_bytes;
    CHECK(size <= form->size_max);
    codec_put_le32(ret_bytes->data + begin + 2, (uint32_t)size);
}

void transfer_frame_put_id(struct buf *list, const struct id *id)
{
    buf_add(list, id_bytes(id));
}

void transfer_frame_put_index(struct buf *list, uint32_t index)
{
    field_put_u32(list, index);
}

void transfer_frame_put_node(struct buf *list, const struct node_id *node)
{
    field_put_node_id(list, node);
}

/* ---- reading -----------------------------------------------------------------------------------
 */

static struct id get_id(struct field_reader *reader)
{
    struct id id = {0};
    const struct bytes raw = field_get_raw(reader, sizeof id.bytes);
    if (raw.size == sizeof id.bytes) {
        memcpy(id.bytes, raw.data, raw.size);
    }
    return id;
}

bool transfer_frame_next_id(struct bytes *list, struct id *ret_id)
{
    FIELD_LIST_NEXT(list, *ret_id = get_id(&reader));
}

bool transfer_frame_next_index(struct bytes *list, uint32_t *ret_index)
{
    FIELD_LIST_NEXT(list, *ret_index = field_get_u32(&reader));
}

bool transfer_frame_next_node(struct bytes *list, struct node_id *ret_node)
{
    FIELD_LIST_NEXT(list, *ret_node = field_get_node_id(&reader));
}

static struct bytes get_long_string(struct field_reader *reader, uint32_t limit)
{
    const uint32_t size = field_get_u32(reader);
    if (size > limit) {
        field_fail(reader);
        return BYTES(NULL, 0);
    }
    return field_get_raw(reader, size);
}

/* All that is left, from `least` to `most` elements. */
static struct bytes get_list(struct field_reader *reader, size_t element_bytes, size_t least,
                             size_t most)
{
    const size_t count = reader->left.size / element_bytes;
    if (reader->left.size % element_bytes != 0 || count < least || count > most) {
        field_fail(reader);
    }
    return field_get_raw(reader, reader->left.size);
}

/* One of the values of an enum from `first` to `last`. */
static uint8_t get_choice(struct field_reader *reader, uint8_t first, uint8_t last)
{
    const uint8_t choice = field_get_u8(reader);
    if (choice < first || choice > last) {
        field_fail(reader);
        return first;
    }
    return choice;
}

static void get_part(struct field_reader *reader, enum part part, struct transfer_frame *frame)
{
    switch (part) {
    case PART_NUMBER:
        frame->number = field_get_u32(reader);
        break;
    case PART_FLAGS:
        frame->flags = field_get_u8(reader);
        break;
    case PART_FILE:
        frame->file = get_id(reader);
        break;
    case PART_STATE:
        frame->state = (enum transfer_state)get_choice(reader, TRANSFER_NONE, TRANSFER_COMPLETE);
        break;
    case PART_POSITION:
        frame->position = field_get_u16(reader);
        break;
    case PART_WHY:
        frame->why = (enum transfer_refusal)get_choice(reader, TRANSFER_REFUSED_BUSY,
                                                       TRANSFER_REFUSED_LIMIT);
        break;
    case PART_METADATA:
        frame->metadata = get_long_string(reader, (uint32_t)FILE_METADATA_TEXT_BYTES_MAX);
        break;
    case PART_BITMAP:
        frame->bitmap = get_long_string(reader, TRANSFER_BITMAP_BYTES_MAX);
        break;
    case PART_IDS:
        frame->list = get_list(reader, ID_BYTES, 1, TRANSFER_REQUEST_BLOCKS_MAX);
        break;
    case PART_INDICES:
        frame->list = get_list(reader, sizeof(uint32_t), 1, TRANSFER_MORE_MAX);
        break;
    case PART_ASKERS:
        frame->list = get_list(reader, NODE_ID_BYTES, 0, TRANSFER_ASKERS_MAX);
        break;
    case PART_OTHERS:
        frame->list = get_list(reader, NODE_ID_BYTES, 0, TRANSFER_OTHERS_MAX);
        break;
    case PART_END:
        break;
    }
}

/* What no well-meant frame says. */
static bool is_sensible(const struct transfer_frame *frame)
{
    if (frame->type == TRANSFER_OFFER) {
        return (frame->bitmap.size == 0 || frame->state == TRANSFER_PARTIAL) &&
               (frame->metadata.size == 0 || frame->state != TRANSFER_NONE);
    }
    return frame->type != TRANSFER_REFUSED || frame->position < TRANSFER_REQUEST_BLOCKS_MAX;
}

static int parse(const struct transfer_reader *reader, uint8_t type, struct bytes payload,
                 struct transfer_frame *ret_frame)
{
    const struct form *form = find_form(type);
    struct field_reader fields = field_reader_of(payload);
    struct transfer_frame frame = {.type = (enum transfer_frame_type)type};
    for (size_t i = 0; i < ARRAY_SIZE(form->parts) && form->parts[i] != PART_END; i++) {
        get_part(&fields, form->parts[i], &frame);
    }
    if (fields.bad || (fields.left.size > 0 && reader->minor <= TRANSFER_MINOR) ||
        !is_sensible(&frame)) {
        return -EPROTO;
    }
    *ret_frame = frame;
    return 0;
}

void transfer_reader_init(struct transfer_reader *reader, bool is_from_receiver)
{
    *reader = (struct transfer_reader){.is_from_receiver = is_from_receiver};
}

void transfer_reader_done(struct transfer_reader *reader)
{
    buf_done(&reader->gathered);
}

static struct bytes take(struct bytes *bytes, size_t count)
{
    count = count < bytes->size ? count : bytes->size;
    if (count == 0) {
        return BYTES(NULL, 0);
    }
    const struct bytes taken = BYTES(bytes->data, count);
    *bytes = BYTES(bytes->data + count, bytes->size - count);
    return taken;
}

/* Gathers the head up to `size` bytes; true if that is whole. */
static bool gather_head(struct transfer_reader *reader, struct bytes *bytes, size_t size)
{
    const struct bytes part = take(bytes, size - reader->head_size);
    if (part.size > 0) {
        memcpy(reader->head + reader->head_size, part.data, part.size);
        reader->head_size += part.size;
    }
    return reader->head_size == size;
}

/* 1: the prefix has come. */
static int read_prefix(struct transfer_reader *reader, struct bytes *bytes)
{
    if (!gather_head(reader, bytes, TRANSFER_PREFIX_BYTES)) {
        return 0;
    }
    if (reader->head[0] != TRANSFER_MAJOR) {
        return -EPROTONOSUPPORT;
    }
    reader->minor = reader->head[1];
    reader->has_prefix = true;
    reader->head_size = 0;
    return 1;
}

/* Whether a frame of this type may come, and may be so long. */
static int check_head(const struct transfer_reader *reader, uint8_t type, uint32_t size)
{
    const struct form *form = find_form(type);
    if (!form) {
        return size > TRANSFER_SMALL_BYTES_MAX ? -EFBIG : 0;
    }
    if (form->is_from_receiver != reader->is_from_receiver) {
        return -EPROTO;
    }
    if (type == TRANSFER_BLOCK && size <= BLOCK_BEGIN_BYTES) {
        return -EPROTO;
    }
    const uint32_t room =
        reader->minor > TRANSFER_MINOR && type != TRANSFER_BLOCK ? TRANSFER_SMALL_BYTES_MAX : 0;
    const uint32_t limit = form->size_max > room ? form->size_max : room;
    return size > limit ? -EFBIG : 0;
}

/* 1: the head of a frame has come; of a block, also what stands before its bytes. */
static int read_head(struct transfer_reader *reader, struct bytes *bytes)
{
    if (reader->head_size < TRANSFER_HEAD_BYTES &&
        !gather_head(reader, bytes, TRANSFER_HEAD_BYTES)) {
        return 0;
    }
    const uint8_t type = reader->head[0];
    const uint32_t size = codec_get_le32(reader->head + 2);
    const int err = check_head(reader, type, size);
    if (err) {
        return err;
    }
    const bool is_block = type == TRANSFER_BLOCK;
    if (is_block && !gather_head(reader, bytes, TRANSFER_BLOCK_HEAD_BYTES)) {
        return 0;
    }
    reader->size = is_block ? size - BLOCK_BEGIN_BYTES : size;
    reader->left = reader->size;
    reader->is_begun = true;
    return 1;
}

static void end_frame(struct transfer_reader *reader)
{
    reader->is_begun = false;
    reader->is_announced = false;
    reader->head_size = 0;
}

static int begin_block(struct transfer_reader *reader, struct transfer_piece *ret_piece)
{
    const int err =
        parse(reader, TRANSFER_BLOCK, BYTES(reader->head + TRANSFER_HEAD_BYTES, BLOCK_BEGIN_BYTES),
              &ret_piece->frame);
    if (err || ret_piece->frame.position >= TRANSFER_REQUEST_BLOCKS_MAX) {
        return -EPROTO;
    }
    reader->is_announced = true;
    ret_piece->size_bytes = reader->size;
    return TRANSFER_READ_BLOCK_BEGIN;
}

static int read_block(struct transfer_reader *reader, struct bytes *bytes,
                      struct transfer_piece *ret_piece)
{
    if (!reader->is_announced) {
        return begin_block(reader, ret_piece);
    }
    if (bytes->size == 0) {
        return TRANSFER_READ_NOTHING;
    }
    ret_piece->bytes = take(bytes, reader->left);
    reader->left -= (uint32_t)ret_piece->bytes.size;
    ret_piece->is_last = reader->left == 0;
    if (ret_piece->is_last) {
        end_frame(reader);
    }
    return TRANSFER_READ_BLOCK_BYTES;
}

static int read_frame(struct transfer_reader *reader, struct bytes *bytes,
                      struct transfer_piece *ret_piece)
{
    if (reader->size > TRANSFER_LARGE_BYTES && !reader->is_announced) {
        reader->is_announced = true;
        ret_piece->size_bytes = reader->size;
        return TRANSFER_READ_LARGE;
    }
    if (reader->left == reader->size) {
        buf_clear(&reader->gathered);
    }
    const bool is_whole = reader->left == reader->size && bytes->size >= reader->size;
    struct bytes payload = take(bytes, reader->left);
    reader->left -= (uint32_t)payload.size;
    if (!is_whole) {
        buf_add(&reader->gathered, payload);
        payload = buf_bytes(&reader->gathered);
    }
    if (reader->left > 0) {
        return TRANSFER_READ_NOTHING;
    }
    end_frame(reader);
    const int err = parse(reader, reader->head[0], payload, &ret_piece->frame);
    return err ? err : TRANSFER_READ_FRAME;
}

int transfer_reader_next(struct transfer_reader *reader, struct bytes *bytes,
                         struct transfer_piece *ret_piece)
{
    /* What a large frame took is given back once it was looked at. */
    if (!reader->is_begun && reader->gathered.capacity > 2 * TRANSFER_LARGE_BYTES) {
        buf_done(&reader->gathered);
    }
    for (;;) {
        int got = 1;
        if (!reader->has_prefix) {
            got = read_prefix(reader, bytes);
        }
        if (got > 0 && !reader->is_begun) {
            got = read_head(reader, bytes);
        }
        if (got <= 0) {
            return got; /* 0 is TRANSFER_READ_NOTHING */
        }
        const uint8_t type = reader->head[0];
        if (type == TRANSFER_BLOCK) {
            return read_block(reader, bytes, ret_piece);
        }
        if (find_form(type)) {
            return read_frame(reader, bytes, ret_piece);
        }
        reader->left -= (uint32_t)take(bytes, reader->left).size;
        if (reader->left > 0) {
            return TRANSFER_READ_NOTHING;
        }
        end_frame(reader);
    }
}
