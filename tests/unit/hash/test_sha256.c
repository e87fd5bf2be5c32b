/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"
#include "hash/sha256.h"

#define EMPTY_HEX "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define ABC_HEX "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define MILLION_A_HEX "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"

/* The examples of FIPS 180-4 (csrc.nist.gov, "SHA256.pdf", "SHA2_Additional.pdf"). */
static const struct {
    const char *text;
    const char *hex;
} vectors[] = {
    {"", EMPTY_HEX},
    {"abc", ABC_HEX},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
     "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
};

static void assert_id_is(const struct id *id, const char *expected_hex)
{
    char hex[ID_HEX_CHARS + 1];
    id_format(id, hex);
    assert_string_equal(hex, expected_hex);
}

static uint8_t *make_sample(size_t size)
{
    uint8_t *sample = mem_alloc(size);
    for (size_t i = 0; i < size; i++) {
        sample[i] = (uint8_t)(i * 131 + (i >> 8));
    }
    return sample;
}

static void gives_the_published_examples(void **state)
{
    (void)state;
    struct sha256 *sha256 = sha256_new();
    for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
        const struct bytes text = bytes_of_string(vectors[i].text);
        struct id id;
        sha256_id(text, &id);
        assert_id_is(&id, vectors[i].hex);
        sha256_add(sha256, text);
        sha256_take(sha256, &id);
        assert_id_is(&id, vectors[i].hex);
    }
    sha256_free(sha256);
}

static void gives_the_example_of_a_million(void **state)
{
    (void)state;
    const size_t size = 1000000;
    uint8_t *data = mem_alloc(size);
    memset(data, 'a', size);
    struct id id;
    sha256_id(BYTES(data, size), &id);
    assert_id_is(&id, MILLION_A_HEX);
    free(data);
}

static void takes_nothing_at_null(void **state)
{
    (void)state;
    struct id id;
    sha256_id(BYTES(NULL, 0), &id);
    assert_id_is(&id, EMPTY_HEX);

    struct sha256 *sha256 = sha256_new();
    sha256_add(sha256, BYTES(NULL, 0));
    sha256_take(sha256, &id);
    assert_id_is(&id, EMPTY_HEX);
    sha256_free(sha256);
    sha256_free(NULL);
}

static void pieces_give_the_same_as_the_whole(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 3, 55, 56, 63, 64, 65, 127, 1000, 4096, 9999};
    const size_t size = 10000;
    uint8_t *data = make_sample(size);
    struct id whole;
    sha256_id(BYTES(data, size), &whole);

    struct sha256 *sha256 = sha256_new();
    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
        for (size_t at = 0; at < size; at += pieces[i]) {
            const size_t left = size - at;
            sha256_add(sha256, BYTES(data + at, left < pieces[i] ? left : pieces[i]));
        }
        struct id id;
        sha256_take(sha256, &id);
        assert_true(id_equal(&id, &whole));
    }
    sha256_free(sha256);
    free(data);
}

static void take_begins_anew(void **state)
{
    (void)state;
    struct sha256 *sha256 = sha256_new();
    struct id id;
    for (int i = 0; i < 3; i++) {
        sha256_add(sha256, bytes_of_string("ab"));
        sha256_add(sha256, bytes_of_string("c"));
        sha256_take(sha256, &id);
        assert_id_is(&id, ABC_HEX);
    }
    sha256_take(sha256, &id);
    assert_id_is(&id, EMPTY_HEX);
    sha256_add(sha256, bytes_of_string("left unfinished"));
    sha256_free(sha256);
}

static void states_do_not_mix(void **state)
{
    (void)state;
    struct sha256 *one = sha256_new();
    struct sha256 *other = sha256_new();
    sha256_add(one, bytes_of_string("ab"));
    sha256_add(other, bytes_of_string("abcdbcdecdefdefgefghfghighij"));
    sha256_add(one, bytes_of_string("c"));
    sha256_add(other, bytes_of_string("hijkijkljklmklmnlmnomnopnopq"));
    struct id id;
    sha256_take(other, &id);
    assert_id_is(&id, vectors[2].hex);
    sha256_take(one, &id);
    assert_id_is(&id, ABC_HEX);
    sha256_free(one);
    sha256_free(other);
}

/* All lengths around the blocks of the hash, at all alignments, in memory of exactly that size. */
static void alignment_makes_no_difference(void **state)
{
    (void)state;
    const size_t size_most = 200;
    uint8_t *data = make_sample(size_most);
    for (size_t size = 0; size <= size_most; size++) {
        struct id expected;
        sha256_id(BYTES(data, size), &expected);
        for (size_t shift = 0; shift < 16; shift++) {
            uint8_t *shifted = mem_alloc(size + shift);
            memcpy(shifted + shift, data, size);
            struct id id;
            sha256_id(BYTES(shifted + shift, size), &id);
            assert_true(id_equal(&id, &expected));
            free(shifted);
        }
    }
    free(data);
}

static void *hash_many_times(void *context)
{
    size_t *ret_wrong_count = context;
    const struct bytes text = bytes_of_string("abc");
    struct id expected;
    if (id_parse(bytes_of_string(ABC_HEX), &expected) != 0) {
        (*ret_wrong_count)++;
    }
    for (int i = 0; i < 2000; i++) {
        struct id id;
        sha256_id(text, &id);
        *ret_wrong_count += !id_equal(&id, &expected);
    }
    return NULL;
}

static void threads_do_not_disturb_each_other(void **state)
{
    (void)state;
    pthread_t threads[4];
    size_t wrong_counts[ARRAY_SIZE(threads)] = {0};
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hash_many_times, &wrong_counts[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(wrong_counts[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_published_examples),
        cmocka_unit_test(gives_the_example_of_a_million),
        cmocka_unit_test(takes_nothing_at_null),
        cmocka_unit_test(pieces_give_the_same_as_the_whole),
        cmocka_unit_test(take_begins_anew),
        cmocka_unit_test(states_do_not_mix),
        cmocka_unit_test(alignment_makes_no_difference),
        cmocka_unit_test(threads_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
