/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

static int replace(struct fixture *fixture, const char *top, const struct tree_put *puts,
                   size_t puts_count)
{
    const struct tree_put put = directory_put_of(top);
    return tree_change_replace_directory(fixture->tree, fixture->txn, &put, puts, puts_count,
                                         &fixture->dot);
}

static int put_many(struct fixture *fixture, const struct tree_put *puts, size_t puts_count)
{
    return tree_change_put_many(fixture->tree, fixture->txn, puts, puts_count, &fixture->dot);
}

/* `change` is refused with `err` and has touched nothing, not even in the open transaction. */
#define assert_refused(fixture, change, err)                                                       \
    do {                                                                                           \
        const uint64_t changes_before = kv_changes((fixture)->txn);                                \
        assert_int_equal(change, err);                                                             \
        assert_int_equal(kv_changes((fixture)->txn), changes_before);                              \
    } while (0)

static void test_put_replaces(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "a", 'x'), 0);
    assert_int_equal(fixture->dot.seq, 1);
    assert_int_equal(put_file(fixture, "a", 'y'), 0);
    assert_int_equal(fixture->dot.seq, 2);
    assert_tree(fixture, "a=y ");
    assert_int_equal(change_put(fixture, symlink_put("a", "b")), 0);
    assert_tree(fixture, "a->b ");
    assert_int_equal(put_file(fixture, "a", 'z'), 0);
    assert_tree(fixture, "a=z ");
    assert_int_equal(holds_of(&fixture->host, 'z'), 1);
    check_sums(fixture);
}

static void test_directories_come_and_go(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "a/b/c", 'x'), 0);
    assert_int_equal(put_file(fixture, "a/d", 'x'), 0);
    assert_tree(fixture, "a(/) a/b(/) a/b/c=x a/d=x ");
    assert_int_equal(delete_path(fixture, "a/b/c", false), 0);
    assert_tree(fixture, "a(/) a/d=x ");
    check_sums(fixture);
    assert_int_equal(delete_path(fixture, "a/d", false), 0);
    assert_tree(fixture, "");

    assert_int_equal(make_directory(fixture, "m/n"), 0);
    assert_int_equal(put_file(fixture, "m/n/o", 'x'), 0);
    assert_tree(fixture, "m(/) m/n/ m/n/o=x ");
    assert_int_equal(delete_path(fixture, "m/n/o", false), 0);
    assert_tree(fixture, "m(/) m/n/ ");
    assert_int_equal(delete_path(fixture, "m/n", false), 0);
    assert_tree(fixture, "");
    check_sums(fixture);
}

/* A directory that is there by what is below can be made, and unmade, without touching that. */
static void test_directory_is_made_afterwards(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "a/b", 'x'), 0);
    assert_int_equal(make_directory(fixture, "a"), 0);
    assert_int_equal(make_directory(fixture, "a"), 0);
    assert_tree(fixture, "a/ a/b=x ");
    assert_int_equal(delete_path(fixture, "a/b", false), 0);
    assert_tree(fixture, "a/ ");
    check_sums(fixture);
}

static void test_put_refuses(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "d/f", 'x'), 0);
    assert_int_equal(make_directory(fixture, "e"), 0);
    assert_refused(fixture, put_file(fixture, "", 'x'), -EINVAL);
    assert_refused(fixture, put_file(fixture, "a//b", 'x'), -EINVAL);
    assert_refused(fixture, put_file(fixture, "../b", 'x'), -EINVAL);
    assert_refused(fixture, put_file(fixture, "\xff", 'x'), -EILSEQ);
    char long_name[PATH_NAME_BYTES_MAX + 2];
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    assert_refused(fixture, put_file(fixture, long_name, 'x'), -ENAMETOOLONG);
    assert_refused(fixture, put_file(fixture, "d", 'x'), -EISDIR);
    assert_refused(fixture, put_file(fixture, "e", 'x'), -EISDIR);
    assert_refused(fixture, change_put(fixture, symlink_put("e", "t")), -EISDIR);
    assert_refused(fixture, make_directory(fixture, "d/f"), -EEXIST);
    assert_refused(fixture, put_file(fixture, "d/f/g", 'x'), -ENOTDIR);
    assert_refused(fixture, make_directory(fixture, "d/f/g/h"), -ENOTDIR);
    struct tree_put put = file_put("z", 'x');
    put.kind = TREE_DELETE;
    assert_refused(fixture, change_put(fixture, put), -EINVAL);
    put = file_put("z", 'x');
    put.mode = 010000;
    assert_refused(fixture, change_put(fixture, put), -EINVAL);
    assert_refused(fixture, change_put(fixture, symlink_put("z", "")), -EINVAL);
    assert_refused(fixture, put_many(fixture, NULL, 0), -EINVAL);
    assert_tree(fixture, "d(/) d/f=x e/ ");
}

static void test_conditions(void **state)
{
    struct fixture *fixture = *state;
    struct tree_put put = file_put("d/f", 'x');
    put.condition = TREE_MATCHING;
    put.match = content_id('x');
    assert_refused(fixture, change_put(fixture, put), -ENOENT);
    put.condition = TREE_ABSENT;
    assert_int_equal(change_put(fixture, put), 0);
    assert_refused(fixture, change_put(fixture, put), -EEXIST);
    struct tree_put directory = directory_put_of("d");
    directory.condition = TREE_ABSENT;
    assert_refused(fixture, change_put(fixture, directory), -EEXIST);
    directory.condition = TREE_MATCHING;
    assert_refused(fixture, change_put(fixture, directory), -ESTALE);

    put = file_put("d/f", 'y');
    put.condition = TREE_MATCHING;
    put.match = content_id('w');
    assert_refused(fixture, change_put(fixture, put), -ESTALE);
    put.match = content_id('x');
    assert_int_equal(change_put(fixture, put), 0);

    struct tree_delete deletion = {
        .path = bytes_of_string("d/f"),
        .condition = TREE_MATCHING,
        .match = content_id('x'),
    };
    assert_refused(fixture,
                   tree_change_delete(fixture->tree, fixture->txn, &deletion, &fixture->dot),
                   -ESTALE);
    deletion.match = content_id('y');
    assert_int_equal(tree_change_delete(fixture->tree, fixture->txn, &deletion, &fixture->dot), 0);
    assert_tree(fixture, "");
}

static void test_put_many(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "a/old", 'o'), 0);
    const struct tree_put puts[] = {
        file_put("b/c/d", '1'), directory_put_of("b"), file_put("a/old", '2'),
        file_put("b-c", '3'),   directory_put_of("e"), symlink_put("b/l", "c"),
    };
    assert_int_equal(put_many(fixture, puts, ARRAY_SIZE(puts)), 0);
    assert_int_equal(fixture->dot.seq, 2);
    assert_tree(fixture, "a(/) a/old=2 b/ b/c(/) b/c/d=1 b/l->c b-c=3 e/ ");
    check_sums(fixture);

    const struct tree_put twice[] = {file_put("n", '1'), file_put("o", '1'), file_put("n", '2')};
    assert_refused(fixture, put_many(fixture, twice, 3), -EEXIST);
    const struct tree_put below[] = {file_put("n/x", '1'), file_put("n-x", '1'),
                                     file_put("n", '2')};
    assert_refused(fixture, put_many(fixture, below, 3), -ENOTDIR);
    const struct tree_put one_bad[] = {file_put("n/x", '1'), file_put("a/old/x", '1')};
    assert_refused(fixture, put_many(fixture, one_bad, 2), -ENOTDIR);
}

static void test_delete_refuses(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "d/f", 'x'), 0);
    assert_refused(fixture, delete_path(fixture, "", true), -EINVAL);
    assert_refused(fixture, delete_path(fixture, "a", false), -ENOENT);
    assert_refused(fixture, delete_path(fixture, "d/g", false), -ENOENT);
    assert_refused(fixture, delete_path(fixture, "d/f/g", false), -ENOTDIR);
    assert_refused(fixture, delete_path(fixture, "d", false), -ENOTEMPTY);
}

static void test_delete_recursively(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "d/e/f", 'x'), 0);
    assert_int_equal(make_directory(fixture, "d/g/h"), 0);
    assert_int_equal(put_file(fixture, "d/i", 'y'), 0);
    assert_int_equal(put_file(fixture, "d-", 'z'), 0);
    assert_int_equal(make_directory(fixture, "d/e"), 0);
    assert_int_equal(delete_path(fixture, "d", true), 0);
    assert_tree(fixture, "d-=z ");
    assert_int_equal(delete_path(fixture, "d-", true), 0);
    assert_tree(fixture, "");
    check_sums(fixture);
}

static void test_delete_many(void **state)
{
    struct fixture *fixture = *state;
    for (const char *const *path = (const char *const[]){"d/a", "d/b", "d/c", "f", NULL}; *path;
         path++) {
        assert_int_equal(put_file(fixture, *path, 'x'), 0);
    }
    assert_int_equal(change_put(fixture, symlink_put("l", "f")), 0);
    assert_int_equal(make_directory(fixture, "e"), 0);
    const uint64_t seq = fixture->dot.seq;
    const struct tree_delete deletions[] = {
        {.path = bytes_of_string("d/a"), .condition = TREE_MATCHING, .match = content_id('x')},
        {.path = bytes_of_string("d/b"), .condition = TREE_MATCHING, .match = content_id('y')},
        {.path = bytes_of_string("d")},
        {.path = bytes_of_string("e")},
        {.path = bytes_of_string("f")},
        {.path = bytes_of_string("f/g")},
        {.path = bytes_of_string("l")},
        {.path = bytes_of_string("none")},
    };
    size_t count = 0;
    assert_int_equal(tree_change_delete_many(fixture->tree, fixture->txn, deletions,
                                             ARRAY_SIZE(deletions), &count, &fixture->dot),
                     0);
    assert_int_equal(count, 3);
    assert_int_equal(fixture->dot.seq, seq + 1);
    assert_tree(fixture, "d(/) d/b=x d/c=x e/ ");
    check_sums(fixture);
    /* Once more: of what is left nothing goes, and no op is made. */
    assert_int_equal(tree_change_delete_many(fixture->tree, fixture->txn, deletions,
                                             ARRAY_SIZE(deletions), &count, &fixture->dot),
                     0);
    assert_int_equal(count, 0);
    assert_int_equal(fixture->dot.seq, seq + 1);
    const struct tree_delete bad = {.path = bytes_of_string("d//b")};
    assert_refused(
        fixture,
        tree_change_delete_many(fixture->tree, fixture->txn, &bad, 1, &count, &fixture->dot),
        -EINVAL);
}

static void test_replace_directory(void **state)
{
    struct fixture *fixture = *state;
    const struct tree_put first[] = {file_put("d/a", '1'), file_put("d/b/c", '2'),
                                     directory_put_of("d/e"), symlink_put("d/l", "a")};
    assert_int_equal(replace(fixture, "d", first, ARRAY_SIZE(first)), 0);
    assert_tree(fixture, "d/ d/a=1 d/b(/) d/b/c=2 d/e/ d/l->a ");
    /* The same again. */
    assert_int_equal(replace(fixture, "d", first, ARRAY_SIZE(first)), 0);
    assert_tree(fixture, "d/ d/a=1 d/b(/) d/b/c=2 d/e/ d/l->a ");
    check_sums(fixture);
    /* Kinds change: file to directory, directory to file, with and without one of its own. */
    const struct tree_put kinds[] = {file_put("d/a/x", '3'), file_put("d/b", '4'),
                                     file_put("d/e", '5'), directory_put_of("d/l")};
    assert_int_equal(replace(fixture, "d", kinds, ARRAY_SIZE(kinds)), 0);
    assert_tree(fixture, "d/ d/a(/) d/a/x=3 d/b=4 d/e=5 d/l/ ");
    check_sums(fixture);
    /* Fewer, nested. */
    const struct tree_put fewer[] = {file_put("d/l/m/n/o", '6'), directory_put_of("d/a"),
                                     file_put("d/a/y", '7')};
    assert_int_equal(replace(fixture, "d", fewer, ARRAY_SIZE(fewer)), 0);
    assert_tree(fixture, "d/ d/a/ d/a/y=7 d/l(/) d/l/m(/) d/l/m/n(/) d/l/m/n/o=6 ");
    /* A directory within another. */
    const struct tree_put inner[] = {file_put("d/l/m/p", '8')};
    assert_int_equal(replace(fixture, "d/l/m", inner, 1), 0);
    assert_tree(fixture, "d/ d/a/ d/a/y=7 d/l(/) d/l/m/ d/l/m/p=8 ");
    assert_int_equal(replace(fixture, "d", NULL, 0), 0);
    assert_tree(fixture, "d/ ");
    check_sums(fixture);
}

static void test_replace_directory_refuses(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "f", 'x'), 0);
    const struct tree_put outside[] = {file_put("dd/x", '1')};
    assert_refused(fixture, replace(fixture, "d", outside, 1), -EINVAL);
    const struct tree_put itself[] = {file_put("d", '1')};
    assert_refused(fixture, replace(fixture, "d", itself, 1), -EINVAL);
    const struct tree_put bad[] = {file_put("d/../x", '1')};
    assert_refused(fixture, replace(fixture, "d", bad, 1), -EINVAL);
    const struct tree_put twice[] = {file_put("d/x", '1'), file_put("d/x", '1')};
    assert_refused(fixture, replace(fixture, "d", twice, 2), -EEXIST);
    const struct tree_put below[] = {file_put("d/x/y", '1'), file_put("d/x", '1')};
    assert_refused(fixture, replace(fixture, "d", below, 2), -ENOTDIR);
    assert_refused(fixture, replace(fixture, "", below, 1), -EINVAL);
    assert_refused(fixture, replace(fixture, "f", NULL, 0), -EEXIST);
    assert_refused(fixture, replace(fixture, "f/d", NULL, 0), -ENOTDIR);
    const struct tree_put top = file_put("t", '1');
    assert_refused(
        fixture,
        tree_change_replace_directory(fixture->tree, fixture->txn, &top, NULL, 0, &fixture->dot),
        -EINVAL);
    struct tree_put *many = mem_alloc_array(TREE_OP_CHANGES_MAX + 1, sizeof *many);
    assert_refused(fixture, put_many(fixture, many, TREE_OP_CHANGES_MAX + 1), -EFBIG);
    free(many);
}

static void test_rename_files(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "a/f", 'x'), 0);
    assert_int_equal(change_put(fixture, symlink_put("l", "a/f")), 0);
    assert_int_equal(rename_path(fixture, "a/f", "b/g"), 0);
    assert_tree(fixture, "b(/) b/g=x l->a/f ");
    assert_int_equal(rename_path(fixture, "l", "b/g"), 0);
    assert_tree(fixture, "b(/) b/g->a/f ");
    check_sums(fixture);
    assert_int_equal(put_file(fixture, "c", 'y'), 0);
    assert_int_equal(rename_path(fixture, "c", "b/h"), 0);
    assert_tree(fixture, "b(/) b/g->a/f b/h=y ");
    /* Out of a directory that goes away with it, to its very name is refused. */
    assert_int_equal(delete_path(fixture, "b/g", false), 0);
    assert_refused(fixture, rename_path(fixture, "b/h", "b"), -EISDIR);
    check_sums(fixture);
}

static void test_rename_directories(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "d/e/f", 'x'), 0);
    assert_int_equal(make_directory(fixture, "d/g"), 0);
    assert_int_equal(change_put(fixture, symlink_put("d/l", "e")), 0);
    assert_int_equal(put_file(fixture, "d-", 'y'), 0);
    assert_int_equal(rename_path(fixture, "d", "n/d"), 0);
    assert_tree(fixture, "d-=y n(/) n/d(/) n/d/e(/) n/d/e/f=x n/d/g/ n/d/l->e ");
    check_sums(fixture);
    assert_int_equal(make_directory(fixture, "empty"), 0);
    assert_int_equal(make_directory(fixture, "n"), 0);
    assert_int_equal(rename_path(fixture, "n", "empty"), 0);
    assert_tree(fixture, "d-=y empty/ empty/d(/) empty/d/e(/) empty/d/e/f=x empty/d/g/ "
                         "empty/d/l->e ");
    assert_int_equal(rename_path(fixture, "empty/d/g", "g"), 0);
    assert_tree(fixture, "d-=y empty/ empty/d(/) empty/d/e(/) empty/d/e/f=x empty/d/l->e g/ ");
    check_sums(fixture);
}

static void test_rename_refuses(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "d/f", 'x'), 0);
    assert_int_equal(put_file(fixture, "f", 'x'), 0);
    assert_int_equal(make_directory(fixture, "e"), 0);
    assert_refused(fixture, rename_path(fixture, "", "a"), -EINVAL);
    assert_refused(fixture, rename_path(fixture, "f", ""), -EINVAL);
    assert_refused(fixture, rename_path(fixture, "no", "a"), -ENOENT);
    assert_refused(fixture, rename_path(fixture, "f/a", "a"), -ENOTDIR);
    assert_refused(fixture, rename_path(fixture, "f", "d/f/a"), -ENOTDIR);
    assert_refused(fixture, rename_path(fixture, "f", "f/a"), -ENOTDIR);
    assert_refused(fixture, rename_path(fixture, "f", "f"), -EINVAL);
    assert_refused(fixture, rename_path(fixture, "d", "d"), -EINVAL);
    assert_refused(fixture, rename_path(fixture, "d", "d/a"), -EINVAL);
    assert_refused(fixture, rename_path(fixture, "f", "e"), -EISDIR);
    assert_refused(fixture, rename_path(fixture, "e", "f"), -ENOTDIR);
    assert_refused(fixture, rename_path(fixture, "e", "d"), -ENOTEMPTY);
    assert_refused(fixture, rename_path(fixture, "d/f", "d"), -EISDIR);
    assert_refused(fixture, rename_path(fixture, "f", "a/../b"), -EINVAL);
    assert_tree(fixture, "d(/) d/f=x e/ f=x ");
}

/* What moves may come too deep: then nothing moves. */
static void test_rename_refuses_long_paths(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_BUF struct buf path = BUF_INIT;
    buf_add_string(&path, "d");
    while (path.size + 100 < PATH_BYTES_MAX) {
        buf_add_format(&path, "/%080d", 0);
    }
    assert_int_equal(put_file(fixture, buf_string(&path), 'x'), 0);
    char target[200];
    memset(target, 't', sizeof target);
    target[sizeof target - 1] = 0;
    assert_refused(fixture, rename_path(fixture, "d", target), -ENAMETOOLONG);
    assert_int_equal(rename_path(fixture, "d", "e"), 0);
    check_sums(fixture);
}

/* Content that the host does not know is found out late; the transaction is given up then. */
static void test_unknown_content(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "d/f", 'x'), 0);
    next_txn(fixture);
    const struct id before = dump_tables(fixture->txn);
    assert_int_equal(put_file(fixture, "n/g", UNKNOWN_CONTENT), -ENOENT);
    kv_abort(STEAL_PTR(fixture->txn));
    begin(fixture);
    const struct tree_put puts[] = {file_put("d/a", '1'), file_put("d/b", UNKNOWN_CONTENT)};
    assert_int_equal(replace(fixture, "d", puts, 2), -ENOENT);
    kv_abort(STEAL_PTR(fixture->txn));
    begin(fixture);
    const struct id after = dump_tables(fixture->txn);
    assert_true(id_equal(&before, &after));
    assert_tree(fixture, "d(/) d/f=x ");
    check_sums(fixture);
}

/* Everything there is at one depth, many names, many levels. */
static void test_deepest_path(void **state)
{
    struct fixture *fixture = *state;
    char path[PATH_BYTES_MAX + 1];
    for (size_t i = 0; i < PATH_BYTES_MAX - 1; i++) {
        path[i] = i % 2 ? '/' : 'a';
    }
    path[PATH_BYTES_MAX - 1] = 0;
    assert_int_equal(put_file(fixture, path, 'x'), 0);
    struct tree_entry entry;
    assert_int_equal(find(fixture, path, &entry), 0);
    assert_int_equal(delete_path(fixture, "a", true), 0);
    assert_tree(fixture, "");
    struct tree_summary summary;
    assert_int_equal(tree_summary(fixture->tree, fixture->txn, &summary), 0);
    assert_int_equal(summary.entries_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_put_replaces),
        TEST_BOTH(test_directories_come_and_go),
        TEST_BOTH(test_directory_is_made_afterwards),
        TEST_BOTH(test_put_refuses),
        TEST_BOTH(test_conditions),
        TEST_BOTH(test_put_many),
        TEST_BOTH(test_delete_refuses),
        TEST_BOTH(test_delete_recursively),
        TEST_BOTH(test_delete_many),
        TEST_BOTH(test_replace_directory),
        TEST_BOTH(test_replace_directory_refuses),
        TEST_BOTH(test_rename_files),
        TEST_BOTH(test_rename_directories),
        TEST_BOTH(test_rename_refuses),
        TEST_BOTH(test_rename_refuses_long_paths),
        TEST_BOTH(test_unknown_content),
        TEST_BOTH(test_deepest_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
