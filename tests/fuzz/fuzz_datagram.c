/* SPDX-License-Identifier: Apache-2.0 */

/* What parses formats back to the same bytes, without what later versions have added to it. */

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "fuzz.h"
#include "updates.h"
#include "wire/datagram.h"

#define HEADER_BYTES 40
#define MINOR_AT 2

static bool has_updates(const struct datagram *datagram)
{
    return datagram->type == DATAGRAM_JOIN || datagram->type == DATAGRAM_WELCOME;
}

/* What formatting a datagram of our version has to give. */
static void add_expected(struct buf *expected, const struct datagram *datagram, struct bytes bytes)
{
    if (has_updates(datagram)) {
        buf_add(expected, BYTES(bytes.data, HEADER_BYTES));
        add_known(expected, BYTES(bytes.data + HEADER_BYTES, bytes.size - HEADER_BYTES));
    } else {
        buf_add(expected, bytes);
    }
}

static void check_parsed(const struct datagram *datagram, struct bytes bytes)
{
    CHECK(datagram->sender_nonce != 0 && datagram->minor == bytes.data[MINOR_AT]);
    if (has_updates(datagram)) {
        CHECK(datagram->updates_count >= 1 && datagram->updates_count <= DATAGRAM_UPDATES_MAX);
        for (size_t i = 0; i < datagram->updates_count; i++) {
            check_update(&datagram->updates[i], bytes);
        }
    }
    if (datagram->type == DATAGRAM_BROADCAST) {
        CHECK(datagram->payload.size <= DATAGRAM_PAYLOAD_BYTES_MAX);
        CHECK(is_within(datagram->payload, bytes));
    }
}

static void check_payload(struct bytes payload)
{
    struct member_update updates[DATAGRAM_UPDATES_MAX];
    size_t count = SIZE_MAX;
    const int err = datagram_parse_updates(payload, updates, &count);
    if (err) {
        CHECK(err == -EPROTO && count == SIZE_MAX);
        return;
    }
    CLEANUP_BUF struct buf formatted = BUF_INIT;
    for (size_t i = 0; i < count; i++) {
        check_update(&updates[i], payload);
        field_put_member_update(&formatted, &updates[i]);
    }
    CLEANUP_BUF struct buf known = BUF_INIT;
    add_known(&known, payload);
    CHECK(bytes_equal(buf_bytes(&formatted), buf_bytes(&known)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes bytes = BYTES(data, size);
    struct datagram datagram;
    const int err = datagram_parse(bytes, &datagram);
    if (err) {
        CHECK(err == -EPROTO || err == -EPROTONOSUPPORT);
        return 0;
    }
    check_parsed(&datagram, bytes);

    CLEANUP_BUF struct buf formatted = BUF_INIT;
    CHECK(datagram_format(&datagram, &formatted) == 0);
    CHECK(formatted.size <= DATAGRAM_BYTES_MAX);
    if (datagram.minor == DATAGRAM_MINOR) {
        CLEANUP_BUF struct buf expected = BUF_INIT;
        add_expected(&expected, &datagram, bytes);
        CHECK(bytes_equal(buf_bytes(&formatted), buf_bytes(&expected)));
    }
    struct datagram again;
    CHECK(datagram_parse(buf_bytes(&formatted), &again) == 0);
    CLEANUP_BUF struct buf formatted_again = BUF_INIT;
    CHECK(datagram_format(&again, &formatted_again) == 0);
    CHECK(bytes_equal(buf_bytes(&formatted_again), buf_bytes(&formatted)));

    if (datagram.type == DATAGRAM_BROADCAST && datagram.payload_kind == DATAGRAM_PAYLOAD_MEMBERS) {
        check_payload(datagram.payload);
    }
    return 0;
}
