/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "base/random.h"
#include "wire/fields.h"
#include "wire/path.h"
#include "wire/tree_op.h"

#define TEXT(literal) BYTES((const uint8_t *)(literal), sizeof(literal) - 1)
#define CHANGE_LIST(array) .changes = (array), .changes_count = ARRAY_SIZE(array)

/* Where fields are in an op of TREE_EVENT_CHANGES. */
#define AT_VERSION 0
#define AT_EVENT 1
#define AT_ORIGINS_COUNT 70
#define AT_ORIGINS 72

static struct origin_id origin_of(uint16_t number)
{
    struct origin_id origin = {{0xa0}};
    memcpy(origin.bytes + 14, &number, sizeof number);
    return origin;
}

static struct dot dot_of(uint16_t number, uint64_t seq)
{
    return (struct dot){.origin = origin_of(number), .seq = seq};
}

/*
 * A second formatter, as simple as can be: it checks nothing, so that what the parser has to
 * refuse can be written with it.
 */

struct table {
    struct origin_id ids[TREE_OP_ORIGINS_MAX + 1];
    uint32_t places[UINT16_MAX + 1]; /* by the end of the id, which differs in all: 1 + index */
    uint32_t count;
};

static uint16_t table_index(struct table *table, const struct origin_id *id)
{
    uint16_t number = 0;
    memcpy(&number, id->bytes + 14, sizeof number);
    if (table->places[number] == 0) {
        table->ids[table->count++] = *id;
        table->places[number] = table->count;
    }
    assert_true(origin_id_equal(&table->ids[table->places[number] - 1], id));
    return (uint16_t)(table->places[number] - 1);
}

static void write_change(struct buf *out, const struct tree_change *change, struct table *table)
{
    field_put_u8(out, (uint8_t)change->kind);
    field_put_string(out, change->path);
    field_put_u32(out, change->mode);
    field_put_u64(out, (uint64_t)change->mtime_ns);
    if (change->kind == TREE_FILE) {
        buf_add(out, id_bytes(&change->file_id));
        field_put_u64(out, change->size_bytes);
    } else if (change->kind == TREE_SYMLINK) {
        field_put_string(out, change->target);
    }
    field_put_u16(out, (uint16_t)change->attributes_count);
    for (size_t i = 0; i < change->attributes_count; i++) {
        field_put_string(out, change->attributes[i].name);
        field_put_string(out, change->attributes[i].value);
    }
    field_put_u16(out, (uint16_t)change->context_count);
    for (size_t i = 0; i < change->context_count; i++) {
        field_put_u16(out, table_index(table, &change->context[i].origin));
        field_put_u64(out, change->context[i].seq);
    }
}

static void write_op(const struct tree_op *op, struct buf *out)
{
    CLEANUP_FREE struct table *table = mem_alloc(sizeof *table);
    CLEANUP_BUF struct buf changes = BUF_INIT;
    for (size_t i = 0; i < op->changes_count; i++) {
        write_change(&changes, &op->changes[i], table);
    }
    field_put_u8(out, TREE_OP_VERSION);
    field_put_u8(out, (uint8_t)op->event);
    buf_add(out, BYTES(op->origin.bytes, sizeof op->origin.bytes));
    field_put_u64(out, op->seq);
    buf_add(out, id_bytes(&op->previous));
    field_put_u64(out, op->lamport);
    field_put_string(out, op->event_path);
    field_put_string(out, op->event_source);
    field_put_u16(out, (uint16_t)table->count);
    for (size_t i = 0; i < table->count; i++) {
        buf_add(out, BYTES(table->ids[i].bytes, sizeof table->ids[i].bytes));
    }
    field_put_u32(out, (uint32_t)op->changes_count);
    buf_add(out, buf_bytes(&changes));
}

/* Parses a copy in memory of exactly the right size, so that the sanitizer sees a read beyond. A
 * failure must leave the output alone; a success must format to the same bytes. */
static int parse(struct bytes bytes)
{
    CLEANUP_FREE uint8_t *exact = bytes.size ? mem_copy(bytes.data, bytes.size) : NULL;
    struct tree_op_parsed parsed;
    struct tree_op_parsed before;
    memset(&parsed, 0x77, sizeof parsed);
    memset(&before, 0x77, sizeof before);
    const int err = tree_op_parse(BYTES(exact, bytes.size), &parsed);
    if (err) {
        assert_memory_equal(&parsed, &before, sizeof parsed);
        assert_true(err == -EPROTO || err == -EPROTONOSUPPORT || err == -EFBIG);
        return err;
    }
    CLEANUP_BUF struct buf formatted = BUF_INIT;
    assert_int_equal(tree_op_format(&parsed.op, &formatted), 0);
    assert_true(bytes_equal(buf_bytes(&formatted), bytes));
    tree_op_parsed_done(&parsed);
    return 0;
}

/* What is refused leaves the buf alone, what is written is added and as the header says. */
static int format(const struct tree_op *op)
{
    CLEANUP_BUF struct buf formatted = BUF_INIT;
    buf_add_string(&formatted, "before");
    const int err = tree_op_format(op, &formatted);
    if (err) {
        assert_string_equal(buf_string(&formatted), "before");
        assert_int_equal(formatted.size, strlen("before"));
        return err;
    }
    CLEANUP_BUF struct buf expected = BUF_INIT;
    buf_add_string(&expected, "before");
    write_op(op, &expected);
    assert_true(bytes_equal(buf_bytes(&formatted), buf_bytes(&expected)));
    return 0;
}

static int parse_written(const struct tree_op *op)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    write_op(op, &bytes);
    return parse(buf_bytes(&bytes));
}

/* Both take it, or the formatter fails by `err` and the parser by what is the same for bytes. */
#define assert_op(op, err)                                                                         \
    do {                                                                                           \
        assert_int_equal(format(op), (err));                                                       \
        assert_int_equal(parse_written(op), (err) == -EINVAL ? -EPROTO : (err));                   \
    } while (0)

/* An op with everything in it; whoever wants another one changes a copy. */
struct sample {
    struct tree_attribute attributes[3];
    struct dot dots[4];
    struct tree_change changes[4];
    struct tree_op op;
};

static void sample_init(struct sample *sample)
{
    *sample = (struct sample){
        .attributes = {{TEXT("user.a"), TEXT("1")},
                       {TEXT("user.b"), TEXT("")},
                       {TEXT("user.ba"), TEXT("\0\xff")}},
        .dots = {dot_of(7, 1), dot_of(3, UINT64_MAX), dot_of(7, 2), dot_of(5, 1)},
        .changes = {{.kind = TREE_FILE,
                     .path = TEXT("dir/file"),
                     .mode = 0644,
                     .mtime_ns = 1700000000123456789,
                     .file_id = {{0xab, [31] = 0xcd}},
                     .size_bytes = 12345,
                     .attributes = sample->attributes,
                     .attributes_count = 3,
                     .context = sample->dots,
                     .context_count = 3},
                    {.kind = TREE_DIRECTORY,
                     .path = TEXT("dir"),
                     .mode = 07777,
                     .mtime_ns = -1,
                     .attributes = sample->attributes,
                     .attributes_count = 1},
                    {.kind = TREE_SYMLINK,
                     .path = TEXT("link"),
                     .mode = 0777,
                     .target = TEXT("../x"),
                     .context = &sample->dots[3],
                     .context_count = 1},
                    {.kind = TREE_DELETE,
                     .path = TEXT("\xc3\xa4"),
                     .mtime_ns = INT64_MIN,
                     .context = &sample->dots[1],
                     .context_count = 2}},
        .op = {.origin = origin_of(9),
               .seq = 0x0102030405060708,
               .previous = {{0x11, [31] = 0x22}},
               .lamport = 77,
               .event = TREE_EVENT_CHANGES,
               .changes = sample->changes,
               .changes_count = 4},
    };
}

/* One directory, which most limits are tried on. */
static struct tree_change directory_change(void)
{
    return (struct tree_change){.kind = TREE_DIRECTORY, .path = TEXT("d"), .mode = 0755};
}

static struct tree_op op_of(const struct tree_change *changes, size_t count)
{
    return (struct tree_op){
        .origin = origin_of(1),
        .seq = 1,
        .event = TREE_EVENT_CHANGES,
        .changes = changes,
        .changes_count = count,
    };
}

static int format_change(struct tree_change change)
{
    const struct tree_op op = op_of(&change, 1);
    return format(&op);
}

static int parse_change(struct tree_change change)
{
    const struct tree_op op = op_of(&change, 1);
    return parse_written(&op);
}

#define assert_change(change, err)                                                                 \
    do {                                                                                           \
        assert_int_equal(format_change(change), (err));                                            \
        assert_int_equal(parse_change(change), (err) == -EINVAL ? -EPROTO : (err));                \
    } while (0)

static void assert_changes_equal(const struct tree_change *a, const struct tree_change *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_true(bytes_equal(a->path, b->path));
    assert_int_equal(a->mode, b->mode);
    assert_true(a->mtime_ns == b->mtime_ns);
    assert_true(id_equal(&a->file_id, &b->file_id));
    assert_true(a->size_bytes == b->size_bytes);
    assert_true(bytes_equal(a->target, b->target));
    assert_int_equal(a->attributes_count, b->attributes_count);
    for (size_t i = 0; i < a->attributes_count; i++) {
        assert_true(bytes_equal(a->attributes[i].name, b->attributes[i].name));
        assert_true(bytes_equal(a->attributes[i].value, b->attributes[i].value));
    }
    assert_int_equal(a->context_count, b->context_count);
    for (size_t i = 0; i < a->context_count; i++) {
        assert_true(origin_id_equal(&a->context[i].origin, &b->context[i].origin));
        assert_true(a->context[i].seq == b->context[i].seq);
    }
}

static void assert_ops_equal(const struct tree_op *a, const struct tree_op *b)
{
    assert_true(origin_id_equal(&a->origin, &b->origin));
    assert_true(a->seq == b->seq);
    assert_true(id_equal(&a->previous, &b->previous));
    assert_true(a->lamport == b->lamport);
    assert_int_equal(a->event, b->event);
    assert_true(bytes_equal(a->event_path, b->event_path));
    assert_true(bytes_equal(a->event_source, b->event_source));
    assert_int_equal(a->changes_count, b->changes_count);
    for (size_t i = 0; i < a->changes_count; i++) {
        assert_changes_equal(&a->changes[i], &b->changes[i]);
    }
}

/* Formats, parses, and compares what was parsed field by field. */
static void assert_round_trip(const struct tree_op *op)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    assert_int_equal(tree_op_format(op, &bytes), 0);
    struct tree_op_parsed parsed;
    assert_int_equal(tree_op_parse(buf_bytes(&bytes), &parsed), 0);
    assert_ops_equal(&parsed.op, op);
    assert_ptr_equal(parsed.op.changes, parsed.changes);
    tree_op_parsed_done(&parsed);
    assert_op(op, 0);
}

static void an_op_is_laid_out_as_documented(void **state)
{
    (void)state;
    static const char expected[] = "\x01\x03"                         /* version, event */
                                   "OOOOOOOOOOOOOOOO"                 /* origin */
                                   "\x02\x01\0\0\0\0\0\0"             /* seq 258 */
                                   "PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP" /* previous */
                                   "\x07\0\0\0\0\0\0\0"               /* lamport */
                                   "\x01\0b"                          /* event path */
                                   "\x01\0a"                          /* event source */
                                   "\x02\0"                           /* origins */
                                   "YYYYYYYYYYYYYYYY"
                                   "XXXXXXXXXXXXXXXX"
                                   "\x03\0\0\0" /* changes */
                                   "\x04\x01\0a\0\0\0\0"
                                   "\xfe\xff\xff\xff\xff\xff\xff\xff" /* mtime -2 */
                                   "\0\0"                             /* attributes */
                                   "\x01\0"                           /* context */
                                   "\0\0\x05\0\0\0\0\0\0\0"           /* Y 5 */
                                   "\x01\x01\0b\xa4\x01\0\0"          /* mode 0644 */
                                   "\x03\0\0\0\0\0\0\0"               /* mtime 3 */
                                   "IIIIIIIIIIIIIIIIIIIIIIIIIIIIIIII" /* file id */
                                   "\0\x01\0\0\0\0\0\0"               /* size 256 */
                                   "\x01\0\x01\0n\x02\0vw"            /* attributes */
                                   "\x02\0"                           /* context */
                                   "\x01\0\x06\0\0\0\0\0\0\0"         /* X 6 */
                                   "\0\0\x07\0\0\0\0\0\0\0"           /* Y 7 */
                                   "\x03\x01\0l\xff\x01\0\0"          /* mode 0777 */
                                   "\0\0\0\0\0\0\0\0"                 /* mtime */
                                   "\x02\0to"                         /* target */
                                   "\0\0\0\0";                        /* no more */
    struct origin_id x;
    struct origin_id y;
    memset(&x, 'X', sizeof x);
    memset(&y, 'Y', sizeof y);
    const struct dot dots[] = {{y, 5}, {x, 6}, {y, 7}};
    const struct tree_attribute attribute = {TEXT("n"), TEXT("vw")};
    struct tree_change changes[] = {
        {.kind = TREE_DELETE,
         .path = TEXT("a"),
         .mtime_ns = -2,
         .context = dots,
         .context_count = 1},
        {.kind = TREE_FILE,
         .path = TEXT("b"),
         .mode = 0644,
         .mtime_ns = 3,
         .size_bytes = 256,
         .attributes = &attribute,
         .attributes_count = 1,
         .context = &dots[1],
         .context_count = 2},
        {.kind = TREE_SYMLINK, .path = TEXT("l"), .mode = 0777, .target = TEXT("to")},
    };
    memset(&changes[1].file_id, 'I', sizeof changes[1].file_id);
    struct tree_op op = {
        .seq = 258,
        .lamport = 7,
        .event = TREE_EVENT_RENAME,
        .event_path = TEXT("b"),
        .event_source = TEXT("a"),
        CHANGE_LIST(changes),
    };
    memset(&op.origin, 'O', sizeof op.origin);
    memset(&op.previous, 'P', sizeof op.previous);

    CLEANUP_BUF struct buf bytes = BUF_INIT;
    assert_int_equal(tree_op_format(&op, &bytes), 0);
    assert_int_equal(bytes.size, sizeof expected - 1);
    assert_memory_equal(bytes.data, expected, bytes.size);
    assert_round_trip(&op);
}

static void the_sample_survives(void **state)
{
    (void)state;
    struct sample sample;
    sample_init(&sample);
    assert_round_trip(&sample.op);
}

static void parsed_strings_are_borrowed_from_the_bytes(void **state)
{
    (void)state;
    struct sample sample;
    sample_init(&sample);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    assert_int_equal(tree_op_format(&sample.op, &bytes), 0);
    struct tree_op_parsed parsed;
    assert_int_equal(tree_op_parse(buf_bytes(&bytes), &parsed), 0);
    const struct tree_change *change = &parsed.op.changes[0];
    assert_true(change->path.data > bytes.data && change->path.data < bytes.data + bytes.size);
    assert_true(change->attributes[0].name.data > change->path.data);
    tree_op_parsed_done(&parsed);
    assert_null(parsed.changes);
    assert_int_equal(parsed.op.changes_count, 0);
    tree_op_parsed_done(&parsed);
    tree_op_parsed_done(NULL);
}

static void the_beginning_is_told_without_the_rest(void **state)
{
    (void)state;
    struct sample sample;
    sample_init(&sample);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    assert_int_equal(tree_op_format(&sample.op, &bytes), 0);
    const size_t enough = TREE_OP_LAMPORT_OFFSET + 8;
    for (size_t size = 0; size <= bytes.size; size++) {
        struct dot dot = {.seq = 0};
        uint64_t lamport = 0;
        assert_int_equal(tree_op_peek(BYTES(bytes.data, size), &dot, &lamport), size >= enough);
        if (size >= enough) {
            assert_true(origin_id_equal(&dot.origin, &sample.op.origin));
            assert_int_equal(dot.seq, sample.op.seq);
            assert_int_equal(lamport, sample.op.lamport);
        }
    }
}

static void numbers_at_their_ends(void **state)
{
    (void)state;
    struct sample sample;
    sample_init(&sample);
    sample.op.seq = 1;
    sample.op.lamport = 0;
    sample.changes[0].size_bytes = 0;
    sample.changes[0].mtime_ns = INT64_MIN;
    sample.changes[0].mode = 0;
    assert_round_trip(&sample.op);
    sample.op.seq = UINT64_MAX;
    sample.op.lamport = UINT64_MAX;
    sample.changes[0].size_bytes = UINT64_MAX;
    sample.changes[0].mtime_ns = INT64_MAX;
    sample.changes[0].mode = 07777;
    assert_round_trip(&sample.op);

    sample.op.seq = 0;
    assert_op(&sample.op, -EINVAL);
    sample_init(&sample);
    sample.changes[0].mode = 010000;
    assert_op(&sample.op, -EINVAL);
    sample.changes[0].mode = 0100644;
    assert_op(&sample.op, -EINVAL);
    sample.changes[0].mode = UINT32_MAX;
    assert_op(&sample.op, -EINVAL);
    sample_init(&sample);
    sample.dots[2].seq = 0;
    assert_op(&sample.op, -EINVAL);
    sample_init(&sample);
    sample.op.changes_count = 0;
    assert_op(&sample.op, -EINVAL);
}

static void versions_are_told_apart(void **state)
{
    (void)state;
    struct sample sample;
    sample_init(&sample);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    write_op(&sample.op, &bytes);
    for (unsigned version = 0; version < 256; version++) {
        bytes.data[AT_VERSION] = (uint8_t)version;
        const int expected = version == 0 ? -EPROTO : version == 1 ? 0 : -EPROTONOSUPPORT;
        assert_int_equal(parse(buf_bytes(&bytes)), expected);
    }
    /* Of a later version nothing else is known. */
    assert_int_equal(parse(TEXT("\x02")), -EPROTONOSUPPORT);
    assert_int_equal(parse(TEXT("\x01")), -EPROTO);
    assert_int_equal(parse(BYTES(NULL, 0)), -EPROTO);
}

static void events_have_their_paths(void **state)
{
    (void)state;
    const struct {
        int event;
        struct bytes path, source;
        int err;
    } cases[] = {
        {TREE_EVENT_CHANGES, TEXT(""), TEXT(""), 0},
        {TREE_EVENT_CHANGES, TEXT("a"), TEXT(""), -EINVAL},
        {TREE_EVENT_CHANGES, TEXT(""), TEXT("a"), -EINVAL},
        {TREE_EVENT_ATOMIC, TEXT("a/b"), TEXT(""), 0},
        {TREE_EVENT_ATOMIC, TEXT(""), TEXT(""), -EINVAL},
        {TREE_EVENT_ATOMIC, TEXT("a"), TEXT("b"), -EINVAL},
        {TREE_EVENT_ATOMIC, TEXT("a/"), TEXT(""), -EINVAL},
        {TREE_EVENT_RENAME, TEXT("a"), TEXT("b"), 0},
        {TREE_EVENT_RENAME, TEXT("a"), TEXT(""), -EINVAL},
        {TREE_EVENT_RENAME, TEXT(""), TEXT("b"), -EINVAL},
        {TREE_EVENT_RENAME, TEXT("\xff"), TEXT("b"), -EINVAL},
        {TREE_EVENT_RENAME, TEXT("a"), TEXT(".."), -EINVAL},
        {0, TEXT(""), TEXT(""), -EINVAL},
        {4, TEXT(""), TEXT(""), -EINVAL},
        {255, TEXT("a"), TEXT("b"), -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct sample sample;
        sample_init(&sample);
        sample.op.event = (enum tree_event)cases[i].event;
        sample.op.event_path = cases[i].path;
        sample.op.event_source = cases[i].source;
        assert_op(&sample.op, cases[i].err);
    }
}

static void kinds_are_the_known_ones(void **state)
{
    (void)state;
    for (int kind = 0; kind < 256; kind++) {
        struct tree_change change = directory_change();
        change.kind = (enum tree_kind)kind;
        if (kind == TREE_SYMLINK) {
            change.target = TEXT("to");
        }
        if (kind == TREE_DELETE) {
            change.mode = 0;
        }
        assert_change(change, kind >= TREE_FILE && kind <= TREE_DELETE ? 0 : -EINVAL);
    }
}

/* The bytes have no place for them; so the formatter must not lose them. */
static void kinds_have_their_fields_only(void **state)
{
    (void)state;
    for (int kind = TREE_FILE; kind <= TREE_DELETE; kind++) {
        struct tree_change plain = directory_change();
        plain.kind = (enum tree_kind)kind;
        plain.mode = 0;
        plain.target = kind == TREE_SYMLINK ? TEXT("to") : TEXT("");
        assert_int_equal(format_change(plain), 0);

        struct tree_change change = plain;
        change.file_id.bytes[31] = 1;
        assert_int_equal(format_change(change), kind == TREE_FILE ? 0 : -EINVAL);
        change = plain;
        change.size_bytes = 1;
        assert_int_equal(format_change(change), kind == TREE_FILE ? 0 : -EINVAL);
        change = plain;
        change.target = TEXT("x");
        assert_int_equal(format_change(change), kind == TREE_SYMLINK ? 0 : -EINVAL);
        change = plain;
        change.mtime_ns = 1;
        assert_int_equal(format_change(change), 0);
        change = plain;
        change.mode = 1;
        assert_change(change, kind == TREE_DELETE ? -EINVAL : 0);
        change = plain;
        const struct tree_attribute attribute = {TEXT("n"), TEXT("")};
        change.attributes = &attribute;
        change.attributes_count = 1;
        assert_change(change, kind == TREE_DELETE ? -EINVAL : 0);
    }
}

static void paths_are_checked(void **state)
{
    (void)state;
    const struct {
        struct bytes path;
        int err;
    } cases[] = {
        {TEXT("a"), 0},          {TEXT("a/b"), 0},
        {TEXT(""), -EINVAL},     {TEXT("/"), -EINVAL},
        {TEXT("/a"), -EINVAL},   {TEXT("a/"), -EINVAL},
        {TEXT("a//b"), -EINVAL}, {TEXT("a/../b"), -EINVAL},
        {TEXT("a\0"), -EINVAL},  {TEXT("\xc0\xaf"), -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct tree_change change = directory_change();
        change.path = cases[i].path;
        assert_change(change, cases[i].err);
    }

    CLEANUP_BUF struct buf path = BUF_INIT;
    while (path.size < PATH_BYTES_MAX - 2) {
        buf_add_string(&path, "a/");
    }
    buf_add_string(&path, "bb");
    struct tree_change change = directory_change();
    change.path = buf_bytes(&path);
    assert_change(change, 0);
    buf_add_byte(&path, 'b');
    change.path = buf_bytes(&path);
    assert_change(change, -EINVAL);
}

static void targets_within_their_limit(void **state)
{
    (void)state;
    uint8_t target[TREE_TARGET_BYTES_MAX + 1];
    memset(target, 0xff, sizeof target); /* any bytes but NUL */
    struct tree_change change = {.kind = TREE_SYMLINK, .path = TEXT("l"), .mode = 0777};
    change.target = BYTES(target, 0);
    assert_change(change, -EINVAL);
    change.target = BYTES(target, 1);
    assert_change(change, 0);
    change.target = BYTES(target, TREE_TARGET_BYTES_MAX);
    assert_change(change, 0);
    change.target = BYTES(target, TREE_TARGET_BYTES_MAX + 1);
    assert_change(change, -EFBIG);
    target[TREE_TARGET_BYTES_MAX - 1] = 0;
    change.target = BYTES(target, TREE_TARGET_BYTES_MAX);
    assert_change(change, -EINVAL);
    change.target = TEXT("\0");
    assert_change(change, -EINVAL);
}

static void attribute_names_ascend(void **state)
{
    (void)state;
    const struct {
        struct bytes first, second;
        int err;
    } cases[] = {
        {TEXT("a"), TEXT("b"), 0},          {TEXT("a"), TEXT("aa"), 0},
        {TEXT("\x7f"), TEXT("\x80"), 0},    {TEXT("a"), TEXT("a"), -EINVAL},
        {TEXT("b"), TEXT("a"), -EINVAL},    {TEXT("aa"), TEXT("a"), -EINVAL},
        {TEXT("\x80"), TEXT("a"), -EINVAL}, {TEXT(""), TEXT("a"), -EINVAL},
        {TEXT("a"), TEXT("b\0c"), -EINVAL}, {TEXT("a"), TEXT("b\0"), -EINVAL},
        {TEXT("\0"), TEXT("a"), -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct tree_attribute attributes[] = {{cases[i].first, TEXT("x")},
                                                    {cases[i].second, TEXT("x")}};
        struct tree_change change = directory_change();
        change.attributes = attributes;
        change.attributes_count = ARRAY_SIZE(attributes);
        assert_change(change, cases[i].err);
    }
}

static void attributes_within_their_limits(void **state)
{
    (void)state;
    uint8_t names[TREE_ATTRIBUTES_MAX + 1];
    struct tree_attribute attributes[TREE_ATTRIBUTES_MAX + 1];
    for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
        names[i] = (uint8_t)(i + 1);
        attributes[i] = (struct tree_attribute){.name = BYTES(&names[i], 1)};
    }
    struct tree_change change = directory_change();
    change.attributes = attributes;
    change.attributes_count = TREE_ATTRIBUTES_MAX;
    assert_change(change, 0);
    change.attributes_count = TREE_ATTRIBUTES_MAX + 1;
    assert_change(change, -EFBIG);

    CLEANUP_FREE uint8_t *bytes = mem_alloc(UINT16_MAX);
    memset(bytes, 'n', UINT16_MAX);
    change.attributes_count = 1;
    attributes[0].name = BYTES(bytes, TREE_ATTRIBUTE_NAME_BYTES_MAX);
    assert_change(change, 0);
    attributes[0].name = BYTES(bytes, TREE_ATTRIBUTE_NAME_BYTES_MAX + 1);
    assert_change(change, -EFBIG);

    attributes[0].name = BYTES(names, 1);
    attributes[0].value = BYTES(bytes, TREE_ATTRIBUTE_BYTES_MAX - 1);
    assert_change(change, 0);
    attributes[0].value = BYTES(bytes, TREE_ATTRIBUTE_BYTES_MAX);
    assert_change(change, -EFBIG);
    attributes[0].value = BYTES(bytes, UINT16_MAX);
    assert_change(change, -EFBIG);
    attributes[0].value = BYTES(bytes, SIZE_MAX);
    assert_int_equal(format_change(change), -EFBIG);

    /* Names and values of all together: the last one fits, then it does not. */
    change.attributes_count = 2;
    attributes[0].value = BYTES(bytes, TREE_ATTRIBUTE_BYTES_MAX - 4);
    attributes[1].value = BYTES(bytes, 2);
    assert_change(change, 0);
    attributes[1].value = BYTES(bytes, 3);
    assert_change(change, -EFBIG);
    attributes[0].value = BYTES(bytes, TREE_ATTRIBUTE_BYTES_MAX - 1);
    attributes[1].value = BYTES(bytes, 0);
    assert_change(change, -EFBIG);
}

static void context_within_its_limit(void **state)
{
    (void)state;
    CLEANUP_FREE struct dot *dots = mem_alloc_array(TREE_OP_CONTEXT_MAX + 1, sizeof *dots);
    for (size_t i = 0; i <= TREE_OP_CONTEXT_MAX; i++) {
        dots[i] = dot_of((uint16_t)(i % 2), i + 1);
    }
    struct tree_change change = directory_change();
    change.context = dots;
    change.context_count = TREE_OP_CONTEXT_MAX;
    assert_change(change, 0);
    change.context_count = TREE_OP_CONTEXT_MAX + 1;
    assert_change(change, -EFBIG);
}

static void origins_within_their_limit(void **state)
{
    (void)state;
    _Static_assert((TREE_OP_ORIGINS_MAX + 1) % TREE_OP_CONTEXT_MAX == 0, "the last change is full");
    enum { CHANGES = (TREE_OP_ORIGINS_MAX + 1) / TREE_OP_CONTEXT_MAX };
    CLEANUP_FREE struct dot *dots = mem_alloc_array(TREE_OP_ORIGINS_MAX + 1, sizeof *dots);
    for (size_t i = 0; i <= TREE_OP_ORIGINS_MAX; i++) {
        /* Neither up nor down: 7 and the count have no common divisor. */
        dots[i] = dot_of((uint16_t)(i * 7 % (TREE_OP_ORIGINS_MAX + 1)), i + 1);
    }
    struct tree_change changes[CHANGES + 1];
    for (size_t i = 0; i < CHANGES; i++) {
        changes[i] = directory_change();
        changes[i].context = &dots[i * TREE_OP_CONTEXT_MAX];
        changes[i].context_count = TREE_OP_CONTEXT_MAX;
    }
    changes[CHANGES - 1].context_count--;
    changes[CHANGES] = changes[CHANGES / 2]; /* the same once more */
    struct tree_op op = op_of(changes, CHANGES + 1);
    assert_round_trip(&op);
    changes[CHANGES - 1].context_count++;
    assert_int_equal(format(&op), -EFBIG);
}

/* Whatever the ids have in common: the lower parts, the upper parts, one word, or nothing. */
static void origins_of_any_kind_are_told_apart(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static const size_t places[] = {0, 6, 8, 14};
    CLEANUP_FREE struct dot *dots = mem_alloc_array(COUNT, sizeof *dots);
    for (size_t kind = 0; kind <= ARRAY_SIZE(places); kind++) {
        struct tree_change changes[COUNT / 1000];
        for (size_t i = 0; i < COUNT; i++) {
            const uint16_t number = (uint16_t)(i + 1);
            dots[i] = (struct dot){.seq = i + 1};
            for (size_t j = 0; j < ARRAY_SIZE(places); j++) {
                if (j == kind || kind == ARRAY_SIZE(places)) {
                    memcpy(dots[i].origin.bytes + places[j], &number, sizeof number);
                }
            }
        }
        for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
            changes[i] = directory_change();
            changes[i].context = &dots[i * 1000];
            changes[i].context_count = 1000;
        }
        const struct tree_op op = op_of(changes, ARRAY_SIZE(changes));
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        struct tree_op_parsed parsed;
        assert_int_equal(tree_op_format(&op, &bytes), 0);
        assert_int_equal(tree_op_parse(buf_bytes(&bytes), &parsed), 0);
        for (size_t i = 0; i < COUNT; i++) {
            const struct dot *dot = &parsed.op.changes[i / 1000].context[i % 1000];
            assert_true(origin_id_equal(&dot->origin, &dots[i].origin));
            assert_int_equal(dot->seq, i + 1);
        }
        /* The last in the table a second time. */
        uint8_t *last = bytes.data + AT_ORIGINS + (COUNT - 1) * sizeof(struct origin_id);
        memcpy(last, bytes.data + AT_ORIGINS, sizeof(struct origin_id));
        assert_int_equal(parse(buf_bytes(&bytes)), -EPROTO);
        tree_op_parsed_done(&parsed);
    }
}

static void changes_within_their_limit(void **state)
{
    (void)state;
    CLEANUP_FREE struct tree_change *changes =
        mem_alloc_array(TREE_OP_CHANGES_MAX + 1, sizeof *changes);
    CLEANUP_FREE struct dot *dots = mem_alloc_array(TREE_OP_CHANGES_MAX + 1, sizeof *dots);
    const struct tree_attribute attribute = {TEXT("n"), TEXT("v")};
    for (size_t i = 0; i <= TREE_OP_CHANGES_MAX; i++) {
        dots[i] = dot_of((uint16_t)(i % TREE_OP_ORIGINS_MAX), i + 1);
        changes[i] = directory_change();
        changes[i].context = &dots[i];
        changes[i].context_count = 1;
        changes[i].attributes = &attribute;
        changes[i].attributes_count = i % 2;
    }
    struct tree_op op = op_of(changes, TREE_OP_CHANGES_MAX);
    assert_round_trip(&op);
    op.changes_count++;
    assert_op(&op, -EFBIG);
}

/* Fills an op up to the limit with attributes, and its last value to the very byte. */
static void bytes_within_their_limit(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *value = mem_alloc(TREE_ATTRIBUTE_BYTES_MAX);
    const struct tree_attribute full = {TEXT("n"), BYTES(value, TREE_ATTRIBUTE_BYTES_MAX - 1)};
    struct tree_attribute last = {TEXT("n"), BYTES(value, 0)};

    const size_t changes_max = TREE_OP_BYTES_MAX / TREE_ATTRIBUTE_BYTES_MAX;
    CLEANUP_FREE struct tree_change *changes = mem_alloc_array(changes_max, sizeof *changes);
    for (size_t i = 0; i < changes_max; i++) {
        changes[i] = directory_change();
        changes[i].attributes = &full;
        changes[i].attributes_count = 1;
    }
    const size_t head_bytes = AT_ORIGINS + 4;
    const size_t change_bytes = 20 + 4 + TREE_ATTRIBUTE_BYTES_MAX;
    const size_t count = (TREE_OP_BYTES_MAX - head_bytes) / change_bytes + 1;
    assert_in_range(count, 2, changes_max);
    changes[count - 1].attributes = &last;
    last.value.size = TREE_OP_BYTES_MAX - head_bytes - (count - 1) * change_bytes - 20 - 4 - 1;
    assert_in_range(last.value.size, 1, TREE_ATTRIBUTE_BYTES_MAX - 2);

    const struct tree_op op = op_of(changes, count);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    assert_int_equal(tree_op_format(&op, &bytes), 0);
    assert_int_equal(bytes.size, TREE_OP_BYTES_MAX);
    assert_op(&op, 0);
    last.value.size++;
    assert_op(&op, -EFBIG);
}

static void put_le(uint8_t *at, uint64_t number, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        at[i] = (uint8_t)(number >> 8 * i);
    }
}

/* Counts that the bytes cannot hold, and such that nobody may have. */
static void counts_are_checked_before_they_are_believed(void **state)
{
    (void)state;
    const struct tree_change change = directory_change();
    const struct tree_op op = op_of(&change, 1);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    write_op(&op, &bytes);
    const struct {
        size_t at, size;
        uint64_t limit;
        uint64_t all;
    } counts[] = {
        {AT_ORIGINS_COUNT, 2, TREE_OP_ORIGINS_MAX, UINT16_MAX},
        {AT_ORIGINS, 4, TREE_OP_CHANGES_MAX, UINT32_MAX},
        {bytes.size - 4, 2, TREE_ATTRIBUTES_MAX, UINT16_MAX},
        {bytes.size - 2, 2, TREE_OP_CONTEXT_MAX, UINT16_MAX},
    };
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        uint8_t before[4];
        memcpy(before, bytes.data + counts[i].at, counts[i].size);
        put_le(bytes.data + counts[i].at, counts[i].limit, counts[i].size);
        assert_int_equal(parse(buf_bytes(&bytes)), -EPROTO);
        put_le(bytes.data + counts[i].at, counts[i].all, counts[i].size);
        if (counts[i].limit < counts[i].all) {
            assert_int_equal(parse(buf_bytes(&bytes)), -EFBIG);
            put_le(bytes.data + counts[i].at, counts[i].limit + 1, counts[i].size);
            assert_int_equal(parse(buf_bytes(&bytes)), -EFBIG);
        }
        memcpy(bytes.data + counts[i].at, before, counts[i].size);
    }
    assert_int_equal(parse(buf_bytes(&bytes)), 0);
}

/* Table and indices as the test says, in an op of one change. */
static int parse_origins(const uint16_t *table, size_t table_count, const uint16_t *indices,
                         size_t indices_count)
{
    const struct tree_change change = directory_change();
    const struct tree_op op = op_of(&change, 1);
    CLEANUP_BUF struct buf plain = BUF_INIT;
    write_op(&op, &plain);

    CLEANUP_BUF struct buf bytes = BUF_INIT;
    buf_add(&bytes, BYTES(plain.data, AT_ORIGINS_COUNT));
    field_put_u16(&bytes, (uint16_t)table_count);
    for (size_t i = 0; i < table_count; i++) {
        const struct origin_id origin = origin_of(table[i]);
        buf_add(&bytes, BYTES(origin.bytes, sizeof origin.bytes));
    }
    buf_add(&bytes, BYTES(plain.data + AT_ORIGINS, plain.size - AT_ORIGINS - 2));
    field_put_u16(&bytes, (uint16_t)indices_count);
    for (size_t i = 0; i < indices_count; i++) {
        field_put_u16(&bytes, indices[i]);
        field_put_u64(&bytes, i + 1);
    }
    return parse(buf_bytes(&bytes));
}

#define LIST(...) ((const uint16_t[]){__VA_ARGS__}), ARRAY_SIZE(((const uint16_t[]){__VA_ARGS__}))

static void origins_stand_in_order_of_first_use(void **state)
{
    (void)state;
    assert_int_equal(parse_origins(NULL, 0, NULL, 0), 0);
    assert_int_equal(parse_origins(LIST(5), LIST(0)), 0);
    assert_int_equal(parse_origins(LIST(5, 4), LIST(0, 1)), 0);
    assert_int_equal(parse_origins(LIST(4, 5), LIST(0, 0, 1, 0, 1)), 0);
    assert_int_equal(parse_origins(LIST(4, 6, 5), LIST(0, 1, 2)), 0);

    assert_int_equal(parse_origins(LIST(5), NULL, 0), -EPROTO);       /* not used */
    assert_int_equal(parse_origins(LIST(5, 4), LIST(0, 0)), -EPROTO); /* one not used */
    assert_int_equal(parse_origins(LIST(5, 4), LIST(1, 0)), -EPROTO); /* out of order */
    assert_int_equal(parse_origins(LIST(5, 4, 3), LIST(0, 2, 1)), -EPROTO);
    assert_int_equal(parse_origins(NULL, 0, LIST(0)), -EPROTO); /* not there */
    assert_int_equal(parse_origins(LIST(5), LIST(0, 1)), -EPROTO);
    assert_int_equal(parse_origins(LIST(5), LIST(0, UINT16_MAX)), -EPROTO);
    assert_int_equal(parse_origins(LIST(5, 5), LIST(0, 1)), -EPROTO); /* twice */
    assert_int_equal(parse_origins(LIST(5, 4, 5), LIST(0, 1, 2)), -EPROTO);
    assert_int_equal(parse_origins(LIST(3, 4, 5, 4), LIST(0, 1, 2, 3)), -EPROTO);
}

static void bytes_cut_short_are_refused(void **state)
{
    (void)state;
    struct sample sample;
    sample_init(&sample);
    sample.op.event = TREE_EVENT_RENAME;
    sample.op.event_path = TEXT("new");
    sample.op.event_source = TEXT("old");
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    write_op(&sample.op, &bytes);
    assert_int_equal(parse(buf_bytes(&bytes)), 0);
    for (size_t size = 0; size < bytes.size; size++) {
        assert_int_equal(parse(BYTES(bytes.data, size)), -EPROTO);
    }
    buf_add_byte(&bytes, 0);
    assert_int_equal(parse(buf_bytes(&bytes)), -EPROTO);
}

/* How many values the byte at `place` may have; parse() compares what was taken. */
static size_t taken_values(struct buf *bytes, size_t place)
{
    const uint8_t before = bytes->data[place];
    size_t taken_count = 0;
    for (unsigned value = 0; value < 256; value++) {
        bytes->data[place] = (uint8_t)value;
        taken_count += parse(buf_bytes(bytes)) == 0;
    }
    bytes->data[place] = before;
    return taken_count;
}

static void any_other_byte_is_refused_or_kept(void **state)
{
    (void)state;
    struct sample sample;
    sample_init(&sample);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    write_op(&sample.op, &bytes);
    size_t open_count = 0;
    size_t fixed_count = 0;
    for (size_t place = 0; place < bytes.size; place++) {
        const size_t taken_count = taken_values(&bytes, place);
        assert_in_range(taken_count, 1, 256); /* its own at least */
        open_count += taken_count == 256;
        fixed_count += taken_count == 1;
    }
    /* Any value will do in origin, previous and lamport, in times and in a file's id and size. */
    assert_in_range(open_count, 16 + 32 + 8 + 4 * 8 + 40, bytes.size / 4 * 3);
    /* Version, event, counts, indices, the upper bytes of modes, lengths. */
    assert_in_range(fixed_count, 2 + 4 + 2 + 4 + 4 * (2 + 2 + 2), bytes.size / 2);
    assert_int_equal(taken_values(&bytes, AT_VERSION), 1);
    assert_int_equal(taken_values(&bytes, AT_EVENT), 1);
    assert_int_equal(taken_values(&bytes, AT_ORIGINS_COUNT), 1);
}

/* Random ops: what makes up one is picked from pools that outlive it. */

struct maker {
    struct random random;
    struct tree_change changes[8];
    struct tree_attribute attributes[8][6];
    struct dot dots[8][6];
    uint8_t noise[64];
};

static struct bytes random_path(struct random *random)
{
    const struct bytes paths[] = {
        TEXT("a"),   TEXT("a/b"),  TEXT("a/b/c"), TEXT("\xc3\xa4/\xe2\x82\xac"),
        TEXT("..."), TEXT(" /\n"),
    };
    return paths[random_below(random, ARRAY_SIZE(paths))];
}

/* Often 0 or all ones in some of its bytes. */
static uint64_t random_number(struct random *random)
{
    return random_u64(random) >> random_below(random, 64);
}

static void make_attributes(struct maker *maker, size_t number, struct tree_change *change)
{
    static const char *const names[] = {"a", "aa", "b", "user.x", "\xff", "\xff\x01"};
    struct tree_attribute *attributes = maker->attributes[number];
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (random_below(&maker->random, 3) == 0) {
            attributes[count++] = (struct tree_attribute){
                .name = bytes_of_string(names[i]),
                .value = BYTES(maker->noise, random_below(&maker->random, sizeof maker->noise)),
            };
        }
    }
    change->attributes = attributes;
    change->attributes_count = count;
}

static void make_change(struct maker *maker, size_t number)
{
    struct random *random = &maker->random;
    struct tree_change *change = &maker->changes[number];
    *change = (struct tree_change){
        .kind = (enum tree_kind)(TREE_FILE + random_below(random, 4)),
        .path = random_path(random),
        .mtime_ns = (int64_t)random_u64(random),
        .context = maker->dots[number],
        .context_count = random_below(random, 7),
    };
    if (change->kind != TREE_DELETE) {
        change->mode = (uint32_t)random_below(random, 010000);
        make_attributes(maker, number, change);
    }
    if (change->kind == TREE_FILE) {
        random_fill(random, &change->file_id, sizeof change->file_id);
        change->size_bytes = random_number(random);
    }
    if (change->kind == TREE_SYMLINK) {
        change->target = BYTES(maker->noise, 1 + random_below(random, sizeof maker->noise));
    }
    for (size_t i = 0; i < change->context_count; i++) {
        maker->dots[number][i] =
            dot_of((uint16_t)random_below(random, 12), random_number(random) | 1);
    }
}

static struct tree_op make_op(struct maker *maker)
{
    struct random *random = &maker->random;
    do {
        random_fill(random, maker->noise, sizeof maker->noise);
    } while (memchr(maker->noise, 0, sizeof maker->noise));
    struct tree_op op = {
        .seq = random_number(random) | 1,
        .lamport = random_number(random),
        .event = (enum tree_event)(TREE_EVENT_CHANGES + random_below(random, 3)),
        .changes = maker->changes,
        .changes_count = 1 + random_below(random, ARRAY_SIZE(maker->changes)),
    };
    random_fill(random, &op.origin, sizeof op.origin);
    random_fill(random, &op.previous, sizeof op.previous);
    if (op.event != TREE_EVENT_CHANGES) {
        op.event_path = random_path(random);
    }
    if (op.event == TREE_EVENT_RENAME) {
        op.event_source = random_path(random);
    }
    for (size_t i = 0; i < op.changes_count; i++) {
        make_change(maker, i);
    }
    return op;
}

static void random_ops_survive(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct maker maker;
        random_init(&maker.random, seed);
        const struct tree_op op = make_op(&maker);
        if (format(&op) != 0) {
            fail_msg("seed %llu", (unsigned long long)seed);
        }
        assert_round_trip(&op);
    }
}

/* A few bytes changed, cut out or doubled: parse() finds what is taken and is not canonical. */
static void random_damage_is_refused_or_kept(void **state)
{
    (void)state;
    size_t taken_count = 0;
    const uint64_t rounds = 20000;
    for (uint64_t seed = 1; seed <= rounds; seed++) {
        struct maker maker;
        random_init(&maker.random, seed);
        const struct tree_op op = make_op(&maker);
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        write_op(&op, &bytes);
        for (uint64_t left = 1 + random_below(&maker.random, 3); left > 0; left--) {
            const size_t place = random_below(&maker.random, bytes.size);
            bytes.data[place] = (uint8_t)random_number(&maker.random);
        }
        const size_t from = random_below(&maker.random, bytes.size);
        switch (random_below(&maker.random, 4)) {
        case 0:
            memmove(bytes.data + from, bytes.data + from + 1, bytes.size - from - 1);
            bytes.size--;
            break;
        case 1: {
            const size_t size = bytes.size - from;
            CLEANUP_FREE uint8_t *tail = mem_copy(bytes.data + from, size);
            buf_add(&bytes, BYTES(tail, size));
            break;
        }
        default:
            break;
        }
        taken_count += parse(buf_bytes(&bytes)) == 0;
    }
    assert_in_range(taken_count, rounds / 100, rounds / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_op_is_laid_out_as_documented),
        cmocka_unit_test(the_sample_survives),
        cmocka_unit_test(parsed_strings_are_borrowed_from_the_bytes),
        cmocka_unit_test(the_beginning_is_told_without_the_rest),
        cmocka_unit_test(numbers_at_their_ends),
        cmocka_unit_test(versions_are_told_apart),
        cmocka_unit_test(events_have_their_paths),
        cmocka_unit_test(kinds_are_the_known_ones),
        cmocka_unit_test(kinds_have_their_fields_only),
        cmocka_unit_test(paths_are_checked),
        cmocka_unit_test(targets_within_their_limit),
        cmocka_unit_test(attribute_names_ascend),
        cmocka_unit_test(attributes_within_their_limits),
        cmocka_unit_test(context_within_its_limit),
        cmocka_unit_test(origins_within_their_limit),
        cmocka_unit_test(origins_of_any_kind_are_told_apart),
        cmocka_unit_test(changes_within_their_limit),
        cmocka_unit_test(bytes_within_their_limit),
        cmocka_unit_test(counts_are_checked_before_they_are_believed),
        cmocka_unit_test(origins_stand_in_order_of_first_use),
        cmocka_unit_test(bytes_cut_short_are_refused),
        cmocka_unit_test(any_other_byte_is_refused_or_kept),
        cmocka_unit_test(random_ops_survive),
        cmocka_unit_test(random_damage_is_refused_or_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
