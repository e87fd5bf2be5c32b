/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "chunk/chunk.h"
#include "wire/file_metadata.h"

static_assert(FILE_METADATA_BLOCK_BYTES_MAX == CHUNK_BLOCK_BYTES_MAX, "the same limit");
static_assert(FILE_METADATA_LENGTH_MAX == CHUNK_FILE_BYTES_MAX, "the same limit");
static_assert(FILE_METADATA_BLOCKS_MAX >= CHUNK_FILE_BLOCKS_MAX, "what is cut can be described");

/* `head -c 262144 /dev/zero | sha256sum`, `printf hello | sha256sum`, `printf a | sha256sum` */
#define ZEROS_HEX "8a39d2abd3999ab73c34db2476849cddf303ce389b35826850f9a700589b4a90"
#define HELLO_HEX "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define A_HEX "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"

#define BLOCK(hex, size) "{\"id\":\"" hex "\",\"size\":" size "}"
#define EMPTY_TEXT "{\"length\":0,\"blocks\":[]}"
#define A_TEXT "{\"length\":1,\"blocks\":[" BLOCK(A_HEX, "1") "]}"
#define TWO_TEXT                                                                                   \
    "{\"length\":262149,\"blocks\":[" BLOCK(ZEROS_HEX, "262144") "," BLOCK(HELLO_HEX, "5") "]}"

/* Each id is what `printf %s TEXT | sha256sum` prints. */
static const struct {
    const char *text;
    const char *id_hex;
    uint64_t length_bytes;
    size_t blocks_count;
} vectors[] = {
    {EMPTY_TEXT, "516fc9575881b503e11ec5644cd9168770bbdb1c55a9fd9742870d30929558bd", 0, 0},
    {A_TEXT, "adfb8796da41729c06f04ef1092f3579de20348acbf8c65ce278d370cc0236c4", 1, 1},
    {TWO_TEXT, "af0f52b8f7ad3c64d2dabcaf6df80376ee3528764e96ac259ac85f219b3003f2", 262149, 2},
};

static struct id id_of_hex(const char *hex)
{
    struct id id;
    assert_int_equal(id_parse(bytes_of_string(hex), &id), 0);
    return id;
}

/* Parses a copy in memory of exactly the right size, so that the sanitizer sees a read beyond. A
 * failure must leave the output alone; a success must format to the same bytes. */
static int parse(struct bytes text)
{
    uint8_t *exact = text.size ? mem_copy(text.data, text.size) : NULL;
    struct file_metadata metadata = {.length_bytes = 0x7777};
    const int err = file_metadata_parse(BYTES(exact, text.size), &metadata);
    if (err) {
        assert_int_equal(metadata.length_bytes, 0x7777);
        assert_null(metadata.blocks);
        assert_int_equal(metadata.blocks_count, 0);
        assert_int_equal(metadata.blocks_capacity, 0);
    } else {
        CLEANUP_BUF struct buf formatted = BUF_INIT;
        file_metadata_format(&metadata, &formatted);
        assert_true(bytes_equal(buf_bytes(&formatted), text));
        assert_true(metadata.blocks_count <= metadata.blocks_capacity);
        assert_true(metadata.blocks_capacity <= FILE_METADATA_BLOCKS_MAX);
        file_metadata_done(&metadata);
    }
    free(exact);
    return err;
}

static int parse_string(const char *text)
{
    return parse(bytes_of_string(text));
}

static void vectors_parse_format_and_have_their_ids(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
        const struct bytes text = bytes_of_string(vectors[i].text);
        assert_int_equal(parse(text), 0);

        CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
        assert_int_equal(file_metadata_parse(text, &metadata), 0);
        assert_int_equal(metadata.length_bytes, vectors[i].length_bytes);
        assert_int_equal(metadata.blocks_count, vectors[i].blocks_count);
        struct id id;
        file_metadata_id(&metadata, &id);
        const struct id expected = id_of_hex(vectors[i].id_hex);
        assert_true(id_equal(&id, &expected));
    }
}

static void blocks_keep_their_order(void **state)
{
    (void)state;
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    assert_int_equal(file_metadata_parse(bytes_of_string(TWO_TEXT), &metadata), 0);
    const struct id zeros = id_of_hex(ZEROS_HEX);
    const struct id hello = id_of_hex(HELLO_HEX);
    assert_true(id_equal(&metadata.blocks[0].id, &zeros));
    assert_int_equal(metadata.blocks[0].size_bytes, 262144);
    assert_true(id_equal(&metadata.blocks[1].id, &hello));
    assert_int_equal(metadata.blocks[1].size_bytes, 5);
}

static void added_blocks_make_the_same_text(void **state)
{
    (void)state;
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    CLEANUP_BUF struct buf text = BUF_INIT;
    file_metadata_format(&metadata, &text);
    assert_string_equal(buf_string(&text), EMPTY_TEXT);

    const struct id zeros = id_of_hex(ZEROS_HEX);
    const struct id hello = id_of_hex(HELLO_HEX);
    assert_int_equal(file_metadata_add(&metadata, &zeros, 262144), 0);
    assert_int_equal(file_metadata_add(&metadata, &hello, 5), 0);
    assert_int_equal(metadata.length_bytes, 262149);
    /* It is appended to what the buffer holds. */
    file_metadata_format(&metadata, &text);
    assert_string_equal(buf_string(&text), EMPTY_TEXT TWO_TEXT);
}

static void numbers_of_every_length(void **state)
{
    (void)state;
    const struct id id = id_of_hex(A_HEX);
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    for (uint32_t size = 1; size <= FILE_METADATA_BLOCK_BYTES_MAX; size *= 10) {
        assert_int_equal(file_metadata_add(&metadata, &id, size), 0);
        if (size > 1) {
            assert_int_equal(file_metadata_add(&metadata, &id, size - 1), 0);
        }
        CLEANUP_BUF struct buf text = BUF_INIT;
        file_metadata_format(&metadata, &text);
        assert_int_equal(parse(buf_bytes(&text)), 0);
    }
}

static void malformed_texts_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        const char *text;
    } texts[] = {
        {"nothing", ""},
        {"not JSON", "hello"},
        {"another JSON", "[]"},
        {"no keys", "{}"},
        {"no blocks", "{\"length\":0}"},
        {"no length", "{\"blocks\":[]}"},
        {"keys in the other order", "{\"blocks\":[],\"length\":0}"},
        {"one key more", "{\"length\":0,\"blocks\":[],\"x\":1}"},
        {"a key twice", "{\"length\":0,\"length\":0,\"blocks\":[]}"},
        {"upper-case key", "{\"Length\":0,\"blocks\":[]}"},
        {"escaped key", "{\"l\\u0065ngth\":0,\"blocks\":[]}"},
        {"null for blocks", "{\"length\":0,\"blocks\":null}"},
        {"null for length", "{\"length\":null,\"blocks\":[]}"},

        {"space at the front", " " EMPTY_TEXT},
        {"byte order mark", "\xef\xbb\xbf" EMPTY_TEXT},
        {"space after the brace", "{ \"length\":0,\"blocks\":[]}"},
        {"space after the key", "{\"length\" :0,\"blocks\":[]}"},
        {"space after the colon", "{\"length\": 0,\"blocks\":[]}"},
        {"space after the number", "{\"length\":0 ,\"blocks\":[]}"},
        {"space after the comma", "{\"length\":0, \"blocks\":[]}"},
        {"space in the list", "{\"length\":0,\"blocks\":[ ]}"},
        {"space after the list", "{\"length\":0,\"blocks\":[] }"},
        {"space at the end", EMPTY_TEXT " "},
        {"line feed at the end", EMPTY_TEXT "\n"},
        {"tabulator", "{\"length\":0,\t\"blocks\":[]}"},
        {"trailing brace", EMPTY_TEXT "}"},
        {"text twice", EMPTY_TEXT EMPTY_TEXT},
        {"trailing byte after a block", A_TEXT "x"},

        {"leading zero of length", "{\"length\":01,\"blocks\":[" BLOCK(A_HEX, "1") "]}"},
        {"two zeros", "{\"length\":00,\"blocks\":[]}"},
        {"leading zero of size", "{\"length\":1,\"blocks\":[" BLOCK(A_HEX, "01") "]}"},
        {"plus sign", "{\"length\":+1,\"blocks\":[" BLOCK(A_HEX, "1") "]}"},
        {"minus zero", "{\"length\":-0,\"blocks\":[]}"},
        {"negative size", "{\"length\":1,\"blocks\":[" BLOCK(A_HEX, "-1") "]}"},
        {"fraction", "{\"length\":1.0,\"blocks\":[" BLOCK(A_HEX, "1") "]}"},
        {"exponent", "{\"length\":1e0,\"blocks\":[" BLOCK(A_HEX, "1") "]}"},
        {"hexadecimal", "{\"length\":0x1,\"blocks\":[" BLOCK(A_HEX, "1") "]}"},
        {"number as a string", "{\"length\":\"1\",\"blocks\":[" BLOCK(A_HEX, "1") "]}"},
        {"size as a string", "{\"length\":1,\"blocks\":[" BLOCK(A_HEX, "\"1\"") "]}"},
        {"no number", "{\"length\":,\"blocks\":[]}"},
        {"no size", "{\"length\":1,\"blocks\":[" BLOCK(A_HEX, "") "]}"},

        {"size of 0", "{\"length\":0,\"blocks\":[" BLOCK(A_HEX, "0") "]}"},
        {"size of 0 after another",
         "{\"length\":1,\"blocks\":[" BLOCK(A_HEX, "1") "," BLOCK(A_HEX, "0") "]}"},
        {"length above the sum", "{\"length\":2,\"blocks\":[" BLOCK(A_HEX, "1") "]}"},
        {"length below the sum", "{\"length\":1,\"blocks\":[" BLOCK(A_HEX, "2") "]}"},
        {"length without blocks", "{\"length\":1,\"blocks\":[]}"},
        {"blocks without length", "{\"length\":0,\"blocks\":[" BLOCK(A_HEX, "1") "]}"},

        {"no comma between blocks",
         "{\"length\":2,\"blocks\":[" BLOCK(A_HEX, "1") BLOCK(A_HEX, "1") "]}"},
        {"space between blocks",
         "{\"length\":2,\"blocks\":[" BLOCK(A_HEX, "1") ", " BLOCK(A_HEX, "1") "]}"},
        {"comma at the end of the list", "{\"length\":1,\"blocks\":[" BLOCK(A_HEX, "1") ",]}"},
        {"comma at the front of the list", "{\"length\":1,\"blocks\":[," BLOCK(A_HEX, "1") "]}"},
        {"comma in an empty list", "{\"length\":0,\"blocks\":[,]}"},
        {"an empty block", "{\"length\":0,\"blocks\":[{}]}"},
        {"block keys in the other order",
         "{\"length\":1,\"blocks\":[{\"size\":1,\"id\":\"" A_HEX "\"}]}"},
        {"block without size", "{\"length\":1,\"blocks\":[{\"id\":\"" A_HEX "\"}]}"},
        {"block without id", "{\"length\":1,\"blocks\":[{\"size\":1}]}"},
        {"one key more in a block",
         "{\"length\":1,\"blocks\":[{\"id\":\"" A_HEX "\",\"size\":1,\"x\":1}]}"},
        {"empty id", "{\"length\":1,\"blocks\":[" BLOCK("", "1") "]}"},
        {"id one digit short",
         "{\"length\":1,\"blocks\":[" BLOCK("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b980"
                                            "7785afee48b",
                                            "1") "]}"},
        {"id one digit long", "{\"length\":1,\"blocks\":[" BLOCK(A_HEX "0", "1") "]}"},
        {"upper-case digit in an id",
         "{\"length\":1,\"blocks\":[" BLOCK("Ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b980"
                                            "7785afee48bb",
                                            "1") "]}"},
        {"no digit in an id",
         "{\"length\":1,\"blocks\":[" BLOCK("ga978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b980"
                                            "7785afee48bb",
                                            "1") "]}"},
        {"single quotes", "{'length':0,'blocks':[]}"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        const int err = parse_string(texts[i].text);
        if (err != -EPROTO) {
            fail_msg("%s: %d", texts[i].what, err);
        }
    }
    assert_int_equal(parse(BYTES((const uint8_t *)EMPTY_TEXT, sizeof EMPTY_TEXT)), -EPROTO);
}

static void numbers_beyond_their_limits_are_too_big(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"length\":1099511627777,\"blocks\":[]}",
        "{\"length\":9999999999999,\"blocks\":[]}",
        /* 2^63, 2^64 - 1, 2^64, 2^64 + 1, 2^64 * 10 + 1, 2^128 + 1: the last four are 0 or 1 to
         * arithmetic that overflows. */
        "{\"length\":9223372036854775808,\"blocks\":[]}",
        "{\"length\":18446744073709551615,\"blocks\":[]}",
        "{\"length\":18446744073709551616,\"blocks\":[]}",
        "{\"length\":18446744073709551617,\"blocks\":[" BLOCK(A_HEX, "1") "]}",
        "{\"length\":184467440737095516161,\"blocks\":[" BLOCK(A_HEX, "1") "]}",
        "{\"length\":340282366920938463463374607431768211457,\"blocks\":[" BLOCK(A_HEX, "1") "]}",
        "{\"length\":16777217,\"blocks\":[" BLOCK(A_HEX, "16777217") "]}",
        "{\"length\":99999999,\"blocks\":[" BLOCK(A_HEX, "99999999") "]}",
        "{\"length\":4294967296,\"blocks\":[" BLOCK(A_HEX, "4294967296") "]}",
        "{\"length\":1,\"blocks\":[" BLOCK(A_HEX, "4294967297") "]}",
        "{\"length\":1,\"blocks\":[" BLOCK(A_HEX, "18446744073709551617") "]}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        assert_int_equal(parse_string(texts[i]), -EFBIG);
    }
    /* At the limits themselves. */
    assert_int_equal(
        parse_string("{\"length\":16777216,\"blocks\":[" BLOCK(A_HEX, "16777216") "]}"), 0);
    assert_int_equal(parse_string("{\"length\":1099511627776,\"blocks\":[]}"), -EPROTO);
}

static void texts_cut_short_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
        const struct bytes text = bytes_of_string(vectors[i].text);
        for (size_t size = 0; size < text.size; size++) {
            assert_int_equal(parse(BYTES(text.data, size)), -EPROTO);
        }
    }
}

/* parse() compares what was taken with what is formatted. */
static void any_other_byte_is_refused_or_kept(void **state)
{
    (void)state;
    const struct bytes text = bytes_of_string(TWO_TEXT);
    uint8_t *changed = mem_copy(text.data, text.size);
    size_t taken_count = 0;
    for (size_t place = 0; place < text.size; place++) {
        for (unsigned value = 0; value < 256; value++) {
            changed[place] = (uint8_t)value;
            taken_count += parse(BYTES(changed, text.size)) == 0;
        }
        changed[place] = text.data[place];
    }
    free(changed);
    /* The text itself, once for every place, and 15 other digits at 128 places of ids: a single
     * digit of a number cannot change, the sum would be another. */
    assert_int_equal(taken_count, text.size + 15 * 2 * ID_HEX_CHARS);
}

/* A byte more, or one less, at any place. */
static void any_byte_more_or_less_is_refused(void **state)
{
    (void)state;
    const struct bytes text = bytes_of_string(TWO_TEXT);
    uint8_t *changed = mem_alloc(text.size + 1);
    for (size_t place = 0; place < text.size; place++) {
        memcpy(changed, text.data, place);
        memcpy(changed + place, text.data + place + 1, text.size - place - 1);
        assert_int_not_equal(parse(BYTES(changed, text.size - 1)), 0);

        memcpy(changed + place + 1, text.data + place, text.size - place);
        for (unsigned value = 0; value < 256; value++) {
            changed[place] = (uint8_t)value;
            assert_int_not_equal(parse(BYTES(changed, text.size + 1)), 0);
        }
    }
    free(changed);
}

static void add_refuses_what_no_text_may_hold(void **state)
{
    (void)state;
    const struct id id = id_of_hex(A_HEX);
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    assert_int_equal(file_metadata_add(&metadata, &id, 0), -EINVAL);
    assert_int_equal(file_metadata_add(&metadata, &id, FILE_METADATA_BLOCK_BYTES_MAX + 1), -EFBIG);
    assert_int_equal(file_metadata_add(&metadata, &id, UINT32_MAX), -EFBIG);
    assert_int_equal(metadata.blocks_count, 0);
    assert_int_equal(metadata.length_bytes, 0);
    assert_int_equal(file_metadata_add(&metadata, &id, FILE_METADATA_BLOCK_BYTES_MAX), 0);
    assert_int_equal(metadata.blocks_count, 1);
}

static void the_longest_file(void **state)
{
    (void)state;
    const struct id id = id_of_hex(A_HEX);
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    while (metadata.length_bytes < FILE_METADATA_LENGTH_MAX) {
        assert_int_equal(file_metadata_add(&metadata, &id, FILE_METADATA_BLOCK_BYTES_MAX), 0);
    }
    assert_int_equal(metadata.length_bytes, FILE_METADATA_LENGTH_MAX);
    assert_int_equal(file_metadata_add(&metadata, &id, 1), -EFBIG);
    assert_int_equal(metadata.length_bytes, FILE_METADATA_LENGTH_MAX);

    CLEANUP_BUF struct buf text = BUF_INIT;
    file_metadata_format(&metadata, &text);
    assert_int_equal(parse(buf_bytes(&text)), 0);

    /* One more block of one byte in the text: the sum is above the limit. */
    text.size -= strlen("]}");
    buf_add_string(&text, "," BLOCK(A_HEX, "1") "]}");
    assert_int_equal(parse(buf_bytes(&text)), -EFBIG);
}

static void the_most_blocks(void **state)
{
    (void)state;
    const struct id id = id_of_hex(A_HEX);
    /* The longest text there is, but for a digit here and there. */
    const uint32_t size_bytes = FILE_METADATA_LENGTH_MAX / FILE_METADATA_BLOCKS_MAX;
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    for (size_t i = 0; i < FILE_METADATA_BLOCKS_MAX; i++) {
        assert_int_equal(file_metadata_add(&metadata, &id, size_bytes), 0);
    }
    assert_int_equal(file_metadata_add(&metadata, &id, 1), -EFBIG);
    assert_int_equal(metadata.blocks_count, FILE_METADATA_BLOCKS_MAX);

    CLEANUP_BUF struct buf text = BUF_INIT;
    file_metadata_format(&metadata, &text);
    assert_true(text.size <= FILE_METADATA_TEXT_BYTES_MAX);
    assert_int_equal(parse(buf_bytes(&text)), 0);
}

static void one_block_too_many(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf text = BUF_INIT;
    buf_add_string(&text, "{\"length\":150001,\"blocks\":[");
    for (size_t i = 0; i <= FILE_METADATA_BLOCKS_MAX; i++) {
        buf_add_string(&text, i ? "," BLOCK(A_HEX, "1") : BLOCK(A_HEX, "1"));
    }
    buf_add_string(&text, "]}");
    assert_true(text.size < FILE_METADATA_TEXT_BYTES_MAX);
    assert_int_equal(parse(buf_bytes(&text)), -EFBIG);
}

static void texts_beyond_the_limit_are_too_big(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf text = BUF_INIT;
    memset(buf_extend(&text, FILE_METADATA_TEXT_BYTES_MAX), ' ', FILE_METADATA_TEXT_BYTES_MAX);
    memcpy(text.data, EMPTY_TEXT, strlen(EMPTY_TEXT));
    assert_int_equal(parse(buf_bytes(&text)), -EPROTO);
    buf_add_byte(&text, ' ');
    assert_int_equal(parse(buf_bytes(&text)), -EFBIG);
}

static void done_leaves_an_empty_one(void **state)
{
    (void)state;
    const struct id id = id_of_hex(A_HEX);
    struct file_metadata metadata = FILE_METADATA_INIT;
    file_metadata_done(&metadata);
    assert_int_equal(file_metadata_add(&metadata, &id, 1), 0);
    file_metadata_done(&metadata);
    assert_int_equal(metadata.length_bytes, 0);
    assert_int_equal(metadata.blocks_count, 0);
    assert_null(metadata.blocks);
    file_metadata_done(&metadata);
    assert_int_equal(file_metadata_add(&metadata, &id, 1), 0);
    file_metadata_done(&metadata);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_parse_format_and_have_their_ids),
        cmocka_unit_test(blocks_keep_their_order),
        cmocka_unit_test(added_blocks_make_the_same_text),
        cmocka_unit_test(numbers_of_every_length),
        cmocka_unit_test(malformed_texts_are_refused),
        cmocka_unit_test(numbers_beyond_their_limits_are_too_big),
        cmocka_unit_test(texts_cut_short_are_refused),
        cmocka_unit_test(any_other_byte_is_refused_or_kept),
        cmocka_unit_test(any_byte_more_or_less_is_refused),
        cmocka_unit_test(add_refuses_what_no_text_may_hold),
        cmocka_unit_test(the_longest_file),
        cmocka_unit_test(the_most_blocks),
        cmocka_unit_test(one_block_too_many),
        cmocka_unit_test(texts_beyond_the_limit_are_too_big),
        cmocka_unit_test(done_leaves_an_empty_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
