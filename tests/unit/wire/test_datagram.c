/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "members.h"
#include "wire/datagram.h"

#define HEADER_BYTES 40
#define MAJOR_AT 1
#define MINOR_AT 2
#define TYPE_AT 3
#define NONCE_AT 24

#define SENDER 0x50
#define SENDER_NONCE UINT64_C(0x0102030405060708)

static struct datagram sample(enum datagram_type type)
{
    struct datagram datagram = {
        .type = type,
        .sender = member_id(SENDER),
        .sender_nonce = SENDER_NONCE,
        .receiver_nonce = 0x11121314,
        .number = 0x21222324,
        .incarnation = 0x3132333435363738,
        .digests = {0x4142434445464748, 0x5152535455565758, 0x6162636465666768},
        .subject = member_id(0x70),
        .subject_version = {9, 10, MEMBER_UNREACHABLE},
        .address = member_address("[2001:db8::17]:7420"),
        .verdict = DATAGRAM_VERDICT_ANSWERS,
        .uptime_ms = 0x7172737475767778,
        .range_end = member_id(0xa0),
        .origin = 0x8182838485868788,
        .origin_number = 0x91929394,
        .payload_kind = DATAGRAM_PAYLOAD_TREE,
        .payload = bytes_of_string("payload"),
    };
    if (type == DATAGRAM_JOIN || type == DATAGRAM_WELCOME) {
        datagram.updates[datagram.updates_count++] = record_update(SENDER);
    }
    if (type == DATAGRAM_WELCOME) {
        datagram.updates[datagram.updates_count++] = status_update(1);
        datagram.updates[datagram.updates_count++] = largest_update(2);
    }
    return datagram;
}

static const enum datagram_type types[] = {
    DATAGRAM_PING,    DATAGRAM_ACK,      DATAGRAM_PING_REQ,  DATAGRAM_PING_ACK, DATAGRAM_ALERT,
    DATAGRAM_VERDICT, DATAGRAM_ACCUSE,   DATAGRAM_BROADCAST, DATAGRAM_RECEIPT,  DATAGRAM_JOIN,
    DATAGRAM_WELCOME, DATAGRAM_CONFLICT, DATAGRAM_CHALLENGE, DATAGRAM_RESPONSE,
};

/* The bytes of `datagram`; the caller frees them with buf_done(). */
static struct buf formatted(const struct datagram *datagram)
{
    struct buf bytes = BUF_INIT;
    assert_int_equal(datagram_format(datagram, &bytes), 0);
    return bytes;
}

/* Parses bytes in memory of just their size. The strings of what is parsed are gone afterwards. */
static int parse_exact(struct bytes bytes, struct datagram *ret_datagram)
{
    uint8_t *exact = bytes.size ? mem_copy(bytes.data, bytes.size) : NULL;
    const int err = datagram_parse(BYTES(exact, bytes.size), ret_datagram);
    free(exact);
    return err;
}

static int parse_answer(struct bytes bytes)
{
    struct datagram datagram;
    return parse_exact(bytes, &datagram);
}

static bool same_digests(const struct digests *a, const struct digests *b)
{
    return a->members == b->members && a->vector == b->vector && a->tree == b->tree;
}

/* The fields that the header of datagram.h names for the type. */
static void assert_same_fields(const struct datagram *a, const struct datagram *b)
{
    switch (a->type) {
    case DATAGRAM_PING:
    case DATAGRAM_ACK:
        assert_true(a->incarnation == b->incarnation);
        assert_true(same_digests(&a->digests, &b->digests));
        return;
    case DATAGRAM_PING_REQ:
        assert_true(node_id_equal(&a->subject, &b->subject));
        return;
    case DATAGRAM_VERDICT:
        assert_int_equal(a->verdict, b->verdict);
        /* fall through */
    case DATAGRAM_PING_ACK:
    case DATAGRAM_ALERT:
        assert_true(node_id_equal(&a->subject, &b->subject));
        /* fall through */
    case DATAGRAM_ACCUSE:
        assert_versions_equal(&a->subject_version, &b->subject_version);
        return;
    case DATAGRAM_BROADCAST:
        assert_true(node_id_equal(&a->range_end, &b->range_end));
        assert_true(a->origin == b->origin);
        assert_int_equal(a->origin_number, b->origin_number);
        assert_int_equal(a->payload_kind, b->payload_kind);
        assert_true(bytes_equal(a->payload, b->payload));
        return;
    case DATAGRAM_JOIN:
    case DATAGRAM_WELCOME:
        assert_int_equal(a->updates_count, b->updates_count);
        for (size_t i = 0; i < a->updates_count; i++) {
            assert_updates_equal(&a->updates[i], &b->updates[i]);
        }
        return;
    case DATAGRAM_RESPONSE:
        assert_true(a->incarnation == b->incarnation);
        assert_true(a->uptime_ms == b->uptime_ms);
        return;
    case DATAGRAM_CONFLICT:
        assert_true(address_equal(&a->address, &b->address));
        assert_true(a->uptime_ms == b->uptime_ms);
        return;
    case DATAGRAM_RECEIPT:
    case DATAGRAM_CHALLENGE:
        return;
    }
    fail();
}

static void every_type_comes_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        struct datagram written = sample(types[i]);
        written.minor = 200; /* not looked at */
        CLEANUP_BUF struct buf bytes = formatted(&written);
        struct datagram read;
        assert_int_equal(datagram_parse(buf_bytes(&bytes), &read), 0);
        assert_int_equal(read.type, types[i]);
        assert_int_equal(read.minor, DATAGRAM_MINOR);
        assert_true(node_id_equal(&read.sender, &written.sender));
        assert_true(read.sender_nonce == written.sender_nonce);
        assert_int_equal(read.receiver_nonce, written.receiver_nonce);
        assert_int_equal(read.number, written.number);
        assert_same_fields(&read, &written);

        CLEANUP_BUF struct buf again = formatted(&read);
        assert_true(bytes_equal(buf_bytes(&again), buf_bytes(&bytes)));
    }
}

static const uint8_t header_bytes[] = {
    0xa7, 1,    1,    1,                                        /* magic, version 1.1, a ping */
    0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, /* sender */
    0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f, 0x60, 0x61, 0x62, 0x63,
    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* its boot nonce */
    0x14, 0x13, 0x12, 0x11,                         /* the receiver's */
    0x24, 0x23, 0x22, 0x21,                         /* number */
};

static void the_header_is_laid_out_as_documented(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        const struct datagram written = sample(types[i]);
        CLEANUP_BUF struct buf bytes = formatted(&written);
        uint8_t expected[sizeof header_bytes];
        memcpy(expected, header_bytes, sizeof expected);
        expected[TYPE_AT] = (uint8_t)types[i];
        assert_true(bytes.size >= sizeof expected);
        assert_memory_equal(bytes.data, expected, sizeof expected);
    }
}

static void put_id(struct buf *buf, uint8_t number)
{
    for (uint8_t i = 0; i < NODE_ID_BYTES; i++) {
        buf_add_byte(buf, (uint8_t)(number + i));
    }
}

/* Behind the header, field by field, from the list in datagram.h. */
static struct buf expected_fields(enum datagram_type type, const struct datagram *datagram)
{
    static const uint8_t address[] = {6, 0x20, 0x01, 0x0d, 0xb8, 0, 0,    0,    0,   0,
                                      0, 0,    0,    0,    0,    0, 0x17, 0xfc, 0x1c};
    static const uint8_t version[MEMBER_VERSION_BYTES] = {[0] = 9, [8] = 10, [16] = 2};
    struct buf buf = BUF_INIT;
    if (type == DATAGRAM_PING || type == DATAGRAM_ACK || type == DATAGRAM_RESPONSE) {
        field_put_u64(&buf, 0x3132333435363738);
    }
    if (type == DATAGRAM_PING || type == DATAGRAM_ACK) {
        field_put_u64(&buf, 0x4142434445464748);
        field_put_u64(&buf, 0x5152535455565758);
        field_put_u64(&buf, 0x6162636465666768);
    }
    if (type >= DATAGRAM_PING_REQ && type <= DATAGRAM_VERDICT) {
        put_id(&buf, 0x70);
    }
    if (type >= DATAGRAM_PING_ACK && type <= DATAGRAM_ACCUSE) {
        buf_add(&buf, BYTES(version, sizeof version));
    }
    if (type == DATAGRAM_VERDICT) {
        buf_add_byte(&buf, 2);
    }
    if (type == DATAGRAM_CONFLICT) {
        buf_add(&buf, BYTES(address, sizeof address));
    }
    if (type == DATAGRAM_CONFLICT || type == DATAGRAM_RESPONSE) {
        field_put_u64(&buf, 0x7172737475767778);
    }
    if (type == DATAGRAM_BROADCAST) {
        put_id(&buf, 0xa0);
        field_put_u64(&buf, 0x8182838485868788);
        field_put_u32(&buf, 0x91929394);
        field_put_u8(&buf, 2);
        field_put_string(&buf, bytes_of_string("payload"));
    }
    for (size_t i = 0; i < datagram->updates_count; i++) {
        field_put_member_update(&buf, &datagram->updates[i]);
    }
    return buf;
}

static void the_fields_are_laid_out_as_documented(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        const struct datagram written = sample(types[i]);
        CLEANUP_BUF struct buf bytes = formatted(&written);
        CLEANUP_BUF struct buf expected = expected_fields(types[i], &written);
        assert_true(bytes_equal(BYTES(bytes.data + HEADER_BYTES, bytes.size - HEADER_BYTES),
                                buf_bytes(&expected)));
    }
}

static void datagrams_cut_short_are_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        const struct datagram written = sample(types[i]);
        CLEANUP_BUF struct buf bytes = formatted(&written);
        for (size_t size = 0; size < bytes.size; size++) {
            const int err = parse_answer(BYTES(bytes.data, size));
            /* A welcome may end behind each of its updates. */
            const size_t first = HEADER_BYTES + member_update_bytes(&written.updates[0]);
            const size_t second = first + member_update_bytes(&written.updates[1]);
            const bool is_whole = types[i] == DATAGRAM_WELCOME && (size == first || size == second);
            assert_int_equal(err, is_whole ? 0 : -EPROTO);
        }
    }
}

static void bytes_left_over(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        const struct datagram written = sample(types[i]);
        CLEANUP_BUF struct buf bytes = formatted(&written);
        static const uint8_t more[] = {0xee, 0xee, 0xee};
        buf_add(&bytes, BYTES(more, sizeof more));
        assert_int_equal(parse_answer(buf_bytes(&bytes)), -EPROTO);

        /* A later minor version may have more fields. Updates run to the end. */
        const bool has_updates = written.updates_count > 0;
        for (unsigned minor = DATAGRAM_MINOR + 1; minor < 256; minor++) {
            bytes.data[MINOR_AT] = (uint8_t)minor;
            struct datagram read;
            const int err = datagram_parse(buf_bytes(&bytes), &read);
            assert_int_equal(err, has_updates ? -EPROTO : 0);
            if (!err) {
                assert_int_equal(read.minor, minor);
                assert_same_fields(&read, &written);
            }
        }
    }
}

static void later_minor_versions_with_nothing_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        const struct datagram written = sample(types[i]);
        CLEANUP_BUF struct buf bytes = formatted(&written);
        bytes.data[MINOR_AT] = 255;
        struct datagram read;
        assert_int_equal(datagram_parse(buf_bytes(&bytes), &read), 0);
        assert_int_equal(read.minor, 255);
        assert_same_fields(&read, &written);
        /* What they lack of what we know is a fault all the same. */
        assert_int_equal(parse_answer(BYTES(bytes.data, HEADER_BYTES - 1)), -EPROTO);
    }
}

static void other_major_versions_are_not_ours(void **state)
{
    (void)state;
    const struct datagram written = sample(DATAGRAM_PING);
    CLEANUP_BUF struct buf bytes = formatted(&written);
    for (unsigned major = 0; major < 256; major++) {
        bytes.data[MAJOR_AT] = (uint8_t)major;
        const int expected = major == DATAGRAM_MAJOR ? 0 : -EPROTONOSUPPORT;
        assert_int_equal(parse_answer(buf_bytes(&bytes)), expected);
    }
    /* Nothing behind the version is known of them, not even how much there is. */
    const uint8_t future[] = {DATAGRAM_MAGIC, 0xff};
    assert_int_equal(parse_answer(BYTES(future, sizeof future)), -EPROTONOSUPPORT);
    static const uint8_t large[DATAGRAM_BYTES_MAX + 1] = {DATAGRAM_MAGIC, 2};
    assert_int_equal(parse_answer(BYTES(large, sizeof large)), -EPROTONOSUPPORT);
}

static void other_types_are_not_ours(void **state)
{
    (void)state;
    const struct datagram written = sample(DATAGRAM_RECEIPT);
    CLEANUP_BUF struct buf bytes = formatted(&written);
    for (unsigned type = 0; type < 256; type++) {
        bytes.data[TYPE_AT] = (uint8_t)type;
        const bool is_known = type >= DATAGRAM_PING && type <= DATAGRAM_RESPONSE;
        const bool is_bare = type == DATAGRAM_RECEIPT || type == DATAGRAM_CHALLENGE;
        assert_int_equal(parse_answer(buf_bytes(&bytes)), is_bare    ? 0
                                                          : is_known ? -EPROTO
                                                                     : -EPROTONOSUPPORT);
    }
    /* But the header has to be in form. */
    bytes.data[TYPE_AT] = 77;
    assert_int_equal(parse_answer(BYTES(bytes.data, HEADER_BYTES - 1)), -EPROTO);
    memset(bytes.data + NONCE_AT, 0, 8);
    assert_int_equal(parse_answer(buf_bytes(&bytes)), -EPROTO);
}

static void the_magic_and_the_sender_s_nonce_are_needed(void **state)
{
    (void)state;
    const struct datagram written = sample(DATAGRAM_CHALLENGE);
    CLEANUP_BUF struct buf bytes = formatted(&written);
    for (unsigned magic = 0; magic < 256; magic++) {
        bytes.data[0] = (uint8_t)magic;
        assert_int_equal(parse_answer(buf_bytes(&bytes)), magic == DATAGRAM_MAGIC ? 0 : -EPROTO);
    }
    bytes.data[0] = DATAGRAM_MAGIC;
    memset(bytes.data + NONCE_AT, 0, 8);
    assert_int_equal(parse_answer(buf_bytes(&bytes)), -EPROTO);
    assert_int_equal(parse_answer(BYTES(NULL, 0)), -EPROTO);
}

/* Fields whose place behind the header is known, and values that they can't have. */
static void fields_out_of_range_are_malformed(void **state)
{
    (void)state;
    static const struct {
        enum datagram_type type;
        size_t at, size;
        uint8_t value;
    } table[] = {
        {DATAGRAM_PING, 0, 8, 0},                   /* incarnation */
        {DATAGRAM_ACK, 0, 8, 0},                    /* incarnation */
        {DATAGRAM_RESPONSE, 0, 8, 0},               /* incarnation */
        {DATAGRAM_PING_ACK, NODE_ID_BYTES, 8, 0},   /* incarnation of the subject */
        {DATAGRAM_ALERT, NODE_ID_BYTES + 8, 8, 0},  /* its boot nonce */
        {DATAGRAM_ALERT, NODE_ID_BYTES + 16, 1, 0}, /* its status */
        {DATAGRAM_ALERT, NODE_ID_BYTES + 16, 1, 4},
        {DATAGRAM_VERDICT, NODE_ID_BYTES + 16, 1, 0xff},
        {DATAGRAM_VERDICT, NODE_ID_BYTES + 17, 1, 0}, /* verdict */
        {DATAGRAM_VERDICT, NODE_ID_BYTES + 17, 1, 4},
        {DATAGRAM_VERDICT, NODE_ID_BYTES + 17, 1, 0xff},
        {DATAGRAM_ACCUSE, 0, 8, 0},       /* incarnation */
        {DATAGRAM_ACCUSE, 16, 1, 9},      /* status */
        {DATAGRAM_BROADCAST, 20, 8, 0},   /* origin */
        {DATAGRAM_BROADCAST, 32, 1, 0},   /* payload kind */
        {DATAGRAM_BROADCAST, 33, 1, 6},   /* size of the payload: shorter than what follows */
        {DATAGRAM_BROADCAST, 33, 1, 8},   /* longer */
        {DATAGRAM_BROADCAST, 33, 2, 255}, /* far longer */
        {DATAGRAM_CONFLICT, 0, 1, 0},     /* family of the address */
        {DATAGRAM_JOIN, 2, 1, 0},         /* kind of the update */
        {DATAGRAM_JOIN, 0, 2, 0xff},      /* its size */
        {DATAGRAM_JOIN, 0, 2, 0},
        {DATAGRAM_JOIN, 3, 1, 0x51},    /* another's record */
        {DATAGRAM_WELCOME, 3, 1, 0x51}, /* another's record */
        {DATAGRAM_WELCOME, 23, 8, 0},   /* incarnation */
    };
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const struct datagram written = sample(table[i].type);
        CLEANUP_BUF struct buf bytes = formatted(&written);
        assert_int_equal(parse_answer(buf_bytes(&bytes)), 0);
        memset(bytes.data + HEADER_BYTES + table[i].at, table[i].value, table[i].size);
        if (parse_answer(buf_bytes(&bytes)) != -EPROTO) {
            fail_msg("line %zu of the table is taken", i);
        }
    }
}

static void assert_refused(const struct datagram *datagram, int err)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    buf_add_string(&bytes, "before");
    assert_int_equal(datagram_format(datagram, &bytes), err);
    assert_string_equal(buf_string(&bytes), "before");
}

static void what_can_t_be_is_not_written(void **state)
{
    (void)state;
    struct datagram datagram = sample((enum datagram_type)0);
    assert_refused(&datagram, -EINVAL);
    datagram = sample((enum datagram_type)15);
    assert_refused(&datagram, -EINVAL);
    datagram = sample((enum datagram_type) - 1);
    assert_refused(&datagram, -EINVAL);
    datagram = sample(DATAGRAM_RECEIPT);
    datagram.sender_nonce = 0;
    assert_refused(&datagram, -EINVAL);
    datagram = sample(DATAGRAM_PING);
    datagram.incarnation = 0;
    assert_refused(&datagram, -EINVAL);
    datagram = sample(DATAGRAM_ALERT);
    datagram.subject_version.incarnation = 0;
    assert_refused(&datagram, -EINVAL);
    datagram = sample(DATAGRAM_ACCUSE);
    datagram.subject_version.status = (enum member_status)0;
    assert_refused(&datagram, -EINVAL);
    datagram = sample(DATAGRAM_VERDICT);
    datagram.verdict = (enum datagram_verdict)4;
    assert_refused(&datagram, -EINVAL);
    datagram = sample(DATAGRAM_BROADCAST);
    datagram.origin = 0;
    assert_refused(&datagram, -EINVAL);
    datagram = sample(DATAGRAM_BROADCAST);
    datagram.payload_kind = 0;
    assert_refused(&datagram, -EINVAL);
}

static void joins_and_welcomes_begin_with_the_sender_s_record(void **state)
{
    (void)state;
    static const enum datagram_type both[] = {DATAGRAM_JOIN, DATAGRAM_WELCOME};
    for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
        struct datagram datagram = sample(both[i]);
        datagram.updates[0] = status_update(SENDER);
        assert_refused(&datagram, -EINVAL);
        datagram.updates[0] = record_update(SENDER + 1);
        assert_refused(&datagram, -EINVAL);
        datagram.updates[0] = record_update(SENDER);
        datagram.updates[0].record.name = bytes_of_string("");
        assert_refused(&datagram, -EINVAL);
        datagram.updates_count = 0;
        assert_refused(&datagram, -EINVAL);

        /* The same, from outside. */
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        buf_add(&bytes, BYTES(header_bytes, sizeof header_bytes));
        bytes.data[TYPE_AT] = (uint8_t)both[i];
        assert_int_equal(parse_answer(buf_bytes(&bytes)), -EPROTO);
        const struct member_update status = status_update(SENDER);
        field_put_member_update(&bytes, &status);
        assert_int_equal(parse_answer(buf_bytes(&bytes)), -EPROTO);
        const struct member_update record = record_update(SENDER);
        field_put_member_update(&bytes, &record);
        assert_int_equal(parse_answer(buf_bytes(&bytes)), -EPROTO);
    }
}

static void a_join_has_one_update_and_a_welcome_more(void **state)
{
    (void)state;
    struct datagram datagram = sample(DATAGRAM_JOIN);
    datagram.updates[1] = record_update(SENDER);
    datagram.updates_count = 2;
    assert_refused(&datagram, -EINVAL);

    datagram.type = DATAGRAM_WELCOME;
    CLEANUP_BUF struct buf bytes = formatted(&datagram);
    assert_int_equal(parse_answer(buf_bytes(&bytes)), 0);
    bytes.data[TYPE_AT] = DATAGRAM_JOIN;
    assert_int_equal(parse_answer(buf_bytes(&bytes)), -EPROTO);
}

/* Unknown kinds are for later versions: they are no second update of a join. */
static void updates_of_unknown_kinds_are_skipped(void **state)
{
    (void)state;
    const struct datagram written = sample(DATAGRAM_JOIN);
    CLEANUP_BUF struct buf bytes = formatted(&written);
    static const uint8_t unknown[] = {3, 0, 99, 1, 2};
    buf_add(&bytes, BYTES(unknown, sizeof unknown));
    struct datagram read;
    assert_int_equal(datagram_parse(buf_bytes(&bytes), &read), 0);
    assert_same_fields(&read, &written);
}

static void a_welcome_has_as_many_updates_as_fit(void **state)
{
    (void)state;
    struct datagram datagram = sample(DATAGRAM_WELCOME);
    datagram.updates_count = 1;
    size_t bytes_count = HEADER_BYTES + member_update_bytes(&datagram.updates[0]);
    while (bytes_count + MEMBER_UPDATE_BYTES_MIN <= DATAGRAM_BYTES_MAX) {
        datagram.updates[datagram.updates_count] = status_update((uint8_t)datagram.updates_count);
        datagram.updates_count++;
        bytes_count += MEMBER_UPDATE_BYTES_MIN;
    }
    assert_true(datagram.updates_count < DATAGRAM_UPDATES_MAX);
    CLEANUP_BUF struct buf bytes = formatted(&datagram);
    assert_int_equal(bytes.size, bytes_count);
    struct datagram read;
    assert_int_equal(datagram_parse(buf_bytes(&bytes), &read), 0);
    assert_same_fields(&read, &datagram);

    for (size_t count = datagram.updates_count; count < DATAGRAM_UPDATES_MAX; count++) {
        datagram.updates[datagram.updates_count++] = status_update(99);
        assert_refused(&datagram, -EFBIG);
    }
    datagram.updates_count++;
    assert_refused(&datagram, -EFBIG);
}

static void the_largest_payload(void **state)
{
    (void)state;
    uint8_t payload[DATAGRAM_PAYLOAD_BYTES_MAX + 1];
    memset(payload, 0xab, sizeof payload);
    struct datagram datagram = sample(DATAGRAM_BROADCAST);
    datagram.payload_kind = 200; /* passed on unread */
    datagram.payload = BYTES(payload, DATAGRAM_PAYLOAD_BYTES_MAX);
    CLEANUP_BUF struct buf bytes = formatted(&datagram);
    assert_true(bytes.size <= DATAGRAM_BYTES_MAX);
    struct datagram read;
    assert_int_equal(datagram_parse(buf_bytes(&bytes), &read), 0);
    assert_same_fields(&read, &datagram);

    datagram.payload.size++;
    assert_refused(&datagram, -EFBIG);
    /* One byte more from outside. */
    bytes.data[HEADER_BYTES + 33]++;
    buf_add_byte(&bytes, 0xab);
    assert_int_equal(parse_answer(buf_bytes(&bytes)), -EPROTO);

    datagram.payload = BYTES(NULL, 0);
    CLEANUP_BUF struct buf empty = formatted(&datagram);
    assert_int_equal(datagram_parse(buf_bytes(&empty), &read), 0);
    assert_int_equal(read.payload.size, 0);
}

static void datagrams_beyond_the_limit_are_malformed(void **state)
{
    (void)state;
    const struct datagram written = sample(DATAGRAM_PING);
    CLEANUP_BUF struct buf bytes = formatted(&written);
    bytes.data[MINOR_AT] = DATAGRAM_MINOR + 1;
    const size_t more = DATAGRAM_BYTES_MAX - bytes.size;
    memset(buf_extend(&bytes, more), 0, more);
    assert_int_equal(parse_answer(buf_bytes(&bytes)), 0);
    buf_add_byte(&bytes, 0);
    assert_int_equal(parse_answer(buf_bytes(&bytes)), -EPROTO);
}

static void updates_of_a_payload(void **state)
{
    (void)state;
    static struct member_update read[DATAGRAM_UPDATES_MAX];
    size_t count = 99;
    assert_int_equal(datagram_parse_updates(BYTES(NULL, 0), read, &count), 0);
    assert_int_equal(count, 0);

    const struct member_update written[] = {status_update(1), largest_update(2), record_update(3)};
    CLEANUP_BUF struct buf payload = BUF_INIT;
    for (size_t i = 0; i < ARRAY_SIZE(written); i++) {
        field_put_member_update(&payload, &written[i]);
    }
    assert_int_equal(datagram_parse_updates(buf_bytes(&payload), read, &count), 0);
    assert_int_equal(count, ARRAY_SIZE(written));
    for (size_t i = 0; i < count; i++) {
        assert_updates_equal(&read[i], &written[i]);
    }

    count = 99;
    assert_int_equal(datagram_parse_updates(BYTES(payload.data, payload.size - 1), read, &count),
                     -EPROTO);
    assert_int_equal(count, 99);
    buf_add_byte(&payload, 0);
    assert_int_equal(datagram_parse_updates(buf_bytes(&payload), read, &count), -EPROTO);
}

static void a_payload_with_too_many_updates(void **state)
{
    (void)state;
    static struct member_update read[DATAGRAM_UPDATES_MAX];
    CLEANUP_BUF struct buf payload = BUF_INIT;
    const struct member_update update = status_update(1);
    for (size_t i = 0; i < DATAGRAM_UPDATES_MAX; i++) {
        field_put_member_update(&payload, &update);
    }
    size_t count;
    assert_int_equal(datagram_parse_updates(buf_bytes(&payload), read, &count), 0);
    assert_int_equal(count, DATAGRAM_UPDATES_MAX);
    field_put_member_update(&payload, &update);
    assert_int_equal(datagram_parse_updates(buf_bytes(&payload), read, &count), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_comes_back),
        cmocka_unit_test(the_header_is_laid_out_as_documented),
        cmocka_unit_test(the_fields_are_laid_out_as_documented),
        cmocka_unit_test(datagrams_cut_short_are_malformed),
        cmocka_unit_test(bytes_left_over),
        cmocka_unit_test(later_minor_versions_with_nothing_more),
        cmocka_unit_test(other_major_versions_are_not_ours),
        cmocka_unit_test(other_types_are_not_ours),
        cmocka_unit_test(the_magic_and_the_sender_s_nonce_are_needed),
        cmocka_unit_test(fields_out_of_range_are_malformed),
        cmocka_unit_test(what_can_t_be_is_not_written),
        cmocka_unit_test(joins_and_welcomes_begin_with_the_sender_s_record),
        cmocka_unit_test(a_join_has_one_update_and_a_welcome_more),
        cmocka_unit_test(updates_of_unknown_kinds_are_skipped),
        cmocka_unit_test(a_welcome_has_as_many_updates_as_fit),
        cmocka_unit_test(the_largest_payload),
        cmocka_unit_test(datagrams_beyond_the_limit_are_malformed),
        cmocka_unit_test(updates_of_a_payload),
        cmocka_unit_test(a_payload_with_too_many_updates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
