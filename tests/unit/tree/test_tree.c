/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

static void test_is_empty_at_first(void **state)
{
    struct fixture *fixture = *state;
    assert_tree(fixture, "");
    struct tree_entry entry;
    assert_int_equal(find(fixture, "", &entry), 0);
    assert_int_equal(entry.version.kind, TREE_DIRECTORY);
    assert_false(entry.is_explicit);
    assert_int_equal(find(fixture, "a", &entry), -ENOENT);
    assert_int_equal(find(fixture, "a/b/c", &entry), -ENOENT);

    struct tree_summary summary;
    assert_int_equal(tree_summary(fixture->tree, fixture->txn, &summary), 0);
    assert_int_equal(summary.entries_count, 0);
    assert_int_equal(summary.epoch, 77);
    assert_int_equal(summary.feed_last, 0);
    assert_int_equal(summary.feed_first, 1);
    const struct origin_id origin = origin_of('A');
    assert_true(origin_id_equal(&summary.origin, &origin));
    static const uint8_t zeros[TREE_FINGERPRINT_BYTES] = {0};
    assert_memory_equal(summary.fingerprint, zeros, sizeof zeros);
    check_sums(fixture);
}

static void test_find_tells_what_was_put(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "a/b", 'x'), 0);
    assert_int_equal(change_put(fixture, symlink_put("a/l", "../there")), 0);
    assert_int_equal(make_directory(fixture, "d"), 0);

    struct tree_entry entry;
    assert_int_equal(find(fixture, "a/b", &entry), 0);
    const struct id id = content_id('x');
    assert_int_equal(entry.version.kind, TREE_FILE);
    assert_true(id_equal(&entry.version.file_id, &id));
    assert_int_equal(entry.version.size_bytes, 'x');
    assert_int_equal(entry.version.mode, 0644);
    assert_int_equal(entry.version.mtime_ns, 5);
    assert_int_equal(entry.version.lamport, 1);
    assert_int_equal(entry.version.dot.seq, 1);
    const struct origin_id origin = origin_of('A');
    assert_true(origin_id_equal(&entry.version.dot.origin, &origin));
    assert_true(entry.is_explicit);
    assert_int_equal(entry.heads_count, 1);
    assert_int_equal(entry.directory, 0);

    assert_int_equal(find(fixture, "a/l", &entry), 0);
    assert_int_equal(entry.version.kind, TREE_SYMLINK);
    assert_true(bytes_equal(entry.version.target, bytes_of_string("../there")));

    assert_int_equal(find(fixture, "a", &entry), 0);
    assert_int_equal(entry.version.kind, TREE_DIRECTORY);
    assert_int_equal(entry.version.mode, 0755);
    assert_false(entry.is_explicit);
    assert_int_equal(entry.heads_count, 0);
    assert_true(entry.directory != 0);

    assert_int_equal(find(fixture, "d", &entry), 0);
    assert_int_equal(entry.version.mode, 0750);
    assert_true(entry.is_explicit);
    assert_int_equal(entry.directory, 0);

    assert_int_equal(find(fixture, "a/b/c", &entry), -ENOTDIR);
    assert_int_equal(find(fixture, "a/l/c/d", &entry), -ENOTDIR);
    assert_int_equal(find(fixture, "d/c", &entry), -ENOENT);
}

/* Paths that no check has seen are merely not there. */
static void test_find_stands_any_path(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "a/b", 'x'), 0);
    struct tree_entry entry;
    static const char *const odd[] = {"/", "//", "/a", "a//b", "a/b~file", "~file", "a/~file"};
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
        assert_int_equal(find(fixture, odd[i], &entry), -ENOENT);
    }
    uint8_t name[PATH_NAME_BYTES_MAX + 100];
    memset(name, 'n', sizeof name);
    const struct bytes long_name = BYTES(name, sizeof name);
    assert_int_equal(tree_find(fixture->tree, fixture->txn, long_name, &entry), -ENOENT);
    name[sizeof name - 2] = '/';
    assert_int_equal(tree_find(fixture->tree, fixture->txn, long_name, &entry), -ENOENT);
    struct tree_entry root;
    assert_int_equal(find(fixture, "", &root), 0);
    static struct tree_listed listed;
    memset(name, 'a', sizeof name);
    assert_int_equal(tree_list_next(fixture->tree, fixture->txn, root.directory,
                                    BYTES(name, 1000 % 256), &listed),
                     -ENOENT);
    assert_int_equal(
        tree_list_next(fixture->tree, fixture->txn, root.directory, long_name, &listed), -ENOENT);
    memset(name, '!', sizeof name);
    assert_int_equal(
        tree_list_next(fixture->tree, fixture->txn, root.directory, long_name, &listed), 0);
    assert_true(bytes_equal(listed.name, bytes_of_string("a")));
}

static void test_list_goes_on_behind_any_name(void **state)
{
    struct fixture *fixture = *state;
    enum { COUNT = 300 };
    char path[32];
    for (int i = COUNT - 1; i >= 0; i--) {
        snprintf(path, sizeof path, "d/%03d", i);
        assert_int_equal(put_file(fixture, path, 'x'), 0);
    }
    assert_int_equal(put_file(fixture, "e", 'x'), 0);
    struct tree_entry directory;
    assert_int_equal(find(fixture, "d", &directory), 0);
    struct tree_listed listed = {0};
    char after[32] = "";
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(tree_list_next(fixture->tree, fixture->txn, directory.directory,
                                        bytes_of_string(after), &listed),
                         0);
        snprintf(after, sizeof after, "%03d", i);
        assert_true(bytes_equal(listed.name, bytes_of_string(after)));
    }
    assert_int_equal(tree_list_next(fixture->tree, fixture->txn, directory.directory,
                                    bytes_of_string(after), &listed),
                     -ENOENT);
    assert_int_equal(delete_path(fixture, "d/007", false), 0);
    assert_int_equal(tree_list_next(fixture->tree, fixture->txn, directory.directory,
                                    bytes_of_string("007"), &listed),
                     0);
    assert_true(bytes_equal(listed.name, bytes_of_string("008")));
    assert_int_equal(tree_list_next(fixture->tree, fixture->txn, 0, bytes_of_string(""), &listed),
                     -ENOENT);
}

static void test_attributes_come_back(void **state)
{
    struct fixture *fixture = *state;
    struct tree_attribute attributes[TREE_ATTRIBUTES_MAX];
    char names[TREE_ATTRIBUTES_MAX][8];
    static const uint8_t odd_value[] = {0, 0xff, '/', 0};
    for (size_t i = 0; i < TREE_ATTRIBUTES_MAX; i++) {
        snprintf(names[i], sizeof names[i], "k%02zu", i);
        attributes[i] = (struct tree_attribute){
            bytes_of_string(names[i]),
            i % 2 ? BYTES(odd_value, sizeof odd_value) : BYTES(NULL, 0),
        };
    }
    struct tree_put put = file_put("f", 'x');
    put.attributes = attributes;
    put.attributes_count = TREE_ATTRIBUTES_MAX;
    assert_int_equal(change_put(fixture, put), 0);
    /* A copy of a version takes them along. */
    assert_int_equal(rename_path(fixture, "f", "g"), 0);

    struct tree_entry entry;
    assert_int_equal(find(fixture, "g", &entry), 0);
    struct tree_attribute attribute;
    size_t count = 0;
    while (tree_attribute_next(&entry.version.attributes, &attribute)) {
        assert_true(bytes_equal(attribute.name, attributes[count].name));
        assert_true(bytes_equal(attribute.value, attributes[count].value));
        count++;
    }
    assert_int_equal(count, TREE_ATTRIBUTES_MAX);
    check_sums(fixture);
}

static void test_attribute_next_stands_cut_bytes(void **state)
{
    (void)state;
    static const uint8_t whole[] = {1, 0, 'k', 2, 0, 'v', 'w'};
    for (size_t size = 0; size < sizeof whole; size++) {
        struct bytes cut = BYTES(whole, size);
        struct tree_attribute attribute;
        assert_false(tree_attribute_next(&cut, &attribute));
    }
}

static void test_reopen_keeps_everything(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "a/b", 'x'), 0);
    commit(fixture);
    struct tree_summary before;
    begin(fixture);
    assert_int_equal(tree_summary(fixture->tree, fixture->txn, &before), 0);
    tree_close(STEAL_PTR(fixture->tree));
    const struct tree_host host = {host_hold, host_release, host_now_ms, &fixture->host};
    const struct origin_id other = origin_of('Z');
    assert_int_equal(tree_open(fixture->txn, 0, &host, &other, 99, &fixture->tree), 0);
    struct tree_summary after;
    assert_int_equal(tree_summary(fixture->tree, fixture->txn, &after), 0);
    assert_memory_equal(&before, &after, sizeof before);
    assert_tree(fixture, "a(/) a/b=x ");
}

/* Names are bytes: order, length and what looks like something else. */
static void test_names_are_bytes(void **state)
{
    struct fixture *fixture = *state;
    char longest[PATH_NAME_BYTES_MAX + 1];
    memset(longest, 'z', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(put_file(fixture, longest, '1'), 0);
    assert_int_equal(put_file(fixture, "b~file", '2'), 0);
    assert_int_equal(put_file(fixture, "B", '3'), 0);
    assert_int_equal(put_file(fixture, "a.", '4'), 0);
    assert_int_equal(put_file(fixture, "a/x", '5'), 0);
    assert_int_equal(put_file(fixture, "\xc3\xa9", '6'), 0);
    assert_int_equal(put_file(fixture, "\x01", '7'), 0);
    char expected[1024];
    snprintf(expected, sizeof expected, "\x01=7 B=3 a(/) a/x=5 a.=4 b~file=2 %s=1 \xc3\xa9=6 ",
             longest);
    assert_tree(fixture, expected);
    check_sums(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_is_empty_at_first),
        TEST_BOTH(test_find_tells_what_was_put),
        TEST_BOTH(test_find_stands_any_path),
        TEST_BOTH(test_list_goes_on_behind_any_name),
        TEST_BOTH(test_attributes_come_back),
        cmocka_unit_test(test_attribute_next_stands_cut_bytes),
        TEST_BOTH(test_reopen_keeps_everything),
        TEST_BOTH(test_names_are_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
