/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_TREE_REPLICAS_H
#define TESTS_UNIT_TREE_REPLICAS_H

/*
 * What the tests of replication share: handing ops from one tree to another, forging them, and
 * comparing trees.
 */

#include "helpers.h"

#include "tree/remote.h"
#include "tree/vector.h"

/* Two trees. */
struct pair {
    struct fixture *a;
    struct fixture *b;
};

static inline int setup_pair(void **state)
{
    struct pair *pair = mem_alloc(sizeof *pair);
    pair->a = fixture_new(false, 'A');
    pair->b = fixture_new(false, 'B');
    *state = pair;
    return 0;
}

static inline int teardown_pair(void **state)
{
    struct pair *pair = *state;
    fixture_free(pair->a);
    fixture_free(pair->b);
    free(pair);
    return 0;
}

static inline struct tree_remote apply_bytes(struct fixture *to, struct bytes op)
{
    struct tree_remote remote = {0};
    assert_int_equal(tree_apply(to->tree, to->txn, op, &remote), 0);
    return remote;
}

/* The bytes of an op that `from` has. */
static inline void read_op(struct fixture *from, const struct dot *dot, struct buf *ret_bytes)
{
    assert_int_equal(tree_op_read(from->tree, from->txn, dot, ret_bytes), 0);
}

static inline enum tree_verdict deliver(struct fixture *from, struct dot dot, struct fixture *to)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    read_op(from, &dot, &bytes);
    const struct tree_remote remote = apply_bytes(to, buf_bytes(&bytes));
    assert_true(origin_id_equal(&remote.dot.origin, &dot.origin));
    assert_int_equal(remote.dot.seq, dot.seq);
    return remote.verdict;
}

static inline struct tree_summary summary_of(struct fixture *fixture)
{
    struct tree_summary summary;
    assert_int_equal(tree_summary(fixture->tree, fixture->txn, &summary), 0);
    return summary;
}

static inline struct vector_entry vector_of(struct fixture *fixture, const struct origin_id *origin)
{
    struct vector_entry entry;
    assert_int_equal(tree_vector_get(fixture->tree, fixture->txn, origin, &entry), 0);
    return entry;
}

/* What `to` lacks of the logs of `from`; the caller frees *ret_lacks. */
static inline size_t lacks_of(struct fixture *from, struct fixture *to,
                              struct tree_lack **ret_lacks)
{
    struct vector_entry entry;
    struct tree_lack *lacks = NULL;
    size_t count = 0;
    int err = tree_vector_next(from->tree, from->txn, NULL, &entry);
    for (; !err; err = tree_vector_next(from->tree, from->txn, &entry.origin, &entry)) {
        const struct vector_entry has = vector_of(to, &entry.origin);
        if (has.seq < entry.seq) {
            lacks = mem_resize_array(lacks, count + 1, sizeof *lacks);
            lacks[count++] = (struct tree_lack){entry.origin, has.seq, entry.seq};
        }
    }
    assert_int_equal(err, -ENOENT);
    *ret_lacks = lacks;
    return count;
}

/* Everything that `from` has; each op is in turn when it comes. Gives how many there were. */
static inline size_t pull_all(struct fixture *from, struct fixture *to)
{
    struct tree_lack *lacks = NULL;
    const size_t count = lacks_of(from, to, &lacks);
    CLEANUP(tree_pull_close) struct tree_pull *pull = NULL;
    assert_int_equal(tree_pull_open(from->tree, from->txn, lacks, count, &pull), 0);
    free(lacks);
    struct tree_batch *batch = NULL;
    assert_int_equal(tree_apply_begin(to->tree, to->txn, &batch), 0);
    struct dot dot;
    struct bytes op;
    size_t applied = 0;
    int err;
    while ((err = tree_pull_next(pull, &dot, &op)) == 0) {
        struct tree_remote remote;
        assert_int_equal(tree_apply_next(batch, op, &remote), 0);
        assert_int_equal(remote.verdict, TREE_APPLIED);
        applied++;
    }
    assert_int_equal(err, -ENOENT);
    assert_int_equal(tree_apply_end(batch), 0);
    return applied;
}

static inline void exchange(struct fixture *a, struct fixture *b)
{
    (void)pull_all(a, b);
    (void)pull_all(b, a);
}

/* "A3 B1 ": how far each log was applied. */
static inline void list_vector(struct fixture *fixture, struct buf *ret_text)
{
    struct vector_entry entry;
    int err = tree_vector_next(fixture->tree, fixture->txn, NULL, &entry);
    for (; !err; err = tree_vector_next(fixture->tree, fixture->txn, &entry.origin, &entry)) {
        buf_add_format(ret_text, "%c%llu:%02x%02x ", entry.origin.bytes[0],
                       (unsigned long long)entry.seq, entry.hash.bytes[0], entry.hash.bytes[1]);
    }
    assert_int_equal(err, -ENOENT);
}

/* The heads of one path; those that are not shown stand in a row in the order in which they came.
 */
#define HEADS_LISTED_MAX 64
struct listed_heads {
    char texts[HEADS_LISTED_MAX][96];
    size_t count;
};

static inline int list_past(void *context, const struct tree_past *past)
{
    struct listed_heads *heads = context;
    if (past->is_head) {
        const struct tree_version *version = &past->version;
        assert_true(heads->count < HEADS_LISTED_MAX);
        snprintf(heads->texts[heads->count++], sizeof heads->texts[0], "%s%c%llu@%llu,%d,%c ",
                 past->is_shown ? "!" : "", version->dot.origin.bytes[0],
                 (unsigned long long)version->dot.seq, (unsigned long long)version->lamport,
                 (int)version->kind, version->kind == TREE_FILE ? version->file_id.bytes[0] : '-');
    }
    return 0;
}

static inline int compare_texts(const void *left, const void *right)
{
    return strcmp(left, right);
}

/* The tree with all heads of each path. */
static inline void list_heads(struct fixture *fixture, struct buf *ret_text)
{
    struct tree_walk *walk = NULL;
    assert_int_equal(
        tree_walk_open(fixture->tree, fixture->txn, BYTES(NULL, 0), BYTES(NULL, 0), &walk), 0);
    struct bytes path;
    struct tree_entry entry;
    int err;
    while ((err = tree_walk_next(walk, &path, &entry)) == 0) {
        struct listed_heads heads = {0};
        format_entry(ret_text, path, &entry);
        assert_int_equal(
            tree_log(fixture->tree, fixture->txn, path, entry.heads_count, list_past, &heads), 0);
        qsort(heads.texts, heads.count, sizeof heads.texts[0], compare_texts);
        for (size_t i = 0; i < heads.count; i++) {
            buf_add_string(ret_text, heads.texts[i]);
        }
    }
    assert_int_equal(err, -ENOENT);
    tree_walk_close(walk);
}

/* Same entries and heads, same fingerprint, same vector. */
static inline void assert_same(struct fixture *a, struct fixture *b)
{
    CLEANUP_BUF struct buf text_a = BUF_INIT;
    CLEANUP_BUF struct buf text_b = BUF_INIT;
    list_heads(a, &text_a);
    list_heads(b, &text_b);
    buf_add_string(&text_a, "; ");
    buf_add_string(&text_b, "; ");
    list_vector(a, &text_a);
    list_vector(b, &text_b);
    assert_string_equal(buf_string(&text_a), buf_string(&text_b));
    const struct tree_summary summary_a = summary_of(a);
    const struct tree_summary summary_b = summary_of(b);
    assert_memory_equal(summary_a.fingerprint, summary_b.fingerprint, TREE_FINGERPRINT_BYTES);
    assert_int_equal(summary_a.entries_count, summary_b.entries_count);
    assert_int_equal(summary_a.vector_sum, summary_b.vector_sum);
    assert_int_equal(summary_a.ops_count, summary_b.ops_count);
    assert_int_equal(summary_a.lamport, summary_b.lamport);
}

/* The single values about the vector are what its entries say. */
static inline void check_vector(struct fixture *fixture)
{
    const struct tree_summary summary = summary_of(fixture);
    uint64_t sum = 0;
    uint64_t ops_count = 0;
    struct vector_entry entry;
    int err = tree_vector_next(fixture->tree, fixture->txn, NULL, &entry);
    for (; !err; err = tree_vector_next(fixture->tree, fixture->txn, &entry.origin, &entry)) {
        assert_true(entry.seq > 0);
        for (int i = 0; i < 8; i++) {
            sum += (uint64_t)entry.hash.bytes[i] << (8 * i);
        }
        ops_count += entry.seq;
    }
    assert_int_equal(err, -ENOENT);
    assert_int_equal(summary.vector_sum, sum);
    assert_int_equal(summary.ops_count, ops_count);
    uint64_t sums[TREE_VECTOR_BUCKETS];
    assert_int_equal(tree_vector_sums(fixture->tree, fixture->txn, sums), 0);
    for (size_t i = 0; i < TREE_VECTOR_BUCKETS; i++) {
        sum -= sums[i];
    }
    assert_int_equal(sum, 0);
}

/* ---- forged ops ---- */

/* One change of one path, by `origin`, as the next op of a log that ends with `after` (zeroed: the
 * first). */
struct forged {
    struct tree_op op;
    struct tree_change change;
    struct dot context[4];
};

static inline void forge(struct forged *forged, char origin, const struct vector_entry *after,
                         const char *path, char content)
{
    memset(forged, 0, sizeof *forged);
    forged->op = (struct tree_op){
        .origin = origin_of(origin),
        .seq = 1,
        .lamport = 1,
        .event = TREE_EVENT_CHANGES,
        .changes_count = 1,
    };
    if (after) {
        forged->op.seq = after->seq + 1;
        forged->op.previous = after->hash;
    }
    forged->change = (struct tree_change){
        .kind = TREE_FILE,
        .path = bytes_of_string(path),
        .mode = 0644,
        .file_id = content_id(content),
        .size_bytes = 1,
    };
    forged->op.changes = &forged->change;
    forged->change.context = forged->context;
}

static inline struct tree_remote apply_forged(struct fixture *to, const struct forged *forged)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    assert_int_equal(tree_op_format(&forged->op, &bytes), 0);
    return apply_bytes(to, buf_bytes(&bytes));
}

#endif
