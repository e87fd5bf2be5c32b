/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_MEMBERS_FILE_H
#define NODE_MEMBERS_FILE_H

/*
 * members_file: what a node has to know of itself and others when it starts again, in the file
 * `members` of the data directory. Fields as in wire/fields.h:
 *
 *   version u8 = 1, incarnation u64, CRC-32C u32 of these nine bytes
 *   the roster, as cluster_save() writes it, with a checksum of its own
 *
 * The incarnation is the highest that this node may have used. Its checksum stands apart: who
 * loses the roster asks others, but who took a wrong incarnation could not be put right by anybody
 * if it were near the end of the numbers.
 */

#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "wire/member.h"

#define MEMBERS_FILE_NAME "members"
/* Where a damaged one goes, in place of one from before. */
#define MEMBERS_FILE_ASIDE "members.damaged"
#define MEMBERS_FILE_BYTES_MAX ((size_t)MEMBERS_MAX * MEMBER_UPDATE_BYTES_MAX + 64)

struct members_file {
    uint64_t incarnation; /* at least 1 */
    struct bytes roster;  /* borrowed; perhaps empty */
};

void members_file_format(const struct members_file *file, struct buf *ret_bytes);
/* -EPROTO: malformed; -EPROTONOSUPPORT: of another version. */
[[nodiscard]] int members_file_parse(struct bytes bytes, struct members_file *ret_file);

/* Reads the file of the data directory `dir_fd` into `buf`, from which *ret_file borrows. -ENOENT:
 * there is none; -EPROTO, -EPROTONOSUPPORT, -EIO. Blocks. */
[[nodiscard]] int members_file_load(int dir_fd, struct buf *buf, struct members_file *ret_file);
/* Durable when it returns. As file_replace(); blocks. */
[[nodiscard]] int members_file_store(int dir_fd, const struct members_file *file);
/* Renames a damaged one, so that it can be looked at. Blocks. */
[[nodiscard]] int members_file_move_aside(int dir_fd);

#endif
