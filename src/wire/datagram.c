/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/datagram.h"

#include <assert.h>
#include <errno.h>

#include "base/mem.h"

/*
 * The table `forms` says of which parts each type consists. Formatter, parser, the checks and the
 * size go through it, so that they can't disagree about what stands where. What a part may hold is
 * told once, by check_part(), for formatter and parser alike.
 */

enum part {
    PART_END,
    PART_INCARNATION,
    PART_DIGESTS,
    PART_SUBJECT,
    PART_SUBJECT_VERSION,
    PART_ADDRESS,
    PART_VERDICT,
    PART_UPTIME,
    PART_RANGE,
    PART_ORIGIN,
    PART_PAYLOAD,
    PART_UPDATES, /* takes all that is left */
};

struct form {
    enum part parts[4]; /* PART_END after the last */
};

static const struct form forms[] = {
    [DATAGRAM_PING] = {{PART_INCARNATION, PART_DIGESTS}},
    [DATAGRAM_ACK] = {{PART_INCARNATION, PART_DIGESTS}},
    [DATAGRAM_PING_REQ] = {{PART_SUBJECT}},
    [DATAGRAM_PING_ACK] = {{PART_SUBJECT, PART_SUBJECT_VERSION}},
    [DATAGRAM_ALERT] = {{PART_SUBJECT, PART_SUBJECT_VERSION}},
    [DATAGRAM_VERDICT] = {{PART_SUBJECT, PART_SUBJECT_VERSION, PART_VERDICT}},
    [DATAGRAM_ACCUSE] = {{PART_SUBJECT_VERSION}},
    [DATAGRAM_BROADCAST] = {{PART_RANGE, PART_ORIGIN, PART_PAYLOAD}},
    [DATAGRAM_RECEIPT] = {{PART_END}},
    [DATAGRAM_JOIN] = {{PART_UPDATES}},
    [DATAGRAM_WELCOME] = {{PART_UPDATES}},
    [DATAGRAM_CONFLICT] = {{PART_ADDRESS, PART_UPTIME}},
    [DATAGRAM_CHALLENGE] = {{PART_END}},
    [DATAGRAM_RESPONSE] = {{PART_INCARNATION, PART_UPTIME}},
};

#define HEADER_BYTES (4 + NODE_ID_BYTES + 8 + 4 + 4)

static_assert(HEADER_BYTES + (DATAGRAM_UPDATES_MAX + 1) * MEMBER_UPDATE_BYTES_MIN >
                  DATAGRAM_BYTES_MAX,
              "more updates than DATAGRAM_UPDATES_MAX don't fit");
static_assert(HEADER_BYTES + MEMBER_UPDATE_BYTES_MAX <= DATAGRAM_BYTES_MAX,
              "every record fits into a join");
static_assert(HEADER_BYTES + NODE_ID_BYTES + 8 + 4 + 1 + 2 + DATAGRAM_PAYLOAD_BYTES_MAX <=
                  DATAGRAM_BYTES_MAX,
              "every payload fits into a broadcast");

/* NULL: there is no such type. */
static const struct form *form_of(unsigned type)
{
    return type >= DATAGRAM_PING && type < ARRAY_SIZE(forms) ? &forms[type] : NULL;
}

static bool is_record_of(const struct member_update *update, const struct node_id *id)
{
    return update->is_record && node_id_equal(&update->record.id, id);
}

static int check_updates(const struct datagram *datagram)
{
    if (datagram->updates_count > DATAGRAM_UPDATES_MAX) {
        return -EFBIG;
    }
    if (datagram->updates_count == 0 ||
        (datagram->type == DATAGRAM_JOIN && datagram->updates_count != 1) ||
        !is_record_of(&datagram->updates[0], &datagram->sender)) {
        return -EINVAL;
    }
    for (size_t i = 0; i < datagram->updates_count; i++) {
        if (!member_update_is_valid(&datagram->updates[i])) {
            return -EINVAL;
        }
    }
    return 0;
}

static int check_part(const struct datagram *datagram, enum part part)
{
    switch (part) {
    case PART_INCARNATION:
        return datagram->incarnation == 0 ? -EINVAL : 0;
    case PART_SUBJECT_VERSION:
        return member_version_is_valid(&datagram->subject_version) ? 0 : -EINVAL;
    case PART_VERDICT:
        return datagram->verdict < DATAGRAM_VERDICT_SILENT ||
                       datagram->verdict > DATAGRAM_VERDICT_ABSTAINS
                   ? -EINVAL
                   : 0;
    case PART_ORIGIN:
        return datagram->origin == 0 ? -EINVAL : 0;
    case PART_PAYLOAD:
        if (datagram->payload.size > DATAGRAM_PAYLOAD_BYTES_MAX) {
            return -EFBIG;
        }
        return datagram->payload_kind == 0 ? -EINVAL : 0;
    case PART_UPDATES:
        return check_updates(datagram);
    case PART_END:
    case PART_DIGESTS:
    case PART_SUBJECT:
    case PART_ADDRESS:
    case PART_UPTIME:
    case PART_RANGE:
        return 0; /* any value */
    }
    return -EINVAL;
}

static int check_parts(const struct datagram *datagram, const struct form *form)
{
    int err = datagram->sender_nonce == 0 ? -EINVAL : 0;
    for (size_t i = 0; !err && i < ARRAY_SIZE(form->parts); i++) {
        err = check_part(datagram, form->parts[i]);
    }
    return err;
}

static size_t part_bytes(const struct datagram *datagram, enum part part)
{
    switch (part) {
    case PART_END:
        return 0;
    case PART_INCARNATION:
    case PART_UPTIME:
        return 8;
    case PART_DIGESTS:
        return 24;
    case PART_SUBJECT:
    case PART_RANGE:
        return NODE_ID_BYTES;
    case PART_SUBJECT_VERSION:
        return MEMBER_VERSION_BYTES;
    case PART_ADDRESS:
        return address_bytes(&datagram->address);
    case PART_VERDICT:
        return 1;
    case PART_ORIGIN:
        return 8 + 4;
    case PART_PAYLOAD:
        return 1 + 2 + datagram->payload.size;
    case PART_UPDATES:
        break;
    }
    size_t bytes = 0;
    for (size_t i = 0; i < datagram->updates_count; i++) {
        bytes += member_update_bytes(&datagram->updates[i]);
    }
    return bytes;
}

static void put_part(struct buf *message, const struct datagram *datagram, enum part part)
{
    switch (part) {
    case PART_END:
        break;
    case PART_INCARNATION:
        field_put_u64(message, datagram->incarnation);
        break;
    case PART_DIGESTS:
        field_put_u64(message, datagram->digests.members);
        field_put_u64(message, datagram->digests.vector);
        field_put_u64(message, datagram->digests.tree);
        break;
    case PART_SUBJECT:
        field_put_node_id(message, &datagram->subject);
        break;
    case PART_SUBJECT_VERSION:
        field_put_member_version(message, &datagram->subject_version);
        break;
    case PART_ADDRESS:
        field_put_address(message, &datagram->address);
        break;
    case PART_VERDICT:
        field_put_u8(message, (uint8_t)datagram->verdict);
        break;
    case PART_UPTIME:
        field_put_u64(message, datagram->uptime_ms);
        break;
    case PART_RANGE:
        field_put_node_id(message, &datagram->range_end);
        break;
    case PART_ORIGIN:
        field_put_u64(message, datagram->origin);
        field_put_u32(message, datagram->origin_number);
        break;
    case PART_PAYLOAD:
        field_put_u8(message, datagram->payload_kind);
        field_put_string(message, datagram->payload);
        break;
    case PART_UPDATES:
        for (size_t i = 0; i < datagram->updates_count; i++) {
            field_put_member_update(message, &datagram->updates[i]);
        }
        break;
    }
}

int datagram_format(const struct datagram *datagram, struct buf *ret_bytes)
{
    const struct form *form = form_of((unsigned)datagram->type);
    const int err = form ? check_parts(datagram, form) : -EINVAL;
    if (err) {
        return err;
    }
    size_t bytes = HEADER_BYTES;
    for (size_t i = 0; i < ARRAY_SIZE(form->parts); i++) {
        bytes += part_bytes(datagram, form->parts[i]);
    }
    if (bytes > DATAGRAM_BYTES_MAX) {
        return -EFBIG;
    }

    const size_t begin = ret_bytes->size;
    field_put_u8(ret_bytes, DATAGRAM_MAGIC);
    field_put_u8(ret_bytes, DATAGRAM_MAJOR);
    field_put_u8(ret_bytes, DATAGRAM_MINOR);
    field_put_u8(ret_bytes, (uint8_t)datagram->type);
    field_put_node_id(ret_bytes, &datagram->sender);
    field_put_u64(ret_bytes, datagram->sender_nonce);
    field_put_u32(ret_bytes, datagram->receiver_nonce);
    field_put_u32(ret_bytes, datagram->number);
    for (size_t i = 0; i < ARRAY_SIZE(form->parts); i++) {
        put_part(ret_bytes, datagram, form->parts[i]);
    }
    CHECK(ret_bytes->size - begin == bytes);
    return 0;
}

/* All updates that are left. More than the array holds are a fault. */
static size_t get_updates(struct field_reader *reader,
                          struct member_update ret_updates[DATAGRAM_UPDATES_MAX])
{
    size_t count = 0;
    struct member_update update;
    while (field_get_member_update(reader, &update)) {
        if (count == DATAGRAM_UPDATES_MAX) {
            field_fail(reader);
            break;
        }
        ret_updates[count++] = update;
    }
    return count;
}

static void get_part(struct field_reader *reader, struct datagram *datagram, enum part part)
{
    switch (part) {
    case PART_END:
        break;
    case PART_INCARNATION:
        datagram->incarnation = field_get_u64(reader);
        break;
    case PART_DIGESTS:
        datagram->digests.members = field_get_u64(reader);
        datagram->digests.vector = field_get_u64(reader);
        datagram->digests.tree = field_get_u64(reader);
        break;
    case PART_SUBJECT:
        datagram->subject = field_get_node_id(reader);
        break;
    case PART_SUBJECT_VERSION:
        datagram->subject_version = field_get_member_version(reader);
        break;
    case PART_ADDRESS:
        datagram->address = field_get_address(reader);
        break;
    case PART_VERDICT:
        datagram->verdict = (enum datagram_verdict)field_get_u8(reader);
        break;
    case PART_UPTIME:
        datagram->uptime_ms = field_get_u64(reader);
        break;
    case PART_RANGE:
        datagram->range_end = field_get_node_id(reader);
        break;
    case PART_ORIGIN:
        datagram->origin = field_get_u64(reader);
        datagram->origin_number = field_get_u32(reader);
        break;
    case PART_PAYLOAD:
        datagram->payload_kind = field_get_u8(reader);
        datagram->payload = field_get_string(reader, DATAGRAM_PAYLOAD_BYTES_MAX);
        break;
    case PART_UPDATES:
        datagram->updates_count = get_updates(reader, datagram->updates);
        break;
    }
}

int datagram_parse(struct bytes bytes, struct datagram *ret_datagram)
{
    struct field_reader reader = field_reader_of(bytes);
    const uint8_t magic = field_get_u8(&reader);
    const uint8_t major = field_get_u8(&reader);
    if (reader.bad || magic != DATAGRAM_MAGIC) {
        return -EPROTO;
    }
    if (major != DATAGRAM_MAJOR) {
        return -EPROTONOSUPPORT;
    }
    struct datagram *datagram = ret_datagram;
    datagram->minor = field_get_u8(&reader);
    const uint8_t type = field_get_u8(&reader);
    datagram->type = (enum datagram_type)type;
    datagram->sender = field_get_node_id(&reader);
    datagram->sender_nonce = field_get_u64(&reader);
    datagram->receiver_nonce = field_get_u32(&reader);
    datagram->number = field_get_u32(&reader);
    if (reader.bad || datagram->sender_nonce == 0 || bytes.size > DATAGRAM_BYTES_MAX) {
        return -EPROTO;
    }
    const struct form *form = form_of(type);
    if (!form) {
        return -EPROTONOSUPPORT;
    }
    for (size_t i = 0; i < ARRAY_SIZE(form->parts); i++) {
        get_part(&reader, datagram, form->parts[i]);
    }
    const bool is_left_over = reader.left.size > 0 && datagram->minor <= DATAGRAM_MINOR;
    return reader.bad || is_left_over || check_parts(datagram, form) != 0 ? -EPROTO : 0;
}

int datagram_parse_updates(struct bytes payload,
                           struct member_update ret_updates[DATAGRAM_UPDATES_MAX],
                           size_t *ret_count)
{
    struct field_reader reader = field_reader_of(payload);
    const size_t count = get_updates(&reader, ret_updates);
    if (reader.bad) {
        return -EPROTO;
    }
    *ret_count = count;
    return 0;
}
