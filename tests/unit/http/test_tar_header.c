/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "http/tar_priv.h"

#define TEXT(literal) BYTES((const uint8_t *)(literal), sizeof(literal) - 1)

/* A header of `type` and its content, padded. */
static void add(struct buf *stream, char type, struct bytes content)
{
    uint8_t header[512] = {0};
    snprintf((char *)header + 124, 12, "%011zo", content.size);
    header[156] = (uint8_t)type;
    buf_add(stream, BYTES(header, sizeof header));
    buf_add(stream, content);
    while (stream->size % 512 != 0) {
        buf_add_byte(stream, 0);
    }
}

static bool is_cut(char type, struct bytes content)
{
    CLEANUP_BUF struct buf stream = BUF_INIT;
    add(&stream, type, content);
    add(&stream, '0', BYTES(NULL, 0));
    return tar_has_cut_name(buf_bytes(&stream));
}

static void names_of_pax(void **state)
{
    (void)state;
    assert_true(is_cut('x', TEXT("12 path=a\0b\n")));
    assert_true(is_cut('x', TEXT("12 path=ab\0\n")));
    assert_true(is_cut('g', TEXT("12 path=a\0b\n")));
    assert_true(is_cut('x', TEXT("16 linkpath=a\0b\n")));
    assert_true(is_cut('x', TEXT("11 mtime=1\n12 path=a\0b\n")));
    assert_false(is_cut('x', TEXT("11 path=abc\n")));
    assert_false(is_cut('x', TEXT("12 path=abc\n")));
    /* Others may hold anything. */
    assert_false(is_cut('x', TEXT("26 SCHILY.xattr.user.a=a\0\n")));
    assert_false(is_cut('x', TEXT("13 apath=a\0b\n")));
    assert_false(is_cut('0', TEXT("12 path=a\0b\n")));
}

static void names_of_gnu(void **state)
{
    (void)state;
    assert_true(is_cut('L', TEXT("a\0b")));
    assert_true(is_cut('K', TEXT("a\0b\0")));
    assert_false(is_cut('L', TEXT("ab")));
    assert_false(is_cut('L', TEXT("ab\0\0")));
}

static void several_headers(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf stream = BUF_INIT;
    add(&stream, 'g', TEXT("12 path=abc\n"));
    add(&stream, 'L', TEXT("abc\0"));
    add(&stream, 'x', TEXT("12 path=a\0b\n"));
    assert_true(tar_has_cut_name(buf_bytes(&stream)));
    /* Whatever is cut off or odd is for libarchive to judge: nothing beyond the bytes is read. */
    for (size_t size = 0; size < stream.size; size++) {
        CLEANUP_FREE uint8_t *part = mem_alloc(size + 1);
        memcpy(part, stream.data, size);
        const bool found = tar_has_cut_name(BYTES(part, size));
        assert_true(!found || size >= stream.size - 512);
    }
    add(&stream, '0', BYTES(NULL, 0));
    memcpy(stream.data + 124, "99999999999", 11);
    assert_false(tar_has_cut_name(buf_bytes(&stream)));
}

static void odd_records(void **state)
{
    (void)state;
    const struct bytes odd[] = {TEXT(""),
                                TEXT("12"),
                                TEXT("12 "),
                                TEXT("0 path=\0\n"),
                                TEXT("99 path=\0\n"),
                                TEXT("x path=\0\n"),
                                TEXT("3 =\n"),
                                TEXT("99999999999999999999 path=\0\n")};
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
        assert_false(is_cut('x', odd[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_pax),
        cmocka_unit_test(names_of_gnu),
        cmocka_unit_test(several_headers),
        cmocka_unit_test(odd_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
