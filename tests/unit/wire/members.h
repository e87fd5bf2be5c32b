/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_WIRE_MEMBERS_H
#define TESTS_UNIT_WIRE_MEMBERS_H

/* Sample members, and comparing what was read with what was written. Included behind cmocka.h. */

#include "wire/member.h"

static inline struct node_id member_id(uint8_t number)
{
    struct node_id id;
    for (uint8_t i = 0; i < NODE_ID_BYTES; i++) {
        id.bytes[i] = (uint8_t)(number + i);
    }
    return id;
}

static inline struct address member_address(const char *text)
{
    struct address address;
    assert_int_equal(address_parse(text, &address), 0);
    return address;
}

static inline struct member_update status_update(uint8_t number)
{
    return (struct member_update){
        .age_s = 0x0a0b0c00u + number,
        .record =
            {
                .id = member_id(number),
                .version = {UINT64_C(0x0102030405060708) + number, UINT64_C(0xf1f2f3f4f5f6f7f8),
                            MEMBER_UNREACHABLE},
            },
    };
}

static inline struct member_update record_update(uint8_t number)
{
    return (struct member_update){
        .is_record = true,
        .age_s = 0xc1c2c300u + number,
        .record =
            {
                .id = member_id(number),
                .version = {number + 1u, 0x1122334455667788, MEMBER_ALIVE},
                .address = member_address("10.1.2.3:7420"),
                .capacity_bytes = UINT64_C(1) << 40,
                .minor = 7,
                .name = bytes_of_string("alpha"),
                .zone = bytes_of_string("default"),
            },
    };
}

/* As large as a record can be. */
static inline struct member_update largest_update(uint8_t number)
{
    static const char *const text =
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct member_update update = record_update(number);
    update.age_s = UINT32_MAX;
    update.record.version = (struct member_version){UINT64_MAX, UINT64_MAX, MEMBER_LEFT};
    update.record.address = member_address("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
    update.record.capacity_bytes = UINT64_MAX;
    update.record.minor = UINT8_MAX;
    update.record.name = bytes_of_string(text);
    update.record.zone = bytes_of_string(text);
    return update;
}

static inline void assert_versions_equal(const struct member_version *a,
                                         const struct member_version *b)
{
    assert_true(a->incarnation == b->incarnation);
    assert_true(a->boot_nonce == b->boot_nonce);
    assert_int_equal(a->status, b->status);
}

static inline void assert_updates_equal(const struct member_update *a,
                                        const struct member_update *b)
{
    assert_int_equal(a->is_record, b->is_record);
    assert_true(node_id_equal(&a->record.id, &b->record.id));
    assert_versions_equal(&a->record.version, &b->record.version);
    assert_true(a->age_s == b->age_s);
    assert_true(address_equal(&a->record.address, &b->record.address));
    assert_true(a->record.capacity_bytes == b->record.capacity_bytes);
    assert_int_equal(a->record.minor, b->record.minor);
    assert_true(bytes_equal(a->record.name, b->record.name));
    assert_true(bytes_equal(a->record.zone, b->record.zone));
}

#endif
