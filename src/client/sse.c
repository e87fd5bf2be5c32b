/* SPDX-License-Identifier: Apache-2.0 */
#include "client/sse.h"

#include <errno.h>

void sse_done(struct sse *sse)
{
    buf_done(&sse->line);
    buf_done(&sse->id);
    buf_done(&sse->type);
    buf_done(&sse->data);
}

static void forget_event(struct sse *sse)
{
    buf_clear(&sse->type);
    buf_clear(&sse->data);
    sse->has_data = false;
    sse->has_id = false;
}

void sse_restart(struct sse *sse)
{
    buf_clear(&sse->line);
    forget_event(sse);
    sse->skip_linefeed = false;
    sse->begun = false;
}

static int dispatch(struct sse *sse, sse_visit *visit, void *context)
{
    int err = 0;
    if (sse->has_data || sse->has_id) {
        const struct sse_event event = {
            .id = buf_string(&sse->id),
            .type = sse->type.size ? buf_string(&sse->type) : "message",
            .data = sse->has_data ? buf_string(&sse->data) : NULL,
            .data_bytes = sse->data.size,
        };
        err = visit(context, &event);
    }
    forget_event(sse);
    return err;
}

static int take_field(struct sse *sse, struct bytes name, struct bytes value)
{
    if (bytes_equal(name, bytes_of_string("data"))) {
        if (sse->data.size + value.size + 1 > SSE_EVENT_BYTES_MAX) {
            return -EFBIG;
        }
        if (sse->has_data) {
            buf_add_byte(&sse->data, '\n');
        }
        buf_add(&sse->data, value);
        sse->has_data = true;
    } else if (value.size && memchr(value.data, 0, value.size)) {
        /* The standard says so of ids; a type with a NUL is none that anybody knows, either. */
        return 0;
    } else if (bytes_equal(name, bytes_of_string("event"))) {
        buf_clear(&sse->type);
        buf_add(&sse->type, value);
    } else if (bytes_equal(name, bytes_of_string("id"))) {
        buf_clear(&sse->id);
        buf_add(&sse->id, value);
        sse->has_id = true;
    }
    return 0;
}

static int take_line(struct sse *sse, sse_visit *visit, void *context)
{
    struct bytes line = buf_bytes(&sse->line);
    if (!sse->begun && line.size >= 3 && memcmp(line.data, "\xef\xbb\xbf", 3) == 0) {
        line = BYTES(line.data + 3, line.size - 3);
    }
    sse->begun = true;
    int err = 0;
    if (line.size == 0) {
        err = dispatch(sse, visit, context);
    } else {
        const uint8_t *colon = memchr(line.data, ':', line.size);
        const size_t name_bytes = colon ? (size_t)(colon - line.data) : line.size;
        size_t value_at = colon ? name_bytes + 1 : line.size;
        if (value_at < line.size && line.data[value_at] == ' ') {
            value_at++;
        }
        err = take_field(sse, BYTES(line.data, name_bytes),
                         BYTES(line.data + value_at, line.size - value_at));
    }
    buf_clear(&sse->line);
    return err;
}

/* How many bytes stand before the next end of a line. */
static size_t span(struct bytes bytes)
{
    size_t count = 0;
    while (count < bytes.size && bytes.data[count] != '\n' && bytes.data[count] != '\r') {
        count++;
    }
    return count;
}

int sse_add(struct sse *sse, struct bytes bytes, sse_visit *visit, void *context)
{
    while (bytes.size) {
        if (sse->skip_linefeed) {
            sse->skip_linefeed = false;
            if (bytes.data[0] == '\n') {
                bytes = BYTES(bytes.data + 1, bytes.size - 1);
                continue;
            }
        }
        const size_t count = span(bytes);
        if (sse->line.size + count > SSE_EVENT_BYTES_MAX) {
            return -EFBIG;
        }
        buf_add(&sse->line, BYTES(bytes.data, count));
        if (count == bytes.size) {
            return 0;
        }
        sse->skip_linefeed = bytes.data[count] == '\r';
        bytes = BYTES(bytes.data + count + 1, bytes.size - count - 1);
        const int err = take_line(sse, visit, context);
        if (err) {
            return err;
        }
    }
    return 0;
}
