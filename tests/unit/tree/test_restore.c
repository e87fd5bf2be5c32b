/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

/* `change` is refused with `err` and has touched nothing. */
#define assert_refused(fixture, change, err)                                                       \
    do {                                                                                           \
        const uint64_t changes_before = kv_changes((fixture)->txn);                                \
        assert_int_equal(change, err);                                                             \
        assert_int_equal(kv_changes((fixture)->txn), changes_before);                              \
    } while (0)

static int restore(struct fixture *fixture, const char *path, struct dot version)
{
    return tree_change_restore(fixture->tree, fixture->txn, bytes_of_string(path), &version,
                               &fixture->dot);
}

/* A change by another writer who knew nothing of ours: its first op. */
static struct dot put_by(struct fixture *fixture, char writer, uint64_t lamport,
                         struct tree_put put)
{
    const struct tree_change change = {
        .kind = put.kind,
        .path = put.path,
        .mode = put.mode,
        .mtime_ns = put.mtime_ns,
        .file_id = put.file_id,
        .size_bytes = put.size_bytes,
        .target = put.target,
    };
    const struct tree_op op = {
        .origin = origin_of(writer),
        .seq = 1,
        .lamport = lamport,
        .event = TREE_EVENT_CHANGES,
        .changes = &change,
        .changes_count = 1,
    };
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    assert_int_equal(tree_op_format(&op, &bytes), 0);
    assert_int_equal(apply_whole(fixture, &op, buf_bytes(&bytes)), 0);
    return (struct dot){op.origin, op.seq};
}

static void test_versions_of_the_past_come_back(void **state)
{
    struct fixture *fixture = *state;
    struct tree_put put = file_put("d/f", 'a');
    put.mode = 0755;
    put.mtime_ns = 12345;
    const struct tree_attribute attribute = {bytes_of_string("user.x"), bytes_of_string("y")};
    put.attributes = &attribute;
    put.attributes_count = 1;
    assert_int_equal(change_put(fixture, put), 0);
    const struct dot first = fixture->dot;
    assert_int_equal(put_file(fixture, "d/f", 'b'), 0);
    const struct dot second = fixture->dot;
    assert_int_equal(change_put(fixture, symlink_put("d/f", "there")), 0);
    const struct dot third = fixture->dot;

    assert_int_equal(restore(fixture, "d/f", first), 0);
    assert_tree(fixture, "d(/) d/f=a ");
    struct tree_entry entry;
    assert_int_equal(find(fixture, "d/f", &entry), 0);
    assert_int_equal(entry.version.mode, 0755);
    assert_int_equal(entry.version.mtime_ns, 12345);
    assert_int_equal(entry.version.dot.seq, 4);
    struct tree_attribute found;
    assert_true(tree_attribute_next(&entry.version.attributes, &found));
    assert_true(bytes_equal(found.value, attribute.value));
    assert_int_equal(holds_of(&fixture->host, 'a'), 2);
    assert_int_equal(fixture->host.published['a'], 1); /* not again */

    /* Also when the path is deleted, and what it was in. */
    assert_int_equal(delete_path(fixture, "d", true), 0);
    assert_tree(fixture, "");
    assert_int_equal(restore(fixture, "d/f", third), 0);
    assert_tree(fixture, "d(/) d/f->there ");
    assert_int_equal(restore(fixture, "d/f", second), 0);
    assert_tree(fixture, "d(/) d/f=b ");
    /* What is there already, again. */
    assert_int_equal(restore(fixture, "d/f", fixture->dot), 0);
    assert_tree(fixture, "d(/) d/f=b ");
    check_sums(fixture);
}

static void test_directories_come_back(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(make_directory(fixture, "d"), 0);
    const struct dot directory = fixture->dot;
    assert_int_equal(delete_path(fixture, "d", false), 0);
    assert_int_equal(put_file(fixture, "d", 'a'), 0);
    const struct dot file = fixture->dot;
    assert_int_equal(restore(fixture, "d", directory), 0);
    assert_tree(fixture, "d/ ");
    assert_int_equal(restore(fixture, "d", file), 0);
    assert_tree(fixture, "d=a ");
    assert_int_equal(delete_path(fixture, "d", false), 0);
    assert_int_equal(put_file(fixture, "d/x", 'x'), 0);
    assert_refused(fixture, restore(fixture, "d", file), -ENOTEMPTY);
    assert_int_equal(restore(fixture, "d", directory), 0);
    assert_tree(fixture, "d/ d/x=x ");
    check_sums(fixture);
}

static void test_restore_settles_a_conflict(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "f", 'a'), 0);
    const struct dot ours = fixture->dot;
    const struct dot theirs = put_by(fixture, 'Z', 5, file_put("f", 'z'));
    (void)put_by(fixture, 'Y', 4, symlink_put("f", "y"));
    assert_tree(fixture, "f=z*3 ");
    assert_int_equal(restore(fixture, "f", ours), 0);
    assert_tree(fixture, "f=a ");
    /* The losers are in the history. */
    assert_int_equal(restore(fixture, "f", theirs), 0);
    assert_tree(fixture, "f=z ");
    check_sums(fixture);
}

/* The content of a head is kept by whoever has it; that of the past only where it is held. */
static void test_content_that_is_elsewhere(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "f", 'a'), 0);
    const struct dot theirs = put_by(fixture, 'Z', 5, file_put("f", UNKNOWN_CONTENT));
    assert_int_equal(restore(fixture, "f", theirs), 0);
    assert_tree(fixture, "f=? ");
    assert_int_equal(rename_path(fixture, "f", "g"), 0);
    assert_tree(fixture, "g=? ");
    assert_refused(fixture, restore(fixture, "f", theirs), -ESTALE);
    check_sums(fixture);
}

static void test_a_file_under_a_directory_of_its_name(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "n/x", 'x'), 0);
    const struct dot older = put_by(fixture, 'Y', 5, file_put("n", 'y'));
    const struct dot newer = put_by(fixture, 'Z', 6, file_put("n", 'z'));
    assert_tree(fixture, "n(/)*2 n/x=x n~file=z*2 ");
    struct tree_entry entry;
    assert_int_equal(find(fixture, "n~file", &entry), 0);
    assert_true(entry.is_hidden_file);
    assert_int_equal(find(fixture, "n", &entry), 0);
    assert_false(entry.is_hidden_file);
    assert_refused(fixture, restore(fixture, "n", older), -ENOTEMPTY);
    assert_int_equal(restore(fixture, "n~file", older), 0);
    assert_tree(fixture, "n(/) n/x=x n~file=y ");
    assert_int_equal(make_directory(fixture, "n"), 0);
    const struct dot directory = fixture->dot;
    assert_refused(fixture, restore(fixture, "n~file", directory), -EEXIST);
    /* The directory by its own name puts the file away. */
    assert_int_equal(restore(fixture, "n", directory), 0);
    assert_tree(fixture, "n/ n/x=x ");
    assert_refused(fixture, restore(fixture, "n", newer), -ENOTEMPTY);
    check_sums(fixture);
}

static void test_restore_refuses(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "f", 'a'), 0);
    const struct dot version = fixture->dot;
    assert_int_equal(put_file(fixture, "g", 'b'), 0);
    assert_int_equal(put_file(fixture, "g", 'c'), 0);
    const struct dot strange = {origin_of('Q'), 1};
    const struct dot later = {version.origin, 9};
    assert_refused(fixture, restore(fixture, "f", strange), -ENOENT);
    assert_refused(fixture, restore(fixture, "f", later), -ENOENT);
    /* Of another path. */
    assert_refused(fixture, restore(fixture, "g", version), -ENOENT);
    assert_refused(fixture, restore(fixture, "none", version), -ENOENT);
    assert_refused(fixture, restore(fixture, "f/x", version), -ENOTDIR);
    assert_refused(fixture, restore(fixture, "", version), -EINVAL);
    assert_refused(fixture, restore(fixture, "a/../b", version), -EINVAL);
    /* Forgotten. */
    assert_int_equal(delete_path(fixture, "f", false), 0);
    bool more = false;
    assert_int_equal(tree_expire(fixture->tree, fixture->txn, UINT64_MAX, 100, &more), 0);
    assert_refused(fixture, restore(fixture, "f", version), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_versions_of_the_past_come_back),
        TEST_BOTH(test_directories_come_back),
        TEST_BOTH(test_restore_settles_a_conflict),
        TEST_BOTH(test_content_that_is_elsewhere),
        TEST_BOTH(test_a_file_under_a_directory_of_its_name),
        TEST_BOTH(test_restore_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
