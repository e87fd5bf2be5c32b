/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way to the last path, and what is kept in memory between the changes of an op: the tables are
 * the same, to the byte, as without. ARTEL_TEST_SEED=<number> repeats a run.
 */
#include "helpers.h"

#include "base/random.h"
#include "tree/way_priv.h"

#define PATH_CHARS 80
#define BATCH_MAX 12

/* ---- the way itself ---- */

static uint64_t back(struct way *way, const char *path, const char *expected_rest)
{
    struct bytes rest;
    const uint64_t directory = way_back(way, bytes_of_string(path), &rest);
    assert_int_equal(rest.size, strlen(expected_rest));
    assert_memory_equal(rest.data, expected_rest, rest.size);
    return directory;
}

/* Goes down all names of `path` but the last; the first directory is `number`, and so on. */
static void go(struct way *way, const char *path, uint64_t number)
{
    struct bytes rest;
    (void)way_back(way, bytes_of_string(path), &rest);
    (void)path_next(&rest);
    while (rest.size > 0) {
        way_enter(way, bytes_of_string(path), rest, number++);
        (void)path_next(&rest);
    }
}

static void test_way_goes_back_to_what_is_shared(void **state)
{
    (void)state;
    CLEANUP_WAY struct way way = {0};
    assert_int_equal(back(&way, "a/b", "a/b"), DIRECTORY_ROOT);
    go(&way, "a/bb/c/f", 10);
    assert_int_equal(back(&way, "a/bb/c/g/h", "g/h"), 12);
    assert_int_equal(back(&way, "a/bb/cc/f", "cc/f"), 11); /* a name that begins alike */
    assert_int_equal(back(&way, "a/bb/c", "c"), 11);       /* once left, it is not known again */
    assert_int_equal(back(&way, "a/bb/c/f", "c/f"), 11);
    assert_int_equal(back(&way, "a/bb", "bb"), 10); /* the directory itself is no way to itself */
    go(&way, "a/bb/c/f", 20);
    assert_int_equal(back(&way, "a/b/c/f", "b/c/f"), 10);
    assert_int_equal(back(&way, "b", "b"), DIRECTORY_ROOT);
    assert_int_equal(back(&way, "a/bb", "a/bb"), DIRECTORY_ROOT);
}

static void test_way_ends_where_a_directory_went(void **state)
{
    (void)state;
    CLEANUP_WAY struct way way = {0};
    go(&way, "a/b/c/f", 10);
    way_leave(&way, 99);
    assert_int_equal(back(&way, "a/b/c/f", "f"), 12);
    way_leave(&way, 11);
    assert_int_equal(back(&way, "a/b/c/f", "b/c/f"), 10);
    go(&way, "a/b/f", 20);
    assert_int_equal(back(&way, "a/b/f", "f"), 20);
    way_leave(&way, 10);
    assert_int_equal(back(&way, "a/b/f", "a/b/f"), DIRECTORY_ROOT);
}

static void test_no_way(void **state)
{
    (void)state;
    assert_int_equal(back(NULL, "a/b", "a/b"), DIRECTORY_ROOT);
    way_enter(NULL, bytes_of_string("a/b"), bytes_of_string("b"), 10);
    CLEANUP_WAY struct way way = {.forgets = true};
    go(&way, "a/b/c/f", 10);
    assert_int_equal(back(&way, "a/b/c/f", "a/b/c/f"), DIRECTORY_ROOT);
}

/* ---- the longest way ---- */

static void test_deepest_path(void **state)
{
    struct fixture *fixture = *state;
    char path[PATH_BYTES_MAX + 1] = "";
    for (size_t i = 0; i < PATH_BYTES_MAX - 1; i++) {
        path[i] = i % 2 ? '/' : 'd';
    }
    assert_int_equal(put_file(fixture, path, '1'), 0);
    path[PATH_BYTES_MAX - 2] = 'e';
    assert_int_equal(put_file(fixture, path, '2'), 0);
    check_sums(fixture);
    struct tree_entry entry;
    assert_int_equal(find(fixture, path, &entry), 0);
    assert_int_equal(entry.version.file_id.bytes[0], '2');

    /* A walk that goes on anywhere goes on behind that place. */
    for (size_t size = 1; size < PATH_BYTES_MAX - 1; size += 2 * 97) {
        struct tree_walk *walk = NULL;
        struct bytes told;
        assert_int_equal(tree_walk_open(fixture->tree, fixture->txn, BYTES(NULL, 0),
                                        BYTES((const uint8_t *)path, size), &walk),
                         0);
        assert_int_equal(tree_walk_next(walk, &told, &entry), 0);
        assert_int_equal(told.size, size + 2);
        tree_walk_close(walk);
    }
    assert_int_equal(rename_path(fixture, "d/d", "x"), 0);
    check_sums(fixture);
    assert_int_equal(find(fixture, path + 2, &entry), -ENOENT);
    path[2] = 'x';
    assert_int_equal(find(fixture, path + 2, &entry), 0);
    assert_int_equal(delete_path(fixture, "x", true), 0);
    assert_tree(fixture, "");
    uint64_t directories = 0;
    assert_int_equal(kv_count(fixture->txn, TREE_DIRECTORIES, &directories), 0);
    assert_int_equal(directories, 1);
}

/* ---- with and without ---- */

struct pair {
    struct fixture *keeps;
    struct fixture *forgets;
    struct random random;
    uint64_t foreign_seq;
    uint64_t lamport;
    size_t changed;
};

static void random_path(struct random *random, char ret_path[PATH_CHARS])
{
    /* The first names come often, so that ways are shared for long. */
    static const char *const names[] = {"a", "a", "a", "b", "a~file", "ab", "long-name"};
    size_t size = 0;
    const uint64_t depth = 1 + random_below(random, 6);
    for (uint64_t i = 0; i < depth; i++) {
        size += (size_t)snprintf(ret_path + size, PATH_CHARS - size, "%s%s", i ? "/" : "",
                                 names[random_below(random, ARRAY_SIZE(names))]);
    }
}

static struct tree_put random_put(struct random *random, const char *path)
{
    switch (random_below(random, 4)) {
    case 0:
        return directory_put_of(path);
    case 1:
        return symlink_put(path, "t");
    default:
        return file_put(path, (char)('a' + random_below(random, 26)));
    }
}

/* Paths for a batch: what is refused as a whole would leave little to compare. */
static size_t random_puts(struct pair *pair, const char *top, char paths[BATCH_MAX][PATH_CHARS],
                          struct tree_put *ret_puts)
{
    const size_t count = 1 + random_below(&pair->random, BATCH_MAX);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        char path[PATH_CHARS];
        random_path(&pair->random, path);
        const int size = snprintf(paths[kept], PATH_CHARS, "%s%s%s", top, *top ? "/" : "", path);
        if (size >= PATH_CHARS) {
            continue;
        }
        ret_puts[kept] = random_put(&pair->random, paths[kept]);
        bool fits = true;
        for (size_t j = 0; j < kept; j++) {
            const struct tree_put *a = &ret_puts[j];
            const struct tree_put *b = &ret_puts[kept];
            fits = fits && !(path_is_within(a->path, b->path) && b->kind != TREE_DIRECTORY) &&
                   !(path_is_within(b->path, a->path) && a->kind != TREE_DIRECTORY) &&
                   !bytes_equal(a->path, b->path);
        }
        kept += fits;
    }
    return kept;
}

/* An op as another writer, honest or not, may make it: any change after any other, paths twice,
 * contexts that name the op itself. */
static int apply_foreign(struct pair *pair, struct fixture *fixture, uint64_t seed)
{
    struct random random;
    random_init(&random, seed);
    char paths[BATCH_MAX][PATH_CHARS];
    struct tree_change changes[BATCH_MAX] = {0};
    struct dot dots[BATCH_MAX][8];
    const size_t count = 1 + random_below(&random, BATCH_MAX);
    for (size_t i = 0; i < count; i++) {
        struct tree_change *change = &changes[i];
        random_path(&random, paths[i]);
        change->path =
            bytes_of_string(i > 0 && random_below(&random, 3) == 0 ? paths[i - 1] : paths[i]);
        change->kind = random_below(&random, 2) ? TREE_DELETE : TREE_DIRECTORY;
        change->context = dots[i];
        change->context_count = ARRAY_SIZE(dots[i]);
        for (size_t j = 0; j < ARRAY_SIZE(dots[i]); j++) {
            const uint64_t back_by = random_below(&random, 40);
            const bool is_own = random_below(&random, 2);
            const uint64_t seq = is_own ? pair->foreign_seq : pair->changed + 1;
            dots[i][j] =
                (struct dot){origin_of(is_own ? 'X' : 'A'), seq > back_by ? seq - back_by : 1};
        }
    }
    const struct tree_op op = {
        .origin = origin_of('X'),
        .seq = pair->foreign_seq,
        .lamport = pair->lamport,
        .event = TREE_EVENT_CHANGES,
        .changes = changes,
        .changes_count = count,
    };
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    assert_int_equal(tree_op_format(&op, &bytes), 0);
    return apply_whole(fixture, &op, buf_bytes(&bytes));
}

static void both(struct pair *pair, int err_keeps, int err_forgets)
{
    assert_int_equal(err_keeps, err_forgets);
    pair->changed += err_keeps == 0;
}

static void random_step(struct pair *pair)
{
    struct fixture *a = pair->keeps;
    struct fixture *b = pair->forgets;
    char path[PATH_CHARS];
    char other[PATH_CHARS];
    char paths[BATCH_MAX][PATH_CHARS];
    struct tree_put puts[BATCH_MAX];
    random_path(&pair->random, path);
    random_path(&pair->random, other);
    switch (random_below(&pair->random, 6)) {
    case 0:
    case 1: {
        const size_t count = random_puts(pair, "", paths, puts);
        both(pair, tree_change_put_many(a->tree, a->txn, puts, count, &a->dot),
             tree_change_put_many(b->tree, b->txn, puts, count, &b->dot));
        break;
    }
    case 2: {
        const struct tree_put top = directory_put_of(path);
        const size_t count = random_puts(pair, path, paths, puts);
        both(pair, tree_change_replace_directory(a->tree, a->txn, &top, puts, count, &a->dot),
             tree_change_replace_directory(b->tree, b->txn, &top, puts, count, &b->dot));
        break;
    }
    case 3:
        both(pair, rename_path(a, path, other), rename_path(b, path, other));
        break;
    case 4:
        both(pair, delete_path(a, path, true), delete_path(b, path, true));
        break;
    default: {
        pair->foreign_seq++;
        struct tree_summary summary;
        assert_int_equal(tree_summary(a->tree, a->txn, &summary), 0);
        pair->lamport = summary.lamport + random_below(&pair->random, 3);
        const uint64_t seed = random_u64(&pair->random);
        both(pair, apply_foreign(pair, a, seed), apply_foreign(pair, b, seed));
        pair->changed--;
    }
    }
}

static void run_with_and_without(uint64_t seed, bool on_disk)
{
    struct pair pair = {
        .keeps = fixture_new(on_disk, 'A'),
        .forgets = fixture_new(false, 'A'),
    };
    pair.forgets->tree->forgets = true;
    random_init(&pair.random, seed);
    for (int step = 0; step < 60; step++) {
        random_step(&pair);
        const struct id keeps = dump_tables(pair.keeps->txn);
        const struct id forgets = dump_tables(pair.forgets->txn);
        assert_true(id_equal(&keeps, &forgets));
    }
    assert_true(pair.changed > 5);
    assert_memory_equal(&pair.keeps->host, &pair.forgets->host, sizeof pair.keeps->host);
    /* The last to begin is the first to end: each holds its environment's lock. */
    fixture_free(pair.forgets);
    fixture_free(pair.keeps);
}

static void test_tables_are_the_same_as_without(void **state)
{
    (void)state;
    const char *given = getenv("ARTEL_TEST_SEED");
    if (given) {
        run_with_and_without(strtoull(given, NULL, 10), false);
        run_with_and_without(strtoull(given, NULL, 10), true);
        return;
    }
    uint64_t first = 0;
    random_system(&first, sizeof first);
    first %= 1000000000;
    for (uint64_t seed = first; seed < first + 60; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_with_and_without(seed, seed % 10 == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_way_goes_back_to_what_is_shared),
        cmocka_unit_test(test_way_ends_where_a_directory_went),
        cmocka_unit_test(test_no_way),
        TEST_BOTH(test_deepest_path),
        cmocka_unit_test(test_tables_are_the_same_as_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
