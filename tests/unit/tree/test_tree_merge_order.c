/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two do to the same at the same time: the outcome of each case that README.md tells, and that
 * trees which have the same ops are the same, whatever came first. ARTEL_TEST_SEED=<number> repeats
 * a run.
 */
#include "replicas.h"

#include "base/random.h"
#include "tree/rows_priv.h"

/* ---- named cases ---- */

/* Both get what the other has, and so does a third one that gets it in either order. */
static void assert_outcome(struct pair *pair, const char *expected)
{
    for (int turn = 0; turn < 2; turn++) {
        struct fixture *third = fixture_new(false, 'T');
        struct fixture *first = turn ? pair->b : pair->a;
        (void)pull_all(first, third);
        exchange(pair->a, pair->b);
        (void)pull_all(pair->a, third);
        assert_tree(third, expected);
        assert_same(pair->a, third);
        check_sums(third);
        fixture_free(third);
    }
    assert_same(pair->a, pair->b);
    assert_tree(pair->a, expected);
    check_sums(pair->a);
    check_sums(pair->b);
}

static void test_rename_of_a_directory_and_a_write_into_it(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(make_directory(pair->a, "d"), 0);
    assert_int_equal(put_file(pair->a, "d/f", '1'), 0);
    assert_int_equal(put_file(pair->a, "d/g", '1'), 0);
    exchange(pair->a, pair->b);
    assert_int_equal(rename_path(pair->a, "d", "e"), 0);
    assert_int_equal(put_file(pair->b, "d/f", '2'), 0);
    assert_int_equal(put_file(pair->b, "d/new", '3'), 0);
    /* What was written stays where it was written, and so does a directory around it. */
    assert_outcome(pair, "d(/) d/f=2 d/new=3 e/ e/f=1 e/g=1 ");
}

static void test_two_renames_of_one_directory(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(make_directory(pair->a, "d"), 0);
    assert_int_equal(put_file(pair->a, "d/f", '1'), 0);
    exchange(pair->a, pair->b);
    assert_int_equal(rename_path(pair->a, "d", "x"), 0);
    assert_int_equal(rename_path(pair->b, "d", "y"), 0);
    assert_outcome(pair, "x/ x/f=1 y/ y/f=1 ");
}

static void test_two_renames_to_one_name(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(put_file(pair->a, "f", '1'), 0);
    assert_int_equal(put_file(pair->a, "g", '2'), 0);
    exchange(pair->a, pair->b);
    assert_int_equal(rename_path(pair->a, "f", "h"), 0);
    assert_int_equal(rename_path(pair->b, "g", "h"), 0);
    assert_outcome(pair, "h=2*2 ");
}

static void test_deletion_of_a_directory_and_a_write_into_it(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(make_directory(pair->a, "d"), 0);
    assert_int_equal(put_file(pair->a, "d/f", '1'), 0);
    assert_int_equal(put_file(pair->a, "d/g", '1'), 0);
    assert_int_equal(put_file(pair->a, "d/s/h", '1'), 0);
    exchange(pair->a, pair->b);
    assert_int_equal(delete_path(pair->a, "d", true), 0);
    assert_int_equal(put_file(pair->b, "d/f", '2'), 0);
    assert_int_equal(put_file(pair->b, "d/s/new", '3'), 0);
    assert_outcome(pair, "d(/) d/f=2 d/s(/) d/s/new=3 ");
}

static void test_a_change_beats_a_deletion(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(put_file(pair->a, "f", '1'), 0);
    exchange(pair->a, pair->b);
    assert_int_equal(put_file(pair->a, "other", '1'), 0);
    assert_int_equal(delete_path(pair->a, "f", false), 0);
    assert_int_equal(put_file(pair->b, "f", '2'), 0);
    assert_outcome(pair, "f=2 other=1 ");
}

static void test_two_deletions(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(put_file(pair->a, "d/f", '1'), 0);
    exchange(pair->a, pair->b);
    assert_int_equal(delete_path(pair->a, "d/f", false), 0);
    assert_int_equal(delete_path(pair->b, "d", true), 0);
    assert_outcome(pair, "");
}

static void test_a_file_and_a_directory_of_one_name(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(put_file(pair->a, "n", '1'), 0);
    assert_int_equal(put_file(pair->b, "n/f", '2'), 0);
    assert_outcome(pair, "n(/) n/f=2 n~file=1 ");
    /* What the directory holds goes: the file is seen by its name again. */
    assert_int_equal(delete_path(pair->a, "n", true), 0);
    assert_outcome(pair, "n=1 ");
    /* One that was made is a head beside the file. */
    assert_int_equal(delete_path(pair->a, "n", false), 0);
    exchange(pair->a, pair->b);
    assert_int_equal(put_file(pair->a, "n", '3'), 0);
    assert_int_equal(make_directory(pair->b, "n"), 0);
    assert_outcome(pair, "n/*2 n~file=3*2 ");
}

static void test_both_make_the_same_name(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(put_file(pair->a, "f", '1'), 0);
    assert_int_equal(put_file(pair->b, "f", '2'), 0);
    /* The same clock: the greater origin is shown. */
    assert_outcome(pair, "f=2*2 ");
    /* Who changes it then has seen both. */
    assert_int_equal(put_file(pair->a, "f", '3'), 0);
    assert_outcome(pair, "f=3 ");
    /* The later clock is shown. */
    assert_int_equal(put_file(pair->a, "other", '1'), 0);
    assert_int_equal(put_file(pair->a, "f", '4'), 0);
    assert_int_equal(put_file(pair->b, "f", '5'), 0);
    assert_outcome(pair, "f=4*2 other=1 ");
}

static void test_both_make_the_same_directory(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(make_directory(pair->a, "d"), 0);
    assert_int_equal(put_file(pair->a, "d/f", '1'), 0);
    assert_int_equal(make_directory(pair->b, "d"), 0);
    assert_int_equal(put_file(pair->b, "d/g", '2'), 0);
    assert_outcome(pair, "d/*2 d/f=1 d/g=2 ");
    /* Directories that nobody made are no versions. */
    assert_int_equal(put_file(pair->a, "e/f", '1'), 0);
    assert_int_equal(put_file(pair->b, "e/g", '2'), 0);
    assert_outcome(pair, "d/*2 d/f=1 d/g=2 e(/) e/f=1 e/g=2 ");
}

static void test_replacement_of_a_directory_and_a_write_into_it(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(put_file(pair->a, "d/f", '1'), 0);
    assert_int_equal(put_file(pair->a, "d/g", '1'), 0);
    exchange(pair->a, pair->b);
    const struct tree_put top = directory_put_of("d");
    const struct tree_put puts[] = {file_put("d/f", '2')};
    assert_int_equal(
        tree_change_replace_directory(pair->a->tree, pair->a->txn, &top, puts, 1, &pair->a->dot),
        0);
    assert_int_equal(put_file(pair->b, "d/f", '3'), 0);
    assert_int_equal(put_file(pair->b, "d/new", '4'), 0);
    assert_outcome(pair, "d/ d/f=3*2 d/new=4 ");
}

static void test_names_are_bytes(void **state)
{
    struct pair *pair = *state;
    /* "é" in one code point and in two, and letters of two alphabets that look alike. */
    assert_int_equal(put_file(pair->a, "caf\xc3\xa9", '1'), 0);
    assert_int_equal(put_file(pair->b, "cafe\xcc\x81", '2'), 0);
    assert_int_equal(put_file(pair->a, "File", '1'), 0);
    assert_int_equal(put_file(pair->b, "file", '2'), 0);
    assert_int_equal(put_file(pair->a, "a", '1'), 0);
    assert_int_equal(put_file(pair->b, "\xd0\xb0", '2'), 0);
    assert_outcome(pair, "File=1 a=1 cafe\xcc\x81=2 caf\xc3\xa9=1 file=2 \xd0\xb0=2 ");
}

/* ---- any order ---- */

#define NODES 4
#define PATH_CHARS 64

struct world {
    struct random random;
    struct fixture *nodes[NODES];
    char next_origin;
    /* What came to pass, over all runs. */
    size_t changed;
    size_t applied;
    size_t early;
    size_t known;
    size_t conflicts;
};

static uint64_t below(struct world *world, uint64_t bound)
{
    return random_below(&world->random, bound);
}

static void random_path(struct world *world, char ret_path[PATH_CHARS])
{
    static const char *const names[] = {"a", "b", "a~file"};
    size_t size = 0;
    const uint64_t depth = 1 + below(world, 3);
    for (uint64_t i = 0; i < depth; i++) {
        size += (size_t)snprintf(ret_path + size, PATH_CHARS - size, "%s%s", i ? "/" : "",
                                 names[below(world, ARRAY_SIZE(names))]);
    }
}

static struct tree_put random_put(struct world *world, const char *path)
{
    const char content = "uvwxyz/>"[below(world, 8)];
    return content == '/'   ? directory_put_of(path)
           : content == '>' ? symlink_put(path, "target")
                            : file_put(path, content);
}

static int replace_directory(struct world *world, struct fixture *node, const char *top)
{
    struct tree_put puts[4];
    char paths[4][2 * PATH_CHARS];
    const uint64_t count = below(world, ARRAY_SIZE(puts) + 1);
    for (uint64_t i = 0; i < count; i++) {
        char path[PATH_CHARS];
        random_path(world, path);
        snprintf(paths[i], sizeof paths[i], "%s/%s", top, path);
        puts[i] = random_put(world, paths[i]);
    }
    const struct tree_put put = directory_put_of(top);
    return tree_change_replace_directory(node->tree, node->txn, &put, puts, count, &node->dot);
}

/* One change at one node, which may be refused. */
static void change(struct world *world)
{
    struct fixture *node = world->nodes[below(world, NODES)];
    char path[PATH_CHARS];
    char other[PATH_CHARS];
    random_path(world, path);
    random_path(world, other);
    node->host.now_ms += below(world, 3);
    int err = 0;
    switch (below(world, 8)) {
    case 0:
    case 1:
        err = delete_path(node, path, below(world, 2) == 0);
        break;
    case 2:
        err = rename_path(node, path, other);
        break;
    case 3:
        err = replace_directory(world, node, path);
        break;
    default:
        err = change_put(node, random_put(world, path));
        break;
    }
    world->changed += !err;
    check_sums(node);
    check_vector(node);
}

/* Part of what another one lacks, in the order of a pull. */
static void pull_some(struct world *world)
{
    struct fixture *from = world->nodes[below(world, NODES)];
    struct fixture *to = world->nodes[below(world, NODES)];
    struct tree_lack *lacks = NULL;
    const size_t count = lacks_of(from, to, &lacks);
    CLEANUP(tree_pull_close) struct tree_pull *pull = NULL;
    assert_int_equal(tree_pull_open(from->tree, from->txn, lacks, count, &pull), 0);
    free(lacks);
    struct dot dot;
    struct bytes op;
    for (uint64_t left = below(world, 20); left > 0; left--) {
        const int err = tree_pull_next(pull, &dot, &op);
        if (err) {
            assert_int_equal(err, -ENOENT);
            break;
        }
        assert_int_equal(apply_bytes(to, op).verdict, TREE_APPLIED);
        world->applied++;
    }
    check_sums(to);
    check_vector(to);
}

/* All ops that `node` has, in a random order. */
static size_t shuffled_dots(struct world *world, struct fixture *node, struct dot **ret_dots)
{
    struct dot *dots = NULL;
    size_t count = 0;
    struct vector_entry entry;
    int err = tree_vector_next(node->tree, node->txn, NULL, &entry);
    for (; !err; err = tree_vector_next(node->tree, node->txn, &entry.origin, &entry)) {
        dots = mem_resize_array(dots, count + entry.seq, sizeof *dots);
        for (uint64_t seq = 1; seq <= entry.seq; seq++) {
            dots[count++] = (struct dot){entry.origin, seq};
        }
    }
    for (size_t i = count; i > 1; i--) {
        const size_t j = below(world, i);
        const struct dot dot = dots[i - 1];
        dots[i - 1] = dots[j];
        dots[j] = dot;
    }
    *ret_dots = dots;
    return count;
}

/* Ops as they come by broadcast: in any order, some again, in batches of any size. What came early
 * comes again later, or not. */
static void broadcast(struct world *world, struct fixture *from, struct fixture *to)
{
    struct dot *dots = NULL;
    const size_t count = shuffled_dots(world, from, &dots);
    struct tree_batch *batch = NULL;
    for (size_t i = 0; i < count; i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        read_op(from, &dots[below(world, 8) ? i : below(world, count)], &bytes);
        if (!batch) {
            assert_int_equal(tree_apply_begin(to->tree, to->txn, &batch), 0);
        }
        struct tree_remote remote;
        assert_int_equal(tree_apply_next(batch, buf_bytes(&bytes), &remote), 0);
        world->applied += remote.verdict == TREE_APPLIED;
        world->known += remote.verdict == TREE_KNOWN;
        world->early += remote.verdict == TREE_EARLY;
        assert_true(remote.verdict == TREE_APPLIED || remote.verdict == TREE_KNOWN ||
                    remote.verdict == TREE_EARLY);
        if (below(world, 10) == 0) {
            assert_int_equal(tree_apply_end(STEAL_PTR(batch)), 0);
            check_sums(to);
            check_vector(to);
        }
    }
    free(dots);
    if (batch) {
        assert_int_equal(tree_apply_end(batch), 0);
    }
    check_sums(to);
    check_vector(to);
}

/* Equal sums mean equal vectors, and equal vectors equal trees. */
static void compare_all(struct world *world)
{
    for (int i = 0; i < NODES; i++) {
        for (int j = 0; j < i; j++) {
            struct fixture *a = world->nodes[i];
            struct fixture *b = world->nodes[j];
            CLEANUP_BUF struct buf text_a = BUF_INIT;
            CLEANUP_BUF struct buf text_b = BUF_INIT;
            list_vector(a, &text_a);
            list_vector(b, &text_b);
            const bool same = bytes_equal(buf_bytes(&text_a), buf_bytes(&text_b));
            assert_int_equal(same, summary_of(a).vector_sum == summary_of(b).vector_sum);
            if (same) {
                assert_same(a, b);
            }
        }
    }
}

/* When all history is forgotten, the heads alone hold. */
static void check_holds(struct world *world, struct fixture *node)
{
    bool more = true;
    while (more) {
        assert_int_equal(tree_expire(node->tree, node->txn, node->host.now_ms + 1, 1000, &more), 0);
    }
    int64_t holds[256] = {0};
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    assert_int_equal(kv_cursor_open(node->txn, tree_table(node->tree, TREE_ENTRIES), &cursor), 0);
    struct bytes key;
    struct bytes value;
    while (kv_next(cursor, &key, &value) == 0) {
        CLEANUP_ENTRY_ROW struct entry_row row = {0};
        assert_int_equal(entry_decode(value, &row), 0);
        for (size_t i = 0; i < row.heads_count; i++) {
            const struct tree_version *version = &row.heads[i].version;
            assert_int_equal(row.heads[i].is_held, version->kind == TREE_FILE);
            holds[version->file_id.bytes[0]] += row.heads[i].is_held;
        }
        world->conflicts += row.heads_count > 1;
    }
    assert_memory_equal(holds, node->host.holds, sizeof holds);
}

/* The locks of all trees are held by one thread here: always taken in the same order. */
static void next_txns(struct world *world)
{
    for (int i = 0; i < NODES; i++) {
        commit(world->nodes[i]);
    }
    for (int i = 0; i < NODES; i++) {
        begin(world->nodes[i]);
    }
}

static void run(struct world *world, uint64_t seed, int steps)
{
    print_message("seed %llu\n", (unsigned long long)seed);
    random_init(&world->random, seed);
    world->next_origin = 'A';
    for (int i = 0; i < NODES; i++) {
        world->nodes[i] = fixture_new(false, world->next_origin++);
    }
    for (int i = 0; i < steps; i++) {
        const uint64_t kind = below(world, 40);
        struct fixture *node = world->nodes[below(world, NODES)];
        if (kind < 30) {
            change(world);
        } else if (kind < 37) {
            pull_some(world);
        } else if (kind < 38) {
            broadcast(world, world->nodes[below(world, NODES)], node);
        } else if (kind < 39) {
            next_txns(world);
        } else if (world->next_origin < 'z') {
            const struct origin_id fresh = origin_of(world->next_origin++);
            assert_int_equal(tree_renew_origin(node->tree, node->txn, &fresh), 0);
        }
        compare_all(world);
    }
    /* All to the first, from there to all; and to one that knew nothing, until it knows all. */
    struct fixture *last = fixture_new(false, 'z');
    for (int i = 1; i < NODES; i++) {
        (void)pull_all(world->nodes[i], world->nodes[0]);
    }
    for (int i = 1; i < NODES; i++) {
        (void)pull_all(world->nodes[0], world->nodes[i]);
        assert_same(world->nodes[0], world->nodes[i]);
    }
    while (summary_of(last).vector_sum != summary_of(world->nodes[0]).vector_sum) {
        broadcast(world, world->nodes[0], last);
    }
    assert_same(world->nodes[0], last);
    check_holds(world, last);
    for (int i = 0; i < NODES; i++) {
        check_holds(world, world->nodes[i]);
        fixture_free(world->nodes[i]);
    }
    fixture_free(last);
}

static void test_any_order_gives_the_same(void **state)
{
    (void)state;
    enum { SEEDS = 6, STEPS = 500 };
    const char *given = getenv("ARTEL_TEST_SEED");
    uint64_t first = 0;
    random_system(&first, sizeof first);
    first %= 1000000000;
    if (given) {
        first = strtoull(given, NULL, 10);
    }
    struct world *world = mem_alloc(sizeof *world);
    for (int i = 0; i < (given ? 1 : SEEDS); i++) {
        run(world, first + (uint64_t)i, STEPS);
    }
    assert_true(world->changed > STEPS / 4);
    assert_true(world->applied > world->changed);
    assert_true(given || (world->early > 0 && world->known > 0 && world->conflicts > 0));
    free(world);
}

#define TEST_PAIR(test)                                                                            \
    {                                                                                              \
#test, test, setup_pair, teardown_pair, NULL                                               \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_PAIR(test_rename_of_a_directory_and_a_write_into_it),
        TEST_PAIR(test_two_renames_of_one_directory),
        TEST_PAIR(test_two_renames_to_one_name),
        TEST_PAIR(test_deletion_of_a_directory_and_a_write_into_it),
        TEST_PAIR(test_a_change_beats_a_deletion),
        TEST_PAIR(test_two_deletions),
        TEST_PAIR(test_a_file_and_a_directory_of_one_name),
        TEST_PAIR(test_both_make_the_same_name),
        TEST_PAIR(test_both_make_the_same_directory),
        TEST_PAIR(test_replacement_of_a_directory_and_a_write_into_it),
        TEST_PAIR(test_names_are_bytes),
        cmocka_unit_test(test_any_order_gives_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
