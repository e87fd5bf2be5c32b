/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

static struct tree_set_attribute give(const char *name, const char *value)
{
    return (struct tree_set_attribute){{bytes_of_string(name), bytes_of_string(value)}, false};
}

static struct tree_set_attribute take(const char *name)
{
    return (struct tree_set_attribute){{bytes_of_string(name), BYTES(NULL, 0)}, true};
}

static int set(struct fixture *fixture, const struct tree_set *set_)
{
    return tree_change_set(fixture->tree, fixture->txn, set_, &fixture->dot);
}

static int set_attributes(struct fixture *fixture, const char *path,
                          const struct tree_set_attribute *changes, size_t count)
{
    const struct tree_set change = {
        .path = bytes_of_string(path), .changes = changes, .changes_count = count};
    return set(fixture, &change);
}

/* "a=1 b=2 " */
static void assert_attributes(struct fixture *fixture, const char *path, const char *expected)
{
    struct tree_entry entry;
    struct tree_attribute attribute;
    CLEANUP_BUF struct buf text = BUF_INIT;
    assert_int_equal(find(fixture, path, &entry), 0);
    struct bytes left = entry.version.attributes;
    while (tree_attribute_next(&left, &attribute)) {
        buf_add(&text, attribute.name);
        buf_add_byte(&text, '=');
        buf_add(&text, attribute.value);
        buf_add_byte(&text, ' ');
    }
    assert_string_equal(buf_string(&text), expected);
}

static void test_mode_and_time_change_and_content_stays(void **state)
{
    struct fixture *fixture = *state;
    struct tree_entry entry;
    assert_int_equal(put_file(fixture, "f", 'a'), 0);
    const struct tree_set mode = {.path = bytes_of_string("f"), .has_mode = true, .mode = 0600};
    assert_int_equal(set(fixture, &mode), 0);
    const struct tree_set time = {.path = bytes_of_string("f"), .has_mtime = true, .mtime_ns = -5};
    assert_int_equal(set(fixture, &time), 0);
    assert_tree(fixture, "f=a ");
    assert_int_equal(find(fixture, "f", &entry), 0);
    assert_int_equal(entry.version.mode, 0600);
    assert_int_equal(entry.version.mtime_ns, -5);
    assert_int_equal(entry.heads_count, 1);
    assert_int_equal(change_put(fixture, symlink_put("l", "there")), 0);
    const struct tree_set link = {.path = bytes_of_string("l"), .has_mtime = true, .mtime_ns = 7};
    assert_int_equal(set(fixture, &link), 0);
    assert_tree(fixture, "f=a l->there ");
    check_sums(fixture);
}

static void test_attributes_come_and_go(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "f", 'a'), 0);
    const struct tree_set_attribute two[] = {give("b", "2"), give("d", "4")};
    assert_int_equal(set_attributes(fixture, "f", two, 2), 0);
    assert_attributes(fixture, "f", "b=2 d=4 ");
    const struct tree_set_attribute more[] = {give("a", "1"), give("b", "3"), take("c"), take("d"),
                                              give("e", "")};
    assert_int_equal(set_attributes(fixture, "f", more, 5), 0);
    assert_attributes(fixture, "f", "a=1 b=3 e= ");
    /* They stay when something else changes. */
    const struct tree_set mode = {.path = bytes_of_string("f"), .has_mode = true, .mode = 0600};
    assert_int_equal(set(fixture, &mode), 0);
    assert_attributes(fixture, "f", "a=1 b=3 e= ");
    check_sums(fixture);
}

static void test_a_directory_that_nobody_made_is_made(void **state)
{
    struct fixture *fixture = *state;
    struct tree_entry entry;
    assert_int_equal(put_file(fixture, "d/f", 'a'), 0);
    assert_tree(fixture, "d(/) d/f=a ");
    const struct tree_set change = {.path = bytes_of_string("d"), .mtime_ns = 9};
    assert_int_equal(set(fixture, &change), 0);
    assert_tree(fixture, "d/ d/f=a ");
    assert_int_equal(find(fixture, "d", &entry), 0);
    assert_int_equal(entry.version.mode, 0755);
    assert_int_equal(entry.version.mtime_ns, 9);
    assert_int_equal(delete_path(fixture, "d/f", false), 0);
    assert_tree(fixture, "d/ ");
    check_sums(fixture);
}

/* As a rename: whoever has it, has it. */
static void test_content_that_is_elsewhere(void **state)
{
    struct fixture *fixture = *state;
    const struct tree_put theirs = file_put("f", UNKNOWN_CONTENT);
    const struct tree_change change = {.kind = theirs.kind,
                                       .path = theirs.path,
                                       .file_id = theirs.file_id,
                                       .size_bytes = theirs.size_bytes};
    const struct tree_op op = {.origin = origin_of('Z'),
                               .seq = 1,
                               .lamport = 5,
                               .event = TREE_EVENT_CHANGES,
                               .changes = &change,
                               .changes_count = 1};
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    assert_int_equal(tree_op_format(&op, &bytes), 0);
    assert_int_equal(apply_whole(fixture, &op, buf_bytes(&bytes)), 0);
    const struct tree_set mode = {.path = bytes_of_string("f"), .has_mode = true, .mode = 0600};
    assert_int_equal(set(fixture, &mode), 0);
    assert_tree(fixture, "f=? ");
    check_sums(fixture);
}

static void test_set_refuses(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "f", 'a'), 0);
    const struct tree_set_attribute one = give("a", "1");
    assert_int_equal(set_attributes(fixture, "", &one, 1), -EINVAL);
    assert_int_equal(set_attributes(fixture, "none", &one, 1), -ENOENT);
    assert_int_equal(set_attributes(fixture, "f/x", &one, 1), -ENOTDIR);
    CLEANUP_FREE char *name = mem_alloc(TREE_ATTRIBUTE_NAME_BYTES_MAX + 2);
    memset(name, 'n', TREE_ATTRIBUTE_NAME_BYTES_MAX + 1);
    const struct tree_set_attribute long_name = give(name, "");
    assert_int_equal(set_attributes(fixture, "f", &long_name, 1), -EFBIG);
    CLEANUP_FREE char *value = mem_alloc(TREE_ATTRIBUTE_BYTES_MAX + 1);
    memset(value, 'v', TREE_ATTRIBUTE_BYTES_MAX);
    const struct tree_set_attribute long_value = give("n", value);
    assert_int_equal(set_attributes(fixture, "f", &long_value, 1), -EFBIG);
    value[TREE_ATTRIBUTE_BYTES_MAX - 1] = 0;
    const struct tree_set_attribute fits = give("n", value);
    assert_int_equal(set_attributes(fixture, "f", &fits, 1), 0);
    assert_int_equal(set_attributes(fixture, "f", &one, 1), -EFBIG);
    const struct tree_set_attribute none = take("n");
    assert_int_equal(set_attributes(fixture, "f", &none, 1), 0);
    assert_attributes(fixture, "f", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_mode_and_time_change_and_content_stays),
        TEST_BOTH(test_attributes_come_and_go),
        TEST_BOTH(test_a_directory_that_nobody_made_is_made),
        TEST_BOTH(test_content_that_is_elsewhere),
        TEST_BOTH(test_set_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
