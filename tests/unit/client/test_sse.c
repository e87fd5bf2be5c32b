/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "client/sse.h"

/* Each event as "id|type|data;", an id without one as "id;". */
static int note(void *context, const struct sse_event *event)
{
    if (!event->data) {
        buf_add_format(context, "%s;", event->id);
        return 0;
    }
    buf_add_format(context, "%s|%s|", event->id, event->type);
    buf_add(context, BYTES((const uint8_t *)event->data, event->data_bytes));
    buf_add_byte(context, ';');
    return 0;
}

static void parses(const char *stream, size_t piece_bytes, const char *expected)
{
    CLEANUP_BUF struct buf seen = BUF_INIT;
    struct sse sse = SSE_INIT;
    struct bytes rest = bytes_of_string(stream);
    while (rest.size) {
        const size_t size = rest.size < piece_bytes ? rest.size : piece_bytes;
        /* In memory of its own size, so that the sanitizer sees a read beyond it. */
        uint8_t *piece = mem_copy(rest.data, size);
        assert_int_equal(sse_add(&sse, BYTES(piece, size), note, &seen), 0);
        free(piece);
        rest = BYTES(rest.data + size, rest.size - size);
    }
    sse_done(&sse);
    assert_string_equal(buf_string(&seen), expected);
}

static const struct {
    const char *stream;
    const char *events;
} cases[] = {
    {"", ""},
    {"data: a\n\n", "|message|a;"},
    {"data:a\n\n", "|message|a;"},
    {"data:  a\n\n", "|message| a;"},
    {"data\n\n", "|message|;"},
    {"data: a\ndata: b\n\n", "|message|a\nb;"},
    {"data\ndata\n\n", "|message|\n;"},
    {"data: a\r\n\r\ndata: b\r\rdata: c\n\n", "|message|a;|message|b;|message|c;"},
    {"id: 1\nevent: put\ndata: a\n\n", "1|put|a;"},
    /* The id stays, the type does not. */
    {"id: 1\nevent: put\ndata: a\n\ndata: b\n\n", "1|put|a;1|message|b;"},
    {"id: 1\ndata: a\n\nid\ndata: b\n\n", "1|message|a;|message|b;"},
    /* No data, no event; the id counts. */
    {"id: 7\nevent: put\n\ndata: a\n\n", "7;7|message|a;"},
    {": alive\nid: 7\n\nid: 8\n\n", "7;8;"},
    {"id: 7\ndata: a\n\nevent: put\n\nid\n\n", "7|message|a;;"},
    {"id: 7\n", ""},
    {": alive\n\n:\n\ndata: a\n: b\n\n", "|message|a;"},
    {"retry: 5\nwhatever: x\nnocolon\ndata: a\n\n", "|message|a;"},
    {"data: a:b: c\n\n", "|message|a:b: c;"},
    /* Cut off at the end. */
    {"data: a\n\ndata: b\n", "|message|a;"},
    {"data: a", ""},
    {"\xef\xbb\xbf"
     "data: a\n\n",
     "|message|a;"},
    {"\n\n\n\ndata: a\n\n\n\n", "|message|a;"},
    {"Data: a\ndata : b\n\n", ""},
};

static void streams_are_parsed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        parses(cases[i].stream, SIZE_MAX, cases[i].events);
    }
}

static void pieces_do_not_matter(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (size_t piece = 1; piece < 9; piece++) {
            parses(cases[i].stream, piece, cases[i].events);
        }
    }
}

static void an_id_with_nul_is_no_id(void **state)
{
    (void)state;
    static const uint8_t stream[] = "id: 1\nid: 2\0003\ndata: a\n\n";
    CLEANUP_BUF struct buf seen = BUF_INIT;
    struct sse sse = SSE_INIT;
    assert_int_equal(sse_add(&sse, BYTES(stream, sizeof stream - 1), note, &seen), 0);
    assert_string_equal(buf_string(&seen), "1|message|a;");
    sse_done(&sse);
}

static void a_new_connection_begins_anew(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf seen = BUF_INIT;
    struct sse sse = SSE_INIT;
    const char *first = "id: 1\ndata: a\n\nevent: x\ndata: lost\r";
    assert_int_equal(sse_add(&sse, bytes_of_string(first), note, &seen), 0);
    sse_restart(&sse);
    assert_int_equal(sse_add(&sse, bytes_of_string("\ndata: b\n\n"), note, &seen), 0);
    assert_string_equal(buf_string(&seen), "1|message|a;1|message|b;");
    sse_done(&sse);
}

static void nothing_grows_without_end(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf seen = BUF_INIT;
    CLEANUP_BUF struct buf line = BUF_INIT;
    memset(buf_extend(&line, SSE_EVENT_BYTES_MAX), 'x', SSE_EVENT_BYTES_MAX);
    struct sse sse = SSE_INIT;
    assert_int_equal(sse_add(&sse, buf_bytes(&line), note, &seen), 0);
    assert_int_equal(sse_add(&sse, bytes_of_string("x"), note, &seen), -EFBIG);
    sse_done(&sse);

    sse = SSE_INIT;
    buf_clear(&line);
    buf_add_string(&line, "data: ");
    memset(buf_extend(&line, 1000), 'x', 1000);
    buf_add_byte(&line, '\n');
    int err = 0;
    size_t lines_count = 0;
    for (; !err; lines_count++) {
        assert_true(lines_count < SSE_EVENT_BYTES_MAX / 1000 + 2);
        err = sse_add(&sse, buf_bytes(&line), note, &seen);
    }
    assert_int_equal(err, -EFBIG);
    assert_true(lines_count >= SSE_EVENT_BYTES_MAX / 1001);
    sse_done(&sse);
}

static int refuse(void *context, const struct sse_event *event)
{
    (void)event;
    return ++*(int *)context == 2 ? -EPIPE : 0;
}

static void an_error_ends_it(void **state)
{
    (void)state;
    int count = 0;
    struct sse sse = SSE_INIT;
    const char *stream = "data: a\n\ndata: b\n\ndata: c\n\n";
    assert_int_equal(sse_add(&sse, bytes_of_string(stream), refuse, &count), -EPIPE);
    assert_int_equal(count, 2);
    sse_done(&sse);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_parsed),        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(an_id_with_nul_is_no_id),   cmocka_unit_test(a_new_connection_begins_anew),
        cmocka_unit_test(nothing_grows_without_end), cmocka_unit_test(an_error_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
