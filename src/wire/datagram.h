/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_DATAGRAM_H
#define WIRE_DATAGRAM_H

/*
 * datagram: the messages between members that fit into one UDP datagram: probes, votes, broadcasts
 * and joining (src/cluster says what they are for). Fields as in wire/fields.h:
 *
 *   magic u8 = 0xA7, major u8, minor u8, type u8
 *   sender 20 bytes, sender's boot nonce u64, receiver's boot nonce u32, number u32
 *   the fields of the type, in the order of the list below
 *
 * The receiver's nonce (its lower half) shows that the sender has heard from this very life of the
 * receiver: who can't read our traffic can't guess it. 0: the sender does not know it.
 *
 * Versions: another major version and an unknown type are -EPROTONOSUPPORT, to be ignored. A
 * higher minor version may have more fields behind those that we know; they are left unread. In
 * our own minor version, and in lower ones, bytes left over are a fault. Updates run to the end of
 * a message; later versions have more kinds and longer ones of them (wire/member.h).
 */

#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "wire/address.h"
#include "wire/member.h"
#include "wire/node_id.h"

/* Fits the MTU of Ethernet behind IPv6, UDP and a seal, and of most tunnels. */
#define DATAGRAM_BYTES_MAX 1400u
#define DATAGRAM_MAGIC 0xA7
#define DATAGRAM_MAJOR 1
#define DATAGRAM_MINOR 1
/* What a broadcast carries; the rest is for its header and a seal. */
#define DATAGRAM_PAYLOAD_BYTES_MAX 1200u
/* More updates than these don't fit: the smallest has 44 bytes. */
#define DATAGRAM_UPDATES_MAX 31u

enum datagram_type {
    DATAGRAM_PING = 1,     /* incarnation, digests */
    DATAGRAM_ACK = 2,      /* incarnation, digests; number as in the ping */
    DATAGRAM_PING_REQ = 3, /* subject: ask it, and tell me if it answers */
    DATAGRAM_PING_ACK = 4, /* subject, subject_version: it answered; number as in the request */
    DATAGRAM_ALERT = 5,   /* subject, subject_version: it does not answer me; does it answer you? */
    DATAGRAM_VERDICT = 6, /* subject, subject_version, verdict; number as in the alert */
    DATAGRAM_ACCUSE = 7,  /* subject_version: this is what we believe of you */
    DATAGRAM_BROADCAST = 8,  /* range_end, origin, origin_number, payload_kind u8, payload string */
    DATAGRAM_RECEIPT = 9,    /* nothing; number as in the broadcast */
    DATAGRAM_JOIN = 10,      /* updates: the sender's own record */
    DATAGRAM_WELCOME = 11,   /* updates: the sender, what is known of the joiner, some members;
                                number as in the join */
    DATAGRAM_CONFLICT = 12,  /* address, uptime_ms: another node with your id answers there */
    DATAGRAM_CHALLENGE = 13, /* nothing: who are you? answered by a RESPONSE */
    DATAGRAM_RESPONSE = 14,  /* incarnation, uptime_ms; number as in the challenge */
};

enum datagram_verdict {
    DATAGRAM_VERDICT_SILENT = 1,   /* it does not answer me either */
    DATAGRAM_VERDICT_ANSWERS = 2,  /* it answers me */
    DATAGRAM_VERDICT_ABSTAINS = 3, /* I can't tell: my own links are in doubt */
};

enum datagram_payload {
    DATAGRAM_PAYLOAD_MEMBERS = 1, /* member updates */
    DATAGRAM_PAYLOAD_TREE = 2,    /* of the tree; not looked at here */
    DATAGRAM_PAYLOAD_LOCATE = 3,  /* who has this content; not looked at here */
};

/* Sums that tell whether two nodes have the same: members, version vector, tree. u64 each. */
struct digests {
    uint64_t members;
    uint64_t vector;
    uint64_t tree;
};

/* One message. Only the fields of its type are used. Payload and strings are borrowed. */
struct datagram {
    enum datagram_type type;
    uint8_t minor;
    struct node_id sender;
    uint64_t sender_nonce;   /* never 0 */
    uint32_t receiver_nonce; /* 0: not known */
    uint32_t number;

    uint64_t incarnation; /* the sender's, u64 */
    struct digests digests;
    struct node_id subject;
    struct member_version subject_version; /* incarnation u64, boot nonce u64, status u8 */
    struct address address;
    enum datagram_verdict verdict; /* u8 */
    uint64_t uptime_ms;            /* since the sender's, or the other's, start; u64 */

    struct node_id range_end; /* the receiver tells who stands behind it, up to and without this */
    uint64_t origin;          /* boot nonce of who began it */
    uint32_t origin_number;   /* with `origin`, the name of the broadcast */
    uint8_t payload_kind;     /* enum datagram_payload; others are passed on unread */
    struct bytes payload;

    struct member_update updates[DATAGRAM_UPDATES_MAX]; /* up to the end of the message */
    size_t updates_count;
};

/* Appends the bytes of `datagram`, at most DATAGRAM_BYTES_MAX. `minor` is ours, whatever it says.
 * -EFBIG: it does not fit; -EINVAL: no such datagram can be (no such type; incarnation, nonce or
 * payload kind 0; a join without one record of the sender, a welcome that does not begin with it;
 * an update that is not valid). */
[[nodiscard]] int datagram_format(const struct datagram *datagram, struct buf *ret_bytes);

/* -EPROTO: malformed; -EPROTONOSUPPORT: of another version or an unknown type, but ours in form.
 * *ret_datagram may be half filled after a failure. Its strings are borrowed from `bytes`. */
[[nodiscard]] int datagram_parse(struct bytes bytes, struct datagram *ret_datagram);

/* The updates of a payload of kind MEMBERS, perhaps none. -EPROTO: malformed, or more than
 * DATAGRAM_UPDATES_MAX; *ret_updates may be half filled then. */
[[nodiscard]] int datagram_parse_updates(struct bytes payload,
                                         struct member_update ret_updates[DATAGRAM_UPDATES_MAX],
                                         size_t *ret_count);

#endif
