/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/mem.h"
#include "hash/crc32c.h"

/* The definition, a bit at a time: polynomial 0x1EDC6F41, reflected. */
static uint32_t crc32c_by_definition(const uint8_t *data, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0);
        }
    }
    return ~crc;
}

static void gives_the_check_value(void **state)
{
    (void)state;
    assert_int_equal(crc32c(bytes_of_string("123456789")), 0xE3069283);
}

/* RFC 3720, appendix B.4; the RFC lists the bytes of each CRC in the order of the wire. */
static void gives_the_examples_of_the_rfc(void **state)
{
    (void)state;
    uint8_t data[32];
    memset(data, 0, sizeof data);
    assert_int_equal(crc32c(BYTES(data, sizeof data)), 0x8A9136AA);
    memset(data, 0xff, sizeof data);
    assert_int_equal(crc32c(BYTES(data, sizeof data)), 0x62A8AB43);
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)i;
    }
    assert_int_equal(crc32c(BYTES(data, sizeof data)), 0x46DD794E);
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(crc32c(BYTES(data, sizeof data)), 0x113FDB5C);

    static const uint8_t read_command[48] = {
        0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, 0x28, [40] = 0x02};
    assert_int_equal(crc32c(BYTES(read_command, sizeof read_command)), 0xD9963A56);
}

static void nothing_gives_zero(void **state)
{
    (void)state;
    assert_int_equal(crc32c(BYTES(NULL, 0)), 0);
    assert_int_equal(crc32c(bytes_of_string("")), 0);
}

/* Every length in which the vector code has its special cases, at every alignment, in memory of
 * exactly that size. */
static void agrees_with_the_definition(void **state)
{
    (void)state;
    const size_t size_most = 1100;
    const size_t shift_most = 16;
    for (size_t size = 0; size <= size_most; size++) {
        const size_t shift = size % (shift_most + 1);
        uint8_t *data = mem_alloc(size + shift);
        for (size_t i = 0; i < size; i++) {
            data[shift + i] = (uint8_t)(i * 131 + size);
        }
        assert_int_equal(crc32c(BYTES(data + shift, size)),
                         crc32c_by_definition(data + shift, size));
        free(data);
    }
}

static void alignment_makes_no_difference(void **state)
{
    (void)state;
    const size_t size = 4096;
    uint8_t *data = mem_alloc(size + 64);
    uint8_t *sample = mem_alloc(size);
    for (size_t i = 0; i < size; i++) {
        sample[i] = (uint8_t)(i * 7 + (i >> 5));
    }
    const uint32_t expected = crc32c_by_definition(sample, size);
    for (size_t shift = 0; shift < 64; shift++) {
        memcpy(data + shift, sample, size);
        assert_int_equal(crc32c(BYTES(data + shift, size)), expected);
    }
    free(sample);
    free(data);
}

static void every_flipped_bit_shows(void **state)
{
    (void)state;
    uint8_t data[256];
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i * 29);
    }
    const uint32_t before = crc32c(BYTES(data, sizeof data));
    for (size_t bit = 0; bit < 8 * sizeof data; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(crc32c(BYTES(data, sizeof data)), before);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(crc32c(BYTES(data, sizeof data)), before);
}

/* Around one span and the number that are read side by side, whole and with a short one at the end,
 * in memory of exactly that size, with spans that are not a multiple of a piece. */
static void spans_have_the_crcs_that_they_have_alone(void **state)
{
    (void)state;
    const size_t spans[] = {1, 63, 1000, 1024, 1025, 4096, 5000};
    for (size_t i = 0; i < ARRAY_SIZE(spans); i++) {
        for (size_t tail = 0; tail < 10 * 3; tail++) {
            const size_t rests[] = {0, 1, spans[i] - 1};
            const size_t size = tail / 3 * spans[i] + rests[tail % 3];
            uint8_t *data = mem_alloc(size);
            uint8_t *copy = mem_alloc(size);
            for (size_t at = 0; at < size; at++) {
                data[at] = (uint8_t)(at * 131 + (at >> 7) + tail);
            }
            uint32_t crcs[12];
            uint32_t copied[12];
            memset(crcs, 0xA5, sizeof crcs);
            memset(copied, 0xA5, sizeof copied);
            crc32c_spans(BYTES(data, size), spans[i], crcs);
            crc32c_copy(BYTES(data, size), spans[i], copy, copied);
            const size_t count = (size + spans[i] - 1) / spans[i];
            for (size_t span = 0; span < count; span++) {
                const size_t from = span * spans[i];
                const size_t left = size - from;
                const struct bytes alone = BYTES(data + from, left < spans[i] ? left : spans[i]);
                assert_int_equal(crcs[span], crc32c(alone));
            }
            assert_int_equal(crcs[count], 0xA5A5A5A5);
            assert_memory_equal(copied, crcs, sizeof crcs);
            assert_memory_equal(copy, data, size);
            free(copy);
            free(data);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_check_value),
        cmocka_unit_test(gives_the_examples_of_the_rfc),
        cmocka_unit_test(nothing_gives_zero),
        cmocka_unit_test(agrees_with_the_definition),
        cmocka_unit_test(alignment_makes_no_difference),
        cmocka_unit_test(every_flipped_bit_shows),
        cmocka_unit_test(spans_have_the_crcs_that_they_have_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
