/* SPDX-License-Identifier: Apache-2.0 */

/* The first byte chooses how the rest is cut. A preamble that parses and says no more than we know
 * formats back to the same bytes. What follows it are frames: they are the same however they are
 * cut, no payload is longer than allowed, and no piece reaches beyond its frame. */

#include <errno.h>

#include "base/mem.h"
#include "fuzz.h"
#include "link/frame.h"
#include "link/preamble.h"

/* What came of some frames: sums over the pieces. */
struct outcome {
    int err;
    uint64_t frames;
    uint64_t sum; /* over types, streams, flags, lengths and all bytes, in order */
};

static void add(struct outcome *outcome, uint64_t value)
{
    outcome->sum = outcome->sum * 0x9E3779B97F4A7C15u + value + 1;
}

static void add_piece(struct outcome *outcome, const struct frame_piece *piece,
                      uint64_t *data_bytes)
{
    CHECK(piece->frame.length <= FRAME_PAYLOAD_BYTES_MAX);
    for (size_t i = 0; i < piece->bytes.size; i++) {
        add(outcome, piece->bytes.data[i]);
    }
    *data_bytes += piece->bytes.size;
    CHECK(*data_bytes <= piece->frame.length);
    if (piece->is_last) {
        CHECK(piece->frame.type != FRAME_DATA || *data_bytes == piece->frame.length);
        add(outcome, piece->frame.type);
        add(outcome, piece->frame.stream);
        add(outcome, piece->frame.flags);
        add(outcome, piece->frame.length);
        outcome->frames++;
        *data_bytes = 0;
    }
}

static struct outcome read_frames(struct bytes bytes, size_t step)
{
    struct outcome outcome = {0};
    struct frame_reader reader = {0};
    struct frame_piece piece;
    uint64_t data_bytes = 0;
    for (size_t at = 0; at < bytes.size && !outcome.err; at += step) {
        struct bytes input =
            BYTES(bytes.data + at, bytes.size - at < step ? bytes.size - at : step);
        int got;
        while ((got = frame_read(&reader, &input, &piece)) == 1) {
            add_piece(&outcome, &piece, &data_bytes);
        }
        CHECK(got == -EPROTO || input.size == 0);
        outcome.err = got;
    }
    return outcome;
}

static size_t check_preamble(struct bytes bytes)
{
    struct preamble preamble = {0};
    size_t size = 0;
    const int err = preamble_parse(bytes, &preamble, &size);
    CHECK(err == 0 || err == -EAGAIN || err == -EPROTO || err == -EPROTONOSUPPORT);
    if (err) {
        return 0;
    }
    CHECK(size >= PREAMBLE_BYTES && size <= PREAMBLE_BYTES_MAX && size <= bytes.size);
    if (size == PREAMBLE_BYTES && preamble.minor == PREAMBLE_MINOR) {
        CLEANUP_BUF struct buf formatted = BUF_INIT;
        preamble_format(&preamble, &formatted);
        CHECK(bytes_equal(buf_bytes(&formatted), BYTES(bytes.data, size)));
    }
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct bytes bytes = BYTES(data + 1, size - 1);
    const size_t preamble_bytes = check_preamble(bytes);
    bytes = BYTES(bytes.data + preamble_bytes, bytes.size - preamble_bytes);
    const struct outcome whole = read_frames(bytes, bytes.size + 1);
    const struct outcome cut = read_frames(bytes, data[0] + 1u);
    CHECK(whole.err == cut.err && whole.frames == cut.frames && whole.sum == cut.sum);
    return 0;
}
