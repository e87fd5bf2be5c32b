/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/file_metadata.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "hash/sha256.h"

/*
 * The canonical text is put together from these pieces, numbers and ids, by the formatter and, in
 * the same order, by the parser. A text is read once, forward, byte by byte; since every choice
 * in it (a number, an id, one more block or the end) has one spelling only, what the parser takes
 * is what the formatter writes.
 */
#define TEXT_LENGTH "{\"length\":"
#define TEXT_BLOCKS ",\"blocks\":["
#define TEXT_BLOCK_ID "{\"id\":\""
#define TEXT_BLOCK_SIZE "\",\"size\":"
#define TEXT_BLOCK_END "}"
#define TEXT_NEXT_BLOCK ","
#define TEXT_END "]}"

#define LITERAL_CHARS(literal) (sizeof(literal) - 1)

#define LENGTH_DIGITS_MAX 13
#define SIZE_DIGITS_MAX 8

static_assert(FILE_METADATA_LENGTH_MAX < UINT64_C(10000000000000), "see LENGTH_DIGITS_MAX");
static_assert(FILE_METADATA_BLOCK_BYTES_MAX < UINT64_C(100000000), "see SIZE_DIGITS_MAX");

#define AROUND_BLOCKS_CHARS                                                                        \
    (LITERAL_CHARS(TEXT_LENGTH) + LITERAL_CHARS(TEXT_BLOCKS) + LITERAL_CHARS(TEXT_END))
/* A block with the comma after it, without the digits of its size. */
#define BLOCK_CHARS                                                                                \
    (LITERAL_CHARS(TEXT_BLOCK_ID) + ID_HEX_CHARS + LITERAL_CHARS(TEXT_BLOCK_SIZE) +                \
     LITERAL_CHARS(TEXT_BLOCK_END) + LITERAL_CHARS(TEXT_NEXT_BLOCK))

static_assert(AROUND_BLOCKS_CHARS + LENGTH_DIGITS_MAX +
                      FILE_METADATA_BLOCKS_MAX * (BLOCK_CHARS + SIZE_DIGITS_MAX) <=
                  FILE_METADATA_TEXT_BYTES_MAX,
              "every file version that is allowed has a text that is allowed");

/* The first array; later ones double. Most files are smaller than four blocks. */
#define BLOCKS_CAPACITY_FIRST 4

void file_metadata_done(struct file_metadata *metadata)
{
    free(metadata->blocks);
    *metadata = FILE_METADATA_INIT;
}

void file_metadata_copy(const struct file_metadata *metadata, struct file_metadata *ret_metadata)
{
    *ret_metadata = *metadata;
    ret_metadata->blocks =
        mem_copy(metadata->blocks, metadata->blocks_count * sizeof *metadata->blocks);
    ret_metadata->blocks_capacity = metadata->blocks_count;
}

/* Makes the array `capacity` long, at most FILE_METADATA_BLOCKS_MAX. */
static void set_capacity(struct file_metadata *metadata, size_t capacity)
{
    if (capacity > FILE_METADATA_BLOCKS_MAX) {
        capacity = FILE_METADATA_BLOCKS_MAX;
    }
    metadata->blocks = mem_resize_array(metadata->blocks, capacity, sizeof *metadata->blocks);
    metadata->blocks_capacity = capacity;
}

int file_metadata_add(struct file_metadata *metadata, const struct id *id, uint32_t size_bytes)
{
    if (size_bytes == 0) {
        return -EINVAL;
    }
    if (size_bytes > FILE_METADATA_BLOCK_BYTES_MAX ||
        size_bytes > FILE_METADATA_LENGTH_MAX - metadata->length_bytes ||
        metadata->blocks_count >= FILE_METADATA_BLOCKS_MAX) {
        return -EFBIG;
    }
    if (metadata->blocks_count == metadata->blocks_capacity) {
        set_capacity(metadata, metadata->blocks_capacity ? 2 * metadata->blocks_capacity
                                                         : BLOCKS_CAPACITY_FIRST);
    }
    metadata->blocks[metadata->blocks_count++] = (struct block_ref){*id, size_bytes};
    metadata->length_bytes += size_bytes;
    return 0;
}

static size_t number_digits(uint64_t number)
{
    size_t digits = 1;
    while (number >= 10) {
        number /= 10;
        digits++;
    }
    return digits;
}

static uint8_t *put_number(uint8_t *at, uint64_t number)
{
    const size_t digits = number_digits(number);
    for (size_t i = digits; i > 0; i--) {
        at[i - 1] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
    return at + digits;
}

static inline uint8_t *put_literal(uint8_t *at, const char *literal)
{
    const size_t chars = strlen(literal);
    memcpy(at, literal, chars);
    return at + chars;
}

static size_t text_chars(const struct file_metadata *metadata)
{
    size_t chars = AROUND_BLOCKS_CHARS + number_digits(metadata->length_bytes);
    for (size_t i = 0; i < metadata->blocks_count; i++) {
        chars += BLOCK_CHARS + number_digits(metadata->blocks[i].size_bytes);
    }
    if (metadata->blocks_count) {
        chars -= LITERAL_CHARS(TEXT_NEXT_BLOCK);
    }
    return chars;
}

/* No printf() and one allocation: the largest text has 150,000 blocks. */
void file_metadata_format(const struct file_metadata *metadata, struct buf *ret_text)
{
    const size_t chars = text_chars(metadata);
    uint8_t *const begin = buf_extend(ret_text, chars);

    uint8_t *at = put_literal(begin, TEXT_LENGTH);
    at = put_number(at, metadata->length_bytes);
    at = put_literal(at, TEXT_BLOCKS);
    for (size_t i = 0; i < metadata->blocks_count; i++) {
        const struct block_ref *block = &metadata->blocks[i];
        if (i > 0) {
            at = put_literal(at, TEXT_NEXT_BLOCK);
        }
        at = put_literal(at, TEXT_BLOCK_ID);
        id_format(&block->id, (char *)at); /* its NUL is overwritten by what follows */
        at = put_literal(at + ID_HEX_CHARS, TEXT_BLOCK_SIZE);
        at = put_number(at, block->size_bytes);
        at = put_literal(at, TEXT_BLOCK_END);
    }
    at = put_literal(at, TEXT_END);
    CHECK(at == begin + chars);
}

void file_metadata_id(const struct file_metadata *metadata, struct id *ret_id)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    file_metadata_format(metadata, &text);
    sha256_id(buf_bytes(&text), ret_id);
}

static void skip(struct bytes *rest, size_t count)
{
    rest->data += count;
    rest->size -= count;
}

/* Takes `literal` from the front of `rest`; false if something else is there. */
static inline bool take_literal(struct bytes *rest, const char *literal)
{
    const size_t chars = strlen(literal);
    if (rest->size < chars || memcmp(rest->data, literal, chars) != 0) {
        return false;
    }
    skip(rest, chars);
    return true;
}

static bool begins_with_digit(struct bytes rest)
{
    return rest.size > 0 && rest.data[0] >= '0' && rest.data[0] <= '9';
}

/* Takes a decimal number without leading zeros. -EPROTO: there is none; -EFBIG: above `limit`,
 * which is at most FILE_METADATA_LENGTH_MAX, so that the sum below cannot overflow. */
static int take_number(struct bytes *rest, uint64_t limit, uint64_t *ret_number)
{
    static_assert(FILE_METADATA_LENGTH_MAX < UINT64_MAX / 10 - 1, "limit * 10 + 9 fits");

    if (!begins_with_digit(*rest)) {
        return -EPROTO;
    }
    const bool is_zero = rest->data[0] == '0';
    uint64_t number = 0;
    do {
        number = number * 10 + (uint64_t)(rest->data[0] - '0');
        if (number > limit) {
            return -EFBIG;
        }
        skip(rest, 1);
    } while (!is_zero && begins_with_digit(*rest));

    *ret_number = number; /* a digit after a zero is not what comes next, whatever that is */
    return 0;
}

/* Takes one block, without a comma, and adds it to `metadata`. */
static int take_block(struct bytes *rest, struct file_metadata *metadata)
{
    if (!take_literal(rest, TEXT_BLOCK_ID) || rest->size < ID_HEX_CHARS) {
        return -EPROTO;
    }
    struct id id;
    if (id_parse(BYTES(rest->data, ID_HEX_CHARS), &id) != 0) {
        return -EPROTO;
    }
    skip(rest, ID_HEX_CHARS);
    if (!take_literal(rest, TEXT_BLOCK_SIZE)) {
        return -EPROTO;
    }
    uint64_t size_bytes;
    const int err = take_number(rest, FILE_METADATA_BLOCK_BYTES_MAX, &size_bytes);
    if (err) {
        return err;
    }
    if (size_bytes == 0 || !take_literal(rest, TEXT_BLOCK_END)) {
        return -EPROTO;
    }
    return file_metadata_add(metadata, &id, (uint32_t)size_bytes);
}

/* Takes all blocks and the end of the text. */
static int take_blocks(struct bytes *rest, struct file_metadata *metadata)
{
    if (take_literal(rest, TEXT_END)) {
        return 0;
    }
    /* As many as the text has room for, so that the array is made once. */
    const size_t blocks_most = rest->size / (BLOCK_CHARS + 1);
    if (blocks_most) {
        set_capacity(metadata, blocks_most);
    }
    do {
        const int err = take_block(rest, metadata);
        if (err) {
            return err;
        }
    } while (take_literal(rest, TEXT_NEXT_BLOCK));

    return take_literal(rest, TEXT_END) ? 0 : -EPROTO;
}

int file_metadata_parse(struct bytes text, struct file_metadata *ret_metadata)
{
    if (text.size > FILE_METADATA_TEXT_BYTES_MAX) {
        return -EFBIG;
    }

    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    struct bytes rest = text;
    if (!take_literal(&rest, TEXT_LENGTH)) {
        return -EPROTO;
    }
    uint64_t length_bytes;
    int err = take_number(&rest, FILE_METADATA_LENGTH_MAX, &length_bytes);
    if (err) {
        return err;
    }
    if (!take_literal(&rest, TEXT_BLOCKS)) {
        return -EPROTO;
    }
    err = take_blocks(&rest, &metadata);
    if (err) {
        return err;
    }
    if (rest.size > 0 || metadata.length_bytes != length_bytes) {
        return -EPROTO;
    }
    *ret_metadata = metadata;
    metadata = FILE_METADATA_INIT;
    return 0;
}
