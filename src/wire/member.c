/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/member.h"

#include <assert.h>
#include <errno.h>

#include "base/mem.h"
#include "base/utf8.h"

#define KIND_STATUS 1
#define KIND_RECORD 2

#define SIZE_BYTES 2
#define STRING_BYTES_MIN 2
#define AGE_BYTES 4
#define STATUS_UPDATE_BYTES (SIZE_BYTES + 1 + NODE_ID_BYTES + MEMBER_VERSION_BYTES + AGE_BYTES)
/* What a record has besides, without its address and the characters of name and zone. */
#define RECORD_EXTRA_BYTES (8 + 1 + 2 * STRING_BYTES_MIN)
#define ADDRESS_BYTES_MAX (1 + 16 + 2)

static_assert(STATUS_UPDATE_BYTES == MEMBER_UPDATE_BYTES_MIN, "as the header says");
static_assert(STATUS_UPDATE_BYTES + ADDRESS_BYTES_MAX + RECORD_EXTRA_BYTES + MEMBER_NAME_BYTES_MAX +
                      MEMBER_ZONE_BYTES_MAX <=
                  MEMBER_UPDATE_BYTES_MAX,
              "the largest record is within the limit");

static int compare_u64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

int member_version_compare(const struct member_version *a, const struct member_version *b)
{
    int order = compare_u64(a->incarnation, b->incarnation);
    if (order == 0) {
        order = compare_u64(a->boot_nonce, b->boot_nonce);
    }
    return order ? order : compare_u64((uint64_t)a->status, (uint64_t)b->status);
}

const char *member_status_name(enum member_status status)
{
    switch (status) {
    case MEMBER_ALIVE:
        return "alive";
    case MEMBER_UNREACHABLE:
        return "unreachable";
    case MEMBER_LEFT:
        return "left";
    }
    return "unknown";
}

/* As nearly all names are. */
static bool is_printable_ascii(struct bytes text)
{
    unsigned others = 0;
    for (size_t i = 0; i < text.size; i++) {
        others |= text.data[i] < 0x20 || text.data[i] > 0x7e;
    }
    return others == 0;
}

int member_name_check(struct bytes name)
{
    static_assert(MEMBER_NAME_BYTES_MAX == MEMBER_ZONE_BYTES_MAX, "one check for both");
    if (name.size == 0) {
        return -EINVAL;
    }
    if (name.size > MEMBER_NAME_BYTES_MAX) {
        return -ENAMETOOLONG;
    }
    while (!is_printable_ascii(name)) {
        const size_t char_size = utf8_char_size(name);
        if (char_size == 0) {
            return -EILSEQ;
        }
        if (utf8_is_control(name)) {
            return -EINVAL;
        }
        name = BYTES(name.data + char_size, name.size - char_size);
    }
    return 0;
}

bool member_version_is_valid(const struct member_version *version)
{
    return version->incarnation > 0 && version->boot_nonce > 0 && version->status >= MEMBER_ALIVE &&
           version->status <= MEMBER_LEFT;
}

bool member_update_is_valid(const struct member_update *update)
{
    const struct member_record *record = &update->record;
    return member_version_is_valid(&record->version) &&
           (!update->is_record ||
            (member_name_check(record->name) == 0 && member_name_check(record->zone) == 0));
}

size_t member_update_bytes(const struct member_update *update)
{
    const struct member_record *record = &update->record;
    return update->is_record ? STATUS_UPDATE_BYTES + address_bytes(&record->address) +
                                   RECORD_EXTRA_BYTES + record->name.size + record->zone.size
                             : STATUS_UPDATE_BYTES;
}

/* Lists of ten thousand members are written and read often: fields of a fixed size go as one. */
static void put_version(uint8_t at[MEMBER_VERSION_BYTES], const struct member_version *version)
{
    codec_put_le64(at, version->incarnation);
    codec_put_le64(at + 8, version->boot_nonce);
    at[16] = (uint8_t)version->status;
}

static struct member_version get_version(const uint8_t at[MEMBER_VERSION_BYTES])
{
    return (struct member_version){codec_get_le64(at), codec_get_le64(at + 8),
                                   (enum member_status)at[16]};
}

void field_put_member_version(struct buf *message, const struct member_version *version)
{
    put_version(buf_extend(message, MEMBER_VERSION_BYTES), version);
}

struct member_version field_get_member_version(struct field_reader *reader)
{
    const struct bytes raw = field_get_raw(reader, MEMBER_VERSION_BYTES);
    const struct member_version version =
        raw.size == MEMBER_VERSION_BYTES ? get_version(raw.data) : (struct member_version){0};
    if (!member_version_is_valid(&version)) {
        field_fail(reader);
        return (struct member_version){0};
    }
    return version;
}

void field_put_member_update(struct buf *message, const struct member_update *update)
{
    CHECK(member_update_is_valid(update));

    const struct member_record *record = &update->record;
    uint8_t *at = buf_extend(message, STATUS_UPDATE_BYTES);
    codec_put_le16(at, (uint16_t)(member_update_bytes(update) - SIZE_BYTES));
    at[2] = update->is_record ? KIND_RECORD : KIND_STATUS;
    memcpy(at + 3, record->id.bytes, NODE_ID_BYTES);
    at += 3 + NODE_ID_BYTES;
    put_version(at, &record->version);
    codec_put_le32(at + MEMBER_VERSION_BYTES, update->age_s);
    if (update->is_record) {
        field_put_address(message, &record->address);
        field_put_u64(message, record->capacity_bytes);
        field_put_u8(message, record->minor);
        field_put_string(message, record->name);
        field_put_string(message, record->zone);
    }
}

/* What follows the kind. */
static void get_update(struct field_reader *reader, struct member_update *update)
{
    const size_t fixed_bytes = NODE_ID_BYTES + MEMBER_VERSION_BYTES + AGE_BYTES;
    const struct bytes fixed = field_get_raw(reader, fixed_bytes);
    if (fixed.size < fixed_bytes) {
        return;
    }
    struct member_record *record = &update->record;
    memcpy(record->id.bytes, fixed.data, NODE_ID_BYTES);
    record->version = get_version(fixed.data + NODE_ID_BYTES);
    update->age_s = codec_get_le32(fixed.data + NODE_ID_BYTES + MEMBER_VERSION_BYTES);
    if (update->is_record) {
        record->address = field_get_address(reader);
        record->capacity_bytes = field_get_u64(reader);
        record->minor = field_get_u8(reader);
        record->name = field_get_string(reader, MEMBER_NAME_BYTES_MAX);
        record->zone = field_get_string(reader, MEMBER_ZONE_BYTES_MAX);
    }
    if (!member_update_is_valid(update)) {
        field_fail(reader);
    }
}

bool field_get_member_update(struct field_reader *reader, struct member_update *ret_update)
{
    while (reader->left.size > 0) {
        const uint16_t size = field_get_u16(reader);
        struct field_reader inner = field_reader_of(field_get_raw(reader, size));
        const uint8_t kind = field_get_u8(&inner);
        if (kind == 0) { /* or there was none to read */
            field_fail(reader);
            return false;
        }
        if (kind != KIND_STATUS && kind != KIND_RECORD) {
            continue;
        }
        struct member_update update = {.is_record = kind == KIND_RECORD};
        get_update(&inner, &update);
        if (inner.bad) {
            field_fail(reader);
            return false;
        }
        *ret_update = update;
        return true;
    }
    return false;
}
