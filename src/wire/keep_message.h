/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_KEEP_MESSAGE_H
#define WIRE_KEEP_MESSAGE_H

/*
 * keep_message: what nodes say to each other about copies that one wants others to keep, about how
 * much of a path each of them has, and about what may be evicted.
 *
 * Major u8, minor u8, type u8, then
 *
 *   KEEP      number u64, files: fetch these and keep them
 *   KEPT      number u64, verdict u8, kept u32: so many of them are whole and durable here
 *   RELEASE   number u64: what of them has not come need not come any more
 *   SURVEY    number u64, digest 32 bytes, path: how much of this do you have?
 *   SURVEYED  number u64, extent u8, state u8, files u32, whole files u32, bytes u64, bytes here
 *             u64, rate u64; from minor version 1 on: followed files u32, has a follower u8
 *
 *   PROMISE   number u64, blocks: which of these do you hold, and keep for ten minutes from now?
 *   PROMISED  number u64, for each of them in this order u8: 1 I do, 0 I don't
 *   NEED      number u64, blocks: which of these do files of yours name, and you have them not?
 *   NEEDED    number u64, for each of them in this order u8: 1 so it is, 0 it is not
 *
 * with file and block = its id, 32 bytes. Lists and the path run up to the end. Fields as in
 * wire/fields.h; versions are treated as in wire/datagram.h, but a list at the end leaves no room
 * behind it.
 */

#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "hash/id.h"
#include "wire/path.h"

/* Of one KEEP: half a megabyte. */
#define KEEP_FILES_MAX 16384u

/* Of one PROMISE or NEED. */
#define KEEP_BLOCKS_MAX 1024u

enum keep_message_type {
    KEEP_KEEP = 1,
    KEEP_KEPT = 2,
    KEEP_RELEASE = 3,
    KEEP_SURVEY = 4,
    KEEP_SURVEYED = 5,
    KEEP_PROMISE = 6,
    KEEP_PROMISED = 7,
    KEEP_NEED = 8,
    KEEP_NEEDED = 9,
};

enum keep_verdict {
    KEEP_WORKING = 1, /* said at once, and again and again */
    KEEP_DONE = 2,
    KEEP_REFUSED = 3, /* has no room, or too much to do; or could not get one of them */
};

/* What a node has of a path whose files have this digest. */
enum keep_extent {
    KEEP_EXTENT_WHOLE = 1,
    KEEP_EXTENT_PART = 2,
    KEEP_EXTENT_OTHER = 3, /* its tree shows something else there, or nothing */
    KEEP_EXTENT_BUSY = 4,  /* it can't tell just now */
};

/* What goes on there with the files that lack. */
enum keep_state {
    KEEP_STATE_IDLE = 0, /* nothing */
    KEEP_STATE_SEARCHING = 1,
    KEEP_STATE_RUNNING = 2,
    KEEP_STATE_NO_SPACE = 3,
    KEEP_STATE_COMMITTING = 4,
};

/* Bytes and rates beyond this are malformed: the largest integer that all readers of JSON keep. */
#define KEEP_SURVEY_NUMBER_MAX ((UINT64_C(1) << 53) - 1)

/* The minor version in which SURVEYED began to tell of followers. */
#define KEEP_FOLLOWED_MINOR 1u

struct keep_survey {
    enum keep_extent extent;
    enum keep_state state;
    uint32_t files_count;
    uint32_t whole_count;
    uint64_t length_bytes;
    uint64_t here_bytes;
    uint64_t rate_bytes_per_second;
    bool is_older; /* of a version that does not tell what follows; set by parsing alone */
    uint32_t followed_count; /* files that stand in the directory of somebody who follows them */
    bool has_follower;       /* somebody is known to follow one of the files */
};

/* One message; only the fields of its type are used. The list and the path are borrowed. */
struct keep_message {
    enum keep_message_type type;
    uint64_t number; /* the asker's */
    enum keep_verdict verdict;
    uint32_t kept;
    struct bytes files;    /* ID_BYTES each, at least one */
    struct bytes blocks;   /* ID_BYTES each, at least one */
    struct bytes promises; /* or needs: a byte each, 0 or 1, at least one */
    struct id digest;
    struct bytes path; /* at most PATH_BYTES_MAX; not checked further */
    struct keep_survey survey;
};

void keep_message_format(const struct keep_message *message, struct buf *ret_bytes);

/* -EPROTO: malformed; -EPROTONOSUPPORT: of another major version or an unknown type. *ret_message
 * is untouched after a failure. */
[[nodiscard]] int keep_message_parse(struct bytes bytes, struct keep_message *ret_message);

#endif
