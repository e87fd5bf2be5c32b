/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_TREE_OP_H
#define WIRE_TREE_OP_H

/*
 * tree_op: one step in the log of one writer, as bytes: what is stored, hashed into the chain, and
 * sent to other nodes.
 *
 *   version u8 = 1, event u8, origin 16 bytes, seq u64, previous 32 bytes, lamport u64,
 *   event path string, event source string,
 *   origins u16 and so many ids of 16 bytes, changes u32 and so many changes:
 *
 *   kind u8, path string, mode u32, mtime u64 (nanoseconds since 1970, two's complement)
 *     file:      file id 32 bytes, size u64
 *     symlink:   target string
 *   attributes u16 and so many (name string, value string), in ascending order of names
 *   context u16 and so many dots: origin u16 (index into origins), seq u64
 *
 * Fields as in wire/fields.h. The hash of an op is the SHA-256 of all its bytes; `previous` is the
 * hash of the op before it in the same log (zeros for the first), so that each log is a chain.
 * One op has one text: the parser refuses what the formatter would not write.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "hash/id.h"
#include "wire/node_id.h"

#define TREE_OP_VERSION 1
/* Where they begin in the bytes of an op, of whatever version. */
#define TREE_OP_PREVIOUS_OFFSET ((size_t)26)
#define TREE_OP_LAMPORT_OFFSET ((size_t)58)
/* No op is shorter, of whatever version: all begin with these. */
#define TREE_OP_BYTES_MIN (TREE_OP_LAMPORT_OFFSET + 8)
#define TREE_OP_BYTES_MAX ((size_t)32 * 1024 * 1024)
#define TREE_OP_CHANGES_MAX 100000u
/* Writers that one op can refer to: all that their count can say, 1 MiB of ids. A directory with
 * files of more has nearly as many files as an op can delete anyway. */
#define TREE_OP_ORIGINS_MAX 65535u
#define TREE_OP_CONTEXT_MAX 1024u /* heads that one change replaces */
#define TREE_ATTRIBUTES_MAX 64u
#define TREE_ATTRIBUTE_NAME_BYTES_MAX 255u
#define TREE_ATTRIBUTE_BYTES_MAX ((size_t)16 * 1024) /* names and values of one change together */
#define TREE_TARGET_BYTES_MAX 4095u

/* The name of one writer's log: 8 random bytes, then the first 8 of the id of the node that writes
 * it, so that it can be told whose it is. Nothing but what people are told relies on the latter. */
#define ORIGIN_RANDOM_BYTES 8u
struct origin_id {
    uint8_t bytes[16];
};

/* The name of one change: the op that made it. */
struct dot {
    struct origin_id origin;
    uint64_t seq; /* from 1 */
};

static inline bool origin_id_equal(const struct origin_id *a, const struct origin_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static inline void origin_id_set_node(struct origin_id *origin, const struct node_id *node)
{
    memcpy(origin->bytes + ORIGIN_RANDOM_BYTES, node->bytes,
           sizeof origin->bytes - ORIGIN_RANDOM_BYTES);
}

/* True if `node` writes that log, or has written it in an earlier life. */
static inline bool origin_id_is_of(const struct origin_id *origin, const struct node_id *node)
{
    return memcmp(origin->bytes + ORIGIN_RANDOM_BYTES, node->bytes,
                  sizeof origin->bytes - ORIGIN_RANDOM_BYTES) == 0;
}

enum tree_kind { TREE_FILE = 1, TREE_DIRECTORY = 2, TREE_SYMLINK = 3, TREE_DELETE = 4 };

/* What watchers are told of the op. */
enum tree_event {
    TREE_EVENT_CHANGES = 1, /* one event for each change */
    TREE_EVENT_ATOMIC = 2,  /* one for a whole directory, at the event path */
    TREE_EVENT_RENAME = 3,  /* one, from the event source to the event path */
};

/* A directory that was published as a whole in one step; its value is "1". */
#define TREE_ATTRIBUTE_ATOMIC "artel.atomic"

struct tree_attribute {
    struct bytes name;  /* not empty, without NUL */
    struct bytes value; /* any bytes */
};

struct tree_change {
    enum tree_kind kind;
    struct bytes path;
    uint32_t mode; /* permission bits, 07777 at most */
    int64_t mtime_ns;
    struct id file_id;   /* TREE_FILE */
    uint64_t size_bytes; /* TREE_FILE */
    struct bytes target; /* TREE_SYMLINK */
    const struct tree_attribute *attributes;
    size_t attributes_count;
    const struct dot *context; /* the heads it replaces */
    size_t context_count;
};

/* A plain value whose pointers are borrowed from whoever filled it. */
struct tree_op {
    struct origin_id origin;
    uint64_t seq;
    struct id previous;
    uint64_t lamport;
    enum tree_event event;
    struct bytes event_path;   /* TREE_EVENT_ATOMIC, TREE_EVENT_RENAME; else empty */
    struct bytes event_source; /* TREE_EVENT_RENAME; else empty */
    const struct tree_change *changes;
    size_t changes_count; /* at least 1 */
};

/* Appends the bytes of `op`. -EFBIG: more than one of the limits above; -EINVAL: no such op can
 * be (a path that path_check() refuses, an empty list, a name twice). */
[[nodiscard]] int tree_op_format(const struct tree_op *op, struct buf *ret_bytes);

/* What tree_op_format() says of one change. */
[[nodiscard]] int tree_op_check_change(const struct tree_change *change);

/* A parsed op and the memory behind its pointers; its byte strings are borrowed from the bytes
 * that were parsed. */
struct tree_op_parsed {
    struct tree_op op;
    struct tree_change *changes;
    struct tree_attribute *attributes;
    struct dot *dots;
};

/* -EPROTO: malformed; -EPROTONOSUPPORT: of a later version; -EFBIG: beyond a limit. */
[[nodiscard]] int tree_op_parse(struct bytes bytes, struct tree_op_parsed *ret_parsed);
void tree_op_parsed_done(struct tree_op_parsed *parsed);

/* What the bytes of an op begin with, without a look at the rest: their places are the same in all
 * versions. False: they are cut off. */
bool tree_op_peek(struct bytes bytes, struct dot *ret_dot, uint64_t *ret_lamport);

#endif
