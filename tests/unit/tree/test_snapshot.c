/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshots.h"

#include "base/random.h"
#include "tree/rows_priv.h"
#include "tree/snapshot_priv.h"

/* The records as "path:index.seq=content,... ". */
static void list_records(struct buf *file, struct buf *ret_text)
{
    const struct tree_snapshot_source source = source_of(file);
    struct tree_snapshot *snapshot = NULL;
    assert_int_equal(tree_snapshot_open(&source, &snapshot), 0);
    struct snapshot_record record;
    int err;
    while ((err = snapshot_next(snapshot, &record)) == 0) {
        buf_add(ret_text, record.path);
        for (size_t i = 0; i < record.heads_count; i++) {
            const struct head *head = &record.heads[i];
            const uint8_t id = snapshot->origins[head->origin].origin.bytes[0];
            const uint8_t content = head->version.kind == TREE_FILE
                                        ? head->version.file_id.bytes[0]
                                        : (uint8_t) " f/>"[head->version.kind];
            buf_add_format(ret_text, "%c%c%u=%c", i ? ',' : ':', id,
                           (unsigned)head->version.dot.seq, content);
        }
        buf_add_byte(ret_text, ' ');
    }
    assert_int_equal(err, -ENOENT);
    tree_snapshot_close(snapshot);
}

static void assert_records(struct buf *file, const char *expected)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    buf_add_string(&text, "");
    list_records(file, &text);
    assert_string_equal(text.size ? buf_string(&text) : "", expected);
}

static void deliver_last(struct fixture *from, struct fixture *to)
{
    struct tree_summary summary;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct tree_feed_item item = {0};
    assert_int_equal(tree_summary(from->tree, from->txn, &summary), 0);
    assert_int_equal(tree_feed_next(from->tree, from->txn, summary.feed_last - 1, &bytes, &item),
                     0);
    assert_int_equal(apply_whole(to, &item.parsed.op, buf_bytes(&bytes)), 0);
    tree_op_parsed_done(&item.parsed);
}

static void test_empty_tree(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_BUF struct buf file = BUF_INIT;
    struct tree_snapshot_info info = snapshot_of(fixture, &file);
    assert_int_equal(info.entries_count, 0);
    assert_int_equal(check_snapshot(&file, &info), 0);
    assert_int_equal(info.bytes, file.size);
    assert_records(&file, "");
}

/* Every version of every path, hidden ones too, in the order of a walk. */
static void test_all_versions_are_in_it(void **state)
{
    struct fixture *a = *state;
    struct fixture *b = fixture_new(false, 'B');
    assert_int_equal(put_file(a, "d-x", '1'), 0);
    assert_int_equal(put_file(a, "d/f", '2'), 0);
    assert_int_equal(put_file(b, "d", '3'), 0);
    deliver_last(b, a); /* a file under a directory that nobody made */
    assert_int_equal(put_file(b, "d-x", '4'), 0);
    deliver_last(b, a);
    assert_int_equal(make_directory(a, "d/e"), 0);
    assert_int_equal(change_put(a, symlink_put("d/e/l", "t")), 0);
    assert_int_equal(put_file(a, "gone", '5'), 0);
    assert_int_equal(delete_path(a, "gone", false), 0);
    CLEANUP_BUF struct buf file = BUF_INIT;
    struct tree_snapshot_info info = snapshot_of(a, &file);
    assert_records(&file, "d:B1=3 d/e:A3=/ d/e/l:A4=> d/f:A2=2 d-x:A1=1,B2=4 ");
    assert_int_equal(info.entries_count, 5);
    assert_int_equal(info.origins_count, 2);
    assert_int_equal(check_snapshot(&file, &info), 0);
    fixture_free(b);
}

/* A version with all that it can have, and paths as long as they can be. */
static void test_largest_version(void **state)
{
    struct fixture *fixture = *state;
    static uint8_t value[8000];
    memset(value, 0xee, sizeof value);
    const struct tree_attribute attributes[] = {
        {bytes_of_string("a"), BYTES(value, 8000)},
        {bytes_of_string("b"), BYTES(NULL, 0)},
        {bytes_of_string("c"), BYTES(value, 7000)},
    };
    static char path[PATH_BYTES_MAX + 1];
    for (size_t i = 0; i < PATH_BYTES_MAX; i++) {
        path[i] = i % 2 ? '/' : 'p';
    }
    path[PATH_BYTES_MAX - 1] = 'q';
    static char target[TREE_TARGET_BYTES_MAX + 1];
    memset(target, 't', TREE_TARGET_BYTES_MAX);
    struct tree_put put = symlink_put(path, target);
    put.mode = 07777;
    put.mtime_ns = INT64_MIN;
    put.attributes = attributes;
    put.attributes_count = 3;
    assert_int_equal(change_put(fixture, put), 0);
    struct tree_put large = file_put("z", 'x');
    large.size_bytes = UINT64_MAX;
    assert_int_equal(change_put(fixture, large), 0);

    CLEANUP_BUF struct buf file = BUF_INIT;
    struct tree_snapshot_info info = snapshot_of(fixture, &file);
    assert_int_equal(check_snapshot(&file, &info), 0);
    const struct tree_snapshot_source source = source_of(&file);
    struct tree_snapshot *snapshot = NULL;
    struct snapshot_record record;
    assert_int_equal(tree_snapshot_open(&source, &snapshot), 0);
    assert_int_equal(snapshot_next(snapshot, &record), 0);
    const struct tree_version *version = &record.heads[0].version;
    assert_true(bytes_equal(record.path, bytes_of_string(path)));
    assert_true(bytes_equal(version->target, bytes_of_string(target)));
    assert_int_equal(version->mode, 07777);
    assert_true(version->mtime_ns == INT64_MIN);
    struct bytes left = version->attributes;
    struct tree_attribute attribute;
    for (int i = 0; i < 3; i++) {
        assert_true(tree_attribute_next(&left, &attribute));
        assert_true(bytes_equal(attribute.value, attributes[i].value));
    }
    assert_int_equal(snapshot_next(snapshot, &record), 0);
    assert_true(record.heads[0].version.size_bytes == UINT64_MAX);
    tree_snapshot_close(snapshot);
}

/* Where a version stands in the tables of one database is not in its snapshot. */
static void test_equal_trees_have_equal_records(void **state)
{
    struct fixture *a = *state;
    struct fixture *b = fixture_new(false, 'B');
    struct fixture *c = fixture_new(false, 'C');
    assert_int_equal(put_file(c, "z/f", '1'), 0);
    deliver_last(c, b);
    assert_int_equal(put_file(a, "a/f", '2'), 0);
    deliver_last(a, b);
    deliver_last(c, a);
    CLEANUP_BUF struct buf file_a = BUF_INIT;
    CLEANUP_BUF struct buf file_b = BUF_INIT;
    (void)snapshot_of(a, &file_a);
    (void)snapshot_of(b, &file_b);
    assert_records(&file_a, "a/f:A1=2 z/f:C1=1 ");
    assert_records(&file_b, "a/f:A1=2 z/f:C1=1 ");
    fixture_free(b);
    fixture_free(c);
}

static void test_any_change_is_found(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "d/f", 'x'), 0);
    assert_int_equal(change_put(fixture, symlink_put("d/l", "t")), 0);
    CLEANUP_BUF struct buf file = BUF_INIT;
    struct tree_snapshot_info info = snapshot_of(fixture, &file);
    for (size_t i = 0; i < file.size; i++) {
        file.data[i] ^= 0x10;
        const int err = check_snapshot(&file, &info);
        assert_true(err == -EPROTO || err == -EPROTONOSUPPORT);
        file.data[i] ^= 0x10;
    }
    const size_t size = file.size;
    for (file.size = 0; file.size < size; file.size++) {
        assert_int_equal(check_snapshot(&file, &info), -EPROTO);
    }
    assert_int_equal(check_snapshot(&file, &info), 0);
    buf_add_byte(&file, 0);
    assert_int_equal(check_snapshot(&file, &info), -EPROTO);
}

/* Well sealed bytes that no tree has. Each byte of a small snapshot is made each other value: what
 * passes has the form that a tree would give it. */
static void test_what_cannot_be_is_refused(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "d/f", 'x'), 0);
    assert_int_equal(change_put(fixture, symlink_put("d/l", "t")), 0);
    CLEANUP_BUF struct buf file = BUF_INIT;
    struct tree_snapshot_info info = snapshot_of(fixture, &file);
    const size_t records = SNAPSHOT_HEADER_BYTES + SNAPSHOT_ORIGIN_BYTES;
    size_t passed = 0;
    for (size_t i = records; i < file.size - ID_BYTES; i++) {
        const uint8_t before = file.data[i];
        for (unsigned value = 0; value < 256; value++) {
            file.data[i] = (uint8_t)value;
            seal(&file);
            const int err = check_snapshot(&file, &info);
            assert_true(err == 0 || err == -EPROTO);
            passed += !err;
        }
        file.data[i] = before;
    }
    assert_true(passed > 0);
    seal(&file);
    assert_int_equal(check_snapshot(&file, &info), 0);

    /* The header: a later version, counts beyond their limits, or other than what follows. */
    const struct {
        size_t at;
        uint8_t value;
        int err;
    } cases[] = {
        {0, 'A', -EPROTO},     {8, 2, -EPROTONOSUPPORT}, {8, 0, -EPROTO},
        {12, 1, -EPROTO}, /* a lamport that is below those of versions */
        {20 + 32, 3, -EPROTO}, {60, 2, -EPROTO},         {60, 0, -EPROTO},
        {63, 0xff, -EPROTO},   {64, 1, -EPROTO},         {67, 0xff, -EPROTO},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const uint8_t before = file.data[cases[i].at];
        file.data[cases[i].at] = cases[i].value;
        seal(&file);
        assert_int_equal(check_snapshot(&file, &info), cases[i].err);
        file.data[cases[i].at] = before;
    }
}

static int fail_write(void *context, struct bytes bytes)
{
    (void)bytes;
    return --*(int *)context < 0 ? -ENOSPC : 0;
}

static void test_failures_are_told(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "f", 'x'), 0);
    struct tree_snapshot_info info;
    for (int calls = 0; calls < 2; calls++) {
        int left = calls;
        assert_int_equal(tree_snapshot_write(fixture->tree, fixture->txn, fail_write, &left, &info),
                         -ENOSPC);
    }
    /* A count that is not that of the rows is damage. */
    struct tree_state values;
    assert_int_equal(state_get(fixture->tree, fixture->txn, &values), 0);
    values.entries_count++;
    assert_int_equal(state_put(fixture->tree, fixture->txn, &values), 0);
    int left = 9;
    assert_int_equal(tree_snapshot_write(fixture->tree, fixture->txn, fail_write, &left, &info),
                     -EIO);
}

static int fail_read(void *context, uint64_t offset, void *ret_bytes, size_t size)
{
    (void)context;
    (void)offset;
    (void)ret_bytes;
    (void)size;
    return -EIO;
}

static void test_unreadable_file(void **state)
{
    (void)state;
    const struct tree_snapshot_source source = {fail_read, NULL, 1000};
    struct tree_snapshot_info info;
    struct tree_snapshot *snapshot = NULL;
    assert_int_equal(tree_snapshot_check(&source, &info), -EIO);
    assert_int_equal(tree_snapshot_open(&source, &snapshot), -EIO);
    tree_snapshot_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_empty_tree),          TEST_BOTH(test_all_versions_are_in_it),
        TEST_BOTH(test_largest_version),     TEST_BOTH(test_equal_trees_have_equal_records),
        TEST_BOTH(test_any_change_is_found), TEST_BOTH(test_what_cannot_be_is_refused),
        TEST_BOTH(test_failures_are_told),   TEST_BOTH(test_unreadable_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
