/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random trees that change, hand each other ops, forget them, take snapshots, keep these for a
 * while and merge them in steps beside all the rest, with crashes, and files that are lost in the
 * middle. At the end, when all know all, each is the pure merge of all ops ever made: the heads of
 * a path are the changes of it that stand in the context of no other. Before that, the tree of a
 * node that is not merging is the pure merge of what its vector covers. Only if a merge was given
 * up may it hold more, or lack what that replaces, until the vector covers what the snapshot knew.
 * And each rule of tree/snapshot.h, left out, is caught by some seed. ARTEL_TEST_SEED=<number>
 * repeats a run.
 */
#include "snapshots.h"

#include "base/random.h"
#include "tree/row_walk_priv.h"
#include "tree/rows_priv.h"

#define NODES 4
#define FILES 5
#define ACTIONS 250
#define SEEDS 150
/* Within so many seeds each omission is caught: ten times what the rarest needs now. */
#define OMISSION_SEEDS 1000
/* A vector that is not of the entries' transaction; beside enum tree_omission. */
#define OMIT_VIEW 0x100u

#define HEADS_MAX 64
#define TEXT_MAX 128

/* ---- all ops ever made ---- */

struct made {
    struct buf bytes;
    struct tree_op_parsed parsed;
};

/* Sequences of the logs of all nodes. */
struct vector {
    uint64_t seqs[NODES];
};

struct file {
    struct buf bytes;
    struct vector vector;
    struct vector needs; /* of the node that it is from */
};

struct node {
    struct fixture *fixture;
    struct host before; /* as of the begin of the transaction */
    struct kv_txn *old; /* what the tree was a while ago */
    struct file inbox;  /* the snapshot that is being merged */
    enum tree_merge_mode mode;
    struct tree_snapshot *snapshot;
    struct vector needs; /* when it has that, its tree is what its vector says */
};

struct model {
    struct random random;
    unsigned omits;
    struct node nodes[NODES];
    struct file files[FILES]; /* snapshots on their way */
    struct made *made;
    size_t made_count;
    uint64_t now_ms;
    unsigned content;
    size_t merged; /* snapshots */
    size_t exact;  /* comparisons of a tree with what its vector covers */
    bool has_failed;
};

static size_t below(struct model *model, size_t bound)
{
    return random_below(&model->random, bound);
}

/* Something that can't be without an omission. */
static void failed(struct model *model, const char *what, int number)
{
    if (model->omits == 0) {
        print_error("%s: %d\n", what, number);
    }
    model->has_failed = true;
}

/* Everybody commits. Write transactions are always begun in this order, as locks are taken. */
static void turn(struct model *model)
{
    for (size_t i = 0; i < NODES; i++) {
        if (model->nodes[i].fixture->txn) {
            commit(model->nodes[i].fixture);
        }
    }
    for (size_t i = 0; i < NODES; i++) {
        struct node *node = &model->nodes[i];
        begin(node->fixture);
        node->before = node->fixture->host;
    }
}

/* As after a power cut: what was not committed is gone. */
static void crash(struct node *node)
{
    kv_abort(STEAL_PTR(node->fixture->txn));
    node->before.now_ms = node->fixture->host.now_ms;
    node->fixture->host = node->before;
    tree_snapshot_close(STEAL_PTR(node->snapshot));
}

static void raise(struct vector *vector, const struct vector *to)
{
    for (size_t i = 0; i < NODES; i++) {
        vector->seqs[i] = to->seqs[i] > vector->seqs[i] ? to->seqs[i] : vector->seqs[i];
    }
}

static bool covers(const struct vector *vector, const struct vector *other)
{
    for (size_t i = 0; i < NODES; i++) {
        if (vector->seqs[i] < other->seqs[i]) {
            return false;
        }
    }
    return true;
}

static size_t node_of(const struct origin_id *origin)
{
    assert_true(origin->bytes[0] >= 'A' && origin->bytes[0] < 'A' + NODES);
    return origin->bytes[0] - (size_t)'A';
}

static struct vector vector_in(struct fixture *fixture, struct kv_txn *txn)
{
    struct vector vector = {0};
    struct vector_entry entry;
    int err = tree_vector_next(fixture->tree, txn, NULL, &entry);
    for (; !err; err = tree_vector_next(fixture->tree, txn, &entry.origin, &entry)) {
        vector.seqs[node_of(&entry.origin)] = entry.seq;
    }
    assert_int_equal(err, -ENOENT);
    return vector;
}

/* Keeps the op that was made last. */
static void keep_op(struct model *model, struct node *node)
{
    struct fixture *fixture = node->fixture;
    model->made = mem_resize_array(model->made, model->made_count + 1, sizeof *model->made);
    struct made *made = &model->made[model->made_count++];
    *made = (struct made){0};
    assert_int_equal(tree_op_read(fixture->tree, fixture->txn, &fixture->dot, &made->bytes), 0);
    assert_int_equal(tree_op_parse(buf_bytes(&made->bytes), &made->parsed), 0);
}

/* ---- what must be ---- */

static bool is_covered(const struct vector *vector, const struct tree_op *op)
{
    return op->seq <= vector->seqs[node_of(&op->origin)];
}

static bool is_replaced(const struct model *model, const struct vector *vector,
                        const struct dot *dot, struct bytes path)
{
    for (size_t i = 0; i < model->made_count; i++) {
        const struct tree_op *op = &model->made[i].parsed.op;
        if (!is_covered(vector, op)) {
            continue;
        }
        for (size_t j = 0; j < op->changes_count; j++) {
            const struct tree_change *change = &op->changes[j];
            for (size_t k = 0; k < change->context_count; k++) {
                if (change->context[k].seq == dot->seq && bytes_equal(change->path, path) &&
                    origin_id_equal(&change->context[k].origin, &dot->origin)) {
                    return true;
                }
            }
        }
    }
    return false;
}

struct lines {
    char text[512][TEXT_MAX];
    size_t count;
};

static void add_line(struct lines *lines, struct bytes path, const struct dot *dot,
                     enum tree_kind kind, const struct id *file, uint64_t lamport)
{
    assert_true(lines->count < ARRAY_SIZE(lines->text));
    snprintf(lines->text[lines->count++], TEXT_MAX, "%.*s %c%llu %d%c @%llu", (int)path.size,
             (const char *)path.data, dot->origin.bytes[0], (unsigned long long)dot->seq, (int)kind,
             kind == TREE_FILE ? file->bytes[0] : '-', (unsigned long long)lamport);
}

static int compare_lines(const void *left, const void *right)
{
    return strcmp(left, right);
}

static void sort_lines(struct lines *lines)
{
    qsort(lines->text, lines->count, sizeof lines->text[0], compare_lines);
}

/* The pure merge of the ops that the vector covers. */
static void list_oracle(const struct model *model, const struct vector *vector,
                        struct lines *ret_lines)
{
    for (size_t i = 0; i < model->made_count; i++) {
        const struct tree_op *op = &model->made[i].parsed.op;
        const struct dot dot = {op->origin, op->seq};
        for (size_t j = 0; j < op->changes_count; j++) {
            const struct tree_change *change = &op->changes[j];
            if (is_covered(vector, op) && change->kind != TREE_DELETE &&
                !is_replaced(model, vector, &dot, change->path)) {
                add_line(ret_lines, change->path, &dot, change->kind, &change->file_id,
                         op->lamport);
            }
        }
    }
    sort_lines(ret_lines);
}

/* All heads, and what is held for them. */
static void list_tree(struct fixture *fixture, struct lines *ret_lines, int64_t ret_holds[256])
{
    CLEANUP_ROW_WALK struct row_walk walk = {0};
    assert_int_equal(row_walk_begin(&walk, fixture->tree, fixture->txn, BYTES(NULL, 0)), 0);
    int err;
    while ((err = row_walk_next(&walk)) == 0) {
        struct head *shown[2];
        assert_int_equal(entry_shown(fixture->tree, fixture->txn, &walk.row, &shown[0], &shown[1]),
                         0);
        for (size_t i = 0; i < walk.row.heads_count; i++) {
            const struct tree_version *version = &walk.row.heads[i].version;
            add_line(ret_lines, buf_bytes(&walk.path), &version->dot, version->kind,
                     &version->file_id, version->lamport);
            ret_holds[version->kind == TREE_FILE ? version->file_id.bytes[0] : 0]++;
        }
    }
    assert_int_equal(err, -ENOENT);
    ret_holds[0] = 0;
    sort_lines(ret_lines);
}

static void compare_with(struct model *model, struct node *node, const struct vector *vector,
                         int64_t ret_holds[256])
{
    struct lines *lines = mem_alloc(sizeof *lines);
    struct lines *oracle = mem_alloc(sizeof *oracle);
    list_tree(node->fixture, lines, ret_holds);
    list_oracle(model, vector, oracle);
    if (lines->count != oracle->count ||
        memcmp(lines->text, oracle->text, lines->count * TEXT_MAX) != 0) {
        failed(model, "heads", (int)lines->count);
        for (size_t i = 0; model->omits == 0 && i < lines->count; i++) {
            print_error("  %s\n", lines->text[i]);
        }
        for (size_t i = 0; model->omits == 0 && i < oracle->count; i++) {
            print_error("= %s\n", oracle->text[i]);
        }
    }
    free(oracle);
    free(lines);
}

/* Equal vectors, equal trees. */
static void check_exact(struct model *model, struct node *node)
{
    const struct vector vector = vector_in(node->fixture, node->fixture->txn);
    if (!model->has_failed && !summary_of(node->fixture).is_merging &&
        covers(&vector, &node->needs)) {
        int64_t holds[256] = {0};
        compare_with(model, node, &vector, holds);
        model->exact++;
    }
}

/* ---- actions ---- */

static const char *const names[] = {"a", "b", "d", "d/a", "d/b", "d/e/a", "e", "e/a", "e/b"};

static const char *any_name(struct model *model)
{
    return names[below(model, ARRAY_SIZE(names))];
}

static int change_many(struct model *model, struct fixture *fixture)
{
    char content = (char)('a' + model->content++ % 26);
    if (below(model, 2) == 0) {
        const struct tree_put top = directory_put_of("e");
        const struct tree_put puts[] = {file_put("e/a", content), file_put("e/b", content)};
        return tree_change_replace_directory(fixture->tree, fixture->txn, &top, puts,
                                             1 + below(model, 2), &fixture->dot);
    }
    const struct tree_put puts[] = {file_put("a", content), file_put("b", content),
                                    file_put("d/b", content)};
    return tree_change_put_many(fixture->tree, fixture->txn, puts, 3, &fixture->dot);
}

static void change(struct model *model, struct node *node)
{
    struct fixture *fixture = node->fixture;
    int err = 0;
    switch (below(model, 8)) {
    case 0:
    case 1:
        err = delete_path(fixture, any_name(model), below(model, 2));
        break;
    case 2:
        err = rename_path(fixture, any_name(model), any_name(model));
        break;
    case 3:
        err = make_directory(fixture, any_name(model));
        break;
    case 4:
        err = change_many(model, fixture);
        break;
    default:
        err = put_file(fixture, any_name(model), (char)('a' + model->content++ % 26));
        break;
    }
    if (err == -EIO) {
        failed(model, "change", err);
    } else if (!err) {
        keep_op(model, node);
    }
}

/* Up to `limit` ops. Tells what ended it: -ENOENT, all was there; -ESTALE. */
static int pull(struct model *model, struct node *from, struct node *to, size_t limit)
{
    struct tree_lack *lacks = NULL;
    const size_t count = lacks_of(from->fixture, to->fixture, &lacks);
    struct tree_pull *pulled = NULL;
    assert_int_equal(tree_pull_open(from->fixture->tree, from->fixture->txn, lacks, count, &pulled),
                     0);
    free(lacks);
    int err = 0;
    while (!err && limit-- > 0) {
        struct dot dot;
        struct bytes op;
        err = tree_pull_next(pulled, &dot, &op);
        if (!err) {
            struct tree_remote remote = {0};
            err = tree_apply(to->fixture->tree, to->fixture->txn, op, &remote);
            if (err || remote.verdict == TREE_FORKED || remote.verdict == TREE_REFUSED) {
                failed(model, "pull", err ? err : (int)remote.verdict);
            }
            if (!err && remote.verdict != TREE_APPLIED) {
                err = -EAGAIN; /* held up, or early: it names what a merge brought there */
            }
        }
    }
    tree_pull_close(pulled);
    return err;
}

static void forget(struct model *model, struct node *node)
{
    bool more = false;
    const uint64_t before_ms = model->now_ms - below(model, 40);
    assert_int_equal(tree_expire(node->fixture->tree, node->fixture->txn, before_ms,
                                 1 + below(model, 30), &more),
                     0);
}

/* A snapshot of how a node is now or was a while ago. */
static bool take_snapshot(struct model *model, struct node *node, bool now, struct file *ret_file)
{
    struct tree *tree = node->fixture->tree;
    const bool is_old = !now && node->old;
    struct kv_txn *txn = is_old ? node->old : node->fixture->txn;
    tree->omitted_view = is_old && (model->omits & OMIT_VIEW) ? node->fixture->txn : NULL;
    CLEANUP_BUF struct buf file = BUF_INIT;
    struct tree_snapshot_info info;
    const int err = tree_snapshot_write(tree, txn, append, &file, &info);
    if (err && err != -EBUSY) {
        failed(model, "snapshot", err);
    }
    if (!err) {
        buf_clear(&ret_file->bytes);
        buf_add(&ret_file->bytes, buf_bytes(&file));
        ret_file->vector = vector_in(node->fixture, txn);
        ret_file->needs = node->needs;
    }
    if (is_old) {
        kv_abort(STEAL_PTR(node->old));
    }
    return !err;
}

static void look_back(struct model *model, struct node *node)
{
    if (!node->old) {
        turn(model);
        assert_int_equal(kv_read(node->fixture->kv, &node->old), 0);
    }
}

static void end_merge(struct node *node)
{
    tree_snapshot_close(STEAL_PTR(node->snapshot));
    buf_clear(&node->inbox.bytes);
}

/* Opens the file, and begins or goes on. */
static bool open_inbox(struct model *model, struct node *node)
{
    if (node->snapshot) {
        return true;
    }
    if (node->inbox.bytes.size == 0) {
        return false;
    }
    const struct tree_snapshot_source source = source_of(&node->inbox.bytes);
    struct tree_snapshot_info info;
    int err = tree_snapshot_check(&source, &info);
    if (!err) {
        err = tree_snapshot_open(&source, &node->snapshot);
    }
    if (!err) {
        const struct tree_merge_options options = options_of(&node->inbox.bytes, node->mode);
        err = begin_merge(node->fixture, node->snapshot, &options);
    }
    if (err == -EAGAIN && node->mode == TREE_MERGE_UNION) {
        tree_snapshot_close(STEAL_PTR(node->snapshot));
        node->mode = TREE_MERGE_NORMAL;
        return open_inbox(model, node);
    }
    if (err) {
        failed(model, "begin", err);
        end_merge(node);
        return false;
    }
    raise(&node->needs, &node->inbox.needs);
    return true;
}

static void step(struct model *model, struct node *node, size_t records_count)
{
    bool is_done = false;
    const int err = tree_merge_step(node->fixture->tree, node->fixture->txn, node->snapshot,
                                    records_count, &is_done);
    if (err == -EAGAIN && node->mode == TREE_MERGE_UNION) {
        tree_snapshot_close(STEAL_PTR(node->snapshot));
        node->mode = TREE_MERGE_NORMAL; /* what it has to know of our ops was forgotten */
        return;
    }
    if (err) {
        failed(model, "step", err);
    }
    if (err || is_done) {
        end_merge(node);
        model->merged++;
        check_exact(model, node);
    }
}

/* A file that is on its way comes in; the one that was being merged is lost then. */
static void receive(struct model *model, struct node *node)
{
    const struct file *file = &model->files[below(model, FILES)];
    if (file->bytes.size > 0) {
        if (node->inbox.bytes.size > 0) {
            raise(&node->needs, &node->inbox.vector);
        }
        end_merge(node);
        buf_add(&node->inbox.bytes, buf_bytes(&file->bytes));
        node->inbox.vector = file->vector;
        node->inbox.needs = file->needs;
        node->mode = below(model, 8) ? TREE_MERGE_NORMAL : TREE_MERGE_UNION;
        (void)open_inbox(model, node);
    }
}

static void act(struct model *model)
{
    struct node *node = &model->nodes[below(model, NODES)];
    struct node *other = &model->nodes[below(model, NODES)];
    model->now_ms++;
    for (size_t i = 0; i < NODES; i++) {
        model->nodes[i].fixture->host.now_ms = model->now_ms;
    }
    const size_t dice = below(model, 100);
    if (dice < 38) {
        change(model, node);
    } else if (dice < 58) {
        if (node != other) {
            (void)pull(model, other, node, 1 + below(model, 8));
        }
    } else if (dice < 63) {
        forget(model, node);
    } else if (dice < 67) {
        look_back(model, node);
    } else if (dice < 73) {
        (void)take_snapshot(model, node, below(model, 2), &model->files[below(model, FILES)]);
    } else if (dice < 94) {
        if (open_inbox(model, node)) {
            step(model, node, below(model, 5));
        } else {
            receive(model, node);
        }
    } else if (dice < 96) {
        receive(model, node);
    } else if (dice < 98) {
        if (open_inbox(model, node)) {
            step(model, node, below(model, 5));
        }
        /* Ops that this node has made would be lost: they were durable before they were kept. */
        if (node->inbox.bytes.size > 0) {
            crash(node);
        }
    }
    turn(model);
    if (dice >= 98) {
        check_exact(model, node);
    }
}

/* ---- the end ---- */

static void end_all_merges(struct model *model)
{
    for (size_t i = 0; i < NODES && !model->has_failed; i++) {
        while (!model->has_failed && open_inbox(model, &model->nodes[i])) {
            step(model, &model->nodes[i], 3);
        }
    }
}

/* Everybody learns of everything: by ops where they are kept, else by snapshots. */
static void exchange_all(struct model *model)
{
    end_all_merges(model);
    for (size_t i = 0; i < 3 * NODES * NODES && !model->has_failed; i++) {
        struct node *from = &model->nodes[i % NODES];
        struct node *to = &model->nodes[i / NODES % NODES];
        if (from != to && pull(model, from, to, SIZE_MAX) == -ESTALE) {
            to->mode = TREE_MERGE_NORMAL;
            (void)take_snapshot(model, from, true, &to->inbox);
            end_all_merges(model);
        }
    }
}

static void check_vector_of(struct model *model, struct fixture *fixture)
{
    uint64_t ops_count = 0;
    struct vector_entry entry;
    int err = tree_vector_next(fixture->tree, fixture->txn, NULL, &entry);
    for (; !err; err = tree_vector_next(fixture->tree, fixture->txn, &entry.origin, &entry)) {
        ops_count += entry.seq;
    }
    if (ops_count != model->made_count) {
        failed(model, "ops in the vector", (int)ops_count);
    }
    if (summary_of(fixture).ops_count != ops_count || summary_of(fixture).is_merging) {
        failed(model, "ops counted", (int)summary_of(fixture).ops_count);
    }
    uint64_t replaced = 0;
    assert_int_equal(kv_count(fixture->txn, TREE_REPLACED, &replaced), 0);
    if (replaced > 0) {
        failed(model, "replaced left", (int)replaced);
    }
}

/* The feed can be read to its end. */
static void check_feed(struct fixture *fixture)
{
    int err = 0;
    for (uint64_t after = summary_of(fixture).feed_first - 1; !err; after++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        struct tree_feed_item item = {0};
        err = tree_feed_next(fixture->tree, fixture->txn, after, &bytes, &item);
        tree_op_parsed_done(&item.parsed);
    }
    assert_int_equal(err, -ENOENT);
}

static void check_node(struct model *model, struct node *node)
{
    struct fixture *fixture = node->fixture;
    static const struct vector everything = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    int64_t holds[256] = {0};
    compare_with(model, node, &everything, holds);
    check_feed(fixture);
    if (model->has_failed) {
        return;
    }
    check_vector_of(model, fixture);
    check_sums(fixture);
    bool more = true;
    while (more) {
        assert_int_equal(tree_expire(fixture->tree, fixture->txn, UINT64_MAX, 1000, &more), 0);
    }
    assert_memory_equal(fixture->host.holds, holds, sizeof holds);
    const struct tree_summary first = summary_of(model->nodes[0].fixture);
    const struct tree_summary summary = summary_of(fixture);
    if (memcmp(first.fingerprint, summary.fingerprint, TREE_FINGERPRINT_BYTES) != 0 ||
        first.vector_sum != summary.vector_sum) {
        failed(model, "fingerprint", 0);
    }
}

static void model_done(struct model *model)
{
    for (size_t i = 0; i < NODES; i++) {
        struct node *node = &model->nodes[i];
        end_merge(node);
        buf_done(&node->inbox.bytes);
        kv_abort(STEAL_PTR(node->old));
        fixture_free(node->fixture);
    }
    for (size_t i = 0; i < FILES; i++) {
        buf_done(&model->files[i].bytes);
    }
    for (size_t i = 0; i < model->made_count; i++) {
        tree_op_parsed_done(&model->made[i].parsed);
        buf_done(&model->made[i].bytes);
    }
    free(model->made);
    free(model);
}

/* False: it was not as it must be. */
static bool run(uint64_t seed, unsigned omits, size_t *ret_merged, size_t *ret_exact)
{
    struct model *model = mem_alloc(sizeof *model);
    random_init(&model->random, seed);
    model->omits = omits;
    model->now_ms = 1000;
    for (size_t i = 0; i < NODES; i++) {
        struct node *node = &model->nodes[i];
        node->fixture = fixture_new(false, (char)('A' + i));
        node->fixture->tree->omits = omits & ~OMIT_VIEW;
    }
    turn(model);
    for (size_t i = 0; i < ACTIONS && !model->has_failed; i++) {
        act(model);
    }
    exchange_all(model);
    for (size_t i = 0; i < NODES && !model->has_failed; i++) {
        check_node(model, &model->nodes[i]);
    }
    const bool holds = !model->has_failed;
    *ret_merged += model->merged;
    *ret_exact += model->exact;
    model_done(model);
    return holds;
}

static uint64_t first_seed(void)
{
    const char *given = getenv("ARTEL_TEST_SEED");
    return given ? strtoull(given, NULL, 10) : 1;
}

static void test_all_come_to_the_pure_merge(void **state)
{
    (void)state;
    const bool is_given = getenv("ARTEL_TEST_SEED") != NULL;
    size_t merged = 0;
    size_t exact = 0;
    for (uint64_t seed = first_seed(); seed < first_seed() + (is_given ? 1 : SEEDS); seed++) {
        if (!run(seed, 0, &merged, &exact)) {
            print_error("ARTEL_TEST_SEED=%llu\n", (unsigned long long)seed);
            fail();
        }
    }
    assert_true(is_given || (merged > SEEDS && exact > SEEDS));
    print_message("%zu snapshots merged, %zu trees compared with their vectors\n", merged, exact);
}

/* What the tests above are worth: without the rule, they fail. */
static void assert_caught(unsigned omits)
{
    size_t merged = 0;
    size_t exact = 0;
    for (uint64_t seed = 1; seed <= OMISSION_SEEDS; seed++) {
        if (!run(seed, omits, &merged, &exact)) {
            print_message("without %#x: seed %llu\n", omits, (unsigned long long)seed);
            return;
        }
    }
    fail();
}

static void test_without_one_view(void **state)
{
    (void)state;
    assert_caught(OMIT_VIEW);
}

static void test_without_holding_up_ops(void **state)
{
    (void)state;
    assert_caught(OMIT_HELD_UP);
}

static void test_without_being_busy(void **state)
{
    (void)state;
    assert_caught(OMIT_NOT_BUSY);
}

static void test_without_leaving_out_what_is_gone(void **state)
{
    (void)state;
    assert_caught(OMIT_GONE);
}

static void test_without_removing_what_is_absent(void **state)
{
    (void)state;
    assert_caught(OMIT_ABSENT);
}

static void test_without_remembering_what_was_replaced(void **state)
{
    (void)state;
    assert_caught(OMIT_REPLACED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_come_to_the_pure_merge),
        cmocka_unit_test(test_without_one_view),
        cmocka_unit_test(test_without_holding_up_ops),
        cmocka_unit_test(test_without_being_busy),
        cmocka_unit_test(test_without_leaving_out_what_is_gone),
        cmocka_unit_test(test_without_removing_what_is_absent),
        cmocka_unit_test(test_without_remembering_what_was_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
