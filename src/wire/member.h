/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_MEMBER_H
#define WIRE_MEMBER_H

/*
 * member: what nodes tell each other of a member, as a value and as bytes.
 *
 * A member's *version* is (incarnation, boot nonce, status), compared in this order. The member
 * alone raises its incarnation; others only raise its status. So whatever the order in which
 * versions arrive, the highest is the one that all end up with (a join semilattice, as in SWIM,
 * Das et al. 2002). All other fields of a record belong to (incarnation, boot nonce) and never
 * change within it.
 *
 * An update on the wire, fields as in wire/fields.h:
 *
 *   size u16 of what follows
 *   kind u8: 1 a status, 2 a record
 *   id 20 bytes, incarnation u64, boot nonce u64, status u8, age u32
 *   a record also: address, capacity u64, minor u8, name string, zone string
 *
 * Bytes behind the last known field of an update are left unread: a later minor version may have
 * more. An update of another kind is skipped; 0 will never be one and is a fault.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "wire/address.h"
#include "wire/fields.h"
#include "wire/node_id.h"

/* Members that one node keeps; what is beyond is refused. 16 times the largest network that artel
 * is made for, and 10 MB of memory. */
#define MEMBERS_MAX 65536u
/* As a host name has (HOST_NAME_MAX); UTF-8 without control characters. */
#define MEMBER_NAME_BYTES_MAX 64u
#define MEMBER_ZONE_BYTES_MAX 64u
/* Of an update with its size: what this and later versions write at most. */
#define MEMBER_UPDATE_BYTES_MAX 256u
/* A status, with its size. */
#define MEMBER_UPDATE_BYTES_MIN 44u
#define MEMBER_VERSION_BYTES 17u

enum member_status {
    MEMBER_ALIVE = 1,
    MEMBER_UNREACHABLE = 2, /* said by those who watch it */
    MEMBER_LEFT = 3,        /* said by itself */
};

struct member_version {
    uint64_t incarnation; /* from 1 */
    uint64_t boot_nonce;  /* random, new at every start, never 0 */
    enum member_status status;
};

/* <0, 0, >0. */
int member_version_compare(const struct member_version *a, const struct member_version *b);

/* False: no member has it (incarnation or nonce 0, no such status). */
bool member_version_is_valid(const struct member_version *version);

void field_put_member_version(struct buf *message, const struct member_version *version);
/* One that is not valid is a fault of the reader. */
struct member_version field_get_member_version(struct field_reader *reader);

/* A plain value; name and zone are borrowed. */
struct member_record {
    struct node_id id;
    struct member_version version;
    struct address address;
    uint64_t capacity_bytes; /* of its store; 0: not told */
    uint8_t minor;           /* of the protocol that it speaks */
    struct bytes name;
    struct bytes zone;
};

struct member_update {
    bool is_record; /* else only id and version are set */
    uint32_t age_s; /* since it has its status, so that all forget it at about the same time */
    struct member_record record;
};

/* "alive", "unreachable", "left". */
const char *member_status_name(enum member_status status);

/* 0 if `name` may be a member's name or zone: 1 to 64 bytes of UTF-8 without control characters;
 * -EINVAL, -EILSEQ, -ENAMETOOLONG. */
[[nodiscard]] int member_name_check(struct bytes name);

/* True if it can be sent: its version is valid and, in a record, name and zone are. */
bool member_update_is_valid(const struct member_update *update);

/* The size of what field_put_member_update() appends. */
size_t member_update_bytes(const struct member_update *update);

/* `update` is valid. */
void field_put_member_update(struct buf *message, const struct member_update *update);

/* The next update of a kind that is known; false at the end of `reader` and after a fault of it
 * (reader->bad): a field missing or out of its limits. Strings are borrowed from the message. */
bool field_get_member_update(struct field_reader *reader, struct member_update *ret_update);

#endif
