/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

struct seen {
    struct buf text;
    int stop_after; /* calls; 0: never */
};

static int see(void *context, const struct tree_past *past)
{
    struct seen *seen = context;
    const struct tree_version *version = &past->version;
    buf_add_byte(&seen->text, version->kind == TREE_FILE        ? version->file_id.bytes[0]
                              : version->kind == TREE_DIRECTORY ? '/'
                                                                : '>');
    if (past->is_head) {
        assert_int_equal(past->ended_ms, 0);
        buf_add_string(&seen->text, past->is_shown ? "!" : "?");
    } else {
        assert_false(past->is_shown);
        buf_add_format(&seen->text, "%u", (unsigned)past->ended_ms);
    }
    buf_add_byte(&seen->text, ' ');
    return seen->stop_after > 0 && --seen->stop_after == 0 ? -ECANCELED : 0;
}

static void assert_log(struct fixture *fixture, const char *path, size_t limit,
                       const char *expected)
{
    struct seen seen = {0};
    assert_int_equal(
        tree_log(fixture->tree, fixture->txn, bytes_of_string(path), limit, see, &seen), 0);
    assert_string_equal(buf_string(&seen.text), expected);
    buf_done(&seen.text);
}

static void put_at(struct fixture *fixture, const char *path, char content, uint64_t now_ms)
{
    fixture->host.now_ms = now_ms;
    assert_int_equal(put_file(fixture, path, content), 0);
}

static void expire(struct fixture *fixture, uint64_t before_ms, size_t limit, bool expected_more)
{
    bool more = !expected_more;
    assert_int_equal(tree_expire(fixture->tree, fixture->txn, before_ms, limit, &more), 0);
    assert_int_equal(more, expected_more);
}

static void test_log_tells_the_newest_first(void **state)
{
    struct fixture *fixture = *state;
    put_at(fixture, "f", 'a', 10);
    put_at(fixture, "g", 'q', 15);
    put_at(fixture, "f", 'b', 20);
    put_at(fixture, "f", 'c', 30);
    assert_log(fixture, "f", 100, "c! b30 a20 ");
    assert_log(fixture, "f", 2, "c! b30 ");
    assert_log(fixture, "f", 1, "c! ");
    assert_log(fixture, "f", 0, "");
    assert_log(fixture, "g", 100, "q! ");
    assert_log(fixture, "nothing", 100, "");
    assert_log(fixture, "f/below", 100, "");
    assert_log(fixture, "", 100, "");
    fixture->host.now_ms = 40;
    assert_int_equal(delete_path(fixture, "f", false), 0);
    assert_log(fixture, "f", 100, "c40 b30 a20 ");
    /* As a directory, and something in it. */
    put_at(fixture, "f/x", 'd', 50);
    assert_log(fixture, "f", 100, "c40 b30 a20 ");
    assert_int_equal(make_directory(fixture, "f"), 0);
    assert_log(fixture, "f", 2, "/! c40 ");

    struct seen seen = {.stop_after = 2};
    assert_int_equal(tree_log(fixture->tree, fixture->txn, bytes_of_string("f"), 100, see, &seen),
                     -ECANCELED);
    assert_string_equal(buf_string(&seen.text), "/! c40 ");
    buf_done(&seen.text);
}

/* Past lamport 255 the order of numbers and not that of bytes counts. */
static void test_log_order_is_that_of_numbers(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_BUF struct buf expected = BUF_INIT;
    enum { COUNT = 300 };
    for (int i = 0; i < COUNT; i++) {
        put_at(fixture, "f", (char)('a' + i % 26), (uint64_t)i);
    }
    buf_add_format(&expected, "%c! ", 'a' + (COUNT - 1) % 26);
    for (int i = COUNT - 2; i >= 0; i--) {
        buf_add_format(&expected, "%c%d ", 'a' + i % 26, i + 1);
    }
    assert_log(fixture, "f", 1000, buf_string(&expected));
}

/* A version holds its content until it is forgotten, and lets go once. */
static void test_expire_releases_once(void **state)
{
    struct fixture *fixture = *state;
    put_at(fixture, "f", 'a', 10);
    put_at(fixture, "f", 'b', 20);
    put_at(fixture, "f", 'a', 30);
    put_at(fixture, "g", 'a', 40);
    assert_int_equal(holds_of(&fixture->host, 'a'), 3);
    assert_int_equal(holds_of(&fixture->host, 'b'), 1);
    fixture->host.now_ms = 50;
    assert_int_equal(delete_path(fixture, "g", false), 0);
    assert_int_equal(change_put(fixture, symlink_put("f", "x")), 0);
    /* Ended: a at 20, b at 30, both other a at 50. */
    expire(fixture, 20, 10, false);
    assert_int_equal(holds_of(&fixture->host, 'a'), 3);
    expire(fixture, 21, 10, false);
    assert_int_equal(holds_of(&fixture->host, 'a'), 2);
    assert_int_equal(holds_of(&fixture->host, 'b'), 1);
    assert_log(fixture, "f", 100, ">! a50 b30 ");
    /* The feed has rows at 30 and 40 left then. */
    expire(fixture, 41, 1, true);
    assert_int_equal(holds_of(&fixture->host, 'b'), 0);
    expire(fixture, 41, 10, false);
    expire(fixture, 1000, 1, true);
    expire(fixture, 1000, 100, false);
    assert_int_equal(holds_of(&fixture->host, 'a'), 0);
    assert_log(fixture, "f", 100, ">! ");
    assert_log(fixture, "g", 100, "");
    expire(fixture, 1000, 100, false);
    uint64_t rows = 1;
    for (kv_table table = 5; table < TREE_TABLES; table++) {
        assert_int_equal(kv_count(fixture->txn, table, &rows), 0);
        assert_int_equal(rows, 0);
    }
    check_sums(fixture);
}

static void test_replaced_directories_have_a_history(void **state)
{
    struct fixture *fixture = *state;
    put_at(fixture, "d/a", 'a', 10);
    fixture->host.now_ms = 20;
    const struct tree_put top = directory_put_of("d");
    const struct tree_put puts[] = {file_put("d/b", 'b')};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tree_change_replace_directory(fixture->tree, fixture->txn, &top, puts, 1,
                                                       &fixture->dot),
                         0);
    }
    assert_log(fixture, "d/a", 10, "a20 ");
    assert_log(fixture, "d/b", 10, "b! b20 ");
    assert_log(fixture, "d", 10, "/! /20 ");
    assert_int_equal(rename_path(fixture, "d", "e"), 0);
    assert_log(fixture, "d/b", 10, "b20 b20 ");
    assert_log(fixture, "e/b", 10, "b! ");
    assert_int_equal(holds_of(&fixture->host, 'b'), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_log_tells_the_newest_first),
        TEST_BOTH(test_log_order_is_that_of_numbers),
        TEST_BOTH(test_expire_releases_once),
        TEST_BOTH(test_replaced_directories_have_a_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
