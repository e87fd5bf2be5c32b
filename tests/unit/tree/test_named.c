/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

#include "tree/feed.h"

struct seen {
    unsigned counts[256]; /* by content */
};

static void see(void *context, const struct id *file)
{
    struct seen *seen = context;
    seen->counts[file->bytes[0]]++;
}

/* What all rows name, read by pieces of `limit`. */
static struct seen name_all(struct fixture *fixture, size_t limit)
{
    struct seen seen = {0};
    CLEANUP_BUF struct buf position = BUF_INIT;
    int err = 0;
    while (!err) {
        err = tree_named(fixture->tree, fixture->txn, &position, limit, see, &seen);
    }
    assert_int_equal(err, -ENOENT);
    return seen;
}

static void what_heads_name_is_seen_in_pieces_of_any_size(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "a/b/c", 'x'), 0);
    assert_int_equal(put_file(fixture, "a/b/d", 'y'), 0);
    assert_int_equal(put_file(fixture, "e", 'x'), 0);
    assert_int_equal(make_directory(fixture, "f"), 0);
    assert_int_equal(put_file(fixture, "g", 'z'), 0);
    for (size_t limit = 1; limit < 10; limit++) {
        const struct seen seen = name_all(fixture, limit);
        assert_int_equal(seen.counts['x'], 2);
        assert_int_equal(seen.counts['y'], 1);
        assert_int_equal(seen.counts['z'], 1);
    }
    /* What was replaced or deleted is not named, though its content is held yet. */
    assert_int_equal(put_file(fixture, "g", 'w'), 0);
    assert_int_equal(delete_path(fixture, "a/b/d", false), 0);
    const struct seen seen = name_all(fixture, 2);
    assert_int_equal(seen.counts['z'], 0);
    assert_int_equal(seen.counts['y'], 0);
    assert_int_equal(seen.counts['w'], 1);
}

static void changes_since_are_seen(void **state)
{
    struct fixture *fixture = *state;
    struct tree_summary summary;
    assert_int_equal(put_file(fixture, "a/b", 'x'), 0);
    assert_int_equal(tree_summary(fixture->tree, fixture->txn, &summary), 0);
    uint64_t position = summary.feed_last;
    struct seen seen = {0};
    assert_int_equal(tree_named_since(fixture->tree, fixture->txn, &position, 10, see, &seen),
                     -ENOENT);
    assert_int_equal(put_file(fixture, "c", 'y'), 0);
    assert_int_equal(delete_path(fixture, "c", false), 0);
    assert_int_equal(rename_path(fixture, "a", "z"), 0);
    /* The first of three; then all. A rename names what it moves. */
    assert_int_equal(tree_named_since(fixture->tree, fixture->txn, &position, 1, see, &seen), 0);
    assert_int_equal(seen.counts['y'], 1);
    assert_int_equal(seen.counts['x'], 0);
    assert_int_equal(tree_named_since(fixture->tree, fixture->txn, &position, 10, see, &seen),
                     -ENOENT);
    assert_int_equal(seen.counts['x'], 1);
    assert_int_equal(tree_summary(fixture->tree, fixture->txn, &summary), 0);
    assert_true(position == summary.feed_last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(what_heads_name_is_seen_in_pieces_of_any_size),
        TEST_BOTH(changes_since_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
