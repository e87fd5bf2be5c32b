/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

static const char *const files[] = {"a/b/c", "a/b/d", "a/b-", "a.", "b", "c/d/e/f", "c/d/g", "d"};

static void fill(struct fixture *fixture)
{
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        assert_int_equal(put_file(fixture, files[i], 'x'), 0);
    }
}

/* The paths of the whole walk, parents first, each in a string of its own. */
static size_t walk_all(struct fixture *fixture, char ret_paths[32][32])
{
    struct tree_walk *walk = NULL;
    assert_int_equal(
        tree_walk_open(fixture->tree, fixture->txn, BYTES(NULL, 0), BYTES(NULL, 0), &walk), 0);
    struct bytes path;
    struct tree_entry entry;
    size_t count = 0;
    while (tree_walk_next(walk, &path, &entry) == 0) {
        assert_true(count < 32);
        snprintf(ret_paths[count++], 32, "%.*s", (int)path.size, (const char *)path.data);
    }
    tree_walk_close(walk);
    return count;
}

static void assert_below(struct fixture *fixture, const char *top, const char *after,
                         const char *expected)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    list_below(fixture, top, after, &text);
    assert_string_equal(buf_string(&text), expected);
}

static void test_walk_tops(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture);
    assert_tree(fixture, "a(/) a/b(/) a/b/c=x a/b/d=x a/b-=x a.=x b=x c(/) c/d(/) c/d/e(/) "
                         "c/d/e/f=x c/d/g=x d=x ");
    assert_below(fixture, "a", "", "a/b(/) a/b/c=x a/b/d=x a/b-=x ");
    assert_below(fixture, "c/d/e", "", "c/d/e/f=x ");
    assert_int_equal(make_directory(fixture, "e"), 0);
    assert_below(fixture, "e", "", "");
    struct tree_walk *walk = NULL;
    const struct bytes none = BYTES(NULL, 0);
    assert_int_equal(tree_walk_open(fixture->tree, fixture->txn, bytes_of_string("b"), none, &walk),
                     -ENOTDIR);
    assert_int_equal(tree_walk_open(fixture->tree, fixture->txn, bytes_of_string("z"), none, &walk),
                     -ENOENT);
    assert_int_equal(tree_walk_open(fixture->tree, fixture->txn, bytes_of_string("a"),
                                    bytes_of_string("b"), &walk),
                     -EINVAL);
    assert_int_equal(tree_walk_open(fixture->tree, fixture->txn, bytes_of_string("a"),
                                    bytes_of_string("a"), &walk),
                     -EINVAL);
    tree_walk_close(NULL);
}

/* From behind each path comes what came behind it in the whole walk, and so it does when that path
 * has been deleted in between, less what went with it. */
static void test_walk_resumes_everywhere(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture);
    next_txn(fixture);
    char paths[32][32];
    const size_t count = walk_all(fixture, paths);
    assert_int_equal(count, 13);
    for (size_t at = 0; at < count; at++) {
        for (int deletes = 0; deletes < 2; deletes++) {
            if (deletes) {
                assert_int_equal(delete_path(fixture, paths[at], true), 0);
            }
            struct tree_walk *walk = NULL;
            assert_int_equal(tree_walk_open(fixture->tree, fixture->txn, BYTES(NULL, 0),
                                            bytes_of_string(paths[at]), &walk),
                             0);
            for (size_t next = at + 1; next < count; next++) {
                const bool is_below =
                    path_is_within(bytes_of_string(paths[next]), bytes_of_string(paths[at]));
                if (deletes && is_below) {
                    continue;
                }
                struct bytes path;
                struct tree_entry entry;
                assert_int_equal(tree_walk_next(walk, &path, &entry), 0);
                assert_true(bytes_equal(path, bytes_of_string(paths[next])));
            }
            struct bytes path;
            struct tree_entry entry;
            assert_int_equal(tree_walk_next(walk, &path, &entry), -ENOENT);
            tree_walk_close(walk);
        }
        kv_abort(STEAL_PTR(fixture->txn));
        begin(fixture);
    }
}

static void test_walk_resumes_where_nothing_ever_was(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture);
    assert_below(fixture, "", "a/b/c0/x",
                 "a/b/d=x a/b-=x a.=x b=x c(/) c/d(/) c/d/e(/) c/d/e/f=x "
                 "c/d/g=x d=x ");
    assert_below(fixture, "c", "c/d/e/z", "c/d/g=x ");
    assert_below(fixture, "", "c/d/g/not/a/directory", "d=x ");
    assert_below(fixture, "", "zz", "");
    char longer[2 * PATH_NAME_BYTES_MAX];
    memset(longer, 'b', sizeof longer);
    longer[sizeof longer - 1] = 0;
    assert_below(fixture, "", longer, "c(/) c/d(/) c/d/e(/) c/d/e/f=x c/d/g=x d=x ");
}

static void test_walk_skips(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture);
    struct tree_walk *walk = NULL;
    assert_int_equal(
        tree_walk_open(fixture->tree, fixture->txn, BYTES(NULL, 0), BYTES(NULL, 0), &walk), 0);
    tree_walk_skip(walk); /* nothing was told yet: nothing is left out */
    CLEANUP_BUF struct buf text = BUF_INIT;
    struct bytes path;
    struct tree_entry entry;
    while (tree_walk_next(walk, &path, &entry) == 0) {
        format_entry(&text, path, &entry);
        if (bytes_equal(path, bytes_of_string("a/b")) || bytes_equal(path, bytes_of_string("b")) ||
            bytes_equal(path, bytes_of_string("c/d/e"))) {
            tree_walk_skip(walk);
        }
    }
    tree_walk_skip(walk);
    tree_walk_close(walk);
    assert_string_equal(buf_string(&text),
                        "a(/) a/b(/) a/b-=x a.=x b=x c(/) c/d(/) c/d/e(/) c/d/g=x d=x ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_walk_tops),
        TEST_BOTH(test_walk_resumes_everywhere),
        TEST_BOTH(test_walk_resumes_where_nothing_ever_was),
        TEST_BOTH(test_walk_skips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
