/* SPDX-License-Identifier: Apache-2.0 */

/* Where a stream is cut into pieces changes nothing: the same events come out of the whole and of
 * single bytes, unless a limit is met. */

#include <errno.h>

#include "base/mem.h"
#include "client/sse.h"
#include "fuzz.h"

static int note(void *context, const struct sse_event *event)
{
    CHECK(event->data_bytes <= SSE_EVENT_BYTES_MAX);
    CHECK(event->type[0] != 0);
    buf_add_format(context, "%zu %zu %zu %d ", strlen(event->id), strlen(event->type),
                   event->data_bytes, event->data != NULL);
    buf_add_string(context, event->id);
    buf_add_string(context, event->type);
    if (event->data) {
        buf_add(context, BYTES((const uint8_t *)event->data, event->data_bytes));
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_BUF struct buf whole = BUF_INIT;
    CLEANUP_BUF struct buf pieces = BUF_INIT;
    struct sse sse = SSE_INIT;
    const int err = sse_add(&sse, BYTES(data, size), note, &whole);
    CHECK(err == 0 || err == -EFBIG);
    sse_done(&sse);

    sse = SSE_INIT;
    int piece_err = 0;
    for (size_t i = 0; i < size && !piece_err; i++) {
        piece_err = sse_add(&sse, BYTES(data + i, 1), note, &pieces);
    }
    sse_done(&sse);
    CHECK(piece_err == err);
    CHECK(bytes_equal(buf_bytes(&whole), buf_bytes(&pieces)));
    return 0;
}
