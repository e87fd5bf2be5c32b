/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/tree_op.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/random.h"
#include "wire/fields.h"
#include "wire/path.h"

/*
 * What an op may be is told once, by check_op(): the formatter asks it before it writes, the
 * parser after it has read. What the bytes say beyond the op itself is the table of origins. The
 * formatter puts an origin into it when a dot first uses it, and the parser demands that: the
 * first use of each index comes in order, all are used, none is there twice. Everything else has
 * one spelling only; so the parser takes exactly what the formatter writes.
 *
 * The parser reads the changes twice, first to count. So the arrays are as large as they have to
 * be, are asked for when the frame is known to be whole, and never move under the pointers into
 * them. They are larger than the bytes by a factor of 8 at most, for the shortest attributes.
 */

#define STRING_BYTES_MIN 2
#define CHANGE_BYTES_MIN (1 + STRING_BYTES_MIN + 4 + 8 + 2 + 2)
#define ATTRIBUTE_BYTES_MIN (2 * (size_t)STRING_BYTES_MIN)
#define DOT_BYTES 10
#define OP_BYTES_MIN                                                                               \
    (1 + 1 + sizeof(struct origin_id) + 8 + ID_BYTES + 8 + 2 * STRING_BYTES_MIN + 2 + 4)

static_assert(TREE_OP_LAMPORT_OFFSET == 1 + 1 + sizeof(struct origin_id) + 8 + ID_BYTES,
              "version, event, origin, seq and previous come before it");

#define MODE_MAX 07777u

static_assert(TREE_OP_ORIGINS_MAX <= UINT16_MAX && TREE_OP_CONTEXT_MAX <= UINT16_MAX &&
                  TREE_ATTRIBUTES_MAX <= UINT16_MAX && TREE_OP_CHANGES_MAX <= UINT32_MAX,
              "counts fit their fields");
static_assert(PATH_BYTES_MAX <= UINT16_MAX && TREE_TARGET_BYTES_MAX <= UINT16_MAX &&
                  TREE_ATTRIBUTE_BYTES_MAX <= UINT16_MAX,
              "strings fit their lengths");

/* The origins that an op uses, found by hash. An id is two words, each times a factor of its own;
 * the upper bits of the sum say in which chain it is (multiply-shift hashing, Dietzfelbinger et al.
 * 1997). When there are many, the factors are drawn at random: origins that somebody chose so that
 * they share a chain do so for a short while only. */
struct origins {
    struct origin_id *ids; /* in the order of addition */
    uint32_t *next;        /* in the chain: 1 + index into `ids`; 0: the last */
    uint32_t *firsts;      /* of `capacity` chains, in the same way */
    size_t count;
    size_t capacity; /* a power of two */
    unsigned shift;
    uint64_t factors[2]; /* odd */
};

/* The first array; later ones double. Most ops use one or two. */
#define ORIGINS_CAPACITY_FIRST 4
/* Up to here a chain of all is short enough, and random numbers are saved. */
#define ORIGINS_UNSEEDED_MAX 64

static_assert((ORIGINS_CAPACITY_FIRST & (ORIGINS_CAPACITY_FIRST - 1)) == 0, "a power of two");

static void origins_done(struct origins *origins)
{
    free(origins->ids);
    free(origins->next);
    free(origins->firsts);
}
#define CLEANUP_ORIGINS __attribute__((cleanup(origins_done)))

static uint32_t *origins_chain(const struct origins *origins, const struct origin_id *id)
{
    const uint64_t sum = codec_get_le64(id->bytes) * origins->factors[0] +
                         codec_get_le64(id->bytes + 8) * origins->factors[1];
    return &origins->firsts[sum >> origins->shift];
}

/* 1 + the index of `id`; 0: it was not added. */
static uint32_t origins_find(const struct origins *origins, const struct origin_id *id)
{
    uint32_t at = origins->capacity ? *origins_chain(origins, id) : 0;
    while (at > 0 && !origin_id_equal(&origins->ids[at - 1], id)) {
        at = origins->next[at - 1];
    }
    return at;
}

/* Into its chain. */
static void origins_link(struct origins *origins, size_t index)
{
    uint32_t *first = origins_chain(origins, &origins->ids[index]);
    origins->next[index] = *first;
    *first = (uint32_t)index + 1;
}

static void origins_grow(struct origins *origins)
{
    const size_t capacity = origins->capacity ? 2 * origins->capacity : ORIGINS_CAPACITY_FIRST;
    origins->ids = mem_resize_array(origins->ids, capacity, sizeof *origins->ids);
    origins->next = mem_resize_array(origins->next, capacity, sizeof *origins->next);
    free(origins->firsts);
    origins->firsts = mem_alloc_array(capacity, sizeof *origins->firsts);
    origins->capacity = capacity;
    origins->shift = 64 - (unsigned)__builtin_ctzll(capacity);
    if (capacity > ORIGINS_UNSEEDED_MAX) {
        random_system(origins->factors, sizeof origins->factors);
    }
    origins->factors[0] |= 1;
    origins->factors[1] |= 1;
    for (size_t i = 0; i < origins->count; i++) {
        origins_link(origins, i);
    }
}

/* Adds `id` if it is not there. -EFBIG: there are TREE_OP_ORIGINS_MAX others. */
static int origins_add(struct origins *origins, const struct origin_id *id)
{
    if (origins_find(origins, id)) {
        return 0;
    }
    if (origins->count == TREE_OP_ORIGINS_MAX) {
        return -EFBIG;
    }
    if (origins->count == origins->capacity) {
        origins_grow(origins);
    }
    origins->ids[origins->count] = *id;
    origins_link(origins, origins->count++);
    return 0;
}

/* The index of `id`, which was added. */
static uint16_t origins_index(const struct origins *origins, const struct origin_id *id)
{
    const uint32_t at = origins_find(origins, id);
    CHECK(at > 0);
    return (uint16_t)(at - 1);
}

static bool is_path_below_root(struct bytes path)
{
    return path.size > 0 && path_check(path) == 0;
}

static bool holds_nul(struct bytes string)
{
    return string.size > 0 && memchr(string.data, 0, string.size) != NULL;
}

static int check_attributes(const struct tree_change *change)
{
    if (change->attributes_count > TREE_ATTRIBUTES_MAX) {
        return -EFBIG;
    }
    size_t left_bytes = TREE_ATTRIBUTE_BYTES_MAX;
    for (size_t i = 0; i < change->attributes_count; i++) {
        const struct tree_attribute *attribute = &change->attributes[i];
        if (attribute->name.size > TREE_ATTRIBUTE_NAME_BYTES_MAX ||
            attribute->name.size > left_bytes ||
            attribute->value.size > left_bytes - attribute->name.size) {
            return -EFBIG;
        }
        left_bytes -= attribute->name.size + attribute->value.size;
        if (attribute->name.size == 0 || holds_nul(attribute->name) ||
            (i > 0 && bytes_compare(attribute[-1].name, attribute->name) >= 0)) {
            return -EINVAL;
        }
    }
    return 0;
}

static int check_context(const struct tree_change *change)
{
    if (change->context_count > TREE_OP_CONTEXT_MAX) {
        return -EFBIG;
    }
    for (size_t i = 0; i < change->context_count; i++) {
        if (change->context[i].seq == 0) {
            return -EINVAL;
        }
    }
    return 0;
}

/* What only some kinds have is not set in the others. */
static int check_kind(const struct tree_change *change)
{
    static const struct id no_id = {0};
    const bool has_file = change->size_bytes > 0 || !id_equal(&change->file_id, &no_id);
    const bool has_target = change->target.size > 0;

    switch (change->kind) {
    case TREE_FILE:
        return has_target ? -EINVAL : 0;
    case TREE_DIRECTORY:
        return has_file || has_target ? -EINVAL : 0;
    case TREE_SYMLINK:
        if (has_file || !has_target || holds_nul(change->target)) {
            return -EINVAL;
        }
        return change->target.size > TREE_TARGET_BYTES_MAX ? -EFBIG : 0;
    case TREE_DELETE:
        if (has_file || has_target || change->mode != 0 || change->attributes_count > 0) {
            return -EINVAL;
        }
        return 0;
    }
    return -EINVAL;
}

int tree_op_check_change(const struct tree_change *change)
{
    if (!is_path_below_root(change->path) || change->mode > MODE_MAX) {
        return -EINVAL;
    }
    int err = check_kind(change);
    if (!err) {
        err = check_attributes(change);
    }
    return err ? err : check_context(change);
}

static bool event_is_valid(const struct tree_op *op)
{
    switch (op->event) {
    case TREE_EVENT_CHANGES:
        return op->event_path.size == 0 && op->event_source.size == 0;
    case TREE_EVENT_ATOMIC:
        return is_path_below_root(op->event_path) && op->event_source.size == 0;
    case TREE_EVENT_RENAME:
        return is_path_below_root(op->event_path) && is_path_below_root(op->event_source);
    }
    return false;
}

static int check_op(const struct tree_op *op)
{
    if (op->seq == 0 || op->changes_count == 0 || !event_is_valid(op)) {
        return -EINVAL;
    }
    if (op->changes_count > TREE_OP_CHANGES_MAX) {
        return -EFBIG;
    }
    int err = 0;
    for (size_t i = 0; !err && i < op->changes_count; i++) {
        err = tree_op_check_change(&op->changes[i]);
    }
    return err;
}

static int collect_origins(const struct tree_op *op, struct origins *origins)
{
    int err = 0;
    for (size_t i = 0; i < op->changes_count; i++) {
        const struct tree_change *change = &op->changes[i];
        for (size_t j = 0; !err && j < change->context_count; j++) {
            err = origins_add(origins, &change->context[j].origin);
        }
    }
    return err;
}

static size_t change_bytes(const struct tree_change *change)
{
    size_t bytes = CHANGE_BYTES_MIN + change->path.size;
    if (change->kind == TREE_FILE) {
        bytes += ID_BYTES + sizeof change->size_bytes;
    }
    if (change->kind == TREE_SYMLINK) {
        bytes += STRING_BYTES_MIN + change->target.size;
    }
    for (size_t i = 0; i < change->attributes_count; i++) {
        bytes += ATTRIBUTE_BYTES_MIN + change->attributes[i].name.size +
                 change->attributes[i].value.size;
    }
    return bytes + DOT_BYTES * change->context_count;
}

/* Cannot overflow: a change that was checked has less than 40,000 bytes. */
static size_t op_bytes(const struct tree_op *op, size_t origins_count)
{
    size_t bytes = OP_BYTES_MIN + op->event_path.size + op->event_source.size +
                   origins_count * sizeof(struct origin_id);
    for (size_t i = 0; i < op->changes_count; i++) {
        bytes += change_bytes(&op->changes[i]);
    }
    return bytes;
}

static void put_change(struct buf *message, const struct tree_change *change,
                       const struct origins *origins)
{
    field_put_u8(message, (uint8_t)change->kind);
    field_put_string(message, change->path);
    field_put_u32(message, change->mode);
    field_put_u64(message, (uint64_t)change->mtime_ns);
    if (change->kind == TREE_FILE) {
        buf_add(message, id_bytes(&change->file_id));
        field_put_u64(message, change->size_bytes);
    }
    if (change->kind == TREE_SYMLINK) {
        field_put_string(message, change->target);
    }
    field_put_u16(message, (uint16_t)change->attributes_count);
    for (size_t i = 0; i < change->attributes_count; i++) {
        field_put_string(message, change->attributes[i].name);
        field_put_string(message, change->attributes[i].value);
    }
    field_put_u16(message, (uint16_t)change->context_count);
    for (size_t i = 0; i < change->context_count; i++) {
        field_put_u16(message, origins_index(origins, &change->context[i].origin));
        field_put_u64(message, change->context[i].seq);
    }
}

int tree_op_format(const struct tree_op *op, struct buf *ret_bytes)
{
    int err = check_op(op);
    if (err) {
        return err;
    }
    CLEANUP_ORIGINS struct origins origins = {0};
    err = collect_origins(op, &origins);
    if (err) {
        return err;
    }
    const size_t bytes = op_bytes(op, origins.count);
    if (bytes > TREE_OP_BYTES_MAX) {
        return -EFBIG;
    }

    const size_t begin = ret_bytes->size;
    field_put_u8(ret_bytes, TREE_OP_VERSION);
    field_put_u8(ret_bytes, (uint8_t)op->event);
    buf_add(ret_bytes, BYTES(op->origin.bytes, sizeof op->origin.bytes));
    field_put_u64(ret_bytes, op->seq);
    buf_add(ret_bytes, id_bytes(&op->previous));
    field_put_u64(ret_bytes, op->lamport);
    field_put_string(ret_bytes, op->event_path);
    field_put_string(ret_bytes, op->event_source);
    field_put_u16(ret_bytes, (uint16_t)origins.count);
    for (size_t i = 0; i < origins.count; i++) {
        buf_add(ret_bytes, BYTES(origins.ids[i].bytes, sizeof origins.ids[i].bytes));
    }
    field_put_u32(ret_bytes, (uint32_t)op->changes_count);
    for (size_t i = 0; i < op->changes_count; i++) {
        put_change(ret_bytes, &op->changes[i], &origins);
    }
    CHECK(ret_bytes->size - begin == bytes);
    return 0;
}

struct parser {
    struct field_reader reader;
    bool too_big;         /* a count was beyond its limit; the reader is bad as well */
    struct bytes origins; /* the table as it stands in the bytes */
    size_t origins_count;
    size_t origins_used; /* of these, in order, the dots so far have used all */
    /* NULL while counting */
    struct tree_change *changes;
    struct tree_attribute *attributes;
    struct dot *dots;
    size_t attributes_count;
    size_t dots_count;
};

/* `count` if it is within its limit and the bytes that are left can hold so many. */
static size_t checked_count(struct parser *parser, size_t count, size_t limit,
                            size_t element_bytes_min)
{
    if (count > limit) {
        parser->too_big = true;
        field_fail(&parser->reader);
        return 0;
    }
    if (count > parser->reader.left.size / element_bytes_min) {
        field_fail(&parser->reader);
        return 0;
    }
    return count;
}

/* Limits of strings are check_op()'s matter. */
static struct bytes take_string(struct parser *parser)
{
    return field_get_string(&parser->reader, UINT16_MAX);
}

static void take_id(struct parser *parser, struct id *ret_id)
{
    const struct bytes raw = field_get_raw(&parser->reader, ID_BYTES);
    if (raw.size == ID_BYTES) {
        memcpy(ret_id->bytes, raw.data, ID_BYTES);
    }
}

static void take_origin(struct parser *parser, struct origin_id *ret_origin)
{
    const struct bytes raw = field_get_raw(&parser->reader, sizeof *ret_origin);
    if (raw.size == sizeof *ret_origin) {
        memcpy(ret_origin->bytes, raw.data, sizeof *ret_origin);
    }
}

static void take_attributes(struct parser *parser, struct tree_change *change)
{
    const size_t count = checked_count(parser, field_get_u16(&parser->reader), TREE_ATTRIBUTES_MAX,
                                       ATTRIBUTE_BYTES_MIN);
    struct tree_attribute *at =
        parser->attributes ? &parser->attributes[parser->attributes_count] : NULL;
    for (size_t i = 0; i < count; i++) {
        const struct bytes name = take_string(parser);
        const struct bytes value = take_string(parser);
        if (at) {
            at[i] = (struct tree_attribute){.name = name, .value = value};
        }
    }
    change->attributes = at;
    change->attributes_count = count;
    parser->attributes_count += count;
}

static void take_dot(struct parser *parser, struct dot *ret_dot)
{
    const size_t index = field_get_u16(&parser->reader);
    const uint64_t seq = field_get_u64(&parser->reader);
    if (index > parser->origins_used || index >= parser->origins_count) {
        field_fail(&parser->reader);
        return;
    }
    if (index == parser->origins_used) {
        parser->origins_used++;
    }
    if (ret_dot) {
        memcpy(&ret_dot->origin, parser->origins.data + index * sizeof ret_dot->origin,
               sizeof ret_dot->origin);
        ret_dot->seq = seq;
    }
}

static void take_context(struct parser *parser, struct tree_change *change)
{
    const size_t count =
        checked_count(parser, field_get_u16(&parser->reader), TREE_OP_CONTEXT_MAX, DOT_BYTES);
    struct dot *at = parser->dots ? &parser->dots[parser->dots_count] : NULL;
    for (size_t i = 0; i < count; i++) {
        take_dot(parser, at ? &at[i] : NULL);
    }
    change->context = at;
    change->context_count = count;
    parser->dots_count += count;
}

static void take_change(struct parser *parser, struct tree_change *ret_change)
{
    struct tree_change change = {0};
    change.kind = (enum tree_kind)field_get_u8(&parser->reader);
    change.path = take_string(parser);
    change.mode = field_get_u32(&parser->reader);
    change.mtime_ns = (int64_t)field_get_u64(&parser->reader);
    if (change.kind == TREE_FILE) {
        take_id(parser, &change.file_id);
        change.size_bytes = field_get_u64(&parser->reader);
    }
    if (change.kind == TREE_SYMLINK) {
        change.target = take_string(parser);
    }
    take_attributes(parser, &change);
    take_context(parser, &change);
    if (ret_change) {
        *ret_change = change;
    }
}

static void take_changes(struct parser *parser, size_t count)
{
    for (size_t i = 0; i < count && !parser->reader.bad; i++) {
        take_change(parser, parser->changes ? &parser->changes[i] : NULL);
    }
}

/* Everything before the changes, but for the version. */
static void take_head(struct parser *parser, struct tree_op *op)
{
    op->event = (enum tree_event)field_get_u8(&parser->reader);
    take_origin(parser, &op->origin);
    op->seq = field_get_u64(&parser->reader);
    take_id(parser, &op->previous);
    op->lamport = field_get_u64(&parser->reader);
    op->event_path = take_string(parser);
    op->event_source = take_string(parser);
    parser->origins_count = checked_count(parser, field_get_u16(&parser->reader),
                                          TREE_OP_ORIGINS_MAX, sizeof(struct origin_id));
    parser->origins =
        field_get_raw(&parser->reader, parser->origins_count * sizeof(struct origin_id));
    op->changes_count = checked_count(parser, field_get_u32(&parser->reader), TREE_OP_CHANGES_MAX,
                                      CHANGE_BYTES_MIN);
}

static bool origins_differ(const struct parser *parser)
{
    CLEANUP_ORIGINS struct origins origins = {0};
    for (size_t i = 0; i < parser->origins_count; i++) {
        struct origin_id id;
        memcpy(&id, parser->origins.data + i * sizeof id, sizeof id);
        if (origins_add(&origins, &id) != 0 || origins.count != i + 1) {
            return false;
        }
    }
    return true;
}

int tree_op_parse(struct bytes bytes, struct tree_op_parsed *ret_parsed)
{
    if (bytes.size > TREE_OP_BYTES_MAX) {
        return -EFBIG;
    }
    struct parser parser = {.reader = field_reader_of(bytes)};
    const uint8_t version = field_get_u8(&parser.reader);
    if (version != TREE_OP_VERSION) {
        return version > TREE_OP_VERSION ? -EPROTONOSUPPORT : -EPROTO;
    }
    struct tree_op op = {0};
    take_head(&parser, &op);
    const struct field_reader changes_begin = parser.reader;
    take_changes(&parser, op.changes_count);
    if (parser.too_big) {
        return -EFBIG;
    }
    if (!field_reader_ended(&parser.reader) || parser.origins_used != parser.origins_count ||
        !origins_differ(&parser)) {
        return -EPROTO;
    }

    parser.changes = mem_alloc_array(op.changes_count, sizeof *parser.changes);
    parser.attributes = mem_alloc_array(parser.attributes_count, sizeof *parser.attributes);
    parser.dots = mem_alloc_array(parser.dots_count, sizeof *parser.dots);
    parser.attributes_count = 0;
    parser.dots_count = 0;
    parser.origins_used = 0;
    parser.reader = changes_begin;
    take_changes(&parser, op.changes_count);
    op.changes = parser.changes;
    struct tree_op_parsed parsed = {
        .op = op,
        .changes = parser.changes,
        .attributes = parser.attributes,
        .dots = parser.dots,
    };
    const int err = check_op(&op);
    if (err) {
        tree_op_parsed_done(&parsed);
        return err == -EINVAL ? -EPROTO : err;
    }
    *ret_parsed = parsed;
    return 0;
}

void tree_op_parsed_done(struct tree_op_parsed *parsed)
{
    if (!parsed) {
        return;
    }
    free(parsed->changes);
    free(parsed->attributes);
    free(parsed->dots);
    *parsed = (struct tree_op_parsed){0};
}

bool tree_op_peek(struct bytes bytes, struct dot *ret_dot, uint64_t *ret_lamport)
{
    struct field_reader reader = field_reader_of(bytes);
    (void)field_get_u16(&reader); /* version and event */
    const struct bytes origin = field_get_raw(&reader, sizeof ret_dot->origin);
    const uint64_t seq = field_get_u64(&reader);
    (void)field_get_raw(&reader, TREE_OP_LAMPORT_OFFSET - TREE_OP_PREVIOUS_OFFSET);
    const uint64_t lamport = field_get_u64(&reader);
    if (reader.bad) {
        return false;
    }
    memcpy(&ret_dot->origin, origin.data, sizeof ret_dot->origin);
    ret_dot->seq = seq;
    *ret_lamport = lamport;
    return true;
}
